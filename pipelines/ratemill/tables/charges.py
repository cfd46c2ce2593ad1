"""Charges: the rated unit that everything else adds up from."""

from __future__ import annotations

import polars as pl

from ratemill.money import COST, PRICE, QUANTITY
from ratemill.tables.columns import INSTANT, TEXT, Column, Table

CHARGE_KINDS = (
    "usage", "cap", "minimum", "rounding", "recurring", "adjustment", "correction", "discount", "commitment", "credit",
)  # fmt: skip
"""All of them add up to the untaxed amount of invoices; taxes and prepaid credits are in tables of their own."""

CHARGES = Table(
    "charges",
    "one resource's use of one SKU on one local day (or hour) under one price version, or one other charge kind",
    (
        Column("period", TEXT, "Billing period, YYYY-MM"),
        Column("billing_account_id", TEXT, "Account that pays"),
        Column("account_id", TEXT, "Account that used it"),
        Column("project_id", TEXT, "Project", nullable=True),
        Column("resource_id", TEXT, "Resource", nullable=True),
        Column("resource_name", TEXT, "Name of the resource", nullable=True),
        Column("sku_id", TEXT, "SKU; empty on fees and adjustments that are for none", nullable=True),
        Column("region", TEXT, "Region", nullable=True),
        Column("tags", TEXT, "Tags as a JSON object, keys sorted", nullable=True),
        Column("charge_start", INSTANT, "First instant, UTC (inclusive)"),
        Column("charge_end", INSTANT, "Last instant, UTC (exclusive)"),
        Column("charge_kind", TEXT, "What kind of charge it is", one_of=CHARGE_KINDS),
        Column("price_id", TEXT, "Price version that priced it; empty where none did", nullable=True),
        Column("list_price_id", TEXT, "Price version of the public list", nullable=True),
        Column("usage_quantity", QUANTITY, "Metered quantity", unit="usage_unit", nullable=True),
        Column("usage_unit", TEXT, "Unit of the metered quantity", nullable=True),
        Column("pricing_quantity", QUANTITY, "Quantity in the price's unit", unit="pricing_unit", nullable=True),
        Column("pricing_unit", TEXT, "Unit of the price", nullable=True),
        Column("currency", TEXT, "ISO 4217 code of every money column"),
        Column("list_unit_price", PRICE, "Public price of one pricing unit", unit="currency", nullable=True),
        Column(
            "contracted_unit_price", PRICE, "Price of one pricing unit that applied", unit="currency", nullable=True
        ),
        Column("list_cost", COST, "Cost at the public price", unit="currency", nullable=True),
        Column("contracted_cost", COST, "Cost at the price that applied", unit="currency"),
        Column("cost", COST, "What it adds to the invoice", unit="currency"),
        Column("pricing_currency", TEXT, "ISO 4217 code of the price", nullable=True),
        Column("exchange_rate", PRICE, "What one unit of the price's currency was worth in currency, empty where they "
               "are the same", nullable=True),
        Column("list_exchange_rate", PRICE, "The same for the public price", nullable=True),
        Column("source_id", TEXT, "Row of the book it comes from where that is no price: a discount, commitment, "
               "credit, recurring fee or adjustment", nullable=True),
        Column("corrects_period", TEXT, "Closed period that it corrects, YYYY-MM", nullable=True),
        Column("run_id", TEXT, "Run that computed it"),
        Column("invoice_id", TEXT, "Invoice it is billed on"),
    ),
)  # fmt: skip
CHARGE_ORDER = (
    "billing_account_id", "currency", "account_id", "project_id", "sku_id", "region", "resource_id", "tags",
    "charge_start", "price_id", "list_price_id", "charge_kind",
)  # fmt: skip
"""The charges of a shard are written in this order (nulls first), shard after shard: equal inputs give equal bytes."""

UNPRICED = Table(
    "unpriced",
    "usage that found no price: what would be lost by billing anyway",
    (
        *(CHARGES[name] for name in ("billing_account_id", "account_id")),
        Column("sku_id", TEXT, "SKU"),
        Column("region", TEXT, "Region", nullable=True),
        Column("first_usage", INSTANT, "First instant without a price"),
        Column("last_usage", INSTANT, "First instant after the last usage without a price"),
        Column("quantity", QUANTITY, "Metered quantity without a price", unit="usage_unit"),
        Column("usage_unit", TEXT, "Unit of the quantity"),
        Column("records", pl.Int64, "Usage records without a price"),
        Column("reason", TEXT, "Why no price applies"),
    ),
)

UNPRICED_USAGE = Table(
    "unpriced_usage",
    UNPRICED.grain,
    (Column("period", TEXT, "Billing period, YYYY-MM"), *UNPRICED.columns),
)
"""As analysts see it."""
