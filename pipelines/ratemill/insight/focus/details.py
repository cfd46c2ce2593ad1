"""Invoice Detail, Billing Period and Contract Commitment, and the proof that they and Cost and Usage are the ledger."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.errors import InvariantError
from ratemill.frames import collect
from ratemill.insight.focus.ledger import months_between
from ratemill.money import COST, QUANTITY_DECIMALS, ZERO
from ratemill.tables.book import SCOPE
from ratemill.tables.columns import INSTANT, TEXT
from ratemill.tables.focus import BILLING_PERIOD, CONTRACT_COMMITMENT, INVOICE_DETAIL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ratemill.insight.focus.ledger import FocusLedger

_DETAIL = ["InvoiceDetailId", "x_LedgerInvoiceId", "x_InvoiceLineNumber", "ChargeCategory"]
_GRAIN = {"ServiceName": "service", "SkuId": "sku_id", "RegionId": "region", "SubAccountId": "account_id"}
_DIMENSIONS = {
    "category": "ServiceCategory", "service": "ServiceName", "sku_ids": "SkuId", "project_id": "x_ProjectId",
    "region": "RegionId",
}  # fmt: skip
"""Column of a scope → the column of Cost and Usage that it looks at."""


def detail_sums(rows: pl.DataFrame) -> pl.DataFrame:
    """BilledCost and a description for each InvoiceDetailId of some rows of Cost and Usage."""
    return collect(
        rows.lazy().group_by(_DETAIL).agg(pl.col("BilledCost").sum(), pl.col("ChargeDescription").min())
    ).sort("InvoiceDetailId")  # fmt: skip


def invoice_details(ledger: FocusLedger, sums: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Rows of INVOICE_DETAIL from :func:`detail_sums` of all rows, proven to be the ledger.

    Raises:
        InvariantError: they do not add up to what is due, or to a line's net amount.
    """
    summed = collect(
        pl.concat(sums).lazy().group_by(_DETAIL).agg(pl.col("BilledCost").sum(), pl.col("ChargeDescription").min())
    )
    _assert_ledger(ledger, summed)
    documents = ledger.documents.select(
        "invoice_id", "status", "origin", "issue_date", "due_date", "terms", "BillingAccountId", "BillingCurrency",
        "InvoiceId", "ReferenceInvoiceId",
    )  # fmt: skip
    lines = ledger.lines.select(
        "invoice_id", "line_number", "title", *_GRAIN.values(),
        corrected=pl.col("corrects_invoice_id").replace(dict(ledger.numbers)),
    )  # fmt: skip
    issued = pl.col("status") == "issued"
    by_hand = pl.col("origin") == "hand"
    recorded = pl.when(by_hand).then(_midnight("issue_date")).otherwise(pl.lit(ledger.recorded_at)).cast(INSTANT)
    return (
        summed.with_columns(invoice_id="x_LedgerInvoiceId", line_number="x_InvoiceLineNumber")
        .join(documents, on="invoice_id", how="left", validate="m:1")
        .join(lines, on=["invoice_id", "line_number"], how="left", validate="m:1")
        .with_columns(
            BillingPeriodStart=pl.lit(ledger.period.start()),
            BillingPeriodEnd=pl.lit(ledger.period.end()),
            InvoiceDetailCreated=recorded,
            InvoiceDetailDescription=pl.coalesce("title", "ChargeDescription"),
            InvoiceDetailGrain=_grain(),
            InvoiceDetailLastUpdated=recorded,
            InvoiceIssueDate=_midnight("issue_date"),
            InvoiceIssueStatus=pl.when(issued).then(pl.lit("Issued")).otherwise(pl.lit("Open")),
            InvoiceIssuerName=pl.lit(ledger.provider),
            PaymentDueDate=_midnight("due_date"),
            ReferenceInvoiceId=pl.coalesce("corrected", "ReferenceInvoiceId"),
            PaymentTerms=pl.when(pl.col("terms") == 0)
            .then(pl.lit("Due on receipt"))
            .otherwise(pl.concat_str(pl.lit("Net "), pl.col("terms").cast(TEXT))),
        )
        .pipe(INVOICE_DETAIL.conform)
        .sort("x_LedgerInvoiceId", "x_InvoiceLineNumber", "InvoiceDetailId", nulls_last=True)
    )


def billing_periods(ledger: FocusLedger) -> pl.DataFrame:
    """The row of BILLING_PERIOD."""
    return pl.DataFrame(
        {
            "BillingPeriodCreated": [min(ledger.opened_at, ledger.recorded_at)],
            "BillingPeriodEnd": [ledger.period.end()],
            "BillingPeriodLastUpdated": [ledger.recorded_at],
            "BillingPeriodStart": [ledger.period.start()],
            "BillingPeriodStatus": ["Closed" if ledger.closed else "Open"],
            "InvoiceIssuerName": [ledger.provider],
        },
        schema=BILLING_PERIOD.polars_schema,
    )


def contract_commitments(ledger: FocusLedger) -> pl.DataFrame:
    """Rows of CONTRACT_COMMITMENT: every commitment that an invoice of the period took into account."""
    due = set(ledger.billed.commitments["commitment_id"])
    rows = [
        _commitment(ledger, row)
        for row in ledger.book.commitments.sort("commitment_id").iter_rows(named=True)
        if row["commitment_id"] in due
    ]
    columns = CONTRACT_COMMITMENT.columns
    exact = {c.name: [row.get(c.name) for row in rows] for c in columns}
    return pl.DataFrame(exact, schema=CONTRACT_COMMITMENT.polars_schema)


