"""The journal: what an accounting system books for the invoices of a period."""

from __future__ import annotations

import polars as pl

from ratemill.money import AMOUNT, PRICE
from ratemill.tables.columns import TEXT, Column, Table

POSTINGS = (
    "receivable", "prepayments", "discounts", "commitment_discounts", "promotional_credits", "revenue", "output_tax",
)  # fmt: skip
"""Accounts of the journal, in the order of an entry; an accounting system maps each to one of its own."""

JOURNAL = Table(
    "journal",
    "one posting of one invoice's or credit note's entry",
    (
        Column("invoice_id", TEXT, "Invoice or credit note"),
        Column("posting_number", pl.Int32, "Number of the posting within the entry, from 1"),
        Column("number", TEXT, "Number of the document; empty on drafts", nullable=True),
        Column("booking_date", pl.Date, "Day of issue; of drafts, the last day of the period"),
        Column("billing_account_id", TEXT, "Account that pays"),
        Column("posting", TEXT, "Which account of the ledger: receivable and prepayments (what customers paid ahead) "
               "stand in the balance sheet, output_tax is owed, the others make up the income", one_of=POSTINGS),
        Column("service", TEXT, "Service whose income it is, or what else it is for", nullable=True),
        Column("tax_code", TEXT, "Tax code of income and tax", nullable=True),
        Column("tax_category", TEXT, "Tax category of income and tax", nullable=True),
        Column("tax_rate", PRICE, "Rate in percent of income and tax", unit="%", nullable=True),
        Column("currency", TEXT, "ISO 4217 code"),
        Column("debit", AMOUNT, "Debit; zero where it is a credit", unit="currency"),
        Column("credit", AMOUNT, "Credit; zero where it is a debit", unit="currency"),
    ),
    key=("invoice_id", "posting_number"),
)  # fmt: skip
