"""rate: from the warehouse's usage to charges on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.documents.spreadsheet import spreadsheet_csv
from ratemill.engines.shards import Rules
from ratemill.errors import DataRefusedError, InvariantError, NothingToBillError
from ratemill.findings import Finding, Severity
from ratemill.io.atomic import write_file
from ratemill.io.charge_store import ChargeStore, ChargeWriter
from ratemill.rating.metering import plan_metering
from ratemill.rating.series import split_by_book
from ratemill.rating.shard import unpriced_of_shards
from ratemill.resources import sql
from ratemill.steps.check import billed_without_usage

if TYPE_CHECKING:
    from ratemill.io.warehouse import Warehouse
    from ratemill.period import BillingPeriod
    from ratemill.steps.check import Checked
    from ratemill.steps.context import Context


@dataclass(frozen=True)
class Rated:
    """Charges stand in ``state/charges``; nothing else was touched."""

    run_id: str
    facts: dict[str, Any]
    """Counts of rows: rows_in, rows_filtered, rows_rejected, rows_duplicate, rows_billed, rows_other_periods,
    rows_unpriced, charges."""
    findings: tuple[Finding, ...]


def rate(context: Context, checked: Checked) -> Rated:
    """Rate ``checked.period``; the same inputs again find their charges there.

    Raises:
        DataRefusedError: too many rows are rejected, or usage has no price (unless [policy] says otherwise).
        NothingToBillError: no usage belongs to the period, and there is no other reason to bill it.
    """
    store = ChargeStore(context.workspace.charges)
    period, run_id = checked.period, checked.run_id
    with context.step("rate", period, run_id) as step:
        if store.folder(period, run_id).is_dir():
            _reject_again(context, checked)
        else:
            with store.writing(period, run_id) as writer:
                writer.facts = rate_into(context, checked, writer)
        facts = store.facts(period, run_id)
        unpriced = store.unpriced(period, run_id)
        step.done(
            f"{facts['charges']:,} charges from {facts['rows_billed']:,} usage records",
            rows=facts["rows_billed"],
            written=facts["charges"],
        )
    refuse_rejects(context, checked, facts)
    if not facts["rows_billed"] and not billed_without_usage(context, checked.book, period, checked.inputs):
        store.remove(period, run_id)
        raise NothingToBillError(
            f"there is no usage for {period}: of {facts['rows_in']:,} rows in files around it,"
            f" {facts['rows_other_periods']:,} belong to other months and {facts['rows_rejected']:,} are rejected"
        )
    findings = (
        *reject_findings(context, checked, severity=Severity.WARNING),
        *_unpriced_findings(context, unpriced, period),
    )
    return Rated(run_id, facts, findings)


def _reject_again(context: Context, checked: Checked) -> None:
    """Reject by this book again: after these charges were rated, the period may have been judged by another one."""
    warehouse, book, period = context.warehouse, checked.book, checked.period
    with warehouse.meter.usage_of_period(period):
        series = warehouse.frame(sql("core/series_of_period"))
        warehouse.meter.replace_book_rejects(split_by_book(series, book.accounts, book.skus).unknown, period)


def rate_into(context: Context, checked: Checked, writer: ChargeWriter, *, keep_rejects: bool = True) -> dict[str, Any]:
    """Rate ``checked.period`` into ``writer``; the facts of :class:`Rated`.

    ``keep_rejects``: keep in the warehouse which rows this book rejects. Without, nothing but charges is written.
    """
    warehouse, book, period = context.warehouse, checked.book, checked.period
    with warehouse.meter.usage_of_period(period):
        files = checked.files["file_id"].to_list()
        survey = context.engine.survey(warehouse, period, files)
        context.budget.require_series(survey.series.height)
        split = split_by_book(survey.series, book.accounts, book.skus)
        metering = plan_metering(split.known, book, survey.instants, period=period, config=context.config.period)
        rules = Rules.of(book, period, checked.run_id)
        metered_rows = context.engine.rate(warehouse, metering, rules, files, writer)
        writer.replace_unpriced(unpriced_of_shards(writer.unpriced))
        if keep_rejects:
            warehouse.meter.replace_book_rejects(split.unknown, period)
        return _facts(
            warehouse, checked, writer, known=split.known, unknown=split.unknown, stored_rows=survey.rows,
            metered_rows=metered_rows,
        )  # fmt: skip


def _facts(
    warehouse: Warehouse, checked: Checked, writer: ChargeWriter, *, known: pl.DataFrame, unknown: pl.DataFrame,
    stored_rows: int, metered_rows: int,
) -> dict[str, Any]:  # fmt: skip
    """Count every row of the period's files once, and prove that none is lost."""
    files = checked.files
    totals = files.select(pl.col("rows_in", "rows_filtered", "rows_accepted", "rows_rejected").sum()).row(0, named=True)
    twice = warehouse.frame(sql("checks/duplicate_rows"), {"files": files["file_id"].to_list()}).row(0, named=True)
    unknown_rows = int(unknown.unique("series_id")["records"].sum()) if unknown.height else 0
    around = int(known["records"].sum()) + unknown_rows
    facts = {
        **totals,
        "rows_rejected": totals["rows_rejected"] + twice["conflicts"] + unknown_rows,
        "rows_duplicate": twice["copies"],
        "rows_billed": metered_rows,
        "rows_other_periods": stored_rows - twice["copies"] - twice["conflicts"] - unknown_rows - metered_rows,
        "rows_unpriced": sum(int(frame["records"].sum()) for frame in writer.unpriced),
        "charges": writer.charges,
        "files": files.height,
    }
    del facts["rows_accepted"]
    if stored_rows != totals["rows_accepted"] or around > stored_rows or facts["rows_other_periods"] < 0:
        raise InvariantError(
            f"rows were lost: {totals['rows_accepted']} accepted rows, {stored_rows} stored, {around} around the"
            f" period, {metered_rows} billed; nothing was written"
        )
    return facts


