"""explain: fetch what a figure was made of, and take it apart."""

from __future__ import annotations

import json
import shlex
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.documents.explain import ExplanationPrinter, explain_page
from ratemill.errors import InvariantError, UsageError
from ratemill.frames import collect
from ratemill.insight.explain.arithmetic import Operand, must_equal, total, work
from ratemill.insight.explain.deductions import in_scope
from ratemill.insight.explain.document import (
    Document,
    adjustment_steps,
    correction_steps,
    credited_steps,
    document_steps,
    line_steps,
    line_title,
    lines_table,
    recurring_steps,
    shortfall_steps,
)
from ratemill.insight.explain.gather import covered_by, price_line, same_in, zone_of
from ratemill.insight.explain.model import Cell, Column, Explanation, Step, largest_first
from ratemill.insight.explain.prices import validity_words
from ratemill.insight.explain.usage import CHARGE_KEY, Metered, attributed, hours_by_series, with_moments
from ratemill.insight.explain.usage_line import derivation
from ratemill.invoicing.corrections import PAYER, TAX, THING, find_corrections
from ratemill.invoicing.lines import LINE_KEY
from ratemill.invoicing.payers import payers_of, with_valid_days
from ratemill.io.atomic import write_file
from ratemill.io.charge_store import ChargeStore
from ratemill.money import QUANTITY, ZERO
from ratemill.period import BillingPeriod
from ratemill.rating.metering import plan_metering
from ratemill.rating.series import split_by_book
from ratemill.resources import sql
from ratemill.steps.correct import assembled_again
from ratemill.steps.diff import book_of_run
from ratemill.steps.documents import made
from ratemill.steps.explain_what import Target, find_target
from ratemill.tables.columns import INSTANT
from ratemill.tables.invoices import BILLING_TABLES, INVOICES, Billed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal
    from pathlib import Path

    from ratemill.book.model import Book
    from ratemill.config import Period as PeriodConfig
    from ratemill.insight.explain.costing import Charge
    from ratemill.insight.explain.priced import Priced
    from ratemill.steps.context import Context

Row = dict[str, Any]
_FEW_RESOURCES = 2_000
"""Of more resources than this, all of a SKU's series are looked at rather than each by its name."""


@dataclass(frozen=True)
class Extent:
    """How much is told."""

    rows: int = 12
    """Rows of a table; of longer ones the largest."""
    lines: int = 0
    """Lines of an invoice, account or resource that are taken apart as well, the largest."""


def explain(context: Context, what: str, period: BillingPeriod | None = None, *, extent: Extent | None = None
            ) -> Explanation:  # fmt: skip
    """Why a figure is what it is.

    Every figure is recomputed from its parts and held against what the run stored.

    Args:
        context: an open workspace.
        what: see :func:`ratemill.steps.explain_what.find_target`.
        period: the month; an invoice knows its own.
        extent: how much is told.

    Raises:
        UsageError: it names nothing, or several things; or its charges are no longer kept.
        InvariantError: a figure is not what its parts come to.
    """
    target = find_target(context, what, period)
    month = _Month.of(context, BillingPeriod.parse(target.period))
    extent = extent or Extent()
    try:
        explained = _EXPLAINERS[target.kind](month, target, extent)
        return explained.prove()
    except InvariantError as error:
        if month.settings_changed:
            raise UsageError(
                f"{target.period} was rated with other settings in [usage] or [period] than those of today, so its"
                f" figures can't be derived again ({error}) → put the settings of then back, or run the month again"
            ) from error
        raise


# ----------------------------------------------------------------------------------------------- what a run was made of


