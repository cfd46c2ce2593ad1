"""credit: a credit note that a person makes, numbered and issued at once.

In this order: what is left of the original → number (in memory) → documents beside those of the original in
``state/issued`` → one transaction → ``out/<period>`` and ``published/``. Killed before the transaction, nothing has
happened; killed after it, the same command again finds the credit note and makes the files that are not there yet.

The act ``credited`` of the audit log has these details, as JSON:

- what :func:`ratemill.audit.proof_of_issue` makes of the credit note's rows (``rows``) and files (``documents``);
- ``reference``: what tells this command from others; ``credits``: the original's invoice_id; ``lines``, ``amount``,
  ``reason``: what was asked for;
- ``issue_date``; ``numbers``: invoice_id → number; ``series``: number series → its last number;
- ``after``: :func:`ratemill.audit.totals_by_currency` of the credit note.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.audit import Act, proof_of_issue, totals_by_currency
from ratemill.errors import InvariantError, UsageError
from ratemill.invoicing.credit_notes import Credit, credit_note
from ratemill.io.issued import IssuedStore
from ratemill.period import BillingPeriod
from ratemill.steps.closed import after_issue, finish_closed, issued_run
from ratemill.steps.mirror import mirror
from ratemill.steps.numbers import assert_gap_free, coming_numbers, day_of_issue, last_issue_date, next_numbers
from ratemill.steps.report import invoice_files
from ratemill.tables.invoices import BILLING_TABLES, INVOICES, Billed
from ratemill.tables.runs import DOCUMENTS, EVENTS, NUMBER_SERIES

if TYPE_CHECKING:
    from datetime import date

    from ratemill.io.warehouse import Warehouse
    from ratemill.steps.context import Context


@dataclass(frozen=True)
class Credited:
    """A credit note that stands."""

    note: dict[str, Any]
    """Its row of INVOICES."""
    original: dict[str, Any]
    """The row of INVOICES of the invoice it is about."""
    files: tuple[str, ...]
    """Its documents, by their path below ``out/<period>``."""
    nothing_to_do: bool
    """The same was credited before, under the same reference."""


def credit(
    context: Context, invoice: str, wanted: Credit, *, issue_date: date | None = None, reference: str | None = None
) -> Credited:
    """Credit an issued invoice, or a part of it.

    Args:
        context: the locked workspace.
        invoice: number or identity of the invoice.
        wanted: what is to be credited.
        issue_date: day of issue in the seller's zone; default: today.
        reference: tells this credit from others, so that a command done twice credits once; default: made from invoice,
            lines, amount and reason.

    Raises:
        UsageError: there is no such invoice, it is a draft or a credit note, more is wanted than is left, or the
            reference or the day of issue is wrong.
        InvariantError: numbers would not be gap-free; nothing was issued.
    """
    if not wanted.reason.strip():
        raise UsageError("a credit note needs a reason → give it with --reason, it is printed on the document")
    original = _original(context.warehouse, invoice)
    period = BillingPeriod.parse(original["period"])
    asked = _asked(original, wanted)
    key = reference or _key_of(asked)
    known = _known(context.warehouse, key, asked, given=reference is not None)
    if known is None:
        note = _issue(context, original, wanted, asked | {"reference": key}, _day(context, original, issue_date))
    else:
        note = context.warehouse.table("billing", INVOICES, "invoice_id = $note", {"note": known}).row(0, named=True)
    with after_issue(f"the credit note {note['number']} is issued"):
        finish_closed(context, period)
    mirror(context)
    files = context.warehouse.table("ops", DOCUMENTS, "invoice_id = $note", {"note": note["invoice_id"]})["file"]
    folder = IssuedStore.file(period, "")
    return Credited(
        note, original, tuple(f.removeprefix(folder) for f in files.sort()), nothing_to_do=known is not None
    )


# ------------------------------------------------------------------------------------------------- what is credited?


def _original(warehouse: Warehouse, name: str) -> dict[str, Any]:
    invoices = warehouse.table("billing", INVOICES)
    found = invoices.filter((pl.col("number") == name) | (pl.col("invoice_id") == name))
    if not found.height:
        names = [*invoices["number"].drop_nulls(), *invoices["invoice_id"]]
        near = difflib.get_close_matches(name, names, n=1)
        raise UsageError(f"there is no invoice {name!r}{f'; did you mean {near[0]}?' if near else ''}")
    row = found.row(0, named=True)
    if row["status"] != "issued":
        raise UsageError(
            f"{name} is a draft: it changes with its inputs → correct the book or the usage, and run:"
            f" ratemill run --period {row['period']}"
        )
    if row["document"] != "invoice":
        raise UsageError(f"{name} is a credit note; only invoices can be credited")
    return row


def _asked(original: dict[str, Any], wanted: Credit) -> dict[str, Any]:
    return {
        "credits": original["invoice_id"],
        "lines": sorted(set(wanted.lines)),
        "amount": None if wanted.amount is None else f"{wanted.amount.normalize():f}",
        "reason": wanted.reason,
    }


def _key_of(asked: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]


def _known(warehouse: Warehouse, reference: str, asked: dict[str, Any], *, given: bool) -> str | None:
    """The credit note that was made under this reference, if there is one.

    Raises:
        UsageError: the reference was given to another credit.
    """
    for row in warehouse.table("ops", EVENTS, "act = 'credited'").iter_rows(named=True):
        details = json.loads(row["details"])
        if details["reference"] != reference:
            continue
        if given and {name: details[name] for name in asked} != asked:
            raise UsageError(
                f"--reference {reference} was given before, to another credit ({row['subject']}) → choose a new one"
            )
        return str(row["subject"])
    return None


def _day(context: Context, original: dict[str, Any], wanted: date | None) -> date:
    """The day of issue: not in the future, and not before anything that was issued."""
    today = day_of_issue(context.config, context.now)
    day = wanted or today
    latest = last_issue_date(context.warehouse) or original["issue_date"]
    if day > today:
        raise UsageError(f"--issue-date {day} is after today, {today} → leave it out, or choose a day until today")
    if day < latest:
        raise UsageError(
            f"the day of issue {day} is before {latest}, when the latest document was issued; numbers follow the days"
            f" → choose --issue-date {latest} or later"
        )
    return day


# ------------------------------------------------------------------------------------------------- issue


def _issue(
    context: Context, original: dict[str, Any], wanted: Credit, asked: dict[str, Any], issue_date: date
) -> dict[str, Any]:
    """Number, render, and commit; the row of INVOICES."""
    warehouse, pattern = context.warehouse, context.config.seller.credit_note_number
    period = BillingPeriod.parse(original["period"])
    whole = warehouse.billed(period).on(original["invoice_id"])
    credited = warehouse.documents_about(original["invoice_id"])
    by_hand = credited.invoices.filter(origin="hand").height
    (number,) = coming_numbers(warehouse, pattern, issue_date, 1)
    invoice_id = f"{original['invoice_id']}-credit-{by_hand + 1}"
    note = credit_note(whole, credited, wanted, invoice_id=invoice_id, number=number, issue_date=issue_date)
    documents = _write_documents(context, period, note)
    with context.progress.step("issue") as step:
        with warehouse.transaction():
            if next_numbers(warehouse, pattern, issue_date, 1) != [number]:
                raise InvariantError("another number is due than the credit note bears; nothing was issued")
            for table, rows in note.frames():
                warehouse.insert("billing", table, rows)
            warehouse.insert("ops", DOCUMENTS, documents)
            assert_gap_free(warehouse)
            stored = Billed.of(
                warehouse.table("billing", table, "invoice_id = $note", {"note": invoice_id})
                for table in BILLING_TABLES
            )
            details = {
                **proof_of_issue(stored, charges={}, documents=dict(documents.select("file", "sha256").iter_rows())),
                **asked,
                "issue_date": issue_date.isoformat(),
                "numbers": {invoice_id: number},
                "series": dict(warehouse.table("ops", NUMBER_SERIES).sort("series").iter_rows()),
                "after": totals_by_currency(stored.invoices),
            }
            warehouse.record(Act("credited", context.actor, context.now, str(period), invoice_id, details))
        step.done(f"credit note {number}")
    return note.invoices.row(0, named=True)


def _write_documents(context: Context, period: BillingPeriod, note: Billed) -> pl.DataFrame:
    """Render the credit note beside the documents of its original, with the book of then; rows of DOCUMENTS."""
    store = IssuedStore(context.workspace.issued)
    checked, _ = issued_run(context, period)
    with context.progress.step("documents", unit="files") as step:
        rows = []
        with closing(invoice_files(context, note, book=checked.book, period=period)) as files:
            for invoice_id, name, data in files:
                file = store.file(period, name)
                rows.append({"invoice_id": invoice_id, "file": file, "sha256": store.add(file, data)})
                step.advance()
        step.done(f"{len(rows):,} files in {context.workspace.relative(context.workspace.issued)}")
    return pl.DataFrame(rows, schema=DOCUMENTS.polars_schema)
