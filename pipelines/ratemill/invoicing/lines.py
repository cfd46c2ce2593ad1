"""Invoice lines: charges added up and rounded, the rounding kept; and what every other kind of line has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.frames import collect
from ratemill.money import COST, PRICE, round_to_minor_unit
from ratemill.rating.owners import EVER
from ratemill.tables.columns import INSTANT, TEXT
from ratemill.tables.invoices import INVOICE_LINES, LINE_KINDS

if TYPE_CHECKING:
    from ratemill.book.model import Book

LINE_KEY = ["billing_account_id", "currency", "account_id", "project_id", "sku_id", "region", "price_id"]
"""One usage line per combination of these (docs/how-we-bill.md, "Lines")."""

_SHARED = (
    "line_kind", "source_id", "description", "corrects_period", "corrects_invoice_id", "first_day", "last_day",
    "pricing_quantity", "pricing_unit", "unit_price", "list_cost", "cost", "cap_cost", "minimum_cost", "amount",
    "rounding",
)  # fmt: skip
DRAFT_LINES = pl.Schema(
    {
        "invoice_id": TEXT,
        **dict.fromkeys(LINE_KEY, TEXT),
        **{name: INVOICE_LINES[name].dtype for name in _SHARED},
        # What charges of the line show, and when the line's project is asked for its name.
        "charge_start": INSTANT,
        "charge_end": INSTANT,
        "named_at": INSTANT,
        # Known beforehand for corrections only; else found by SKU and payer.
        "tax_category": TEXT,
        "tax_code": TEXT,
        "tax_rate": PRICE,
        "tax_kind": TEXT,
        "tax_note": TEXT,
        "corrected_kind": TEXT,
    }
)
"""A line before it has names, tax, a number and deductions."""


def add_up_lines(charges: pl.LazyFrame) -> pl.DataFrame:
    """Sums per LINE_KEY: invoice_id, quantities and costs, exact and rounded half-up to the currency's minor unit.

    Columns: LINE_KEY, invoice_id, first_start, last_start, last_end, pricing_quantity, pricing_unit, unit_price (empty
    where the charges have several), list_cost (empty where one has none), cost, what of it caps and minimums are
    (cap_cost and minimum_cost, empty where there are none), amount, rounding = amount less cost.
    """
    unit_price = pl.col("contracted_unit_price")
    lines = collect(
        charges.group_by(LINE_KEY).agg(
            pl.col("invoice_id").first(),
            pl.col("charge_start").min().alias("first_start"),
            pl.col("charge_start").max().alias("last_start"),
            pl.col("charge_end").max().alias("last_end"),
            pl.col("pricing_quantity").sum(),
            pl.col("pricing_unit").max(),
            pl.when(unit_price.min() == unit_price.max()).then(unit_price.min()).alias("unit_price"),
            pl.when(pl.col("list_cost").null_count() == 0).then(pl.col("list_cost").sum()).alias("list_cost"),
            pl.col("cost").sum(),
            *(_cost_of(kind).alias(f"{kind}_cost") for kind in ("cap", "minimum")),
        )
    )
    currencies = sorted(lines["currency"].unique())
    return lines.with_columns(
        amount=round_to_minor_unit(pl.col("cost"), pl.col("currency"), currencies)
    ).with_columns(rounding=(pl.col("amount").cast(COST) - pl.col("cost")).cast(COST)).sort(LINE_KEY)  # fmt: skip


def _cost_of(kind: str) -> pl.Expr:
    """Sum of the costs of charges of a kind; empty where there are none."""
    is_kind = pl.col("charge_kind") == kind
    return pl.when(is_kind.any()).then(pl.col("cost").filter(is_kind).sum())


def usage_lines(sums: pl.DataFrame, payers: pl.DataFrame) -> pl.DataFrame:
    """The sums of usage as DRAFT_LINES; their days are those of the payer's zone."""
    zones = payers.select("billing_account_id", "zone").unique()
    with_zone = sums.join(zones, on="billing_account_id", how="left", validate="m:1")
    # Polars converts a column to one zone at a time.
    parts = [
        part.with_columns(
            first_day=pl.col("first_start").dt.convert_time_zone(zone).dt.date(),
            last_day=pl.col("last_start").dt.convert_time_zone(zone).dt.date(),
        )
        for (zone,), part in with_zone.partition_by("zone", as_dict=True, maintain_order=True).items()
    ]
    renamed = (pl.concat(parts) if parts else with_zone).rename(
        {"first_start": "charge_start", "last_end": "charge_end", "last_start": "named_at"}
    )
    return draft_lines(renamed, kind="usage")


def draft_lines(rows: pl.DataFrame, *, kind: str) -> pl.DataFrame:
    """``rows`` as DRAFT_LINES of a kind: columns they lack are empty."""
    present = rows.with_columns(line_kind=pl.lit(kind))
    return present.select(
        (pl.col(name) if name in present.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in DRAFT_LINES.items()
    )


def exact(rows: pl.DataFrame) -> pl.DataFrame:
    """``rows`` whose amount is the cost: nothing was rounded."""
    return rows.with_columns(cost=pl.col("amount").cast(COST), rounding=pl.lit(0).cast(COST))


def described(lines: pl.DataFrame, book: Book) -> pl.DataFrame:
    """Lines with the names a person reads, and the tax category of their SKU; without a SKU it is standard."""
    account_names = book.accounts.select("account_id", pl.col("name").alias("account_name"))
    skus = book.skus.select(
        "sku_id", "service", "category", pl.col("name").alias("sku_name"), pl.col("tax_category").alias("sku_category")
    )
    return (
        _with_project_names(lines, book.projects)
        .join(account_names, on="account_id", how="left", validate="m:1")
        .join(skus, on="sku_id", how="left", validate="m:1")
        .with_columns(
            # A closed month's account may be gone from the book by now.
            pl.col("account_name").fill_null(pl.col("account_id")),
            tax_category=pl.coalesce("tax_category", "sku_category", pl.lit("standard")),
        )
        .drop("sku_category")
    )


def _with_project_names(lines: pl.DataFrame, projects: pl.DataFrame) -> pl.DataFrame:
    """project_name: the latest name the project had at this account by the line's last usage.

    The name that another account gave it after a move (or before) is none of this account's business.
    """
    names = projects.select(
        "project_id", "account_id", pl.col("valid_from").fill_null(EVER), pl.col("name").alias("project_name")
    ).sort("project_id", "account_id", "valid_from")
    return (
        lines.sort("project_id", "account_id", "named_at")
        .join_asof(
            names,
            left_on="named_at",
            right_on="valid_from",
            by=["project_id", "account_id"],
            strategy="backward",
            check_sortedness=False,
        )
        .drop("valid_from")
    )


_LINE_ORDER = ["invoice_id", "account_id", "kind", "project_id", "service", "sku_id", "region", "first_day", "price_id",
               "corrects_period", "corrected_kind", "source_id", "tax_code", "tax_category", "tax_rate"]  # fmt: skip


def numbered(lines: pl.DataFrame) -> pl.DataFrame:
    """Lines in their order on the invoice, with line_number from 1: an account's usage, then its other lines."""
    place = pl.col("line_kind").replace_strict(LINE_KINDS, range(len(LINE_KINDS)), return_dtype=pl.Int32)
    return (
        lines.with_columns(kind=place)
        .sort(_LINE_ORDER)
        .drop("kind")
        .with_columns(line_number=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("invoice_id"))
    )