@dataclass(frozen=True)
class _Month:
    """A run of a month, or a closed month that was rated again."""

    context: Context
    period: BillingPeriod
    run_id: str
    """Under which its charges are kept."""
    book: Book
    config: PeriodConfig
    """The settings it was rated with."""
    settings_changed: bool
    inputs: Mapping[str, Any]

    @classmethod
    def of(cls, context: Context, period: BillingPeriod) -> _Month:
        """The run that counts for a period."""
        run = context.warehouse.current_run(period)
        if run is None:
            raise UsageError(f"{period} has no run yet → run: ratemill run --period {period}")
        inputs = json.loads(run["inputs"])
        config, changed = _settings_of(context, inputs)
        month = cls(context, period, run["run_id"], book_of_run(context.warehouse, run["book_sha256"]), config, changed,
                    inputs)  # fmt: skip
        if not all(file.is_file() for file in month.store.charge_files(period, run["run_id"])):
            raise UsageError(f"the charges of run {run['run_id']} are gone from state/charges → run: ratemill verify")
        return month

    def rated_again(self, closed: str) -> _Month:
        """A closed month as this one rated it again, to correct it."""
        key = self.inputs["corrections"][closed]
        return replace(self, period=BillingPeriod.parse(closed), run_id=f"{closed}-{key[:12]}")

    @property
    def store(self) -> ChargeStore:
        """Where its charges are."""
        return ChargeStore(self.context.workspace.charges)

    @cached_property
    def charges(self) -> pl.LazyFrame:
        """Charges that rating made."""
        return self.store.usage_charges(self.period, self.run_id)

    def document(self, invoice_id: str) -> Document:
        """An invoice or credit note, ready to be taken apart."""
        billed = Billed.of(
            self.context.warehouse.table("billing", table, "invoice_id = $id", {"id": invoice_id})
            for table in BILLING_TABLES
        )
        zone = zone_of(self.book, billed.invoices["billing_account_id"][0], self.config.time_zone)
        return Document.of(
            billed,
            self.book,
            tax_point=self.period.end(zone) - timedelta(microseconds=1),
            zone=zone,
            covered=covered_by(self.charges, billed, self.book, self.period),
        )

    def priced(self, line: Row, payer: str, currency: str) -> Priced:
        """A usage line with its charges, priced again."""
        return price_line(
            self.charges,
            line,
            payer=payer,
            currency=currency,
            book=self.book,
            period=self.period,
            default_zone=self.config.time_zone,
            hourly=self.config.detail == "hour",
        )

    def metered(self, priced: Priced, chosen: Sequence[Charge], *, records: bool = False) -> Metered:
        """The usage of today that belongs to charges.

        ``records``: each record too.
        """
        wanted = list(chosen)
        by_the_hour = priced.sku["aggregation"] != "sum"
        if by_the_hour:
            resources = {charge.row["resource_id"] for charge in chosen}
            wanted = [charge for charge in priced.siblings if charge.row["resource_id"] in resources]
        warehouse, line = self.context.warehouse, priced.line
        resources = {charge.row["resource_id"] for charge in wanted}
        named = sorted(name for name in resources if name is not None)
        whole = len(chosen) == len(priced.mine)
        with warehouse.meter.usage_of_period(self.period):
            series = warehouse.frame(
                sql("explain/series"),
                {
                    "sku": line["sku_id"],
                    "project": line["project_id"],
                    "region": line["region"],
                    "resources": None if whole or len(named) > _FEW_RESOURCES else named,
                    "without_resource": None in resources,
                },
            )
            known = split_by_book(series, self.book.accounts, self.book.skus).known
            numbers = known["series_id"].to_list()
            instants = warehouse.frame(sql("explain/usage_instants"), {"series": numbers})
            if not instants.height:
                return Metered(_NO_PARTS)
            metering = plan_metering(known, self.book, instants, period=self.period, config=self.config)
            with warehouse.meter.metered_usage(metering.series, metering.instants):
                sums = warehouse.frame(sql("explain/usage_by_file"))
                billable = warehouse.frame("SELECT * FROM billable_usage WHERE hour IS NOT NULL")
                single = chosen[0].row if records else None
                each = None if single is None else warehouse.frame(
                    sql("explain/records"), {"first": single["charge_start"], "end": single["charge_end"]}
                )  # fmt: skip
        keyed = self._keyed(wanted, priced.zone)
        found = attributed(sums, metering, self.book.fx_rates, keyed)
        parts = found.filter(pl.col("charge").is_not_null())
        # Of a part of the line nobody can say what more would be part of it.
        late = found.filter(
            pl.lit(whole), pl.col("charge").is_null(), price_id=line["price_id"], account_id=line["account_id"]
        )
        attributes = dict(known.select("series_id", "attributes").iter_rows())
        says = {charge: json.loads(attributes[number] or "{}")
                for number, charge in parts.select("series_id", "charge").iter_rows()}  # fmt: skip
        hours: dict[int, dict[int, Decimal]] = {}
        if by_the_hour:
            by_series = hours_by_series(billable, metering)
            hours = {charge: by_series.get(number, {})
                     for charge, number in parts.select("charge", "charged_series").iter_rows()}  # fmt: skip
        if each is not None:
            cells = parts.filter(charge=chosen[0].number).select("series_id", "cell").unique()
            each = each.join(cells, on=["series_id", "cell"], how="semi")
        more = (int(late["records"].sum()), total(late["quantity"]))
        return Metered(parts.select(_NO_PARTS.columns).cast(_NO_PARTS.schema), says, hours, more, each)

    def _keyed(self, charges: Sequence[Charge], zone: str) -> pl.DataFrame:
        """Charges as attribution looks for them."""
        columns = ("billing_account_id", "account_id", "project_id", "sku_id", "region", "resource_id", "tags",
                   "charge_start", "price_id", "list_price_id")  # fmt: skip
        schema = dict.fromkeys(columns, pl.String()) | {"charge_start": INSTANT}
        frame = pl.DataFrame([[charge.row[name] for name in columns] for charge in charges], schema, orient="row")
        numbers = pl.Series("charge", [charge.number for charge in charges], dtype=pl.Int64)
        hourly = self.config.detail == "hour"
        moments = with_moments(frame.with_columns(numbers), zone, self.period.start(zone), hourly=hourly)
        return moments.select("charge", "billing_account_id", *CHARGE_KEY)


