"""What must hold before anything is written. A law whose side is empty fails: nothing to compare is no pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.errors import InvariantError
from ratemill.frames import collect
from ratemill.invoicing.lines import LINE_KEY
from ratemill.invoicing.tax import HUNDRED
from ratemill.money import COST, ZERO, round_to_minor_unit
from ratemill.tables.invoices import DEDUCTION_KINDS

if TYPE_CHECKING:
    from ratemill.invoicing.assembly import Invoices

_SHARES = [f"{kind}_amount" for kind in DEDUCTION_KINDS]
_LINE = ["invoice_id", "line_number"]


def assert_quantities_kept(metered: pl.DataFrame, charges: pl.DataFrame, unpriced: pl.DataFrame) -> None:
    """Σ charge quantity + Σ unpriced quantity = Σ metered quantity, per SKU, to the last digit.

    Each frame has sku_id and quantity, one row per SKU.
    """
    rated = pl.concat([charges, unpriced], how="vertical_relaxed").group_by("sku_id").agg(pl.col("quantity").sum())
    _assert_equal("usage quantity per SKU", metered, rated, on=["sku_id"], value="quantity")


def assert_invoices_add_up(charges: pl.LazyFrame, invoices: Invoices) -> None:
    """Everything that docs/how-we-bill.md, "What always holds", says of the invoices of a period.

    Raises:
        InvariantError: naming the first place where it does not hold.
    """
    _assert_charges_are_lines(charges, invoices)
    _assert_lines_are_totals(invoices)
    _assert_deductions_are_shares(invoices)
    assert_line_signs(invoices.lines)
    _assert_taxes(invoices)
    _assert_totals(invoices.invoices)
    _assert_credits(invoices)
    _assert_commitments(invoices)


def _assert_charges_are_lines(charges: pl.LazyFrame, invoices: Invoices) -> None:
    """Σ charges = Σ net amounts of lines = untaxed amount, by line, SKU, project, account and invoice."""
    columns = [*LINE_KEY, "corrects_period", "invoice_id", "cost"]
    all_charges = pl.concat([charges.select(columns), invoices.charges.lazy().select(columns)])
    by_line = collect(all_charges.group_by(columns[:-1]).agg(pl.col("cost").sum()))
    lines = invoices.lines.with_columns(cost=pl.col("net_amount").cast(COST))
    for level in (
        ["invoice_id", "account_id", "project_id", "sku_id", "region", "price_id", "corrects_period"],
        ["invoice_id", "account_id", "project_id"],
        ["invoice_id", "sku_id"],
        ["invoice_id"],
    ):
        _assert_equal(
            f"charges and lines by {', '.join(level)}",
            _summed(by_line, level, "cost"),
            _summed(lines, level, "cost"),
            on=level,
            value="cost",
        )


def _assert_lines_are_totals(invoices: Invoices) -> None:
    priced = invoices.lines.join(
        invoices.invoices.select("invoice_id", "currency"), on="invoice_id", how="left", validate="m:1"
    )
    currencies = sorted(priced["currency"].drop_nulls().unique())
    for name in ("amount", *_SHARES):
        finer = pl.col(name) != round_to_minor_unit(pl.col(name), pl.col("currency"), currencies)
        _assert_none(f"{name} finer than the currency", priced.filter(finer), "line_number")
    for column, total in (
        ("amount", "subtotal_amount"),
        *((name, name) for name in _SHARES),
        ("net_amount", "untaxed_amount"),
        ("rounding", "rounding"),
    ):
        _assert_equal(
            f"{column} of lines and {total}",
            _summed(invoices.lines, ["invoice_id"], column).rename({column: "sum"}),
            invoices.invoices.select("invoice_id", sum=total),
            on=["invoice_id"],
            value="sum",
        )
    counted = invoices.lines.group_by("invoice_id").agg(lines=pl.len().cast(pl.Int64))
    _assert_equal(
        "number of lines",
        counted,
        invoices.invoices.select("invoice_id", "lines"),
        on=["invoice_id"],
        value="lines",
    )


def _assert_deductions_are_shares(invoices: Invoices) -> None:
    """Σ deductions of a line = the line's share, for each kind."""
    deductions, lines = invoices.deductions, invoices.lines
    _assert_none("a deduction that takes nothing off", deductions.filter(pl.col("amount") >= ZERO), "source_id")
    for kind in DEDUCTION_KINDS:
        _assert_equal_parts(
            f"{kind} deductions and shares of lines",
            _summed(deductions.filter(pl.col("kind") == kind), _LINE, "amount"),
            lines.select(*_LINE, amount=f"{kind}_amount").filter(pl.col("amount") != ZERO),
            on=_LINE,
            value="amount",
        )


