"""FOCUS, the FinOps Open Cost and Usage Specification: the datasets that are exported, version by version.

Columns stand in the order of their names, as the specification lists them; those of our own (``x_``) come last. A
column whose condition this product does not meet is left out: availability zones, capacity reservations, virtual
currencies, split cost allocation, kinds of accounts and resources, purchase orders, payment in another currency.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from ratemill.money import COST, PRICE, QUANTITY
from ratemill.tables.book import SERVICE_CATEGORIES
from ratemill.tables.charges import CHARGE_KINDS
from ratemill.tables.columns import INSTANT, TEXT, Column, Table

FOCUS_VERSIONS = ("1.4", "1.2")
"""Newest first, which is the default."""

SCHEMA_CREATED = "2026-11-25T00:00:00Z"
"""Day on which the columns below were last changed; a test holds the two together."""

PRODUCT = pl.Decimal(38, 24)
"""A quantity of 12 decimals times a price of 12 decimals, nothing rounded."""

CHARGE_CATEGORIES = ("Usage", "Purchase", "Tax", "Credit", "Adjustment")
OTHER = "Other"
ZERO = Decimal(0)
JSON = "JSON"
"""Unit of columns whose text is one JSON object."""

_ISSUER = Column("InvoiceIssuerName", TEXT, "Who sends the invoice: [seller] name")
_PERIOD_START = Column(
    "BillingPeriodStart", INSTANT, "First instant of the billed calendar month in UTC, whatever the payer's zone"
)
_PERIOD_END = Column("BillingPeriodEnd", INSTANT, "First instant after the billed calendar month in UTC")
_CURRENCY = Column("BillingCurrency", TEXT, "Currency of the invoice, ISO 4217")
_PAYER = Column("BillingAccountId", TEXT, "Account that pays: accounts.billing_account_id, or the account itself")
_CATEGORY = Column("ChargeCategory", TEXT, "What kind of charge it is", one_of=CHARGE_CATEGORIES)
_INVOICE = Column("InvoiceId", TEXT, "Number of the invoice; of a draft, which has none, its invoice_id")
_LEDGER_INVOICE = Column("x_LedgerInvoiceId", TEXT, "invoices.invoice_id: the same before and after the issue")
_LINE_NUMBER = Column(
    "x_InvoiceLineNumber",
    pl.Int32,
    "Line of the invoice; empty on taxes and prepaid credits. The rows of a line add up to its net amount",
    nullable=True,
)

_ALL = frozenset(FOCUS_VERSIONS)
_SINCE_1_4 = frozenset({"1.4"})
_UNTIL_1_2 = frozenset({"1.2"})

_COST_AND_USAGE: tuple[tuple[Column, frozenset[str]], ...] = (
    (Column("BilledCost", COST, "What the row adds to the amount due: after discounts, commitments and credits",
            unit="BillingCurrency"), _ALL),
    (_PAYER, _ALL),
    (Column("BillingAccountName", TEXT, "Name of the account that pays", nullable=True), _ALL),
    (_CURRENCY, _ALL),
    (_PERIOD_END, _ALL),
    (_PERIOD_START, _ALL),
    (_CATEGORY, _ALL),
    (Column("ChargeClass", TEXT, "Correction where an invoice of an earlier period is corrected, else empty",
            nullable=True, one_of=("Correction",)), _ALL),
    (Column("ChargeDescription", TEXT, "What the row is for, in words", nullable=True), _ALL),
    (Column("ChargeFrequency", TEXT, "How often the charge comes", one_of=("One-Time", "Recurring", "Usage-Based")),
     _ALL),
    (Column("ChargePeriodEnd", INSTANT, "First instant after the use, or after what the charge is for"), _ALL),
    (Column("ChargePeriodStart", INSTANT, "First instant of the use, or of what the charge is for"), _ALL),
    (Column("CommitmentDiscountCategory", TEXT, "Spend: commitments are amounts of money", nullable=True,
            one_of=("Spend", "Usage")), _ALL),
    (Column("CommitmentDiscountId", TEXT, "The commitment that covers the use, or that is paid for", nullable=True),
     _ALL),
    (Column("CommitmentDiscountName", TEXT, "What invoices call the commitment", nullable=True), _ALL),
    (Column("CommitmentDiscountQuantity", COST, "Part of the committed amount that the row uses up, or leaves unused",
            nullable=True, unit="CommitmentDiscountUnit"), _ALL),
    (Column("CommitmentDiscountStatus", TEXT, "Whether this part of the commitment was used", nullable=True,
            one_of=("Used", "Unused")), _ALL),
    (Column("CommitmentDiscountType", TEXT, "Kind of commitment", nullable=True), _ALL),
    (Column("CommitmentDiscountUnit", TEXT, "Currency of the committed amount", nullable=True), _ALL),
    (Column("ConsumedQuantity", QUANTITY, "Metered quantity", nullable=True, unit="ConsumedUnit"), _ALL),
    (Column("ConsumedUnit", TEXT, "Unit of the meter: skus.usage_unit", nullable=True), _ALL),
    (Column("ContractApplied", TEXT, "Commitments that the row counts towards, and with how much", nullable=True,
            unit=JSON), _SINCE_1_4),
    (Column("ContractedCost", PRODUCT, "ContractedUnitPrice × PricingQuantity, not rounded", unit="BillingCurrency"),
     _ALL),
    (Column("ContractedUnitPrice", PRICE, "Price of one pricing unit that applied to the account, before discounts",
            nullable=True, unit="BillingCurrency", minimum=ZERO), _ALL),
    (Column("EffectiveCost", COST, "BilledCost, but for commitments: what they cost stands where they were used",
            unit="BillingCurrency"), _ALL),
    (Column("HostProviderName", TEXT, "Whose machines it ran on, as far as the ledger knows: [seller] name",
            nullable=True), _SINCE_1_4),
    (Column("InvoiceDetailId", TEXT, "Row of Invoice Detail", nullable=True), _SINCE_1_4),
    (_INVOICE.optional(), _ALL),
    (_ISSUER, _ALL),
    (Column("ListCost", PRODUCT, "ListUnitPrice × PricingQuantity, not rounded", unit="BillingCurrency"), _ALL),
    (Column("ListUnitPrice", PRICE, "Public price of one pricing unit; where there is none, the one that applied",
            nullable=True, unit="BillingCurrency", minimum=ZERO), _ALL),
    (Column("PricingCategory", TEXT, "Committed where a commitment covers the use, else Standard", nullable=True,
            one_of=("Standard", "Dynamic", "Committed", "Other")), _ALL),
    (Column("PricingCurrency", TEXT, "Currency of the price in the price list"), _ALL),
    (Column("PricingQuantity", QUANTITY, "Quantity priced", nullable=True, unit="PricingUnit"), _ALL),
    (Column("PricingUnit", TEXT, "Unit of the price: skus.pricing_unit", nullable=True), _ALL),
    (Column("ProviderName", TEXT, "Whose service it is: [seller] name"), _UNTIL_1_2),
    (Column("PublisherName", TEXT, "Who produced the service: [seller] name"), _UNTIL_1_2),
    (Column("RegionId", TEXT, "Region", nullable=True), _ALL),
    (Column("RegionName", TEXT, "Region; the ledger has one name for it", nullable=True), _ALL),
    (Column("ResourceId", TEXT, "Resource; of a commitment that is paid for, the commitment", nullable=True), _ALL),
    (Column("ResourceName", TEXT, "Name of the resource", nullable=True), _ALL),
    (Column("ServiceCategory", TEXT, "skus.category; Other for what is for no SKU", one_of=SERVICE_CATEGORIES), _ALL),
    (Column("ServiceName", TEXT, "skus.service; for what is for no SKU, what kind of charge it is"), _ALL),
    (Column("ServiceProviderName", TEXT, "Whose service it is: [seller] name"), _SINCE_1_4),
    (Column("ServiceSubcategory", TEXT, "Other (category): the book does not divide categories further"), _ALL),
    (Column("SkuId", TEXT, "SKU; of fees for no SKU and commitments, their own id", nullable=True), _ALL),
    (Column("SkuMeter", TEXT, "What is metered: skus.name", nullable=True), _ALL),
    (Column("SkuPriceDetails", TEXT, "Conditions and kind of the price", nullable=True, unit=JSON), _ALL),
    (Column("SkuPriceId", TEXT, "Price version of the public list, in which ListUnitPrice is found; where there is "
            "none, the price that applied", nullable=True), _ALL),
    (Column("SubAccountId", TEXT, "Account that used it; empty on taxes and prepaid credits", nullable=True), _ALL),
    (Column("SubAccountName", TEXT, "Name of that account", nullable=True), _ALL),
    (Column("Tags", TEXT, "Tags of the resource", nullable=True, unit=JSON), _ALL),
    (Column("x_ChargeKind", TEXT, "charges.charge_kind, or tax, or prepaid", one_of=(*CHARGE_KINDS, "tax", "prepaid")),
     _ALL),
    (Column("x_CorrectsPeriod", TEXT, "Closed period that is corrected, YYYY-MM", nullable=True), _ALL),
    (Column("x_DiscountCost", COST, "What discounts, and discounts of commitments, took off; it is in BilledCost and "
            "EffectiveCost", unit="BillingCurrency"), _ALL),
    (Column("x_ExchangeRate", PRICE, "What one unit of PricingCurrency was worth in BillingCurrency; empty where they "
            "are the same", nullable=True), _ALL),
    (_LINE_NUMBER, _ALL),
    (_LEDGER_INVOICE, _ALL),
    (Column("x_PriceId", TEXT, "charges.price_id: the price version that applied", nullable=True), _ALL),
    (Column("x_ProjectId", TEXT, "Project", nullable=True), _ALL),
    (Column("x_ProjectName", TEXT, "Name of the project", nullable=True), _ALL),
    (Column("x_RunId", TEXT, "Run that computed it"), _ALL),
    (Column("x_SourceId", TEXT, "Row of the book it comes from where that is no price: a fee, adjustment, commitment "
            "or credit", nullable=True), _ALL),
)  # fmt: skip

COST_AND_USAGE_GRAIN = (
    "one charge; of a usage charge that a commitment covers in part, one part; taxes, credits, rounding and fees are "
    "rows as well"
)


def _cost_and_usage(version: str) -> Table:
    columns = tuple(column for column, versions in _COST_AND_USAGE if version in versions)
    return Table("focus_cost_and_usage", COST_AND_USAGE_GRAIN, columns)


ROWS = Table("focus_rows", COST_AND_USAGE_GRAIN, tuple(column for column, _ in _COST_AND_USAGE))
"""Cost and Usage with the columns of every version."""

INVOICE_DETAIL = Table(
    "focus_invoice_detail",
    "one line of an invoice, or the part of it that is of one charge category; a tax rate; a prepaid credit",
    (
        Column("BilledCost", COST, "Sum of its rows of Cost and Usage", unit="BillingCurrency"),
        _PAYER,
        _CURRENCY,
        _PERIOD_END,
        _PERIOD_START,
        _CATEGORY,
        Column("InvoiceDetailCreated", INSTANT, "When the ledger recorded it: at issue, or when it was last drafted"),
        Column("InvoiceDetailDescription", TEXT, "What it is for, in words", nullable=True),
        Column("InvoiceDetailGrain", TEXT, "What its rows have in common", nullable=True, unit=JSON),
        Column("InvoiceDetailId", TEXT, "Identity: invoice_id, line, charge category"),
        Column("InvoiceDetailLastUpdated", INSTANT, "The same: what is issued is never changed"),
        _INVOICE,
        Column("InvoiceIssueDate", INSTANT, "Day of issue, midnight UTC; empty on drafts", nullable=True),
        Column("InvoiceIssueStatus", TEXT, "Open: a draft", one_of=("Open", "Issued", "Voided")),
        _ISSUER,
        Column("PaymentDueDate", INSTANT, "Day by which to pay, midnight UTC; empty on drafts", nullable=True),
        Column("PaymentTerms", TEXT, "Days from issue to payment, in words"),
        Column("ReferenceInvoiceId", TEXT, "Number of the invoice that is corrected; else its own InvoiceId"),
        _LINE_NUMBER,
        _LEDGER_INVOICE,
    ),
    key=("InvoiceDetailId",),
)  # fmt: skip

BILLING_PERIOD = Table(
    "focus_billing_period",
    "one billing period of the issuer",
    (
        Column("BillingPeriodCreated", INSTANT, "When the period was first drafted"),
        _PERIOD_END,
        Column("BillingPeriodLastUpdated", INSTANT, "When it was closed, or last drafted"),
        _PERIOD_START,
        Column("BillingPeriodStatus", TEXT, "Closed: its invoices are issued", one_of=("Open", "Closed")),
        _ISSUER,
    ),
    key=("BillingPeriodStart", "InvoiceIssuerName"),
)

CONTRACT_COMMITMENT = Table(
    "focus_contract_commitment",
    "one commitment that was in force in the period",
    (
        _CURRENCY.optional(),
        Column("ContractCommitmentApplicability", TEXT, "What use counts towards it", unit=JSON),
        Column("ContractCommitmentBenefitCategory", TEXT, "Discount; Other where it has none: a minimum spend",
               one_of=("Discount", "Entitlement", "Availability", "Other")),
        Column("ContractCommitmentCategory", TEXT, "Spend: an amount of money", one_of=("Spend", "Usage")),
        Column("ContractCommitmentCost", COST, "Amount committed to in a whole month", nullable=True,
               unit="BillingCurrency"),
        Column("ContractCommitmentCreated", INSTANT, "When the ledger recorded this state of it: the book keeps no day "
               "of signature"),
        Column("ContractCommitmentDescription", TEXT, "What invoices call it", nullable=True),
        Column("ContractCommitmentDiscountPercentage", QUANTITY, "Share of the committed amount that is taken off",
               nullable=True, minimum=ZERO, maximum=Decimal(1)),
        Column("ContractCommitmentDurationType", TEXT, "Months from start to end"),
        Column("ContractCommitmentFulfillmentInterval", TEXT, "Monthly", one_of=(
            "Hourly", "Daily", "Weekly", "Monthly", "Quarterly", "Semi-Annual", "Annual", "Full Period",
            "Transactional", "Custom")),
        Column("ContractCommitmentId", TEXT, "The commitment"),
        Column("ContractCommitmentLastUpdated", INSTANT, "When the ledger recorded this state of it"),
        Column("ContractCommitmentLifecycleStatus", TEXT, "Expired where it ends with the period or within it",
               one_of=("Proposed", "Pending", "Active", "Exhausted", "Expired", "Canceled", "Superseded")),
        Column("ContractCommitmentModel", TEXT, "Continuous: each month follows the one before",
               one_of=("Continuous", "Discontinuous")),
        Column("ContractCommitmentOfferCategory", TEXT, "Negotiated", one_of=("Negotiated", "Public")),
        Column("ContractCommitmentPaymentInterval", TEXT, "Monthly", one_of=(
            "One-Time", "Monthly", "Quarterly", "Semi-Annual", "Annual", "Custom")),
        Column("ContractCommitmentPaymentModel", TEXT, "No Upfront: billed with the month's use",
               one_of=("No Upfront", "Partial Upfront", "All Upfront")),
        Column("ContractCommitmentPeriodEnd", INSTANT, "Its valid_to; where it is open, the end of the period"),
        Column("ContractCommitmentPeriodStart", INSTANT, "Its valid_from; where it has none, the start of the period"),
        Column("ContractCommitmentQuantity", QUANTITY, "Empty: it is no quantity", nullable=True),
        Column("ContractCommitmentType", TEXT, "Monthly spend"),
        Column("ContractCommitmentUnit", TEXT, "Empty: it is no quantity", nullable=True),
        Column("ContractId", TEXT, "The commitment: the book keeps no contracts"),
        Column("ContractPeriodEnd", INSTANT, "As of the commitment"),
        Column("ContractPeriodStart", INSTANT, "As of the commitment"),
        _ISSUER,
        Column("PricingCurrency", TEXT, "Currency of the commitment"),
        Column("PricingCurrencyContractCommitmentCost", COST, "Amount committed to in a whole month", nullable=True,
               unit="PricingCurrency"),
        Column("ServiceProviderName", TEXT, "[seller] name"),
    ),
    key=("ContractCommitmentId",),
)  # fmt: skip


@dataclass(frozen=True)
class Dataset:
    """One dataset of one version, as it is exported."""

    title: str
    """As the specification calls it."""
    file: str
    """Name of its file, without ending."""
    table: Table


COST_AND_USAGE = {version: _cost_and_usage(version) for version in FOCUS_VERSIONS}
"""Version → Cost and Usage."""

DATASETS: dict[str, tuple[Dataset, ...]] = {
    "1.4": (
        Dataset("Cost and Usage", "cost_and_usage", COST_AND_USAGE["1.4"]),
        Dataset("Invoice Detail", "invoice_detail", INVOICE_DETAIL),
        Dataset("Billing Period", "billing_period", BILLING_PERIOD),
        Dataset("Contract Commitment", "contract_commitment", CONTRACT_COMMITMENT),
    ),
    "1.2": (Dataset("Cost and Usage", "cost_and_usage", COST_AND_USAGE["1.2"]),),
}
"""Version → its datasets; Cost and Usage is the first."""
