"""Everything on an invoice that is no usage charge, as rows of Cost and Usage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.insight.focus.ledger import (
    ADJUSTMENT,
    COMMITTED,
    CORRECTION,
    CREDIT,
    ONE_TIME,
    PURCHASE,
    RECURRING,
    STANDARD,
    TAX,
    UNUSED,
    USAGE,
    USAGE_BASED,
    detail_of_line,
    titled,
)
from ratemill.insight.focus.usage import MONTHLY_SPEND, applied_json
from ratemill.invoicing.deductions import LINE
from ratemill.invoicing.payers import in_minor_units
from ratemill.money import COST, QUANTITY, ZERO
from ratemill.tables.columns import TEXT
from ratemill.tables.focus import OTHER, PRODUCT

if TYPE_CHECKING:
    from ratemill.insight.focus.ledger import FocusLedger

UNIT = "Units"
"""PricingUnit of fees: one fee is one unit."""
_TAXED = ["invoice_id", "tax_code", "category", "rate"]


def charge_rows(ledger: FocusLedger, left: pl.DataFrame) -> pl.DataFrame:
    """Rounding, payments of commitments, fees, adjustments, corrections, credits and taxes, as ROWS.

    ``left``: of :class:`ratemill.insight.focus.usage.UsageRows`, of all usage charges.
    """
    lines = ledger.lines
    from_run = pl.col("origin") == "run"
    with_left = lines.filter(from_run, pl.col("line_kind") == "usage").drop("commitment_id").join(
        left, on=LINE, how="left", validate="1:1", maintain_order="left"
    )  # fmt: skip
    return pl.concat(
        [
            _rounding(ledger, with_left),
            _paid_commitments(ledger, with_left),
            _fees(ledger, lines.filter(from_run, pl.col("line_kind") == "recurring")),
            _shortfalls(ledger, lines.filter(from_run, pl.col("line_kind") == "commitment")),
            _others(ledger, lines.filter(~from_run | pl.col("line_kind").is_in(["adjustment", "correction"]))),
            _credits(ledger),
            _taxes(ledger),
            _prepaid(ledger),
        ]
    )


def _rounding(ledger: FocusLedger, lines: pl.DataFrame) -> pl.DataFrame:
    """What rounding adds to each line, and what the exact products leave of the ledger's list and contracted cost."""
    rows = lines.with_columns(pl.col("list_left", "contracted_left").fill_null(ZERO)).filter(
        pl.any_horizontal(pl.col("rounding", "list_left", "contracted_left") != ZERO)
    )
    return ledger.rows(
        rows,
        BilledCost=pl.col("rounding"),
        EffectiveCost=pl.col("rounding"),
        ChargeCategory=pl.lit(ADJUSTMENT),
        ChargeDescription=titled("Rounding of the invoice line"),
        ChargeFrequency=pl.lit(USAGE_BASED),
        ContractedCost=pl.col("contracted_left"),
        ListCost=pl.col("list_left"),
        detail=detail_of_line(),
        x_ChargeKind=pl.lit("rounding"),
    )


def _paid_commitments(ledger: FocusLedger, lines: pl.DataFrame) -> pl.DataFrame:
    """What is paid for the part of each line that a commitment covers; its cost stands on the rows that used it."""
    rows = lines.filter(pl.col("commitment_id").is_not_null()).join(
        ledger.commitments, on="commitment_id", how="left", validate="m:1", maintain_order="left"
    )  # fmt: skip
    return ledger.rows(
        rows,
        **_purchase(pl.col("commitment_id"), paid=pl.col("paid"), committed=pl.col("used")),
        ChargeDescription=titled("Commitment used by"),
        detail=detail_of_line(),
    )


def _shortfalls(ledger: FocusLedger, lines: pl.DataFrame) -> pl.DataFrame:
    """The unused part of each commitment: a row of what it costs, and a row of what is paid for it."""
    rows = lines.drop("commitment_id").with_columns(commitment_id="source_id").join(
        ledger.commitments, on="commitment_id", how="left", validate="m:1", maintain_order="left"
    )  # fmt: skip
    net, unused = _before_credits(), pl.col("amount").cast(COST)
    return pl.concat(
        [
            ledger.rows(
                rows,
                **_commitment(pl.col("commitment_id"), unused),
                BilledCost=pl.lit(ZERO),
                EffectiveCost=net,
                ChargeCategory=pl.lit(USAGE),
                ChargeDescription=titled("Unused commitment"),
                ChargeFrequency=pl.lit(USAGE_BASED),
                CommitmentDiscountStatus=pl.lit(UNUSED),
                ContractApplied=applied_json(unused),
                PricingCategory=pl.lit(COMMITTED),
                detail=detail_of_line(),
                x_DiscountCost=pl.col("discount_amount") + pl.col("commitment_amount"),
            ),
            ledger.rows(
                rows,
                **_purchase(pl.col("commitment_id"), paid=net, committed=unused),
                ChargeDescription=titled("Commitment not used"),
                detail=detail_of_line(),
            ),
        ]
    )


