"""Invoices, their lines and taxes."""

from __future__ import annotations

import polars as pl

from ratemill.money import AMOUNT, COST, PRICE, QUANTITY
from ratemill.tables.book import TAX_KINDS
from ratemill.tables.columns import TEXT, Column, Table

INVOICES = Table(
    "invoices",
    "one invoice of one billing account in one currency for one billing period",
    (
        Column("invoice_id", TEXT, "Identity of the invoice: period, billing account and currency"),
        Column("period", TEXT, "Billing period, YYYY-MM"),
        Column("billing_account_id", TEXT, "Account that pays"),
        Column("currency", TEXT, "ISO 4217 code of every amount"),
        Column("status", TEXT, "draft: recomputed at will; issued: final", one_of=("draft", "issued")),
        Column("lines", pl.Int64, "Number of lines"),
        Column("list_amount", COST, "Cost at public prices, not rounded", unit="currency"),
        Column("untaxed_amount", AMOUNT, "Sum of the lines", unit="currency"),
        Column("tax_amount", AMOUNT, "Sum of the taxes", unit="currency"),
        Column("total_amount", AMOUNT, "Untaxed amount plus tax", unit="currency"),
        Column("due_amount", AMOUNT, "What is to be paid", unit="currency"),
        Column("rounding", COST, "Sum of what rounding the lines added", unit="currency"),
        Column("run_id", TEXT, "Run that computed it"),
    ),
    key=("invoice_id",),
)

INVOICE_LINES = Table(
    "invoice_lines",
    "one account's and project's use of one SKU in one region under one price version",
    (
        Column("invoice_id", TEXT, "Invoice the line is on"),
        Column("line_number", pl.Int32, "Number of the line, from 1"),
        Column("account_id", TEXT, "Account that used it"),
        Column("account_name", TEXT, "Name of the account"),
        Column("project_id", TEXT, "Project", nullable=True),
        Column("project_name", TEXT, "Name of the project", nullable=True),
        Column("service", TEXT, "Service"),
        Column("category", TEXT, "FOCUS service category"),
        Column("sku_id", TEXT, "SKU"),
        Column("sku_name", TEXT, "Name of the SKU"),
        Column("region", TEXT, "Region", nullable=True),
        Column("price_id", TEXT, "Price version"),
        Column("first_day", pl.Date, "First local day with usage"),
        Column("last_day", pl.Date, "Last local day with usage"),
        Column("pricing_quantity", QUANTITY, "Quantity priced", unit="pricing_unit"),
        Column("pricing_unit", TEXT, "Unit of the price"),
        Column("unit_price", PRICE, "Price of one pricing unit; empty where tiers give several", unit="currency",
               nullable=True),
        Column("list_cost", COST, "Cost at the public price", unit="currency", nullable=True),
        Column("cost", COST, "Exact cost, before rounding", unit="currency"),
        Column("amount", AMOUNT, "Cost rounded half-up to the minor unit", unit="currency"),
        Column("rounding", COST, "amount minus cost", unit="currency"),
        Column("tax_code", TEXT, "Tax that applies"),
        Column("tax_category", TEXT, "Tax category of the SKU"),
    ),
    key=("invoice_id", "line_number"),
)  # fmt: skip

TAX_LINES = Table(
    "tax_lines",
    "one tax rate of one invoice",
    (
        Column("invoice_id", TEXT, "Invoice"),
        Column("tax_code", TEXT, "Tax code"),
        Column("category", TEXT, "Tax category"),
        Column("kind", TEXT, "What kind of supply it is", one_of=TAX_KINDS),
        Column("rate", PRICE, "Rate in percent", unit="%"),
        Column("base_amount", AMOUNT, "Sum of the lines it taxes", unit="currency"),
        Column("tax_amount", AMOUNT, "Tax, rounded half-up once on the summed base", unit="currency"),
        Column("note", TEXT, "Sentence the invoice must carry", nullable=True),
    ),
    key=("invoice_id", "tax_code", "category", "rate"),
)