def _commitment(ledger: FocusLedger, row: dict[str, Any]) -> dict[str, Any]:
    start, end = row["valid_from"] or ledger.period.start(), row["valid_to"] or ledger.period.end()
    months = months_between(start, end)
    return {
        "BillingCurrency": row["currency"],
        "ContractCommitmentApplicability": json.dumps(_applicability(row), ensure_ascii=False, sort_keys=True),
        "ContractCommitmentBenefitCategory": "Discount" if row["discount_percent"] else "Other",
        "ContractCommitmentCategory": "Spend",
        "ContractCommitmentCost": row["amount"],
        "ContractCommitmentCreated": ledger.recorded_at,
        "ContractCommitmentDescription": row["note"],
        "ContractCommitmentDiscountPercentage": _share(row["discount_percent"]),
        "ContractCommitmentDurationType": f"{months} Month{'s' if months > 1 else ''}",
        "ContractCommitmentFulfillmentInterval": "Monthly",
        "ContractCommitmentId": row["commitment_id"],
        "ContractCommitmentLastUpdated": ledger.recorded_at,
        "ContractCommitmentLifecycleStatus": "Expired" if row["valid_to"] and end <= _last_end(ledger) else "Active",
        "ContractCommitmentModel": "Continuous",
        "ContractCommitmentOfferCategory": "Negotiated",
        "ContractCommitmentPaymentInterval": "Monthly",
        "ContractCommitmentPaymentModel": "No Upfront",
        "ContractCommitmentPeriodEnd": end,
        "ContractCommitmentPeriodStart": start,
        "ContractCommitmentType": "Monthly spend",
        "ContractId": row["commitment_id"],
        "ContractPeriodEnd": end,
        "ContractPeriodStart": start,
        "InvoiceIssuerName": ledger.provider,
        "PricingCurrency": row["currency"],
        "PricingCurrencyContractCommitmentCost": row["amount"],
        "ServiceProviderName": ledger.provider,
    }


def _share(percent: Decimal) -> Decimal:
    """10 % as 0.1, at 12 places."""
    return percent.scaleb(-2).quantize(Decimal(1).scaleb(-QUANTITY_DECIMALS))


def _applicability(row: dict[str, Any]) -> dict[str, Any]:
    """The scope of a commitment as FOCUS writes it: all that is named must hold, and nothing excluded."""
    inclusions = [_rule("BillingAccountId", [row["account_id"]])]
    for column in SCOPE:
        value = row[column.name]
        if value is not None and column.name in _DIMENSIONS:
            values = value.split() if column.name == "sku_ids" else [value]
            inclusions.append(_rule(_DIMENSIONS[column.name], values))
    found: dict[str, Any] = {"InclusionOperator": "And", "Inclusions": inclusions}
    if row["excludes"] is not None:
        found |= {"ExclusionOperator": "Or", "Exclusions": [_rule("SkuId", row["excludes"].split())]}
    return found


def _rule(dimension: str, values: list[str]) -> dict[str, Any]:
    return {"Dimension": dimension, "Operator": "In", "Values": values}


def _last_end(ledger: FocusLedger) -> datetime:
    ends: list[datetime] = ledger.documents["ChargePeriodEnd"].to_list()
    return max(ends, default=ledger.period.end())


def _midnight(day: str) -> pl.Expr:
    return pl.col(day).cast(INSTANT)


def _grain() -> pl.Expr:
    """What the rows of a line have in common, as one JSON object; null for what is for no line."""
    pairs = pl.struct(pl.col(column).alias(name) for name, column in _GRAIN.items())
    return pl.when(pl.col("line_number").is_not_null()).then(pairs.map_elements(_as_json, return_dtype=TEXT))


def _as_json(values: dict[str, str | None]) -> str:
    return json.dumps({name: value for name, value in values.items() if value is not None}, ensure_ascii=False)


def _assert_ledger(ledger: FocusLedger, sums: pl.DataFrame) -> None:
    """Σ BilledCost = net amount of each line, and = what is due of each document."""
    by_line = ledger.lines.select(
        x_LedgerInvoiceId="invoice_id", x_InvoiceLineNumber="line_number", expected=pl.col("net_amount").cast(COST)
    )
    by_document = ledger.documents.select(x_LedgerInvoiceId="invoice_id", expected=pl.col("due_amount").cast(COST))
    lines = sums.filter(pl.col("x_InvoiceLineNumber").is_not_null())
    for what, rows, expected in (("line", lines, by_line), ("document", sums, by_document)):
        key = [name for name in expected.columns if name != "expected"]
        found = collect(rows.lazy().group_by(key).agg(pl.col("BilledCost").sum()))
        both = expected.join(found, on=key, how="full", coalesce=True, validate="1:1")
        wrong = both.filter(pl.col("expected").fill_null(ZERO) != pl.col("BilledCost").fill_null(ZERO)).sort(key)
        if wrong.height:
            row = wrong.row(0, named=True)
            where = ", ".join(f"{name.removeprefix('x_')} {row[name]}" for name in key)
            raise InvariantError(
                f"FOCUS: BilledCost of a {what} is {row['BilledCost']} where the ledger has {row['expected']}:"
                f" {where} ({wrong.height} in all); nothing was written"
            )