_NO_PARTS = pl.DataFrame(
    schema={
        "charge": pl.Int64, "file": pl.String, "records": pl.Int64, "quantity": QUANTITY,
        "billable": QUANTITY, "first_start": INSTANT, "last_end": INSTANT,
    }
)  # fmt: skip


def _settings_of(context: Context, inputs: Mapping[str, Any]) -> tuple[PeriodConfig, bool]:
    """The [period] settings a run was rated with, and whether they could not be found out."""
    config = context.config
    for detail in (config.period.detail, "day", "hour"):
        period = config.period.model_copy(update={"detail": detail})
        if config.model_copy(update={"period": period}).rating_fingerprint() == inputs["rating_configuration"]:
            return period, False
    return config.period, True


# -------------------------------------------------------------------------------------------------------- what is asked


def _finished(month: _Month, target: Target, document: Document | None, **values: Any) -> Explanation:
    notes = values.pop("notes", ())
    if month.settings_changed:
        notes = (*notes, "The settings [usage] or [period] are not those that the month was rated with.")
    subject = target.name if target.kind in ("invoice", "line", "charge") else f"{target.kind}:{target.name}"
    draft = document is None or document.invoice["status"] == "draft"
    if document is None:
        draft = month.context.warehouse.closed_period(month.period) is None
    return Explanation(
        kind=target.kind, subject=subject, period=target.period, run_id=month.run_id, is_draft=draft, notes=notes,
        **values,
    )  # fmt: skip


def command(subject: str, period: str) -> str:
    """The command that explains something."""
    return f"ratemill explain {shlex.quote(subject)} --period {period}"


def _explain_invoice(month: _Month, target: Target, extent: Extent) -> Explanation:
    document = month.document(str(target.invoice_id))
    ask = f"{target.invoice_id}:{{line}}"
    steps = document_steps(document, most=extent.rows, ask=ask)
    steps += _largest_lines(month, document, document.lines, extent)
    head = document.invoice
    return _finished(
        month, target, document,
        title=f"{document.what.capitalize()} {document.name} of {head['billing_account_id']}",
        figure=head["total_amount"], unit=document.currency, at_least=document.places,
        figure_is=f"total with tax, {month.period}", steps=tuple(steps),
        asks=_line_asks(document, document.lines, target.period),
    )  # fmt: skip