def _purchase(commitment: pl.Expr, *, paid: pl.Expr, committed: pl.Expr) -> dict[str, pl.Expr]:
    """A row that pays for ``committed`` of a commitment. Its cost stands where it was used, or on the unused row."""
    return {
        **_commitment(commitment, committed),
        "BilledCost": paid,
        "EffectiveCost": pl.lit(ZERO),
        "ChargeCategory": pl.lit(PURCHASE),
        "ChargeFrequency": pl.lit(RECURRING),
        "PricingCategory": pl.lit(STANDARD),
        "x_SourceId": commitment,
    }


def _commitment(commitment: pl.Expr, committed: pl.Expr) -> dict[str, pl.Expr]:
    """What rows about a part of a commitment share. It is priced by the currency: one unit of it costs one."""
    quantity = committed.cast(QUANTITY)
    return {
        "CommitmentDiscountCategory": pl.lit("Spend"),
        "CommitmentDiscountId": commitment,
        "CommitmentDiscountQuantity": committed,
        "CommitmentDiscountType": pl.lit(MONTHLY_SPEND),
        "CommitmentDiscountUnit": pl.col("BillingCurrency"),
        "ContractedCost": quantity.cast(PRODUCT),
        "ContractedUnitPrice": pl.lit(1),
        "ListCost": quantity.cast(PRODUCT),
        "ListUnitPrice": pl.lit(1),
        "PricingQuantity": quantity,
        "PricingUnit": pl.col("BillingCurrency"),
        "RegionId": pl.lit(None),
        "RegionName": pl.lit(None),
        "ResourceId": commitment,
        "SkuId": commitment,
        "SkuMeter": pl.col("CommitmentDiscountName"),
        "SkuPriceId": commitment,
        "x_ChargeKind": pl.lit("commitment"),
        "x_PriceId": pl.lit(None),
    }


def _fees(ledger: FocusLedger, lines: pl.DataFrame) -> pl.DataFrame:
    """Recurring fees: one unit each, at what is due for the month."""
    return ledger.rows(
        lines,
        BilledCost=_before_credits(),
        EffectiveCost=_before_credits(),
        ChargeCategory=pl.lit(PURCHASE),
        ChargeDescription=pl.col("title"),
        ChargeFrequency=pl.lit(RECURRING),
        ContractedCost=pl.col("amount"),
        ContractedUnitPrice=pl.col("amount"),
        ListCost=pl.col("amount"),
        ListUnitPrice=pl.col("amount"),
        PricingCategory=pl.lit(STANDARD),
        PricingQuantity=pl.lit(1),
        PricingUnit=pl.lit(UNIT),
        SkuId=pl.coalesce("sku_id", "source_id"),
        SkuMeter=pl.coalesce("sku_name", "title"),
        SkuPriceId=pl.col("source_id"),
        detail=detail_of_line(),
        x_ChargeKind=pl.lit("recurring"),
        x_DiscountCost=pl.col("discount_amount") + pl.col("commitment_amount"),
    )


def _others(ledger: FocusLedger, lines: pl.DataFrame) -> pl.DataFrame:
    """Adjustments, corrections, and every line of a credit note by hand: amounts without a price of their own."""
    adjusted = pl.col("main") == ADJUSTMENT
    return ledger.rows(
        lines,
        BilledCost=_before_credits(),
        EffectiveCost=_before_credits(),
        ChargeCategory=pl.col("main"),
        ChargeDescription=pl.when(pl.col("origin") == "hand").then(titled("Credit note")).otherwise(pl.col("title")),
        ChargeFrequency=pl.when(adjusted | (pl.col("main") == PURCHASE))
        .then(pl.lit(ONE_TIME))
        .otherwise(pl.lit(USAGE_BASED)),
        ContractedCost=pl.col("amount"),
        ListCost=pl.col("amount"),
        detail=detail_of_line(),
        x_ChargeKind=pl.when(pl.col("line_kind") == "adjustment")
        .then(pl.lit("adjustment"))
        .otherwise(pl.lit("correction")),
        x_DiscountCost=pl.col("discount_amount") + pl.col("commitment_amount"),
    )


