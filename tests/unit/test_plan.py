"""What a run would do, from what is seen: each line of the plan with its reason."""

from __future__ import annotations

import pytest

from ratemill.errors import ExitCode
from ratemill.insight.plan import STEPS, Loading, Seen, State, UsageWork, named, plan_period

PERIOD = "2026-10"
RUN, OTHER = "2026-10-aaaaaaaaaaaa", "2026-10-bbbbbbbbbbbb"
NEW = UsageWork("usage/new.parquet", "new")
STANDS = {"run_id": RUN, "next_run_id": RUN, "is_rated": True}


def planned(*, loading=None, state=State.OPEN, **seen):
    return plan_period(Seen(PERIOD, state, **seen), loading or Loading(files=31))


def would_run(plan):
    return [step.name for step in plan.steps if step.would_run]


def why(plan, name):
    (step,) = (step for step in plan.steps if step.name == name)
    return step.why


def test_what_stands_is_left_alone():
    plan = planned(**STANDS)
    assert (plan.would_run, plan.exit_code, plan.summary) == (False, ExitCode.DONE, "nothing to do")
    assert why(plan, "load") == "31 files match, and none is new or changed"
    assert why(plan, "rate") == f"it stands: run {RUN} was made of these inputs"


def test_a_period_that_was_never_billed():
    plan = planned(next_run_id=OTHER)
    assert would_run(plan) == ["check", "rate", "invoice", "report", "publish"]
    assert (plan.summary, why(plan, "rate")) == ("drafts are made", "the period was never billed")
    assert why(plan, "correct") == "no closed month is to be corrected"


def test_other_inputs_name_what_differs_and_the_run_to_come():
    plan = planned(run_id=RUN, next_run_id=OTHER, changes=("book: prices", "ratemill.toml"))
    assert why(plan, "rate") == f"not as in run {RUN}: book: prices, ratemill.toml"
    assert (plan.run_id, plan.next_run_id, plan.drafts_anew) == (RUN, OTHER, True)
    back = planned(run_id=RUN, next_run_id=OTHER, changes=("book: prices",), is_rated=True)
    assert why(back, "rate") == "charges of these inputs stand already"
    assert would_run(back) == ["check", "invoice", "report", "publish"]


def test_files_to_be_loaded_are_named_and_leave_the_run_to_come_open():
    later = UsageWork("usage/later.parquet", "new")
    loading = Loading(files=33, work=(NEW, later, UsageWork("usage/cut.parquet", "again", refused="cut off")))
    plan = planned(**STANDS, usage=(NEW,), loading=loading)
    assert why(plan, "load") == (
        "usage/new.parquet, usage/later.parquet are new; usage/cut.parquet is tried again: refused the last time"
    )
    assert why(plan, "rate") == "usage/new.parquet is to be loaded"
    assert (plan.next_run_id, plan.exit_code) == (None, ExitCode.DATA_REFUSED)
    elsewhere = planned(**STANDS, loading=Loading(files=32, work=(later,)))
    assert would_run(elsewhere) == ["load"]
    assert elsewhere.summary == "nothing to do"


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ({"unreported": "there are no documents in out/2026-10"}, "there are no documents in out/2026-10"),
        ({"unpublished": "there is no published/billing.duckdb"}, "there is no published/billing.duckdb"),
        ({"unfinished": "the run was stopped before its end"}, "the run was stopped before its end"),
    ],
)
def test_a_run_that_is_not_whole_is_finished_without_rating(missing, reason):
    plan = planned(**STANDS, **missing)
    assert would_run(plan) == ["check", "invoice", "report", "publish"]
    assert (plan.summary, why(plan, "report"), plan.drafts_anew) == ("the run is finished", reason, False)


def test_a_load_that_was_stopped_makes_all_of_it_anew():
    plan = planned(run_id=RUN, loading=Loading(files=31, is_settled=False))
    assert why(plan, "load") == why(plan, "rate") == "loading was stopped before its end"


@pytest.mark.parametrize(
    ("code", "summary"),
    [(ExitCode.DATA_REFUSED, "refused by the check"), (ExitCode.NOTHING_TO_BILL, "nothing to bill")],
)
def test_what_the_check_refuses_goes_no_further(code, summary):
    plan = planned(refusal="the book has 2 mistakes", refusal_code=code)
    assert would_run(plan) == ["check"]
    assert why(plan, "check") == "it would refuse: the book has 2 mistakes"
    assert (plan.exit_code, plan.summary) == (code, summary)


def test_nothing_to_bill_is_no_answer_while_files_are_refused():
    nothing = {"refusal": "there is no usage", "refusal_code": ExitCode.NOTHING_TO_BILL}
    cut = Loading(files=1, unreadable=(("usage/cut.parquet", "cut off"),))
    assert planned(**nothing, loading=cut).exit_code == ExitCode.DATA_REFUSED


def test_charges_that_may_not_be_billed_are_refused_again():
    plan = planned(next_run_id=OTHER, is_rated=True, not_billed="24 usage records have no price")
    assert would_run(plan) == ["check", "rate"]
    assert why(plan, "rate").endswith("are refused: 24 usage records have no price")
    assert plan.exit_code == ExitCode.DATA_REFUSED


def test_closed_months_that_changed_are_corrected():
    plan = planned(run_id=RUN, next_run_id=OTHER, corrections=("2026-08", "2026-09"), changes=("earlier periods",))
    assert "correct" in would_run(plan)
    assert why(plan, "correct") == "2026-08, 2026-09 would be billed otherwise today"


def test_earlier_months_of_the_same_run_come_first():
    plan = planned(run_id=RUN, follows=("2026-08", "2026-09"))
    assert why(plan, "rate") == "2026-08, 2026-09 are billed anew before, and may use other credits"


def test_a_closed_month_is_never_billed_again():
    closed = {"state": State.CLOSED, **STANDS}
    plan = planned(**closed)
    assert (plan.would_run, plan.summary, plan.exit_code) == (False, "closed: nothing to do", ExitCode.DONE)
    lost = planned(**closed, unreported="there are no documents in out/2026-10")
    assert would_run(lost) == ["report"]
    differs = planned(**closed, differs_since_close="2026-11")
    assert (differs.exit_code, differs.would_run) == (ExitCode.LOCKED, False)
    assert differs.summary == "closed: nothing to do; what changed since is billed by 2026-11"


def test_a_month_that_has_not_begun():
    plan = planned(state=State.FUTURE)
    assert (plan.would_run, plan.exit_code) == (False, ExitCode.USAGE)
    assert why(plan, "load") == "2026-10 has not begun"


def test_steps_depend_on_steps_before_them():
    seen = set()
    for step in planned(**STANDS).steps:
        assert set(step.depends_on) <= seen
        seen.add(step.name)
    assert seen == set(STEPS)


def test_many_files_are_counted():
    assert named([], "new") == ""
    assert named(["a"], "new") == "a is new"
    assert named([str(number) for number in range(1, 1204)], "new") == "1, 2, 3 and 1,200 more are new"
