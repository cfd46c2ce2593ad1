"""Usage charges as rows of Cost and Usage: exact products, discounts inside, commitments told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ratemill.frames import collect
from ratemill.insight.focus.ledger import (
    ADJUSTMENT,
    COMMITTED,
    STANDARD,
    USAGE,
    USAGE_BASED,
    USED,
    detail_of_line,
    titled,
)
from ratemill.invoicing.deductions import LINE
from ratemill.money import COST, PRICE, ZERO
from ratemill.rating.integers import share_out
from ratemill.tables.columns import TEXT
from ratemill.tables.focus import PRODUCT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratemill.insight.focus.ledger import FocusLedger

_OF_LINE = ["invoice_id", "account_id", "project_id", "sku_id", "region", "price_id"]
"""What a usage charge and its invoice line have in common; nothing else on the invoice has the same."""
_LINE_COLUMNS = [
    *LINE, "BillingAccountId", "BillingAccountName", "BillingCurrency", "InvoiceId", "x_LedgerInvoiceId", "x_RunId",
    "ServiceCategory", "ServiceName", "SkuId", "SkuMeter", "SubAccountId", "SubAccountName", "ChargeClass",
    "x_InvoiceLineNumber", "x_ProjectId", "x_ProjectName", "title", "amount", "commitment_id", "covered",
]  # fmt: skip


PART_ROWS = 100_000
"""Charges that are worked on at a time: FOCUS rows are wide, and a shard may hold a million charges."""


@dataclass(frozen=True)
class UsageRows:
    """Rows of some charges, and what they leave to the rows of their lines."""

    rows: pl.DataFrame
    """As ROWS."""
    left: pl.DataFrame
    """LINE, and list_left, contracted_left: what the ledger's costs have more than the products of the rows;
    commitment_id, paid, used: what the commitment's part of the line costs, and how much of the commitment it is."""


