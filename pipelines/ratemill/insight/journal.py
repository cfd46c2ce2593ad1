"""The double entry of each invoice: what is owed, against income by service and tax.

An invoice of 100.00 of usage with 10 % discount, 20 % tax and 50.00 paid ahead becomes

    ==================  ======  ======
    posting              debit  credit
    ==================  ======  ======
    receivable           58.00
    prepayments          50.00
    discounts            10.00
    revenue                     100.00
    output_tax                   18.00
    ==================  ======  ======

A credit note's entry is the same with the sides changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.errors import InvariantError
from ratemill.frames import collect
from ratemill.insight import costs
from ratemill.money import AMOUNT, PRICE, ZERO
from ratemill.tables.columns import TEXT
from ratemill.tables.journal import JOURNAL, POSTINGS

if TYPE_CHECKING:
    from datetime import date

    from ratemill.tables.invoices import Billed

_INCOME = {
    "revenue": "amount",
    "discounts": "discount_amount",
    "commitment_discounts": "commitment_amount",
    "promotional_credits": "credit_amount",
}
"""Posting → the column of invoice lines that it books; what raises income is a credit."""

_OF_NO_SERVICE = {
    "usage": costs.OTHER,
    "recurring": costs.FEES,
    "adjustment": costs.ADJUSTMENTS,
    "commitment": costs.SHORTFALLS,
    "correction": costs.CORRECTIONS,
}
"""What a line without a service is income from."""

_TAX = ["tax_code", "tax_category", "tax_rate"]
_ENTRY = ["invoice_id", "posting", "service", *_TAX]


def journal(billed: Billed, *, last_day: date) -> pl.DataFrame:
    """The postings of every invoice and credit note (rows of JOURNAL), balanced per document.

    Income is booked per service and tax rate, before and after what is taken off, so that net income per service and
    the base of each tax can be read off. Postings of zero are left out.

    Args:
        billed: the documents.
        last_day: the period's: drafts are booked there.

    Raises:
        InvariantError: an entry does not balance.
    """
    postings = pl.concat([_paid(billed.invoices), _income(billed.lines), _taxes(billed.taxes)])
    entries = collect(
        postings.group_by(_ENTRY)
        .agg(pl.col("balance").sum())
        .filter(pl.col("balance") != ZERO)
        .join(
            billed.invoices.lazy().select(
                "invoice_id", "number", "billing_account_id", "currency",
                booking_date=pl.col("issue_date").fill_null(last_day),
            ),
            on="invoice_id",
            how="inner",
            validate="m:1",
        )
        .with_columns(place=pl.col("posting").cast(pl.Enum(POSTINGS)))
        .sort("invoice_id", "place", "service", *_TAX)
        .with_columns(
            posting_number=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("invoice_id"),
            debit=pl.col("balance").clip(lower_bound=ZERO),
            credit=-pl.col("balance").clip(upper_bound=ZERO),
        )
    )  # fmt: skip
    _assert_balanced(entries)
    return JOURNAL.conform(entries)


def _paid(invoices: pl.DataFrame) -> pl.LazyFrame:
    """What is owed and what was paid ahead."""
    parts = [
        invoices.lazy().select("invoice_id", posting=pl.lit(posting), balance=balance)
        for posting, balance in (("receivable", pl.col("due_amount")), ("prepayments", -pl.col("prepaid_amount")))
    ]
    return _whole(pl.concat(parts))


def _income(lines: pl.DataFrame) -> pl.LazyFrame:
    kind = pl.col("line_kind")
    other = kind.replace_strict(list(_OF_NO_SERVICE), list(_OF_NO_SERVICE.values()), return_dtype=TEXT)
    parts = [
        lines.lazy().select(
            "invoice_id", *_TAX, posting=pl.lit(posting), service=pl.coalesce("service", other), balance=-pl.col(column)
        )
        for posting, column in _INCOME.items()
    ]
    return _whole(pl.concat(parts))


def _taxes(taxes: pl.DataFrame) -> pl.LazyFrame:
    return _whole(
        taxes.lazy().select(
            "invoice_id", "tax_code", posting=pl.lit("output_tax"), tax_category="category", tax_rate="rate",
            balance=-pl.col("tax_amount"),
        )
    )  # fmt: skip


def _whole(rows: pl.LazyFrame) -> pl.LazyFrame:
    """``rows`` with the columns that they lack, of equal types and in order."""
    known = rows.collect_schema().names()
    lacking = [pl.lit(None).alias(name) for name in _POSTED if name not in known]
    return rows.with_columns(lacking).select(_POSTED.names()).cast(_POSTED)


_POSTED = pl.Schema(
    dict.fromkeys(("invoice_id", "posting", "service", "tax_code", "tax_category"), TEXT)
    | {"tax_rate": PRICE, "balance": AMOUNT}
)


def _assert_balanced(entries: pl.DataFrame) -> None:
    sums = collect(entries.lazy().group_by("invoice_id").agg(pl.col("debit", "credit").sum()))
    wrong = sums.filter(pl.col("debit") != pl.col("credit")).sort("invoice_id")
    if wrong.height:
        row = wrong.row(0, named=True)
        raise InvariantError(
            f"the journal entry of {row['invoice_id']} does not balance: debit {row['debit']}, credit {row['credit']}"
        )
