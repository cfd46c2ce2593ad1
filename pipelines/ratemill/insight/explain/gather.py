"""From a run's charges to what the explanation of a line is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.errors import UsageError
from ratemill.frames import collect
from ratemill.insight.explain.costing import Moments, charges_of, price_again
from ratemill.insight.explain.priced import Priced
from ratemill.insight.explain.prices import Version, versions_of
from ratemill.invoicing.lines import LINE_KEY
from ratemill.money import ZERO, minor_unit_decimals
from ratemill.tables.charges import CHARGE_ORDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from ratemill.book.model import Book
    from ratemill.period import BillingPeriod
    from ratemill.tables.invoices import Billed

_USED = (*CHARGE_ORDER, "resource_name", "charge_end", "usage_quantity", "pricing_quantity", "exchange_rate", "cost")
"""Columns of charges that a derivation looks at: an account may have hundreds of thousands."""
_SHARD = ("billing_account_id", "currency", "sku_id")
_SERIES = ("account_id", "project_id", "sku_id", "region")


def price_line(
    charges: pl.LazyFrame,
    line: Mapping[str, Any],
    *,
    payer: str,
    currency: str,
    book: Book,
    period: BillingPeriod,
    default_zone: str,
    hourly: bool,
) -> Priced:
    """A usage line with its charges, each priced again.

    Args:
        charges: what rating made in the run.
        line: row of INVOICE_LINES.
        payer: billing account of its invoice.
        currency: of its invoice.
        book: the book of the run.
        period: the month.
        default_zone: of payers that name none.
        hourly: whether the run's charges are cut by hour.

    Raises:
        UsageError: the book does not have the price of the line.
    """
    known = dict(line) | {"billing_account_id": payer, "currency": currency}
    mine = collect(charges.filter(same_in(known, LINE_KEY)).select(_USED))
    versions = versions_of(book, known["sku_id"])
    if known["price_id"] not in versions:
        raise UsageError(
            f"the book that was kept of {period} has no price {known['price_id']}: its state was changed"
            " → run: ratemill verify"
        )
    related = mine.filter(charge_kind="usage")
    if not _stands_alone(known, versions, book):
        related = collect(charges.filter(same_in(known, _SHARD), pl.col("charge_kind") == "usage").select(_USED))
    zone = zone_of(book, payer, default_zone)
    moments = Moments(ZoneInfo(zone), period.start(zone), hourly)
    costing = price_again(charges_of(related.sort(CHARGE_ORDER).iter_rows(named=True), moment=moments), versions)
    siblings = [c for c in costing.charges if all(c.row[name] == known[name] for name in _SERIES)]
    return Priced(
        book=book,
        period=period,
        zone=zone,
        default_zone=default_zone,
        currency=currency,
        places=minor_unit_decimals(currency),
        line=line,
        costing=costing,
        versions=versions,
        mine=[charge for charge in siblings if charge.price_id == known["price_id"]],
        limits=mine.filter(pl.col("charge_kind") != "usage").sort(CHARGE_ORDER).to_dicts(),
        siblings=siblings,
        hourly=hourly,
    )


def _stands_alone(line: Mapping[str, Any], versions: Mapping[str, Version], book: Book) -> bool:
    """Whether the charges of a line can be priced without those of other lines: no tiers, no limits, no figures."""
    run = versions[line["price_id"]].run
    plain = all(v.flat_price is not None and not v.has_limit for v in versions.values() if v.run == run)
    return plain and book.skus.filter(sku_id=line["sku_id"])["aggregation"].to_list() == ["sum"]


def covered_by(charges: pl.LazyFrame, billed: Billed, book: Book, period: BillingPeriod
               ) -> dict[tuple[str, int], Decimal]:  # fmt: skip
    """Discount and line → exact cost while the discount is valid, of discounts that are not valid all month.

    ``billed``: one document.
    """
    names = billed.deductions.filter(kind="discount")["source_id"].unique()
    begins, ends = pl.col("valid_from"), pl.col("valid_to")
    partly = book.discounts.filter(
        pl.col("discount_id").is_in(names.implode()),
        (begins > period.widest_start).fill_null(False) | (ends < period.widest_end).fill_null(False),
    )
    key = LINE_KEY[2:]
    usage = billed.lines.filter(line_kind="usage").select("line_number", *key)
    found: dict[tuple[str, int], Decimal] = {}
    for row in partly.iter_rows(named=True):
        inside = charges.filter(pl.col("invoice_id") == billed.invoices["invoice_id"][0])
        if row["valid_from"] is not None:
            inside = inside.filter(pl.col("charge_start") >= row["valid_from"])
        if row["valid_to"] is not None:
            inside = inside.filter(pl.col("charge_start") < row["valid_to"])
        costs = collect(inside.group_by(key).agg(pl.col("cost").sum().alias("inside")))
        joined = usage.join(costs, on=key, how="left", nulls_equal=True, validate="1:1")
        found |= {(row["discount_id"], number): cost or ZERO
                  for number, cost in joined.select("line_number", "inside").iter_rows()}  # fmt: skip
    return found


def zone_of(book: Book, payer: str, default_zone: str) -> str:
    """The time zone of an account that pays."""
    zones: dict[str, str | None] = dict(book.accounts.select("account_id", "time_zone").iter_rows())
    return zones.get(payer) or default_zone


def same_in(row: Mapping[str, Any], columns: Sequence[str]) -> pl.Expr:
    """Whether a frame's row has the values of ``row`` in some columns, empty ones included."""
    return pl.all_horizontal(
        pl.col(name).is_null() if row[name] is None else pl.col(name) == row[name] for name in columns
    )
