"""Corrections: what a closed period should have been billed, against what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.findings import Finding, Severity
from ratemill.frames import collect
from ratemill.money import AMOUNT, ZERO, minor_unit_decimals
from ratemill.tables.invoices import CORRECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from ratemill.tables.invoices import Billed

PAYER = ["billing_account_id", "currency"]
THING = ["account_id", "project_id", "sku_id", "region", "price_id", "source_id"]
"""What a line is for, whoever pays."""
TAX = ["tax_code", "tax_category", "tax_rate"]
_KEY = [*PAYER, *THING, *TAX]


def find_corrections(correct: Billed, billed: Billed, *, period: str) -> pl.DataFrame:
    """Rows of CORRECTIONS: per line of the closed ``period`` what is still to be billed, or to be given back.

    A line is compared by its amount with discounts and commitments, before credits, per payer, currency, account,
    project, SKU, region, price version, source and tax. The tax is part of it because a line that was taxed wrongly
    is given back with the tax it was billed with and billed again with the right one.

    Args:
        correct: the period as it should have been billed, rated and assembled anew, no credits drawn.
        billed: every issued document of a run that bills lines of the period, or corrects any.
        period: YYYY-MM.
    """
    should = _added_up(_tagged(correct).filter(pl.col("line_kind") != "correction"))
    issued = _tagged(billed)
    original = (pl.col("period") == period) & (pl.col("line_kind") != "correction")
    corrected = pl.col("corrects_period") == period
    was = _added_up(issued.filter((original | corrected).fill_null(False)))
    both = should.join(was, on=_KEY, how="full", coalesce=True, nulls_equal=True, validate="1:1", suffix="_billed")
    compared = both.with_columns(
        billed_amount=pl.col("net_billed").fill_null(ZERO),
        correct_amount=pl.col("net").fill_null(ZERO),
        pricing_quantity=pl.col("quantity").fill_null(ZERO) - pl.col("quantity_billed").fill_null(ZERO),
        has_quantity=pl.col("quantity").is_not_null() | pl.col("quantity_billed").is_not_null(),
        **{
            name: pl.coalesce(name, f"{name}_billed")
            for name in ("line_kind", "first_day", "last_day", "pricing_unit", "description", "tax_kind", "tax_note")
        },
    ).with_columns(amount=(pl.col("correct_amount") - pl.col("billed_amount")).cast(AMOUNT))
    different = compared.filter(pl.col("amount") != 0)
    if not different.height:
        return CORRECTIONS.empty()
    different = _with_reasons(different)
    first_kind = pl.when(pl.col("price_id").is_not_null()).then(pl.lit("usage")).otherwise(pl.lit("adjustment"))
    words = pl.Series(
        "description", [_description(row, period) for row in different.iter_rows(named=True)], dtype=pl.String
    )
    return (
        different.with_columns(words)
        .join(_invoices_of(billed, period), on=PAYER, how="left", validate="m:1")
        .with_columns(
            corrects_period=pl.lit(period),
            corrected_kind=pl.when(pl.col("line_kind") == "correction").then(first_kind).otherwise("line_kind"),
            pricing_quantity=pl.when("has_quantity").then("pricing_quantity"),
            tax_kind=pl.col("tax_kind").fill_null(
                pl.when(pl.col("tax_rate") == 0).then(pl.lit("zero")).otherwise(pl.lit("standard"))
            ),
        )
        .pipe(CORRECTIONS.conform)
        .sort(_KEY)
    )


def _tagged(billed: Billed) -> pl.DataFrame:
    """Lines with payer, currency and period of their invoice, and kind and note of their tax."""
    kinds = billed.taxes.select(
        "invoice_id", "tax_code", pl.col("category").alias("tax_category"), pl.col("rate").alias("tax_rate"),
        pl.col("kind").alias("tax_kind"), pl.col("note").alias("tax_note"),
    ).unique(["invoice_id", *TAX], keep="first", maintain_order=True)  # fmt: skip
    return billed.lines.join(
        billed.invoices.select("invoice_id", *PAYER, "period"), on="invoice_id", how="left", validate="m:1"
    ).join(kinds, on=["invoice_id", *TAX], how="left", validate="m:1")


def _added_up(lines: pl.DataFrame) -> pl.DataFrame:
    """One row per line key: net amount, quantity, and what the original line says of itself."""
    net = pl.col("amount") + pl.col("discount_amount") + pl.col("commitment_amount")
    is_correction = pl.col("line_kind") == "correction"
    first_original = ["line_kind", "unit_price", "first_day", "last_day", "pricing_unit", "description", "tax_kind",
                      "tax_note"]  # fmt: skip
    return collect(
        lines.lazy()
        .group_by(_KEY)
        .agg(
            net.sum().alias("net"),
            pl.col("amount").sum().alias("gross"),
            pl.when(pl.col("pricing_quantity").count() > 0)
            .then(pl.col("pricing_quantity").sum())
            .alias("quantity"),
            is_correction.any().alias("was_corrected"),
            *(
                pl.col(name).sort_by(is_correction, "invoice_id", "line_number").first()
                for name in first_original
            ),
        )
    )  # fmt: skip


def _invoices_of(billed: Billed, period: str) -> pl.DataFrame:
    """The invoice each payer got for the period itself."""
    return (
        billed.invoices.filter((pl.col("period") == period) & pl.col("corrects_invoice_id").is_null())
        .sort("invoice_id")
        .unique(PAYER, keep="first", maintain_order=True)
        .select(*PAYER, corrects_invoice_id="invoice_id")
    )


_REASONS = {
    "other_tax": [*PAYER, *THING],
    "other_price": [*PAYER, "account_id", "project_id", "sku_id", "region"],
    "other_payer": [*THING],
    "other_account": ["project_id", "sku_id", "region"],
}
"""What else may hold the same thing: the columns that are then equal."""


def _with_reasons(different: pl.DataFrame) -> pl.DataFrame:
    """Flags on lines that stand on one side only: whether the other side differs in the same under another name."""
    is_new, is_gone = pl.col("net_billed").is_null(), pl.col("net").is_null()
    both_sides = different.filter(~is_new & ~is_gone)
    return pl.concat(
        [
            _flagged(different.filter(is_new), different.filter(~is_new)),
            _flagged(different.filter(is_gone), different.filter(~is_gone)),
            both_sides.with_columns(**dict.fromkeys(_REASONS, pl.lit(False))),
        ]
    )


def _flagged(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    for name, same in _REASONS.items():
        known = others.select(same).unique().with_columns(pl.lit(True).alias(name))
        if name == "other_account":
            known = known.filter(pl.col("project_id").is_not_null())
        rows = rows.join(known, on=same, how="left", nulls_equal=True, validate="m:1").with_columns(
            pl.col(name).fill_null(False)
        )
    return rows


def _description(row: dict[str, object], period: str) -> str:
    """In words what the correction is for, as far as the two lines tell."""
    head = f"Correction of {period}"
    if row["sku_id"] is None and row["description"]:
        head += f", {_without_head(str(row['description']))}"
    return f"{head}: {', '.join(_changes(row))}"


def _without_head(description: str) -> str:
    """A correction of a correction repeats what the first line was for, not that it was a correction."""
    if not description.startswith("Correction of "):
        return description
    _, comma, rest = description.partition(", ")
    return rest.partition(": ")[0] if comma else description


def _changes(row: dict[str, object]) -> list[str]:
    if row["net_billed"] is None:
        return [_why(row, new=True)]
    if row["net"] is None:
        return [_why(row, new=False)]
    found = []
    quantity: Decimal = row["pricing_quantity"]  # type: ignore[assignment]
    if row["has_quantity"] and quantity != 0:
        unit = f" {row['pricing_unit']}" if row["pricing_unit"] else ""
        found.append(f"{_plain(abs(quantity))}{unit} {'more' if quantity > 0 else 'less'}")
    now, then = row["unit_price"], row["unit_price_billed"]
    # What former corrections billed may have had another price than the original line; its price says nothing then.
    if not row["was_corrected_billed"] and now is not None and then is not None and now != then:
        found.append(f"price {_plain(now)} instead of {_plain(then)}")  # type: ignore[arg-type]
    if not found and not row["was_corrected_billed"] and row["gross"] == row["gross_billed"]:
        found.append("discounts changed")
    if not found:
        correct, billed = (_money(row[name], str(row["currency"])) for name in ("correct_amount", "billed_amount"))  # type: ignore[arg-type]
        found.append(f"{correct} instead of {billed}")
    return found


def _why(row: dict[str, object], *, new: bool) -> str:
    """Why a line is new or gone; names no other customer."""
    text = "not billed before" if new else "taken back"
    if row["other_tax"]:
        return f"taxed at {_plain(row['tax_rate'])} %, {'as it should be' if new else 'which was wrong'}"  # type: ignore[arg-type]
    if row["other_price"]:
        return f"{'billed' if new else 'taken back'}, as {'this' if new else 'another'} price applies"
    if row["other_payer"]:
        return f"{text}, as {'this' if new else 'another'} account pays for it"
    if row["other_account"]:
        return f"{text}, as the project belongs to {'this' if new else 'another'} account"
    return text


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"


def names_gone(corrections: pl.DataFrame, accounts: Iterable[str], skus: Iterable[str]) -> list[Finding]:
    """An error for each account and SKU that a correction is about and the book no longer has.

    Without the row nobody knows whom to bill, or all its usage would be given back because it can't be priced.
    """
    wanted = (
        ("accounts", "billing_account_id", set(accounts)),
        ("accounts", "account_id", set(accounts)),
        ("skus", "sku_id", set(skus)),
    )
    found = []
    told: set[tuple[str, str]] = set()
    for table, column, known in wanted:
        gone = corrections.filter(pl.col(column).is_not_null() & ~pl.col(column).is_in(sorted(known)))
        for (name,), rows in sorted(gone.partition_by(column, as_dict=True).items()):
            if (table, str(name)) in told:
                continue
            told.add((table, str(name)))
            periods = ", ".join(rows["corrects_period"].unique().sort())
            found.append(
                Finding(
                    Severity.ERROR,
                    f"corrections.{'account' if table == 'accounts' else 'sku'}_gone",
                    f"what was billed for {periods} differs from what it should be by {_sums(rows)}, and"
                    f" {name} is no longer in the book",
                    f"put its row back into book/{table}; closed months are rated with it",
                    file=f"book/{table}.csv",
                    column=column if table == "skus" else "account_id",
                    value=str(name),
                )
            )
    return found


def correction_findings(corrections: pl.DataFrame, lines: pl.DataFrame, periods: Iterable[str]) -> list[Finding]:
    """An information per closed period that was rated again: how many lines, the sums, and on which invoices.

    ``lines``: the lines of the documents that bill them (rows of INVOICE_LINES).
    """
    found = []
    for period in sorted(periods):
        rows = corrections.filter(pl.col("corrects_period") == period)
        if not rows.height:
            message = f"{period} was rated again, because its usage or the book changed: what was billed is right"
            found.append(Finding(Severity.INFO, "corrections.none", message))
            continue
        invoices = lines.filter(pl.col("corrects_period") == period)["invoice_id"].unique().sort().to_list()
        shown = ", ".join(invoices[:_SHOWN]) + (
            f" and {len(invoices) - _SHOWN:,} more" if len(invoices) > _SHOWN else ""
        )
        count = f"{rows.height:,} {'line' if rows.height == 1 else 'lines'}"
        message = f"{period} is corrected: {count}, {_sums(rows)}, on {shown}"
        found.append(Finding(Severity.INFO, "corrections.billed", message, value=period))
    return found


_SHOWN = 5


def _sums(corrections: pl.DataFrame) -> str:
    sums = collect(corrections.lazy().group_by("currency").agg(pl.col("amount").sum())).sort("currency")
    return ", ".join(f"{_money(amount, currency, '+')} {currency}" for currency, amount in sums.iter_rows())


def _money(amount: Decimal, currency: str, sign: str = "") -> str:
    return f"{amount:{sign}.{minor_unit_decimals(currency)}f}"