def _line_asks(document: Document, lines: Sequence[Mapping[str, Any]], period: str) -> tuple[tuple[str, str], ...]:
    if not lines:
        return ()
    largest = max(lines, key=lambda line: abs(line["amount"]))
    subject = f"{document.invoice['invoice_id']}:{largest['line_number']}"
    return ((command(subject, period), "the largest line, from the meter on"),)


def _largest_lines(month: _Month, document: Document, lines: Sequence[Mapping[str, Any]], extent: Extent) -> list[Step]:
    """The largest lines, each taken apart."""
    if not extent.lines:
        return []
    chosen = sorted(lines, key=lambda line: (-abs(line["amount"]), line["line_number"]))[: extent.lines]
    parts = tuple(
        Step("line", f"Line {line_title(line)}", (), (), (), tuple(_steps_of_line(month, document, dict(line), extent)))
        for line in chosen
    )
    said = f"{len(parts)} of {len(lines):,}, each from the meter to the document." if len(parts) < len(lines) else ""
    return [Step("largest", "The largest lines", (said,) if said else (), (), (), parts)]


def _explain_line(month: _Month, target: Target, extent: Extent) -> Explanation:
    document = month.document(str(target.invoice_id))
    line = dict(document.line(int(target.line_number or 0)))
    asks = [(command(str(target.invoice_id), target.period), f"the whole {document.what}")]
    if line["line_kind"] == "usage":
        asks.append((command(f"{target.name}#1", target.period), "its first charge, record by record"))
    return _finished(
        month, target, document, title=f"Line {line_title(line)}", figure=line["amount"], unit=document.currency,
        at_least=document.places, figure_is=_amount_is(document, line),
        steps=tuple(_steps_of_line(month, document, line, extent)), asks=tuple(asks),
    )  # fmt: skip


def _amount_is(document: Document, line: Row) -> str:
    after = ", before discounts and credits" if line["net_amount"] != line["amount"] else ""
    return f"line {line['line_number']} of {document.what} {document.name}{after}, before tax"


def _steps_of_line(month: _Month, document: Document, line: Row, extent: Extent) -> list[Step]:
    """A line from its origin to the document's total."""
    steps = _origin(month, document, line, extent)
    if line["line_kind"] == "usage" and document.invoice["origin"] == "run":
        exact = steps[-1].workings[-1]
        must_equal(f"the exact cost of line {line['line_number']}", exact.result, line["cost"])
        return [*steps, *line_steps(document, line)]
    return [*steps, *line_steps(document, line)[1:]]


def _origin(month: _Month, document: Document, line: Row, extent: Extent) -> list[Step]:
    """Where a line's amount comes from."""
    invoice = document.invoice
    if invoice["origin"] == "hand":
        original = str(invoice["corrects_invoice_id"])
        return credited_steps(document, line, original, ask=f"ratemill explain {original}:{line['line_number']}")
    kind, payer = line["line_kind"], invoice["billing_account_id"]
    if kind == "usage":
        priced = month.priced(line, payer, document.currency)
        return derivation(priced, priced.mine, month.metered(priced, priced.mine), most=extent.rows)
    if kind == "recurring":
        return _fee(month, document, line)
    if kind == "adjustment":
        rows = month.book.adjustments.filter(adjustment_id=line["source_id"])
        return adjustment_steps(document, line, rows.row(0, named=True))
    if kind == "commitment":
        return _shortfall(month, document, line, extent)
    return _correction(month, document, line, extent)


def _fee(month: _Month, document: Document, line: Row) -> list[Step]:
    fees = month.book.recurring.filter(recurring_id=line["source_id"])
    payers = payers_of(month.book.accounts, period=month.period, time_zone=month.config.time_zone)
    counted = with_valid_days(fees.join(payers, on="account_id", how="inner", validate="m:1"), month.period)
    fee = fees.row(0, named=True)
    when = validity_words(fee["valid_from"], fee["valid_to"], month.config.time_zone)
    return recurring_steps(document, line, fee, days=counted["days"][0], days_in_month=month.period.days, when=when)


