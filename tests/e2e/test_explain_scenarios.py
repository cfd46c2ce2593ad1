"""Every line of every worked example, explained by the program, and computed again from the JSON by nothing but Decimal.

The golden texts are for people: what a finance department reads before it believes a figure.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, localcontext
from functools import reduce
from typing import TYPE_CHECKING

import pytest

from ratemill import pipeline
from ratemill.documents.explain import WIDTH, render_text
from ratemill.errors import ExitCode
from ratemill.period import BillingPeriod
from ratemill.progress import make_progress
from ratemill.steps.explain import explain
from ratemill.workspace import find_workspace
from unit.test_scenarios import LATER, NAMES, SCENARIOS, bill
from workspaces import run_here

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

MODES = {"half-even": ROUND_HALF_EVEN, "half-up": ROUND_HALF_UP, "up": ROUND_CEILING, "down": ROUND_FLOOR}


@dataclass(frozen=True)
class Billed:
    """A scenario that was billed, and what is in its warehouse."""

    root: Path

    @contextmanager
    def opened(self):
        with (
            make_progress(quiet=True) as progress,
            pipeline.open_run(
                find_workspace(self.root), progress, now=LATER, command="explain", read_only=True
            ) as context,
        ):
            yield context

    def explain(self, *options):
        """``ratemill explain … --json``"""
        return run_here(["explain", "--workspace", str(self.root), *options, "--json"])


@pytest.fixture(scope="module")
def billed(tmp_path_factory):
    """Scenario → its workspace, billed once."""
    known = {}

    def of(name):
        if name not in known:
            root = tmp_path_factory.mktemp(name) / "workspace"
            root.mkdir()
            bill(SCENARIOS / name, root)
            known[name] = Billed(root)
        return known[name]

    return of


# Everything can be explained -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_document_line_and_account_of_an_example(billed, name):
    """And the first charge of each line; whatever differs from what is stored would raise."""
    with billed(name).opened() as context:
        documents = context.warehouse.frame("SELECT * FROM billing.invoices ORDER BY period, invoice_id").to_dicts()
        lines = context.warehouse.frame("SELECT * FROM billing.invoice_lines ORDER BY ALL").to_dicts()
        assert documents
        assert lines
        for document in documents:
            period, invoice_id = BillingPeriod.parse(document["period"]), document["invoice_id"]
            whole = explain(context, invoice_id)
            assert whole.figure == document["total_amount"]
            payer = explain(context, f"account:{document['billing_account_id']}", period)
            assert payer.figure is not None
            for line in (line for line in lines if line["invoice_id"] == invoice_id):
                subject = f"{invoice_id}:{line['line_number']}"
                told = explain(context, subject, period)
                assert told.figure == line["amount"]
                assert_readable(told)
                if line["line_kind"] == "usage" and document["origin"] == "run":
                    charge = explain(context, f"{subject}#1", period)
                    assert_readable(charge)


@pytest.mark.parametrize("name", ["tiers-when-the-price-changes", "discount-and-credit-and-tax", "monthly-minimum"])
def test_the_json_computes_to_its_own_figures(billed, name):
    """Who has nothing but the JSON and a calculator comes to the same."""
    workspace = billed(name)
    with workspace.opened() as context:
        rows = context.warehouse.frame("SELECT invoice_id, line_number FROM billing.invoice_lines").rows()
    computed = 0
    for invoice_id, number in rows:
        ended = workspace.explain(f"{invoice_id}:{number}")
        assert ended.code == ExitCode.DONE, ended
        for step in steps_of(ended.summary):
            for table in step["tables"]:
                assert_adds_up(table)
            for working in step["workings"]:
                assert recomputed(working) == Decimal(working["result"]), working
                computed += 1
    assert computed > 5 * len(rows)


def steps_of(part):
    for step in part["steps"]:
        yield step
        yield from steps_of(step)


def recomputed(working):
    """What the operands of a working come to, in the words of the JSON."""
    values = [Decimal(operand["value"]) for operand in working["operands"]]
    with localcontext(Context(prec=150)):
        exact = {
            "sum": lambda: sum(values),
            "product": lambda: reduce(lambda a, b: a * b, values),
            "quotient": lambda: values[0] / values[1],
            "pro_rata": lambda: values[0] * values[1] / values[2],
            "percent": lambda: values[0] * values[1] / 100,
            "round": lambda: values[0],
            "smallest": lambda: min(values),
            "largest": lambda: max(values),
        }[working["operation"]]()
        if working["places"] is None:
            return exact
        return exact.quantize(Decimal(1).scaleb(-working["places"]), MODES[working["rounding"]])


def assert_adds_up(table):
    if table["total"] is None:
        return
    for place, column in enumerate(table["columns"]):
        if column["adds_up"]:
            rows = [*table["rows"], *([table["others"]] if table["others"] else [])]
            assert sum(Decimal(row[place] or 0) for row in rows) == Decimal(table["total"][place]), table


def assert_readable(explanation):
    widest = max(render_text(explanation).splitlines(), key=len)
    assert len(widest) <= WIDTH, widest


# Texts to read ---------------------------------------------------------------------------------------------------------

TEXTS = {
    "tiers": ("tiers-when-the-price-changes", "price_id = 'egress-new'"),
    "volume": ("volume-tiers", "project_id = 'c-101'"),
    "windows-when-clocks-change": (
        "peak-hours-when-clocks-change",
        "price_id = 'vm-night' AND first_day > '2026-10-01'",
    ),
    "exchange-rates": ("invoiced-in-another-currency", "price_id = 'egress-eur'"),
    "cap": ("monthly-cap", "project_id = 'shop'"),
    "deductions-and-tax": ("discount-and-credit-and-tax", "sku_id = 'ebook'"),
    "percentile": ("burstable-bandwidth", "line_number = 1"),
    "correction": ("late-file-for-a-closed-month", "line_kind = 'correction' AND sku_id = 'vm'"),
    "shortfall": ("commitment-ending", "line_kind = 'commitment'"),
}
"""Name of the text → example, and which of its lines."""


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_lines(billed, golden, name):
    scenario, condition = TEXTS[name]
    with billed(scenario).opened() as context:
        lines = context.warehouse.frame(f"SELECT invoice_id, line_number FROM billing.invoice_lines WHERE {condition}")
        ((invoice_id, number),) = lines.rows()
        told = explain(context, f"{invoice_id}:{number}")
    golden(f"explain/{name}.txt", without_run(told))


def test_text_of_an_invoice(billed, golden):
    with billed("discount-and-credit-and-tax").opened() as context:
        told = explain(context, "2026-10-bakery-EUR")
    golden("explain/invoice.txt", without_run(told))


def without_run(told):
    """A run's name is made from the program's version among others."""
    return re.sub(r"run \d{4}-\d\d-[0-9a-f]{12}", "run …", render_text(told)).encode()


def test_a_closed_month_is_explained_with_the_charges_and_the_book_of_then(billed):
    """A file with ten hours more came after the close; what was billed is explained all the same."""
    with billed("late-file-for-a-closed-month").opened() as context:
        lines = context.warehouse.frame(
            "SELECT invoice_id, line_number FROM billing.invoice_lines WHERE invoice_id LIKE '2024-08%' AND sku_id = 'vm'"
        )
        ((invoice_id, number),) = lines.rows()
        told = explain(context, f"{invoice_id}:{number}")
    text = render_text(told)
    assert not told.is_draft
    assert "100 records of usage, 100 Hours in all." in text
    assert "Today there are 10 records more, 10 Hours, that came after the run." in text
