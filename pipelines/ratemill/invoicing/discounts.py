"""Discounts: percents, then amounts, off usage and recurring fees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.frames import collect
from ratemill.invoicing.deductions import LINE, OpenLines, in_turns
from ratemill.invoicing.lines import LINE_KEY
from ratemill.invoicing.payers import valid_at_tax_point
from ratemill.invoicing.scope import in_scope, scope_of_row
from ratemill.invoicing.spread import WHOLE, percent_of, to_whole
from ratemill.rating.integers import to_integers

if TYPE_CHECKING:
    from datetime import datetime

    from ratemill.period import BillingPeriod

_DISCOUNTED = ("usage", "recurring")


def take_discounts(
    opened: OpenLines, discounts: pl.DataFrame, *, lines: pl.DataFrame, charges: pl.LazyFrame, period: BillingPeriod
) -> OpenLines:
    """``opened`` after the discounts of the book.

    ``lines``: the numbered lines; ``charges``: what the usage lines were added up from, asked only where a discount
    begins or ends inside the month.
    """
    near = _of_month(discounts, period)
    cuts: list[datetime] = pl.concat([near["valid_from"], near["valid_to"]]).drop_nulls().unique().sort().to_list()
    costs = _costs_between(charges, cuts, lines) if cuts else None
    candidates = _of_invoices(near, opened.lines, cuts)
    for turn in in_turns(candidates, pl.col("percent").is_null(), "priority", "deduction_id"):
        rows = opened.beside(turn).filter(
            pl.col("line_kind").is_in(_DISCOUNTED),
            in_scope(),
            (pl.col("line_kind") == "usage") | valid_at_tax_point("discounted_from", "discounted_to"),
        )
        opened = opened.after(_with_totals(_with_bases(rows, costs, last=len(cuts))), kind="discount")
    return opened


def _of_month(discounts: pl.DataFrame, period: BillingPeriod) -> pl.DataFrame:
    """Discounts that may be valid in the month, in some time zone; ends that lie outside it are open."""
    start, end = period.widest_start, period.widest_end
    begins, ends = pl.col("valid_from"), pl.col("valid_to")
    return discounts.filter(begins.is_null() | (begins < end), ends.is_null() | (ends > start)).with_columns(
        valid_from=pl.when(begins > start).then(begins), valid_to=pl.when(ends < end).then(ends)
    )


def _cut_before(instant: str, cuts: list[datetime]) -> pl.Expr:
    """How many cuts lie at or before an instant: charges between the same two cuts have the same number."""
    return pl.sum_horizontal(pl.lit(0), *(pl.col(instant) >= cut for cut in cuts)).cast(pl.Int64)


def _costs_between(charges: pl.LazyFrame, cuts: list[datetime], lines: pl.DataFrame) -> pl.DataFrame:
    """invoice_id, line_number, stretch (number of cuts before it), cost: what usage lines cost between two cuts."""
    costs = collect(
        charges.with_columns(stretch=_cut_before("charge_start", cuts))
        .group_by(*LINE_KEY, "stretch")
        .agg(pl.col("cost").sum().alias("stretch_cost"))
    )
    usage = lines.filter(pl.col("line_kind") == "usage").select(*LINE, *LINE_KEY)
    return costs.join(usage, on=LINE_KEY, how="inner", nulls_equal=True, validate="m:1").drop(LINE_KEY)


def _of_invoices(discounts: pl.DataFrame, lines: pl.DataFrame, cuts: list[datetime]) -> pl.DataFrame:
    """The discounts that may apply to each invoice: those of its payer, of an account on it, and of everybody."""
    invoices = lines.select("invoice_id", "billing_account_id", "currency", "unit").unique()
    accounts = lines.select("invoice_id", discounted_account="account_id")
    payers = lines.select("invoice_id", discounted_account="billing_account_id")
    prepared = discounts.select(
        pl.col("account_id").alias("discounted_account"),
        pl.col("discount_id").alias("deduction_id"),
        pl.col("note").alias("deduction_name"),
        "percent",
        pl.col("amount").alias("money"),
        pl.col("currency").alias("money_currency"),
        (pl.col("mode") == "additive").alias("is_additive"),
        "priority",
        *scope_of_row(),
        pl.col("valid_from").alias("discounted_from"),
        pl.col("valid_to").alias("discounted_to"),
        _cut_before("valid_from", cuts).fill_null(0).alias("first_stretch"),
        pl.when(pl.col("valid_to").is_not_null())
        .then(_cut_before("valid_to", cuts))
        .otherwise(len(cuts) + 1)
        .alias("end_stretch"),
    )
    own = prepared.join(pl.concat([accounts, payers]).unique(), on="discounted_account", how="inner")
    everybodys = prepared.filter(pl.col("discounted_account").is_null()).join(
        invoices.select("invoice_id"), how="cross"
    )
    return (
        pl.concat([own, everybodys.select(own.columns)])
        .join(invoices, on="invoice_id", how="inner", validate="m:1")
        .filter(pl.col("money").is_null() | (pl.col("money_currency") == pl.col("currency")))
        .with_columns(
            fixed=to_whole("money"),
            # A discount of the account that pays is for the lines of all it pays for.
            only_account=pl.when(pl.col("discounted_account") != pl.col("billing_account_id")).then(
                "discounted_account"
            ),
        )
        .drop("discounted_account", "billing_account_id", "currency", "unit", "money", "money_currency")
    )


def _with_bases(rows: pl.DataFrame, costs: pl.DataFrame | None, *, last: int) -> pl.DataFrame:
    """``rows`` with base: what the discount is on, of usage only as much of it as its validity covers.

    Percents in additive mode are on the undiscounted amount; everything else on what is left.
    """
    on_amount = pl.col("is_additive") & pl.col("percent").is_not_null()
    rows = rows.with_columns(base=pl.when(on_amount).then("amount").otherwise("left"))
    whole_month = (pl.col("first_stretch") == 0) & (pl.col("end_stretch") > last)
    partly = (pl.col("line_kind") == "usage") & ~whole_month
    parted = rows.filter(partly)
    if costs is None or not parted.height:
        return rows
    return pl.concat([rows.filter(~partly), _covered(parted, costs)])


def _covered(rows: pl.DataFrame, costs: pl.DataFrame) -> pl.DataFrame:
    """``rows`` whose base is multiplied by the part of the line's cost that the validity covers, half-up.

    A part is never below nothing or above all, whatever a falling tier price makes of single days.
    """
    inside = collect(
        costs.lazy()
        .join(rows.lazy().select(*LINE, "first_stretch", "end_stretch"), on=LINE, how="inner")
        .filter(pl.col("stretch").is_between("first_stretch", "end_stretch", closed="left"))
        .group_by(LINE)
        .agg(pl.col("stretch_cost").sum().alias("inside"))
    )
    rows = rows.join(inside, on=LINE, how="left", validate="1:1", maintain_order="left")
    bases = [
        _half_up((base or 0) * min(max(part or 0, 0), cost), cost) if cost else 0
        for base, part, cost in zip(
            rows["base"].to_list(), to_integers(rows["inside"]), to_integers(rows["cost"]), strict=True
        )
    ]
    return rows.drop("inside").with_columns(pl.Series("base", bases, dtype=WHOLE))


def _half_up(numerator: int, denominator: int) -> int:
    """Numerator (at least 0) ÷ denominator (above 0), a half rounded up."""
    return (2 * numerator + denominator) // (2 * denominator)


def _with_totals(rows: pl.DataFrame) -> pl.DataFrame:
    """``rows`` with total: the percent of all bases of the discount, half-up, or the amount as far as they go."""
    whole = pl.col("base").sum().over("place")
    return rows.with_columns(
        total=pl.when(pl.col("percent").is_not_null())
        .then(percent_of(whole, pl.col("percent")))
        .otherwise(pl.min_horizontal("fixed", whole))
    )