def _shortfall(month: _Month, document: Document, line: Row, extent: Extent) -> list[Step]:
    rows = month.book.commitments.filter(commitment_id=line["source_id"])
    commitment = rows.row(0, named=True)
    eligible = [each for each in document.lines if each["line_kind"] == "usage" and in_scope(commitment, each)]
    ask = f"{document.invoice['invoice_id']}:{{line}}"
    return shortfall_steps(document, line, commitment, eligible, most=extent.rows, ask=ask)


def _correction(month: _Month, document: Document, line: Row, extent: Extent) -> list[Step]:
    """What was billed for a closed month against what it should be, and how that comes about."""
    closed = line["corrects_period"]
    again = month.rated_again(closed)
    correct = assembled_again(month.context, month.book, again.period, again.run_id)
    billed = month.context.warehouse.issued_for(closed, before=month.period)
    payer = {"billing_account_id": document.invoice["billing_account_id"], "currency": document.currency}
    key = line | payer
    wanted = same_in(key, [*PAYER, *THING, *TAX])
    rows = find_corrections(correct, billed, period=closed).filter(wanted)
    must_equal(f"line {line['line_number']}", rows["amount"][0] if rows.height else ZERO, line["amount"])
    should = _with_document(correct).filter(wanted, pl.col("line_kind") != "correction").to_dicts()
    was = _with_document(billed).filter(
        wanted,
        ((pl.col("period") == closed) & (pl.col("line_kind") != "correction"))
        | (pl.col("corrects_period") == closed).fill_null(False),
    )
    names = [
        (str(each["number"] or each["invoice_id"]), each) for each in was.sort("invoice_id", "line_number").to_dicts()
    ]
    ask = "{document}:{line}"
    steps = correction_steps(document, line, names, should[0] if should else None, ask=ask)
    if should and should[0]["line_kind"] == "usage":
        priced = again.priced(should[0], payer["billing_account_id"], document.currency)
        inner = derivation(priced, priced.mine, again.metered(priced, priced.mine), most=extent.rows)
        must_equal(f"the exact cost of {closed}", inner[-1].workings[-1].result, should[0]["cost"])
        said = f"{closed} with the usage and the book that {month.period} was drafted with."
        steps.append(Step("correct", "What it should be", (said,), (), (), tuple(inner)))
    return steps


def _with_document(billed: Billed) -> pl.DataFrame:
    columns = ("invoice_id", "number", "period", "billing_account_id", "currency")
    return billed.lines.join(billed.invoices.select(columns), on="invoice_id", how="left", validate="m:1")


def _explain_charge(month: _Month, target: Target, extent: Extent) -> Explanation:
    document = month.document(str(target.invoice_id))
    line = dict(document.line(int(target.line_number or 0)))
    name, _, _ = target.name.partition("#")
    if line["line_kind"] != "usage" or document.invoice["origin"] == "hand":
        raise UsageError(f"{name} is not made of usage charges → {command(name, target.period)}")
    priced = month.priced(line, document.invoice["billing_account_id"], document.currency)
    number = int(target.charge or 0)
    if number > len(priced.mine):
        raise UsageError(f"{name} has {len(priced.mine):,} charges, and {number:,} is none → #1 to #{len(priced.mine)}")
    charge = priced.mine[number - 1]
    metered = month.metered(priced, [charge], records=True)
    steps = derivation(priced, [charge], metered, most=extent.rows)
    steps.append(_part_of_line(document, line, steps[-1].workings[-1].result, "this charge"))
    resource = charge.row["resource_name"] or charge.row["resource_id"] or "no resource"
    local = charge.row["charge_start"].astimezone(ZoneInfo(priced.zone))
    day = f"{local:%Y-%m-%d %H:%M}" if priced.hourly else f"{local:%Y-%m-%d}"
    return _finished(
        month, target, document, title=f"Charge {number} of line {line_title(line)}: {resource}, {day}",
        figure=steps[-2].workings[-1].result, unit=document.currency, at_least=document.places,
        figure_is="exact cost, before rounding of its line", steps=tuple(steps),
        asks=((command(name, target.period), "its whole line"),),
    )  # fmt: skip