def assert_line_signs(lines: pl.DataFrame) -> None:
    """No share is above zero, and none takes a line below it; only some kinds of lines get some kinds of shares."""
    amount, net = pl.col("amount"), pl.col("net_amount")
    shares = sum((pl.col(name) for name in _SHARES), amount)
    _assert_none("net amount ≠ amount with its shares", lines.filter(net != shares), "line_number")
    _assert_none(
        "a share of discounts, commitments or credits above zero",
        lines.filter(pl.any_horizontal(pl.col(_SHARES) > ZERO)),
        "line_number",
    )
    _assert_none("a line below zero by deductions", lines.filter((amount >= ZERO) & (net < ZERO)), "line_number")
    _assert_none("a deduction from a line below zero", lines.filter((amount < ZERO) & (net != amount)), "line_number")
    _assert_none(
        "rounding ≠ amount less cost",
        lines.filter(amount.cast(COST) - pl.col("cost") != pl.col("rounding")),
        "line_number",
    )
    undiscounted = ~pl.col("line_kind").is_in(["usage", "recurring"]) & (pl.col("discount_amount") != ZERO)
    uncommitted = ~pl.col("line_kind").is_in(["usage", "commitment"]) & (pl.col("commitment_amount") != ZERO)
    _assert_none("a discount on a line that gets none", lines.filter(undiscounted), "line_number")
    _assert_none("a commitment on a line that does not count", lines.filter(uncommitted), "line_number")


def _assert_taxes(invoices: Invoices) -> None:
    """Bases add up to the untaxed amount and taxes to the tax amount; each tax is its rate of its base."""
    for column, total in (("base_amount", "untaxed_amount"), ("tax_amount", "tax_amount")):
        _assert_equal(
            f"{column} of tax lines and {total}",
            _summed(invoices.taxes, ["invoice_id"], column).rename({column: "sum"}),
            invoices.invoices.select("invoice_id", sum=total),
            on=["invoice_id"],
            value="sum",
        )
    _assert_equal_parts(
        "net amounts of lines and bases of taxes",
        _summed(
            invoices.lines.select("invoice_id", "tax_code", "net_amount", category="tax_category", rate="tax_rate"),
            ["invoice_id", "tax_code", "category", "rate"],
            "net_amount",
        ).rename({"net_amount": "base_amount"}),
        _summed(invoices.taxes, ["invoice_id", "tax_code", "category", "rate"], "base_amount"),
        on=["invoice_id", "tax_code", "category", "rate"],
        value="base_amount",
    )

    priced = invoices.taxes.join(
        invoices.invoices.select("invoice_id", "currency"), on="invoice_id", how="left", validate="m:1"
    )
    exact = pl.col("base_amount").cast(COST) * pl.col("rate") / HUNDRED
    rounded = round_to_minor_unit(exact, pl.col("currency"), sorted(priced["currency"].unique()))
    _assert_none("tax ≠ rate of its base", priced.filter(pl.col("tax_amount") != rounded), "tax_code")


def _assert_totals(invoices: pl.DataFrame) -> None:
    untaxed, total, due = pl.col("untaxed_amount"), pl.col("total_amount"), pl.col("due_amount")
    reductions = sum((pl.col(name) for name in _SHARES), pl.col("subtotal_amount"))
    _assert_none("subtotal with deductions ≠ untaxed", invoices.filter(reductions != untaxed))
    _assert_none("untaxed + tax ≠ total", invoices.filter(untaxed + pl.col("tax_amount") != total))
    _assert_none("total with prepaid credits ≠ due", invoices.filter(total + pl.col("prepaid_amount") != due))
    _assert_none("prepaid credits above zero", invoices.filter(pl.col("prepaid_amount") > ZERO))
    _assert_none("more prepaid than due", invoices.filter((due != total) & (due < ZERO)))
    is_credit_note = pl.col("document") == "credit_note"
    _assert_none("the wrong kind of document", invoices.filter(is_credit_note != (total < ZERO)))
    currencies = sorted(invoices["currency"].unique())
    for name in (*_SHARES, "subtotal_amount", "tax_amount", "prepaid_amount", "due_amount"):
        finer = pl.col(name) != round_to_minor_unit(pl.col(name), pl.col("currency"), currencies)
        _assert_none(f"{name} finer than the currency", invoices.filter(finer))