def reject_findings(context: Context, checked: Checked, *, severity: Severity) -> tuple[Finding, ...]:
    """One finding per rule that usage rows break, with its count and first example."""
    rules = context.warehouse.frame(
        sql("core/rejects_by_rule"),
        {"files": checked.files["file_id"].to_list(), "period": str(checked.period)},
    )
    return tuple(
        Finding(
            severity,
            f"usage.{row['rule']}",
            f"{_seen(row['value'])}{row['message']}"
            f" ({row['rows']:,} {'row' if row['rows'] == 1 else 'rows, this is the first'})",
            _CURES.get(row["rule"], "ask the supplier of the file for a corrected one"),
            file=row["file"],
            row=row["row_number"],
            column=row["column"],
            value=row["value"],
        )
        for row in rules.iter_rows(named=True)
    )


_CURES = {
    "account_id.unknown": "add the account to book/accounts, or have the file corrected",
    "sku_id.unknown": "add the SKU to book/skus and its price to book/prices, or have the file corrected",
    "unit.wrong": "have the file corrected, or correct the usage_unit of the SKU in book/skus",
    "record.conflict": "find out which of the records is right and have the other removed from its file",
}
_LONGEST_VALUE = 60


def _seen(value: str | None) -> str:
    """The value as a message shows it, with a blank behind it; nothing where there is none."""
    if value is None:
        return ""
    shown = value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}…"
    return f"{shown!r} "


def refuse_rejects(context: Context, checked: Checked, facts: dict[str, Any]) -> None:
    """Refuse a period of which too many rows are rejected.

    Raises:
        DataRefusedError: more than ``[policy] max_rejected_share`` allows.
    """
    period = checked.period
    considered = facts["rows_in"] - facts["rows_filtered"]
    limit = context.config.policy.max_rejected_share
    if considered and facts["rows_rejected"] > limit * considered:
        share = 100 * facts["rows_rejected"] / considered
        raise DataRefusedError(
            f"{facts['rows_rejected']:,} of {considered:,} usage rows of {period} are rejected ({share:.2f} %), more"
            f" than [policy] max_rejected_share = {limit} allows; no invoice was drafted → the reasons:",
            findings=reject_findings(context, checked, severity=Severity.ERROR),
        )


def _unpriced_findings(context: Context, unpriced: pl.DataFrame, period: BillingPeriod) -> tuple[Finding, ...]:
    name = f"out/{period}-unpriced.csv"
    if not unpriced.height:
        (context.workspace.root / name).unlink(missing_ok=True)
        return ()
    blocking = context.config.policy.unpriced == "block"
    findings = unpriced_findings(unpriced, severity=Severity.ERROR if blocking else Severity.WARNING)
    write_file(context.workspace.root / name, spreadsheet_csv(unpriced))
    if blocking:
        raise DataRefusedError(
            f"{unpriced['records'].sum():,} usage records of {period} have no price, so no invoice was drafted; all of"
            f' them are listed in {name}. Bill without them by [policy] unpriced = "warn"',
            findings=findings,
        )
    return findings


def unpriced_findings(unpriced: pl.DataFrame, *, severity: Severity) -> tuple[Finding, ...]:
    """One finding per row of UNPRICED."""
    return tuple(
        Finding(
            severity,
            "usage.unpriced",
            f"account {row['account_id']}: {row['quantity'].normalize():f} {row['usage_unit']} of {row['sku_id']} from"
            f" {row['first_usage']:%Y-%m-%d %H:%M} to {row['last_usage']:%Y-%m-%d %H:%M} UTC"
            f" ({row['records']:,} records) have no price: {row['reason']}",
            "add a price to book/prices.csv, or correct its currency, region or validity",
        )
        for row in unpriced.iter_rows(named=True)
    )