def _part_of_line(document: Document, line: Row, part: Decimal, name: str) -> Step:
    """What a part of a line leaves to the others: rounding and deductions are those of the line."""
    others = total((line["cost"], -part))
    rest = [Operand(others, "other charges of the line")] if others else []
    whole = work("sum", Operand(part, name), *rest, name=f"line {line['line_number']}, exact", unit=document.currency,
                 at_least=document.places)  # fmt: skip
    rounded = work("round", Operand(whole.result), name=f"line {line['line_number']}", unit=document.currency,
                   places=document.places, rounding="half-up", at_least=document.places)  # fmt: skip
    must_equal(f"line {line['line_number']}", rounded.result, line["amount"])
    said = "Rounding, discounts, credits and tax are those of the line."
    return Step("line", f"Line {line_title(line)}", (said,), (), (whole, rounded))


def _explain_resource(month: _Month, target: Target, extent: Extent) -> Explanation:
    """What a resource cost, line by line."""
    charges = collect(
        month.charges.filter(pl.col("resource_id") == target.name)
        .group_by("invoice_id", *LINE_KEY)
        .agg(pl.col("cost").sum(), pl.len().alias("charges"), pl.col("resource_name").max())
    )
    documents = {name: month.document(name) for name in charges["invoice_id"].unique().sort()}
    found: list[tuple[Document, Row, Row]] = []
    for row in charges.sort("invoice_id", *LINE_KEY[2:]).iter_rows(named=True):
        document = documents[row["invoice_id"]]
        line = next(
            line for line in document.lines
            if line["line_kind"] == "usage" and all(line[name] == row[name] for name in LINE_KEY[2:])
        )  # fmt: skip
        found.append((document, dict(line), row))
    currencies = sorted({document.currency for document in documents.values()})
    name = charges["resource_name"].drop_nulls().sort().to_list()
    steps = [_resource_lines(found, extent, currencies)]
    largest = sorted(found, key=lambda each: -abs(each[2]["cost"]))[: max(extent.lines, 1)]
    for document, line, row in largest:
        steps.append(_resource_on_line(month, document, line, row, extent=extent, resource_id=target.name))
    asks = tuple(
        (command(f"{document.invoice['invoice_id']}:{line['line_number']}", target.period), "the whole line")
        for document, line, _ in largest[:1]
    )
    figure = total(row["cost"] for _, _, row in found) if len(currencies) == 1 else None
    shown = f"{target.name} ({name[-1]})" if name and name[-1] != target.name else target.name
    first = next(iter(documents.values()))
    return _finished(
        month, target, first, title=f"Resource {shown} in {month.period}", figure=figure, unit=currencies[0],
        at_least=first.places, figure_is="exact cost, before rounding, discounts and tax", steps=tuple(steps),
        asks=asks,
    )  # fmt: skip


def _resource_lines(found: Sequence[tuple[Document, Row, Row]], extent: Extent, currencies: Sequence[str]) -> Step:
    tables = []
    for currency in currencies:
        rows: list[tuple[Cell, ...]] = [
            (line_title(line), row["charges"], row["cost"], f"{row['invoice_id']}:{line['line_number']}")
            for document, line, row in found
            if document.currency == currency
        ]
        columns = (
            Column("Line"), Column("Charges", is_number=True, adds_up=True),
            Column(f"Exact cost, {currency}", is_number=True, at_least=2, adds_up=True), Column("Explain with"),
        )  # fmt: skip
        tables.append(largest_first(columns, rows, most=extent.rows, by=2, thing="lines"))
    count = len(found)
    return Step("lines", "Where it is billed", (f"On {count:,} {'line' if count == 1 else 'lines'}.",), tuple(tables))