def _assert_credits(invoices: Invoices) -> None:
    """No credit is overdrawn, and what it gives is what invoices and lines get."""
    ledger = invoices.credits
    before, amount, after = (pl.col(name) for name in ("balance_before", "amount", "balance_after"))
    _assert_none("a credit below zero", ledger.filter((after < ZERO) | (amount <= ZERO)), "credit_id")
    _assert_none("balance before less amount ≠ balance after", ledger.filter(before - amount != after), "credit_id")
    credited = invoices.deductions.filter(pl.col("kind") == "credit").select(
        "invoice_id", credit_id="source_id", amount=-pl.col("amount")
    )
    promotional = ledger.filter(pl.col("kind") == "promotional")
    _assert_equal_parts(
        "promotional credits and what lines were credited",
        promotional.select("invoice_id", "credit_id", "amount"),
        _summed(credited, ["invoice_id", "credit_id"], "amount"),
        on=["invoice_id", "credit_id"],
        value="amount",
    )
    _assert_equal_parts(
        "prepaid credits and what they pay",
        _summed(ledger.filter(pl.col("kind") == "prepaid"), ["invoice_id"], "amount"),
        invoices.invoices.select("invoice_id", amount=-pl.col("prepaid_amount")).filter(amount != ZERO),
        on=["invoice_id"],
        value="amount",
    )


def _assert_commitments(invoices: Invoices) -> None:
    """Shortfall = what is committed less what counts, or nothing; it is billed, and its discount is given."""
    ledger = invoices.commitments
    missing = pl.max_horizontal(pl.col("committed_amount") - pl.col("eligible_amount"), pl.lit(ZERO))
    _assert_none(
        "shortfall ≠ committed less eligible", ledger.filter(pl.col("shortfall_amount") != missing), "commitment_id"
    )
    on = ["invoice_id", "commitment_id"]
    shortfalls = invoices.lines.filter(pl.col("line_kind") == "commitment")
    _assert_equal_parts(
        "shortfalls of commitments and lines",
        ledger.select(*on, amount="shortfall_amount").filter(pl.col("amount") != ZERO),
        shortfalls.select("invoice_id", "amount", commitment_id="source_id"),
        on=on,
        value="amount",
    )
    discounts = invoices.deductions.filter(pl.col("kind") == "commitment")
    _assert_equal_parts(
        "discounts of commitments and deductions",
        ledger.select(*on, amount="discount_amount").filter(pl.col("amount") != ZERO),
        _summed(discounts.select("invoice_id", "amount", commitment_id="source_id"), on, "amount"),
        on=on,
        value="amount",
    )


def _summed(frame: pl.DataFrame, by: list[str], value: str) -> pl.DataFrame:
    return collect(frame.lazy().group_by(by).agg(pl.col(value).sum()))


def _assert_none(what: str, offending: pl.DataFrame, name: str = "currency") -> None:
    """No row offends."""
    if offending.height:
        row = offending.sort("invoice_id", name).row(0, named=True)
        raise InvariantError(
            f"{what} on invoice {row['invoice_id']} at {name} {row[name]} ({offending.height} in all);"
            " nothing was written"
        )


def _assert_equal(name: str, left: pl.DataFrame, right: pl.DataFrame, *, on: list[str], value: str) -> None:
    """The two sides are the same, and there is something to compare."""
    if not left.height or not right.height:
        raise InvariantError(f"{name}: nothing to compare ({left.height} against {right.height} rows)")
    _assert_equal_parts(name, left, right, on=on, value=value)


def _assert_equal_parts(name: str, left: pl.DataFrame, right: pl.DataFrame, *, on: list[str], value: str) -> None:
    """The two sides are the same; of what an invoice need not have, both may be nothing."""
    both = left.join(right, on=on, how="full", coalesce=True, nulls_equal=True, validate="1:1", suffix="_other")
    different = both.filter(pl.col(value).ne_missing(pl.col(f"{value}_other")))
    if different.height:
        row = different.sort(on).row(0, named=True)
        where = ", ".join(f"{key} {row[key]}" for key in on)
        raise InvariantError(
            f"{name}: {row[value]} ≠ {row[f'{value}_other']} at {where} ({different.height} differ);"
            " nothing was written"
        )