def cut_between_lines(charges: pl.DataFrame, *, rows: int = PART_ROWS) -> Iterator[pl.DataFrame]:
    """``charges`` line by line, in parts of about so many rows; a larger line is a part of its own."""
    ordered = charges.sort(_OF_LINE, maintain_order=True)
    lines = ordered.select(line=pl.struct(_OF_LINE).rle_id()).with_row_index("row")
    parts = (
        lines.group_by("line", maintain_order=True)
        .agg(first=pl.col("row").min(), count=pl.len())
        .with_columns(part=pl.col("first") // rows)
        .group_by("part", maintain_order=True)
        .agg(pl.col("first").min(), pl.col("count").sum())
    )
    for first, count in parts.select("first", "count").iter_rows():
        yield ordered.slice(first, count)


def usage_rows(ledger: FocusLedger, charges: pl.DataFrame) -> UsageRows:
    """Rows of charges of kind usage, cap and minimum. Whole lines must be there.

    A charge that a commitment covers in part becomes two rows.
    """
    lines = ledger.lines.filter(pl.col("line_kind") == "usage", pl.col("origin") == "run")
    known = lines.select(*_LINE_COLUMNS, *(name for name in _OF_LINE if name != "invoice_id"))
    joined = charges.drop("run_id").join(known, on=_OF_LINE, how="left", nulls_equal=True, validate="m:1")
    priced = _with_unit_prices(joined).with_row_index("row")
    charged = _with_discounts(priced, ledger)
    parts = _with_committed(_cut_at_commitments(_with_covered_cost(charged)))
    parts = parts.with_columns(
        ListCost=_product("ListUnitPrice", "list_known"),
        ContractedCost=_product("ContractedUnitPrice", "contracted_cost"),
    )
    return UsageRows(_as_rows(parts, ledger), _left(charged, parts))


def _with_unit_prices(charges: pl.DataFrame) -> pl.DataFrame:
    """Unit prices of usage; the average where tiers, packages and fees give a charge several.

    Without a public price, the one that applied is the only one that is known.
    """
    is_usage = pl.col("charge_kind") == "usage"
    contracted = pl.coalesce("contracted_unit_price", _average("contracted_cost"))
    listed = (
        pl.when(pl.col("list_price_id").is_null())
        .then(contracted)
        .otherwise(pl.coalesce("list_unit_price", _average("list_cost")))
    )
    return charges.with_columns(
        is_usage=is_usage,
        list_known=pl.coalesce("list_cost", "contracted_cost"),
        ListUnitPrice=pl.when(is_usage).then(listed).cast(PRICE),
        ContractedUnitPrice=pl.when(is_usage).then(contracted).cast(PRICE),
    )


def _average(cost: str) -> pl.Expr:
    """Cost of one pricing unit; 0 where nothing was priced: a fee that is due without use is no price of a unit."""
    priced = pl.when(pl.col("pricing_quantity") != ZERO).then(pl.col("pricing_quantity").cast(COST))
    return (pl.col(cost).cast(COST) / priced).cast(PRICE).fill_null(ZERO)


def _with_discounts(charges: pl.DataFrame, ledger: FocusLedger) -> pl.DataFrame:
    """``charges`` with discount: the share of what discounts and commitments take off their lines, zero or negative.

    A discount that holds for a part of the month is shared by the charges of that part; each by what it costs.
    """
    validity = ledger.book.discounts.select(pl.lit("discount").alias("kind"), "valid_from", "valid_to",
                                            source_id="discount_id")  # fmt: skip
    taken = (
        ledger.billed.deductions.filter(pl.col("kind") != "credit")
        .join(validity, on=["kind", "source_id"], how="left", validate="m:1")
        .group_by(*LINE, "valid_from", "valid_to")
        .agg(pl.col("amount").sum().cast(COST).alias("taken"))
    )
    start = pl.col("charge_start")
    within = (pl.col("valid_from").is_null() | (pl.col("valid_from") <= start)) & (
        pl.col("valid_to").is_null() | (start < pl.col("valid_to"))
    )
    group = [*LINE, "valid_from", "valid_to"]
    sharing = (
        charges.filter(pl.col("cost") > ZERO)
        .select("row", *LINE, "charge_start", "cost")
        .join(taken, on=LINE, how="inner")
        .filter(within)
        .sort(*group, "row")
        .with_columns(share_group=pl.struct(group).rle_id())
    )
    shares = sharing.select("row").with_columns(
        discount=share_out(sharing["share_group"], sharing["taken"], sharing["cost"])
    )
    shares = collect(shares.lazy().group_by("row").agg(pl.col("discount").sum()))
    return charges.join(shares, on="row", how="left", validate="1:1", maintain_order="left").with_columns(
        pl.col("discount").fill_null(ZERO).cast(COST)
    )


def _with_covered_cost(charges: pl.DataFrame) -> pl.DataFrame:
    """``charges`` with part: how much of the cost a commitment covers; in time order until the line's part is used up.

    Of a line that is covered whole every charge is, whatever rounding made of the line's amount.
    """
    used = pl.col("is_usage") & (pl.col("cost") > ZERO) & (pl.col("covered") > ZERO)
    cost = pl.when(used).then("cost").otherwise(pl.lit(ZERO).cast(COST))
    ordered = charges.sort("charge_start", "row")
    reached = ordered.with_columns(weight=cost).with_columns(
        before=pl.col("weight").cum_sum().over(LINE) - pl.col("weight")
    )
    left = pl.max_horizontal(pl.col("covered").cast(COST) - pl.col("before"), pl.lit(ZERO).cast(COST))
    return (
        reached.with_columns(
            part=pl.when(~used)
            .then(pl.lit(ZERO).cast(COST))
            .when(pl.col("covered") == pl.col("amount"))
            .then("cost")
            .otherwise(pl.min_horizontal(left, "weight"))
        )
        .drop("weight", "before")
        .sort("row")
    )


_SHARED_OUT = ["pricing_quantity", "usage_quantity", "discount"]


def _cut_at_commitments(charges: pl.DataFrame) -> pl.DataFrame:
    """``charges`` with is_covered; the one at which a commitment is used up is cut in two by cost."""
    part, cost = pl.col("part"), pl.col("cost")
    whole = charges.filter((part == ZERO) | (part == cost)).with_columns(is_covered=part > ZERO)
    cut = charges.filter(part > ZERO, part < cost)
    if not cut.height:
        return whole
    both = pl.concat(
        [
            cut.with_columns(is_covered=pl.lit(True), cost=part),
            cut.with_columns(is_covered=pl.lit(False), cost=cost - part),
        ]
    ).sort("row", "is_covered", descending=[False, True])
    # Signs: what is shared out is not negative for quantities and not positive for discounts; weights are positive.
    shared = both.with_columns(share_out(both["row"], both[name], both["cost"]).alias(name) for name in _SHARED_OUT)
    return pl.concat([whole, shared.select(whole.columns)]).sort("row", "is_covered", descending=[False, True])


def _with_committed(parts: pl.DataFrame) -> pl.DataFrame:
    """``parts`` with committed: how much of its commitment each uses up, by cost, so that a line uses what it counts.

    Commitments count the rounded amounts of lines, caps and minimums included.
    """
    using = parts.filter("is_covered").sort(*LINE, "row").with_columns(number=pl.struct(LINE).rle_id())
    counted = using.select("row", "is_covered").with_columns(
        committed=share_out(using["number"], using["covered"].cast(COST), using["cost"])
    )
    return parts.join(counted, on=["row", "is_covered"], how="left", validate="1:1", maintain_order="left")


def _product(price: str, otherwise: str) -> pl.Expr:
    """Unit price × pricing quantity with every digit; of caps and minimums, which have neither, the ledger's cost."""
    product = pl.col("pricing_quantity").cast(PRODUCT) * pl.col(price).cast(PRICE)
    return pl.when("is_usage").then(product).otherwise(pl.col(otherwise).cast(PRODUCT))


def _as_rows(parts: pl.DataFrame, ledger: FocusLedger) -> pl.DataFrame:
    is_usage, is_covered = pl.col("is_usage"), pl.col("is_covered")
    net = pl.col("cost") + pl.col("discount")
    described = parts.with_columns(sku_price=pl.coalesce("list_price_id", "price_id")).join(
        ledger.price_details.rename({"price_id": "sku_price"}), on="sku_price", how="left", validate="m:1",
        maintain_order="left",
    ).join(ledger.commitments, on="commitment_id", how="left", validate="m:1", maintain_order="left")  # fmt: skip

    def of_usage(column: str) -> pl.Expr:
        return pl.when(is_usage).then(pl.col(column))

    def of_commitment(value: pl.Expr) -> pl.Expr:
        return pl.when(is_covered).then(value)

    return ledger.rows(
        described,
        BilledCost=pl.when(is_covered).then(pl.lit(ZERO)).otherwise(net),
        EffectiveCost=net,
        ChargeCategory=pl.when(is_usage).then(pl.lit(USAGE)).otherwise(pl.lit(ADJUSTMENT)),
        ChargeDescription=pl.when(is_usage)
        .then("title")
        .when(pl.col("charge_kind") == "cap")
        .then(titled("Monthly cap"))
        .otherwise(titled("Monthly minimum")),
        ChargeFrequency=pl.lit(USAGE_BASED),
        ChargePeriodStart=pl.col("charge_start"),
        ChargePeriodEnd=pl.col("charge_end"),
        CommitmentDiscountCategory=of_commitment(pl.lit("Spend")),
        CommitmentDiscountId=of_commitment(pl.col("commitment_id")),
        CommitmentDiscountName=of_commitment(pl.col("CommitmentDiscountName")),
        CommitmentDiscountQuantity=pl.col("committed"),
        CommitmentDiscountStatus=of_commitment(pl.lit(USED)),
        CommitmentDiscountType=of_commitment(pl.lit(MONTHLY_SPEND)),
        CommitmentDiscountUnit=of_commitment(pl.col("BillingCurrency")),
        ConsumedQuantity=of_usage("usage_quantity"),
        ConsumedUnit=of_usage("usage_unit"),
        ContractApplied=of_commitment(applied_json(pl.col("committed"))),
        PricingCategory=pl.when(is_covered).then(pl.lit(COMMITTED)).otherwise(of_usage_text(STANDARD)),
        PricingCurrency=pl.coalesce("pricing_currency", "BillingCurrency"),
        PricingQuantity=of_usage("pricing_quantity"),
        PricingUnit=of_usage("pricing_unit"),
        RegionId=pl.col("region"),
        RegionName=pl.col("region"),
        ResourceId=pl.col("resource_id"),
        ResourceName=pl.col("resource_name"),
        SkuPriceDetails=of_usage("SkuPriceDetails"),
        SkuPriceId=of_usage("sku_price"),
        Tags=pl.col("tags"),
        detail=detail_of_line(),
        x_ChargeKind=pl.col("charge_kind"),
        x_DiscountCost=pl.col("discount"),
        x_ExchangeRate=pl.col("exchange_rate"),
        x_PriceId=pl.col("price_id"),
    )


MONTHLY_SPEND = "Monthly spend"


def of_usage_text(value: str) -> pl.Expr:
    """``value`` on rows of usage."""
    return pl.when("is_usage").then(pl.lit(value))


def applied_json(cost: pl.Expr) -> pl.Expr:
    """ContractApplied: ``cost`` counts towards the commitment beside it; a JSON number with every digit."""
    number = cost.cast(TEXT).str.replace(r"\.?0+$", "")
    return pl.concat_str(pl.col("applied"), number, pl.lit("}]}"))


def _left(charged: pl.DataFrame, parts: pl.DataFrame) -> pl.DataFrame:
    """Column ``left`` of :class:`UsageRows`."""
    ledger_costs = collect(
        charged.lazy().group_by(LINE).agg(
            pl.col("list_known").cast(PRODUCT).sum().alias("listed"),
            pl.col("contracted_cost").cast(PRODUCT).sum().alias("contracted"),
        )
    )  # fmt: skip
    covered = pl.col("is_covered")
    net = pl.col("cost") + pl.col("discount")
    told = collect(
        parts.lazy().group_by(LINE).agg(
            pl.col("ListCost").sum(),
            pl.col("ContractedCost").sum(),
            pl.col("commitment_id").filter(covered).first(),
            net.filter(covered).sum().alias("paid"),
            pl.col("committed").sum().alias("used"),
        )
    )  # fmt: skip
    return told.join(ledger_costs, on=LINE, how="inner", validate="1:1").select(
        *LINE,
        "commitment_id",
        "paid",
        "used",
        list_left=pl.col("listed") - pl.col("ListCost"),
        contracted_left=pl.col("contracted") - pl.col("ContractedCost"),
    )
