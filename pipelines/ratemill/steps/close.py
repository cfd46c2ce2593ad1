"""close: from drafts to issued invoices, once and for all.

In this order: load and check → the drafts must be of exactly these inputs → checklist → numbers (in memory) → documents
in ``state/issued`` → one transaction → ``out/<period>`` and ``published/``. Killed before the transaction, nothing has
happened: numbers were not taken, and the next close writes the documents over what lies there. Killed after it, the
period is closed, and the next ``close`` or ``run`` of the period makes what is not there yet.

The act ``closed`` of the audit log has these details, as JSON:

- what :func:`ratemill.audit.proof_of_issue` makes of the issued rows (``rows``), the files of the run's charges and of
  those that its corrections were computed from (``charges``), and the files of its documents (``documents``);
- ``inputs``, ``input_key``, ``rating_key``, ``book_sha256``: what the run was made of;
- ``issue_date``; ``numbers``: invoice_id → number; ``series``: number series → its last number;
- ``checklist``: rows of CHECKLIST without the period;
- ``before``, ``after``: :func:`ratemill.audit.totals_by_currency` of the drafts, and of what was issued.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.audit import Act, proof_of_issue, totals_by_currency
from ratemill.errors import DataRefusedError, InvariantError, UsageError
from ratemill.findings import Finding, Severity
from ratemill.insight.diff import changed_inputs
from ratemill.invoicing.checklist import Evidence, checklist, open_findings, waived
from ratemill.invoicing.numbering import NumberPattern
from ratemill.io.charge_store import ChargeStore
from ratemill.io.issued import IssuedStore
from ratemill.resources import sql
from ratemill.retention import correction_runs
from ratemill.steps.check import check, refuse_future
from ratemill.steps.closed import after_issue, finish_closed
from ratemill.steps.load import load
from ratemill.steps.mirror import mirror
from ratemill.steps.numbers import assert_gap_free, coming_numbers, day_of_issue, last_issue_date, next_numbers
from ratemill.steps.rate import rate
from ratemill.steps.report import invoice_files
from ratemill.tables.invoices import INVOICES, Billed
from ratemill.tables.runs import CHECKLIST, CLOSED_PERIODS, DOCUMENTS, FINDINGS, NUMBER_SERIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratemill.book.model import Book
    from ratemill.period import BillingPeriod
    from ratemill.steps.check import Checked
    from ratemill.steps.context import Context
    from ratemill.steps.load import Loaded


@dataclass(frozen=True)
class Closing:
    """What a close came to."""

    period: str
    run_id: str
    closed: dict[str, Any] | None
    """The row of CLOSED_PERIODS; none where only the checklist was asked for."""
    nothing_to_do: bool
    """The period was closed before, with all its files."""
    checklist: pl.DataFrame
    """Rows of CHECKLIST, in the order to look at them."""

    @property
    def open_points(self) -> list[Finding]:
        """An error for each point that stops the close."""
        return open_findings(self.checklist)


def close(
    context: Context,
    period: BillingPeriod,
    *,
    waivers: Mapping[str, str],
    issue_date: date | None = None,
    check_only: bool = False,
) -> Closing:
    """Issue the invoices of ``period``: numbered, dated, and never changed again.

    Args:
        context: the locked workspace.
        period: its drafts must be of the usage, book and configuration of now.
        waivers: point of the checklist → why it does not matter.
        issue_date: day of issue in the seller's zone; default: today.
        check_only: stop before anything is issued.

    Raises:
        UsageError: the drafts are of other inputs, the period has not ended, an earlier one is open, or a waiver is
            wrong.
        DataRefusedError: points of the checklist are open, or the book has mistakes.
        InvariantError: numbers would not be gap-free; nothing was issued.
    """
    refuse_future(period, context.now)
    closed = context.warehouse.closed_period(period)
    if closed is not None:
        return _closed_already(context, period, closed)
    _refuse_out_of_order(context, period)
    loaded = load(context)
    checked = check(context, period)
    run = _finished_run(context, checked)
    drafts = context.warehouse.billed(period)
    _refuse_unended(context, checked, drafts)
    today = day_of_issue(context.config, context.now)
    with context.step("checklist", period, checked.run_id) as step:
        evidence = _evidence(context, checked, drafts, loaded, issue_date=issue_date or today)
        points = waived(checklist(evidence), waivers, by=context.actor)
        step.done(_told(points))
    if check_only:
        return Closing(str(period), checked.run_id, None, nothing_to_do=False, checklist=points)
    found = open_findings(points)
    if found:
        count = f"{len(found)} point{'s' if len(found) != 1 else ''}"
        raise DataRefusedError(
            f"{count} of the checklist {'are' if len(found) != 1 else 'is'} open, so {period} was not closed"
            f" → mend what they name and run: ratemill run --period {period}, or close with --waive POINT=REASON",
            findings=found,
        )
    closed = _issue(context, checked, run, drafts, points, issue_date=evidence.issue_date)
    with after_issue(f"{period} is closed and its invoices are issued"):
        finish_closed(context, period)
    mirror(context)
    return Closing(str(period), checked.run_id, closed, nothing_to_do=False, checklist=points)


# ---------------------------------------------------------------------------------------------------- may it be closed?


def _closed_already(context: Context, period: BillingPeriod, closed: dict[str, Any]) -> Closing:
    _, _, whole = finish_closed(context, period)
    mirror(context)
    points = context.warehouse.table("ops", CHECKLIST, "period = $period", {"period": str(period)})
    return Closing(str(period), closed["run_id"], closed, nothing_to_do=whole, checklist=points.sort("point"))


def _refuse_out_of_order(context: Context, period: BillingPeriod) -> None:
    """Credits, corrections and numbers follow the months."""
    closed = context.warehouse.closed_periods()["period"].to_list()
    runs = context.warehouse.runs().filter("is_current", pl.col("period") < str(period))
    open_before = sorted(set(runs["period"]) - set(closed))
    if open_before:
        raise UsageError(
            f"{', '.join(open_before)} {'has' if len(open_before) == 1 else 'have'} drafts and"
            f" {'is' if len(open_before) == 1 else 'are'} not closed; periods are closed in order"
            f" → run: ratemill close --period {open_before[0]}"
        )


def _finished_run(context: Context, checked: Checked) -> dict[str, Any]:
    """The current run, if its drafts are what these inputs come to and everybody could look at them."""
    period, cure = checked.period, f"run: ratemill run --period {checked.period}, look at the drafts, and close then"
    run = context.warehouse.current_run(period)
    if run is None:
        raise UsageError(f"{period} has no drafts → {cure}")
    if run["run_id"] != checked.run_id:
        changed = changed_inputs(json.loads(run["inputs"]), checked.inputs).sentences()
        raise UsageError(
            f"the drafts of {period} (run {run['run_id']}) are not of the inputs of now; what changed:"
            f" {_listed(changed) or 'something that was not kept'} → {cure}"
        )
    if run["status"] != "done":
        raise UsageError(f"the run of {period} did not come to its end → {cure}")
    return run


def _refuse_unended(context: Context, checked: Checked, drafts: Billed) -> None:
    """A month that goes on somewhere may still be used."""
    zone = context.config.period.time_zone
    payers = checked.book.accounts.filter(
        pl.col("account_id").is_in(drafts.invoices["billing_account_id"].implode())
    ).select("account_id", pl.col("time_zone").fill_null(zone))
    ends = {name: checked.period.end(zone_name) for name, zone_name in payers.sort("account_id").iter_rows()}
    last = max(ends, key=lambda name: ends[name], default=None)
    end = ends[last] if last is not None else checked.period.end(zone)
    if context.now < end:
        whose = f" for account {last}" if last is not None else ""
        raise UsageError(
            f"{checked.period} has not ended{whose}: it does at {end:%Y-%m-%d %H:%M} UTC, and it is"
            f" {context.now:%Y-%m-%d %H:%M} UTC → close it then, or correct the clock (--as-of gives another time)"
        )


def _evidence(context: Context, checked: Checked, drafts: Billed, loaded: Loaded, *, issue_date: date) -> Evidence:
    warehouse, period, config = context.warehouse, checked.period, context.config
    rated = rate(context, checked)  # the charges stand: this counts again, and tells its own warnings from others
    stretch = {"start": period.start(config.period.time_zone), "end": period.end(config.period.time_zone)}
    with warehouse.meter.usage_of_period(period):
        hours = warehouse.frame(sql("checks/hours_with_usage"), stretch)["hour"].to_list()
        holes = warehouse.frame(sql("checks/resources_with_holes"), stretch)
    own = set(rated.findings)  # rejects and unpriced usage are points of their own
    warnings = [finding for finding in _warnings_of(context, checked.run_id) if finding not in own]
    warnings += [finding for finding in loaded.findings if finding.severity is Severity.WARNING]
    return Evidence(
        period=period,
        time_zone=config.period.time_zone,
        refused=loaded.refused,
        files=warehouse.usage.files()["file"].to_list(),
        hours=hours,
        holes=holes,
        rows_considered=rated.facts["rows_in"] - rated.facts["rows_filtered"],
        rows_rejected=rated.facts["rows_rejected"],
        unpriced=ChargeStore(context.workspace.charges).unpriced(period, checked.run_id),
        billed=drafts,
        last_month=warehouse.billed(period.shift(-1)).invoices,
        seller=config.seller,
        accounts=checked.book.accounts,
        max_total_change=config.policy.max_total_change,
        findings=warnings,
        issue_date=issue_date,
        today=day_of_issue(config, context.now),
        last_issue_date=last_issue_date(warehouse),
    )


def _warnings_of(context: Context, run_id: str) -> list[Finding]:
    where = "run_id = $run_id AND severity = 'warning'"
    rows = context.warehouse.table("ops", FINDINGS, where, {"run_id": run_id}).drop("run_id", "severity")
    ordered = rows.sort("rule", "file", "row", "message").iter_rows(named=True)
    return [Finding(Severity.WARNING, **row) for row in ordered]


# ---------------------------------------------------------------------------------------------------- issue


def _issue(
    context: Context,
    checked: Checked,
    run: dict[str, Any],
    drafts: Billed,
    points: pl.DataFrame,
    *,
    issue_date: date,
) -> dict[str, Any]:
    """Number, render, and commit; the row of CLOSED_PERIODS."""
    warehouse, period = context.warehouse, checked.period
    given = _numbers(context, drafts, issue_date)
    issued = _issued(context, checked.book, drafts, given, issue_date)
    documents = _write_documents(context, checked, issued)
    store = ChargeStore(context.workspace.charges)
    charged = [(str(period), run["run_id"]), *correction_runs(run["inputs"])]
    charges = {file: sha256 for folder in charged for file, sha256 in store.hashes(*folder).items()}
    numbers = [number for series in given.values() for number in series.values()]
    closed = {
        "period": str(period),
        "run_id": run["run_id"],
        "rating_key": checked.rating_key,
        "issue_date": issue_date,
        "closed_at": context.now,
        "closed_by": context.actor,
        "invoices": len(numbers),
        "first_number": numbers[0] if numbers else None,
        "last_number": numbers[-1] if numbers else None,
    }
    with context.step("issue", checked.period, checked.run_id) as step:
        with warehouse.transaction():
            for pattern, series in given.items():
                if next_numbers(warehouse, pattern, issue_date, len(series)) != list(series.values()):
                    raise InvariantError("other numbers are due than the documents bear; nothing was issued")
            warehouse.delete("billing", INVOICES, "period = $period AND origin = 'run'", {"period": str(period)})
            warehouse.insert("billing", INVOICES, issued.invoices)
            warehouse.insert("ops", CLOSED_PERIODS, pl.DataFrame([closed], schema=CLOSED_PERIODS.polars_schema))
            warehouse.insert("ops", CHECKLIST, points)
            warehouse.insert("ops", DOCUMENTS, documents)
            assert_gap_free(warehouse)
            details = {
                **proof_of_issue(
                    warehouse.billed(period),
                    charges=charges,
                    documents=dict(documents.select("file", "sha256").iter_rows()),
                ),
                **{name: run[name] for name in ("input_key", "book_sha256")},
                "inputs": checked.inputs,
                "rating_key": checked.rating_key,
                "issue_date": issue_date.isoformat(),
                "numbers": {invoice_id: number for series in given.values() for invoice_id, number in series.items()},
                "series": dict(warehouse.table("ops", NUMBER_SERIES).sort("series").iter_rows()),
                "checklist": points.drop("period").to_dicts(),
                "before": totals_by_currency(drafts.invoices),
                "after": totals_by_currency(issued.invoices),
            }
            warehouse.record(Act("closed", context.actor, context.now, str(period), run["run_id"], details))
        step.done(f"{len(numbers):,} documents, {closed['first_number']} to {closed['last_number']}")
    return closed


def _numbers(context: Context, drafts: Billed, issue_date: date) -> dict[str, dict[str, str]]:
    """Pattern → invoice_id → number, in the order of billing accounts.

    Patterns that come to the same series are one: it runs through invoices and credit notes alike.
    """
    seller = context.config.seller
    patterns = {"invoice": seller.invoice_number, "credit_note": seller.credit_note_number}
    wanted: dict[str, list[str]] = {}
    for document, invoice_id in (
        drafts.invoices.sort("billing_account_id", "currency", "invoice_id")
        .select("document", "invoice_id")
        .iter_rows()
    ):
        wanted.setdefault(patterns[document], []).append(invoice_id)
    series = {NumberPattern(pattern).series(issue_date) for pattern in wanted}
    if len(series) != len(wanted):
        raise UsageError(
            "[seller] invoice_number and credit_note_number are written differently and make the same numbers"
            " → write them alike for one series, or differently for two"
        )
    return {
        pattern: dict(zip(ids, coming_numbers(context.warehouse, pattern, issue_date, len(ids)), strict=True))
        for pattern, ids in wanted.items()
    }


def _issued(context: Context, book: Book, drafts: Billed, given: dict[str, dict[str, str]], issue_date: date) -> Billed:
    """The drafts with number, dates and status; credit notes have no day to pay by."""
    terms = dict(book.accounts.select("account_id", "payment_terms_days").iter_rows())
    numbers = {invoice_id: number for series in given.values() for invoice_id, number in series.items()}
    rows = [
        row
        | {
            "status": "issued",
            "number": numbers[row["invoice_id"]],
            "issue_date": issue_date,
            "due_date": _due_date(row, terms[row["billing_account_id"]], context, issue_date),
        }
        for row in drafts.invoices.iter_rows(named=True)
    ]
    return replace(drafts, invoices=pl.DataFrame(rows, schema=INVOICES.polars_schema))


def _due_date(row: Mapping[str, Any], terms: int | None, context: Context, issue_date: date) -> date | None:
    if row["document"] == "credit_note":
        return None
    days = terms if terms is not None else context.config.seller.payment_terms_days
    return issue_date + timedelta(days=days)


def _write_documents(context: Context, checked: Checked, issued: Billed) -> pl.DataFrame:
    """Render everything into ``state/issued``; rows of DOCUMENTS."""
    store, period = IssuedStore(context.workspace.issued), checked.period
    owners: dict[str, str] = {}
    with context.step("documents", checked.period, checked.run_id, unit="files") as step:

        def files() -> Iterator[tuple[str, bytes]]:
            for invoice_id, name, data in made:
                file = store.file(period, name)
                if file in owners:
                    raise InvariantError(f"two documents have the name {name}: {owners[file]} and {invoice_id}")
                owners[file] = invoice_id
                yield name, data
                step.advance()

        with closing(invoice_files(context, issued, book=checked.book, period=period)) as made:
            hashes = store.write_period(period, files())
        step.done(f"{len(hashes):,} files in {context.workspace.relative(context.workspace.issued)}")
    rows = [{"invoice_id": owners[file], "file": file, "sha256": sha256} for file, sha256 in hashes.items()]
    return pl.DataFrame(rows, schema=DOCUMENTS.polars_schema)


# ---------------------------------------------------------------------------------------------------- words


def _told(points: pl.DataFrame) -> str:
    counts = dict(points.group_by("status").len().iter_rows())
    return ", ".join(f"{counts[status]} {status}" for status in ("ok", "waived", "open") if status in counts)


def _listed(changed: list[str]) -> str:
    shown = "; ".join(changed[:3])
    return shown if len(changed) <= 3 else f"{shown} and {len(changed) - 3} more"  # noqa: PLR2004
