"""What the datasets of a period are made from, and what every row of a document or a line has in common."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.invoicing.deductions import LINE
from ratemill.invoicing.scope import in_scope, scope_of_row
from ratemill.money import AMOUNT, ZERO
from ratemill.period import BillingPeriod
from ratemill.tables.columns import INSTANT, TEXT
from ratemill.tables.focus import OTHER, ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ratemill.book.model import Book
    from ratemill.tables.invoices import Billed

USAGE, PURCHASE, TAX, CREDIT, ADJUSTMENT = "Usage", "Purchase", "Tax", "Credit", "Adjustment"
CORRECTION = "Correction"
USAGE_BASED, ONE_TIME, RECURRING = "Usage-Based", "One-Time", "Recurring"
STANDARD, COMMITTED = "Standard", "Committed"
USED, UNUSED = "Used", "Unused"

_CATEGORIES = {"usage": USAGE, "recurring": PURCHASE, "adjustment": ADJUSTMENT, "commitment": USAGE}
_SERVICES = {
    "recurring": "Fees", "adjustment": "Adjustments", "commitment": "Commitments", "correction": "Corrections",
    "usage": "Usage",
}  # fmt: skip
"""ServiceName of lines that are for no SKU."""
_PRICE_DETAILS = {
    "os": "OperatingSystem", "operating_system": "OperatingSystem", "instance_type": "InstanceType",
    "instance_series": "InstanceSeries", "disk_type": "DiskType", "storage_class": "StorageClass",
    "redundancy": "Redundancy",
}  # fmt: skip
"""Attributes of prices that FOCUS has a name for. It wants numbers for the others of its names; ours are text."""


@dataclass(frozen=True)
class FocusLedger:
    """The ledger of one period, as far as its datasets show it."""

    billed: Billed
    """Documents of the period's run, and credit notes by hand that were issued in this calendar month."""
    run_id: str
    book: Book
    """As the run was made with."""
    period: BillingPeriod
    time_zone: str
    """Zone of payers that name none."""
    provider: str
    """Whose services they are, and who invoices them."""
    payment_terms_days: int
    """Of payers that name none."""
    opened_at: datetime
    """When the period was first drafted."""
    recorded_at: datetime
    """When it was closed, or last drafted."""
    closed: bool
    numbers: Mapping[str, str]
    """invoice_id → number, of invoices of other periods that are corrected."""

    @cached_property
    def documents(self) -> pl.DataFrame:
        """One row per document: its columns of INVOICES, zone, terms, and what its rows share, under FOCUS's names."""
        book = self.book.accounts
        payers = book.select(
            pl.col("account_id").alias("billing_account_id"),
            pl.col("name").alias("BillingAccountName"),
            pl.col("time_zone").fill_null(self.time_zone).alias("zone"),
            pl.col("payment_terms_days").fill_null(self.payment_terms_days).alias("terms"),
        )
        invoices = self.billed.invoices
        own = dict(invoices.select("invoice_id", pl.coalesce("number", "invoice_id")).iter_rows())
        numbers = {**self.numbers, **own}
        reference = pl.coalesce("corrects_invoice_id", "invoice_id")
        named = invoices.join(payers, on="billing_account_id", how="left", validate="m:1").with_columns(
            # A credit note may be for a payer that has left the book since.
            pl.col("BillingAccountName").fill_null(pl.col("billing_account_id")),
            pl.col("zone").fill_null(self.time_zone),
            pl.col("terms").fill_null(self.payment_terms_days),
        )
        return named.join(_months(named), on=["period", "zone"], how="left", validate="m:1").with_columns(
            BillingAccountId="billing_account_id",
            BillingCurrency="currency",
            InvoiceId=pl.coalesce("number", "invoice_id"),
            ReferenceInvoiceId=reference.replace(numbers),
            x_LedgerInvoiceId="invoice_id",
            x_RunId="run_id",
        )

    @cached_property
    def lines(self) -> pl.DataFrame:
        """One row per line of a document: its columns of INVOICE_LINES, its document's, and FOCUS's.

        Further: main (charge category of what it bills), title (what it is for, in words), commitment_id and covered
        (which commitment its use counts towards, and how much of its amount).
        """
        lines = self.billed.lines.join(
            self.documents.select(
                "invoice_id", "origin", "zone", "currency", "BillingAccountId", "BillingAccountName", "BillingCurrency",
                "InvoiceId", "x_LedgerInvoiceId", "x_RunId", corrects_document="corrects_invoice_id",
            ),
            on="invoice_id", how="left", validate="m:1",
        )  # fmt: skip
        bounds = _midnights(lines)
        return (
            lines.join(bounds.rename({"day": "first_day", "instant": "ChargePeriodStart"}), on=["zone", "first_day"],
                       how="left", validate="m:1")
            .with_columns(day_after=pl.col("last_day") + pl.duration(days=1))
            .join(bounds.rename({"day": "day_after", "instant": "ChargePeriodEnd"}), on=["zone", "day_after"],
                  how="left", validate="m:1")
            .join(self._covered, on=LINE, how="left", validate="1:1")
            .with_columns(
                self._main().alias("main"),
                _corrected().alias("ChargeClass"),
                pl.coalesce("description", "sku_name", "source_id").alias("title"),
                pl.col("region").alias("RegionId"),
                pl.col("region").alias("RegionName"),
                pl.col("category").fill_null(OTHER).alias("ServiceCategory"),
                pl.coalesce("service", pl.col("line_kind").replace_strict(_SERVICES)).alias("ServiceName"),
                pl.col("sku_id").alias("SkuId"),
                pl.col("sku_name").alias("SkuMeter"),
                pl.col("account_id").alias("SubAccountId"),
                pl.col("account_name").alias("SubAccountName"),
                pl.col("corrects_period").alias("x_CorrectsPeriod"),
                pl.col("line_number").alias("x_InvoiceLineNumber"),
                pl.col("price_id").alias("x_PriceId"),
                pl.col("project_id").alias("x_ProjectId"),
                pl.col("project_name").alias("x_ProjectName"),
                pl.col("source_id").alias("x_SourceId"),
            )
        )  # fmt: skip

    @cached_property
    def commitments(self) -> pl.DataFrame:
        """commitment_id, CommitmentDiscountName, and applied: the start of ContractApplied, up to the cost."""
        ids = self.book.commitments.select("commitment_id", CommitmentDiscountName="note")
        starts = [
            f'{{"Elements":[{{"ContractId":{json.dumps(one)},"ContractCommitmentId":{json.dumps(one)},'
            '"ContractCommitmentAppliedCost":'
            for one in ids["commitment_id"]
        ]
        return ids.with_columns(applied=pl.Series(starts, dtype=TEXT))

    @cached_property
    def price_details(self) -> pl.DataFrame:
        """price_id, SkuPriceDetails: window, attributes and mode of each price, where there is something to tell."""
        columns = ["price_id", "mode", "window", *self.book.price_attributes]
        found = [
            (row["price_id"], _as_json(_details(row)))
            for row in self.book.prices.select(columns).unique("price_id").sort("price_id").iter_rows(named=True)
        ]
        return pl.DataFrame(found, schema={"price_id": TEXT, "SkuPriceDetails": TEXT}, orient="row")

    def rows(self, frame: pl.DataFrame, **columns: pl.Expr) -> pl.DataFrame:
        """``frame`` as ROWS: columns it has under FOCUS's names, ``columns``, what all rows share, or null."""
        same = {
            "BillingPeriodStart": pl.lit(self.period.start()),
            "BillingPeriodEnd": pl.lit(self.period.end()),
            **dict.fromkeys(
                ("InvoiceIssuerName", "ServiceProviderName", "HostProviderName", "ProviderName", "PublisherName"),
                pl.lit(self.provider),
            ),
            "PricingCurrency": pl.col("BillingCurrency"),
            "x_DiscountCost": pl.lit(0),
        }
        known = {**same, **{name: pl.col(name) for name in frame.columns}, **columns}
        known["ServiceSubcategory"] = pl.concat_str(
            pl.lit(f"{OTHER} ("), known["ServiceCategory"], pl.lit(")")
        )  # fmt: skip
        known["InvoiceDetailId"] = pl.concat_str(
            pl.col("x_LedgerInvoiceId"), known["detail"], known["ChargeCategory"].str.to_lowercase(), separator="/"
        )
        return frame.select(known.get(c.name, pl.lit(None)).cast(c.dtype).alias(c.name) for c in ROWS.columns)

    def _main(self) -> pl.Expr:
        """ChargeCategory of what a line bills; a correction's is that of the line it corrects."""
        fees, adjustments = (
            self.book.frame(table)[key].to_list()
            for table, key in (("recurring", "recurring_id"), ("adjustments", "adjustment_id"))
        )
        of_source = (
            pl.when(pl.col("source_id").is_in(fees)).then(pl.lit(PURCHASE))
            .when(pl.col("source_id").is_in(adjustments)).then(pl.lit(ADJUSTMENT))
            .otherwise(pl.lit(USAGE))
        )  # fmt: skip
        kind = pl.col("line_kind")
        return pl.when(kind == "correction").then(of_source).otherwise(kind.replace(_CATEGORIES))

    @property
    def _covered(self) -> pl.DataFrame:
        """LINE, commitment_id, covered: how much of each usage line's amount a commitment covers, in line order.

        What is used beyond the committed amount is covered by nothing. A line counts towards one commitment, the first
        by id: the book allows no two for the same use.
        """
        due = self.billed.commitments.select("invoice_id", "commitment_id", "committed_amount").join(
            self.book.commitments.select("commitment_id", *scope_of_row()), on="commitment_id", how="inner"
        )
        counting = (
            self.billed.lines.filter(pl.col("line_kind") == "usage", pl.col("amount") > ZERO)
            .select(*LINE, "category", "service", "sku_id", "project_id", "region", "amount")
            .join(due, on="invoice_id", how="inner")
            .filter(in_scope())
            .sort(*LINE, "commitment_id")
            .unique(LINE, keep="first", maintain_order=True)
        )
        before = pl.col("amount").cum_sum().over("invoice_id", "commitment_id") - pl.col("amount")
        left = pl.max_horizontal(pl.col("committed_amount") - before, pl.lit(ZERO).cast(AMOUNT))
        return counting.select(*LINE, "commitment_id", covered=pl.min_horizontal(left, "amount").cast(AMOUNT))


