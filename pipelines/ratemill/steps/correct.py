"""correct: what closed periods were billed, against what they should have been."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from ratemill.errors import DataRefusedError
from ratemill.invoicing.assembly import assemble_invoices
from ratemill.invoicing.corrections import correction_findings, find_corrections, names_gone
from ratemill.invoicing.credit_notes import given_back_twice
from ratemill.io.charge_store import ChargeStore
from ratemill.period import BillingPeriod
from ratemill.steps.check import Checked
from ratemill.steps.inputs import files_of, rating_inputs, settled_periods
from ratemill.steps.overflow import largest_charge, overflow_refused
from ratemill.steps.rate import rate
from ratemill.tables.invoices import CORRECTIONS, INVOICES, Billed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratemill.book.model import Book
    from ratemill.findings import Finding
    from ratemill.invoicing.assembly import Invoices
    from ratemill.io.warehouse import Warehouse
    from ratemill.steps.context import Context


@dataclass(frozen=True)
class Corrected:
    """What an open period has to bill for closed ones."""

    corrections: pl.DataFrame = field(default_factory=CORRECTIONS.empty)
    """Rows of CORRECTIONS, by period."""
    periods: tuple[str, ...] = ()
    """Closed periods that were rated again, with differences or without."""
    warnings: tuple[Finding, ...] = ()
    """What rating them again found that was not known when they were closed."""

    def findings(self, invoices: Invoices) -> list[Finding]:
        """``warnings``, and an information per period: how much is corrected, and on which of ``invoices``."""
        return [*self.warnings, *correction_findings(self.corrections, invoices.lines, self.periods)]


@dataclass(frozen=True)
class _Recheck(Checked):
    """A closed period that is rated again: its charges are found by what they are rated from alone."""

    @property
    def run_id(self) -> str:
        """Identity of the charges; see :func:`ratemill.retention.correction_runs`."""
        return f"{self.period}-{self.rating_key[:12]}"


def correct(context: Context, checked: Checked) -> Corrected:
    """Rate the closed periods whose inputs changed again, and compare with what was billed for them.

    Charges that stand already are not rated again; nothing but charges is written.

    Raises:
        DataRefusedError: a closed period can't be rated with the book and usage of today, or what it was billed for is
            no longer in the book.
    """
    found: list[pl.DataFrame] = []
    warnings: list[Finding] = []
    for name in checked.inputs["corrections"]:
        period = BillingPeriod.parse(name)
        recheck = _recheck(context, checked, period)
        rated = rate(context, recheck)
        told = context.warehouse.findings(context.warehouse.closed_periods().filter(period=name)["run_id"][0])
        warnings += [finding for finding in rated.findings if finding not in told]
        with context.step("correct", checked.period, checked.run_id) as step:
            rows = find_corrections(
                assembled_again(context, recheck.book, period, recheck.run_id),
                context.warehouse.issued_for(period),
                period=str(period),
            )
            found.append(rows)
            step.done(f"{rows.height:,} lines of {period} to correct", rows=rows.height)
    corrections = pl.concat([CORRECTIONS.empty(), *found])
    book = checked.book
    gone = names_gone(corrections, book.accounts["account_id"], book.skus["sku_id"])
    if gone:
        raise DataRefusedError(
            f"closed months can't be corrected with this book; no invoice of {checked.period} was drafted",
            findings=gone,
        )
    warnings += _given_back_twice(context.warehouse, corrections)
    return Corrected(corrections, tuple(checked.inputs["corrections"]), tuple(dict.fromkeys(warnings)))


def _given_back_twice(warehouse: Warehouse, corrections: pl.DataFrame) -> list[Finding]:
    downwards = corrections.filter((pl.col("amount") < 0) & pl.col("corrects_invoice_id").is_not_null())
    credited = warehouse.table("billing", INVOICES, "origin = 'hand'")["corrects_invoice_id"].unique().to_list()
    found = [
        given_back_twice(
            rows, warehouse.issued_for(rows["corrects_period"][0]).on(original), warehouse.documents_about(original)
        )
        for (original,), rows in sorted(downwards.partition_by("corrects_invoice_id", as_dict=True).items())
        if original in credited
    ]
    return [finding for finding in found if finding is not None]


def _recheck(context: Context, checked: Checked, period: BillingPeriod) -> _Recheck:
    files = files_of(context.warehouse.usage.files(), period)
    inputs = rating_inputs(context, checked.book, files, period)
    return _Recheck(period, checked.book, files, inputs, ())


def assembled_again(context: Context, book: Book, period: BillingPeriod, run_id: str) -> Billed:
    """A closed period as it should have been billed, from charges that stand.

    Its credits are drawn already, and never again.
    """
    charges = ChargeStore(context.workspace.charges).usage_charges(period, run_id)
    with overflow_refused("the sum of an invoice's charges", partial(largest_charge, charges)):
        invoices = assemble_invoices(
            charges,
            book=replace(book, credits=book.credits.clear()),
            period=period,
            time_zone=context.config.period.time_zone,
            run_id=run_id,
        )
    if invoices.findings:
        raise DataRefusedError(
            f"{period} is closed, and its usage or the book changed since; it can't be corrected as long as the book"
            " has mistakes in what it says of that month",
            findings=invoices.findings,
        )
    return invoices


def stale_drafts(warehouse: Warehouse) -> list[BillingPeriod]:
    """Open periods whose drafts bill corrections that an earlier period bills by now, or has billed.

    They are to be run again.
    """
    settled = settled_periods(warehouse)
    drafts = warehouse.runs().filter("is_current", ~pl.col("period").is_in(sorted(settled))).sort("period")
    before: list[str] = []
    stale: list[BillingPeriod] = []
    for row in drafts.iter_rows(named=True):
        corrects: Mapping[str, str] = json.loads(row["inputs"]).get("corrections", {})
        if any(
            settled[closed].rating_key == key or any(closed < other for other in before)
            for closed, key in corrects.items()
        ):
            stale.append(BillingPeriod.parse(row["period"]))
        before.append(row["period"])
    return stale
