"""Tax: which rate a line bears, and one tax amount per rate of an invoice."""

from __future__ import annotations

import polars as pl

from ratemill.findings import Finding, Severity
from ratemill.frames import collect
from ratemill.money import COST, round_to_minor_unit
from ratemill.tables.invoices import TAX_LINES

HUNDRED = 100


def with_taxes(lines: pl.DataFrame, payers: pl.DataFrame, taxes: pl.DataFrame) -> tuple[pl.DataFrame, list[Finding]]:
    """Lines with tax_code, tax_rate, tax_kind and tax_note, and an error for each payer and category without a tax.

    Corrections keep the tax of the period they correct.

    ``payers``: see :func:`ratemill.invoicing.payers.payers_of`.
    """
    payer = payers.unique("billing_account_id").select(
        "billing_account_id", pl.col("account_tax_code").alias("tax_code"), "country", "state", "tax_point"
    )
    own = pl.col("line_kind") != "correction"
    needs = (
        lines.filter(own)
        .select("billing_account_id", "tax_category")
        .unique()
        .join(payer, on="billing_account_id", how="left", validate="m:1")
        .sort("billing_account_id", "tax_category")
    )
    applied, findings = taxes_of(needs, taxes)
    found = applied.select(
        "billing_account_id", "tax_category", pl.col("tax_code", "rate", "kind", "note").name.prefix("applied_")
    )
    points = payer.select("billing_account_id", "tax_point")
    joined = lines.join(found, on=["billing_account_id", "tax_category"], how="left", validate="m:1").join(
        points, on="billing_account_id", how="left", validate="m:1"
    )
    columns = {"tax_code": "tax_code", "tax_rate": "rate", "tax_kind": "kind", "tax_note": "note"}
    return joined.with_columns(
        pl.when(own).then(f"applied_{source}").otherwise(name).alias(name) for name, source in columns.items()
    ).drop("^applied_.*$"), findings


def taxes_of(needs: pl.DataFrame, taxes: pl.DataFrame) -> tuple[pl.DataFrame, list[Finding]]:
    """The tax that applies to each payer and tax category at the tax point, and an error for each without one.

    ``needs``: billing_account_id, tax_code (the account's own, or empty), country, state, tax_point, tax_category, one
    row each. A code the account names is used; else the rows of its country: for its state first, then for any.
    Comes back with tax_code, rate, kind, note.
    """
    rows = taxes.select(
        pl.col("tax_code").alias("applied_code"),
        pl.col("country").alias("tax_country"),
        pl.col("region").alias("tax_region"),
        pl.col("category").alias("tax_category"),
        "rate",
        "kind",
        "note",
        "valid_from",
        "valid_to",
    )
    numbered = needs.with_row_index("need")
    named = pl.col("tax_code") == pl.col("applied_code")
    by_place = (pl.col("tax_code").is_null()) & (pl.col("country") == pl.col("tax_country"))
    in_region = pl.col("tax_region").is_null() | (pl.col("tax_region") == pl.col("state")).fill_null(False)
    valid = (pl.col("valid_from").is_null() | (pl.col("valid_from") <= pl.col("tax_point"))) & (
        pl.col("valid_to").is_null() | (pl.col("tax_point") < pl.col("valid_to"))
    )
    found = (
        numbered.join(rows, on="tax_category", how="inner", validate="m:m")
        .filter((named | by_place).fill_null(False) & in_region & valid)
        .sort("need", pl.col("tax_region").is_null(), "applied_code")
        .unique("need", keep="first", maintain_order=True)
    )
    missing = numbered.join(found.select("need"), on="need", how="anti")
    applied = found.with_columns(tax_code="applied_code").select(
        "billing_account_id", "tax_category", "tax_code", "rate", "kind", "note"
    )
    return applied, [_missing(row) for row in missing.sort("need").iter_rows(named=True)]


def _missing(need: dict[str, object]) -> Finding:
    by = f"tax code {need['tax_code']}" if need["tax_code"] else f"country {need['country']}"
    return Finding(
        Severity.ERROR,
        "taxes.missing",
        f"account {need['billing_account_id']} has no tax for category {need['tax_category']}: no row of taxes for {by}"
        f" is valid at {need['tax_point']:%Y-%m-%d %H:%M} UTC",
        "add the row to taxes, or correct the account's tax_code or country",
        file="book/taxes.csv",
    )


def tax_lines(lines: pl.DataFrame) -> pl.DataFrame:
    """Rows of TAX_LINES: per invoice, code, category, kind, rate and note one base and one tax, rounded half-up once.

    ``lines``: invoice_id, currency, net_amount, tax_code, tax_category, tax_rate, tax_kind, tax_note.
    """
    grouped = collect(
        lines.lazy()
        .group_by(
            "invoice_id",
            "currency",
            "tax_code",
            category="tax_category",
            kind="tax_kind",
            rate="tax_rate",
            note="tax_note",
        )
        .agg(pl.col("net_amount").sum().alias("base_amount"))
    )
    # At most 4 + 12 decimals, and two more by the division: exact at 18.
    exact_tax = pl.col("base_amount").cast(COST) * pl.col("rate") / HUNDRED
    currencies = sorted(grouped["currency"].unique())
    return (
        grouped.with_columns(tax_amount=round_to_minor_unit(exact_tax, pl.col("currency"), currencies))
        .pipe(TAX_LINES.conform)
        .sort(TAX_LINES.key)
    )