def _credits(ledger: FocusLedger) -> pl.DataFrame:
    """Promotional credits, line by line."""
    taken = ledger.billed.deductions.filter(pl.col("kind") == "credit").select(
        *LINE, credit_id="source_id", credit_name="description", credited="amount"
    )  # fmt: skip
    rows = ledger.lines.join(taken, on=LINE, how="inner", validate="1:m")
    return ledger.rows(
        rows,
        **_credit(pl.col("credited")),
        # Of a line that corrects a closed month, too, the credit is a new one.
        ChargeClass=pl.when(pl.col("corrects_document").is_not_null()).then(pl.lit(CORRECTION)),
        ChargeDescription=pl.concat_str("credit_name", pl.lit(": "), "title"),
        detail=detail_of_line(),
        x_ChargeKind=pl.lit("credit"),
        x_PriceId=pl.lit(None),
        x_SourceId=pl.col("credit_id"),
    )


def _credit(amount: pl.Expr) -> dict[str, pl.Expr]:
    return {
        **dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), amount),
        "ChargeCategory": pl.lit(CREDIT),
        "ChargeFrequency": pl.lit(ONE_TIME),
    }


def _taxes(ledger: FocusLedger) -> pl.DataFrame:
    """Taxes, rate by rate. List and contracted cost are the rate's share of those of the lines it taxes."""
    costs = (
        ledger.billed.lines.with_columns(
            # Usage has a list cost; of everything else, and without a public price, the cost is the only one.
            listed=pl.when(pl.col("line_kind") == "usage").then(pl.coalesce("list_cost", "cost")).otherwise("amount"),
        )
        .group_by("invoice_id", "tax_code", category="tax_category", rate="tax_rate")
        .agg(
            (pl.col("listed") + pl.col("credit_amount")).sum().alias("listed"),
            (pl.col("cost") + pl.col("credit_amount")).sum().alias("contracted"),
        )
    )
    numbered = ledger.billed.taxes.with_columns(
        detail=pl.concat_str(pl.lit("tax-"), pl.int_range(1, pl.len() + 1).over("invoice_id").cast(TEXT))
    )
    rows = (
        numbered.filter(pl.col("tax_amount") != ZERO)
        .join(costs, on=_TAXED, how="left", validate="m:1")
        .join(_documents_of(ledger), on="invoice_id", how="left", validate="m:1")
    )
    currencies = sorted(rows["currency"].unique())
    share = [
        (pl.col(name).cast(COST) * pl.col("rate") / pl.lit(100).cast(COST)).alias(name)
        for name in ("listed", "contracted")
    ]
    rounded = rows.with_columns(share).with_columns(
        in_minor_units(name, currencies).alias(name) for name in ("listed", "contracted")
    )  # fmt: skip
    return ledger.rows(
        rounded,
        BilledCost=pl.col("tax_amount"),
        EffectiveCost=pl.col("tax_amount"),
        ChargeCategory=pl.lit(TAX),
        ChargeDescription=_tax_title(),
        ChargeFrequency=pl.lit(ONE_TIME),
        ContractedCost=pl.col("contracted"),
        ListCost=pl.col("listed"),
        ServiceCategory=pl.lit(OTHER),
        ServiceName=pl.lit("Taxes"),
        x_ChargeKind=pl.lit("tax"),
    )


def _tax_title() -> pl.Expr:
    rate = pl.col("rate").cast(TEXT).str.replace(r"\.?0+$", "")
    return pl.concat_str(pl.lit("Tax "), "tax_code", pl.lit(", "), "category", pl.lit(", "), rate, pl.lit(" %"))


def _prepaid(ledger: FocusLedger) -> pl.DataFrame:
    """What prepaid credits pay of the taxed total."""
    drawn = ledger.billed.credits.filter(pl.col("kind") == "prepaid").drop("currency").join(
        _documents_of(ledger), on="invoice_id", how="left", validate="m:1"
    )  # fmt: skip
    return ledger.rows(
        drawn,
        **_credit(-pl.col("amount")),
        ChargeDescription=pl.col("description"),
        ServiceCategory=pl.lit(OTHER),
        ServiceName=pl.lit("Credits"),
        detail=pl.concat_str(pl.lit("prepaid-"), "credit_id"),
        x_ChargeKind=pl.lit("prepaid"),
        x_SourceId=pl.col("credit_id"),
    )


def _documents_of(ledger: FocusLedger) -> pl.DataFrame:
    """invoice_id, currency, and what rows show that are for no line."""
    return ledger.documents.select(
        "invoice_id", "currency", "BillingAccountId", "BillingAccountName", "BillingCurrency", "InvoiceId",
        "ChargePeriodStart", "ChargePeriodEnd", "x_LedgerInvoiceId", "x_RunId",
        ChargeClass=pl.when(pl.col("corrects_invoice_id").is_not_null()).then(pl.lit(CORRECTION)),
    )  # fmt: skip


def _before_credits() -> pl.Expr:
    """What a line adds to the invoice before promotional credits, which are rows of their own."""
    return (pl.col("amount") + pl.col("discount_amount") + pl.col("commitment_amount")).cast(COST)