def titled(prefix: str) -> pl.Expr:
    """ChargeDescription: what a row does to a line, and what the line is for."""
    return pl.concat_str(pl.lit(f"{prefix}: "), pl.col("title"))


def detail_of_line() -> pl.Expr:
    """The middle of InvoiceDetailId: the number of the line."""
    return pl.col("line_number").cast(TEXT)


def _corrected() -> pl.Expr:
    """ChargeClass: lines that correct a closed period, and everything on documents that correct an invoice."""
    corrects = (pl.col("line_kind") == "correction") | pl.col("corrects_document").is_not_null()
    return pl.when(corrects).then(pl.lit(CORRECTION))


def _midnights(lines: pl.DataFrame) -> pl.DataFrame:
    """zone, day, instant: the first instant of every local day on which a line begins, or after which it ends."""
    days = pl.concat(
        [lines.select("zone", day="first_day"), lines.select("zone", day=pl.col("last_day") + pl.duration(days=1))]
    )
    pairs: Iterable[tuple[str, date]] = days.unique().sort("zone", "day").iter_rows()
    schema = pl.Schema([("zone", TEXT), ("day", pl.Date), ("instant", INSTANT)])
    return pl.DataFrame([(zone, day, first_instant(day, zone)) for zone, day in pairs], schema=schema, orient="row")