def _resource_on_line(
    month: _Month, document: Document, line: Row, row: Row, *, resource_id: str, extent: Extent
) -> Step:
    priced = month.priced(line, document.invoice["billing_account_id"], document.currency)
    chosen = [charge for charge in priced.mine if charge.row["resource_id"] == resource_id]
    inner = derivation(priced, chosen, month.metered(priced, chosen), most=extent.rows)
    must_equal(f"the cost of {resource_id} on line {line['line_number']}", inner[-1].workings[-1].result, row["cost"])
    inner.append(_part_of_line(document, line, row["cost"], resource_id))
    return Step("part", f"On line {line_title(line)}", (), (), (), tuple(inner))


def _explain_account(month: _Month, target: Target, extent: Extent) -> Explanation:
    """An account: the documents it pays, or the lines that another account pays for it."""
    values = {"period": target.period, "account": target.name}
    on_lines = "invoice_id IN (SELECT invoice_id FROM billing.invoice_lines WHERE account_id = $account)"
    rows = month.context.warehouse.table(
        "billing", INVOICES, f"period = $period AND (billing_account_id = $account OR {on_lines})", values
    )
    documents = [month.document(name) for name in rows["invoice_id"].sort()]
    steps, amounts = [], []
    for document in documents:
        ask = f"{document.invoice['invoice_id']}:{{line}}"
        title = f"{document.what.capitalize()} {document.name}"
        if document.invoice["billing_account_id"] == target.name:
            inner = document_steps(document, most=extent.rows, ask=ask)
            amounts.append((document, document.invoice["total_amount"]))
        else:
            lines = [line for line in document.lines if line["account_id"] == target.name]
            inner = [_lines_of_member(document, lines, most=extent.rows, ask=ask)]
            title += f", paid by {document.invoice['billing_account_id']}"
            amounts.append((document, total(line["net_amount"] for line in lines)))
        mine = [line for line in document.lines if line["account_id"] == target.name]
        inner += _largest_lines(month, document, mine, extent)
        steps.append(Step("invoice", title, (), (), (), tuple(inner)))
    currencies = sorted({document.currency for document in documents})
    pays = all(document.invoice["billing_account_id"] == target.name for document in documents)
    sums = work("sum", *(Operand(amount, document.name) for document, amount in amounts), name="together",
                unit=currencies[0], at_least=documents[0].places)  # fmt: skip
    if len(documents) > 1 and len(currencies) == 1:
        steps.append(Step("total", "Together", (), (), (sums,)))
    return _finished(
        month, target, None, title=f"Account {target.name} in {month.period}",
        figure=sums.result if len(currencies) == 1 else None, unit=currencies[0], at_least=documents[0].places,
        figure_is="total with tax" if pays else "net amount of its lines, before tax", steps=tuple(steps),
        asks=_line_asks(documents[0], [line for line in documents[0].lines if line["account_id"] == target.name],
                        target.period),
    )  # fmt: skip


def _lines_of_member(document: Document, lines: Sequence[Mapping[str, Any]], *, most: int, ask: str) -> Step:
    parts = [
        Operand(total(line[name] for line in lines), words)
        for name, words in (("amount", "lines"), ("discount_amount", "discounts"), ("commitment_amount", "commitments"),
                            ("credit_amount", "credits"))
    ]  # fmt: skip
    net = work("sum", parts[0], *(part for part in parts[1:] if part.value), name="net", unit=document.currency,
               at_least=document.places)  # fmt: skip
    must_equal("the lines of the account", net.result, total(line["net_amount"] for line in lines))
    return Step("lines", "Lines", (), (lines_table(document, lines, most=most, ask=ask),), (net,))


_EXPLAINERS = {
    "invoice": _explain_invoice,
    "line": _explain_line,
    "charge": _explain_charge,
    "account": _explain_account,
    "resource": _explain_resource,
}


def write_page(context: Context, explanation: Explanation, path: Path) -> None:
    """Write an explanation as an HTML page.

    Raises:
        UsageError: a template of the workspace is wrong.
    """
    page = explain_page(explanation, seller=context.config.seller.name)
    printer = ExplanationPrinter(context.workspace.templates)
    with closing(made(context, printer, [page], seconds=0)) as files:
        for _, _, data in files:
            write_file(path, data)