def _months(documents: pl.DataFrame) -> pl.DataFrame:
    """period, zone, ChargePeriodStart, ChargePeriodEnd: the month that documents are for, where their payer lives."""
    months = [
        (text, zone, BillingPeriod.parse(text).start(zone), BillingPeriod.parse(text).end(zone))
        for text, zone in documents.select("period", "zone").unique().sort("period", "zone").iter_rows()
    ]
    bounds = [("ChargePeriodStart", INSTANT), ("ChargePeriodEnd", INSTANT)]
    return pl.DataFrame(months, schema=pl.Schema([("period", TEXT), ("zone", TEXT), *bounds]), orient="row")


def first_instant(day: date, zone: str) -> datetime:
    """The first instant of a local day, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def months_between(start: datetime, end: datetime) -> int:
    """Whole months from ``start`` to ``end``, at least one; an instant of local midnight counts as its day."""
    first, last = (instant + timedelta(hours=12) for instant in (start, end))
    return max(1, (last.year - first.year) * 12 + last.month - first.month)


def _details(price: dict[str, Any]) -> dict[str, str]:
    details = {} if price["mode"] == "per_unit" else {"x_PriceMode": price["mode"]}
    if price["window"] is not None:
        details["x_Window"] = price["window"]
    for name, value in price.items():
        attribute = name.partition(".")[2]
        if attribute and value is not None:
            details[_PRICE_DETAILS.get(attribute, f"x_{attribute}")] = value
    return details


def _as_json(details: dict[str, str]) -> str | None:
    return json.dumps(details, ensure_ascii=False, sort_keys=True) if details else None
