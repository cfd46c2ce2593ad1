"""Credit notes that a person makes: of an invoice, of some of its lines, or of an amount; never above what is left.

A credit note repeats the lines of its original under their numbers, with negative amounts; deductions are folded in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ratemill.errors import UsageError
from ratemill.findings import Finding, Severity
from ratemill.frames import collect
from ratemill.invoicing.corrections import TAX, THING
from ratemill.invoicing.spread import minor_units, spread, to_amount, to_whole
from ratemill.money import AMOUNT, COST, ZERO, minor_unit_decimals, round_to_minor_unit
from ratemill.tables.invoices import (
    COMMITMENT_LEDGER,
    CREDIT_LEDGER,
    INVOICE_DEDUCTIONS,
    INVOICE_LINES,
    INVOICES,
    TAX_LINES,
    Billed,
)

if TYPE_CHECKING:
    from datetime import date
    from decimal import Decimal

HUNDRED = 100


@dataclass(frozen=True)
class Credit:
    """What a person wants to be credited."""

    reason: str
    """Shown on the document."""
    lines: tuple[int, ...] = ()
    """Numbers of the lines; none: all of the invoice."""
    amount: Decimal | None = None
    """Untaxed amount, spread over the lines; none: all that is left of them."""


def left_of(original: Billed, credited: Billed) -> pl.DataFrame:
    """line_number, net_amount, left: what each line of ``original`` was billed with, and what is left to credit.

    Args:
        original: one issued invoice.
        credited: every issued document but itself that names it: credit notes by hand, and documents of runs with
            corrections of it. A correction downwards takes from what is left; one upwards was billed elsewhere, and
            gives nothing.
    """
    lines = original.lines.select("line_number", "net_amount", "line_kind", *THING, *TAX)
    found = lines.join(_by_hand(credited), on="line_number", how="left", validate="1:1").join(
        _by_runs(original, credited).group_by("line_number").agg(pl.col("amount").sum().alias("by_runs")),
        on="line_number", how="left", validate="1:1",
    )  # fmt: skip
    net, by_hand = pl.col("net_amount"), pl.col("by_hand").fill_null(ZERO)
    downwards = pl.min_horizontal(pl.col("by_runs").fill_null(ZERO), pl.lit(ZERO).cast(AMOUNT))
    left = net + by_hand + downwards
    return (
        found.with_columns(
            left=pl.when(net >= 0).then(_at_least(left, 0)).otherwise(-_at_least(-(net + by_hand), 0)).cast(AMOUNT)
        )
        .select("line_number", "net_amount", "left")
        .sort("line_number")
    )


def _at_least(value: pl.Expr, bound: int) -> pl.Expr:
    return pl.when(value > bound).then(value).otherwise(pl.lit(bound).cast(AMOUNT))


def _by_hand(credited: Billed) -> pl.DataFrame:
    """line_number of the original, by_hand: Σ net amounts of credit notes by hand, negative."""
    notes = credited.invoices.filter(pl.col("origin") == "hand").select("invoice_id")
    return (
        credited.lines.join(notes, on="invoice_id", how="semi")
        .group_by("line_number")
        .agg(pl.col("net_amount").sum().alias("by_hand"))
    )


def _by_runs(original: Billed, credited: Billed) -> pl.DataFrame:
    """line_number of the original, invoice_id, amount: what each document of a run corrects of each of its lines."""
    invoice_id = original.invoices["invoice_id"][0]
    documents = credited.invoices.filter(pl.col("origin") == "run").select("invoice_id")
    corrections = credited.lines.join(documents, on="invoice_id", how="semi").filter(
        (pl.col("line_kind") == "correction") & (pl.col("corrects_invoice_id") == invoice_id)
    )
    corrected = original.lines.filter(pl.col("line_kind") != "correction").select("line_number", *THING, *TAX)
    return corrections.select("invoice_id", "amount", *THING, *TAX).join(
        corrected, on=[*THING, *TAX], how="inner", nulls_equal=True
    )


def given_back_twice(corrections: pl.DataFrame, original: Billed, credited: Billed) -> Finding | None:
    """A warning where corrections downwards and credit notes by hand together exceed what a line was billed with.

    A correction bills what is right, whatever a person gave back before; only a person knows whether both are meant.

    Args:
        corrections: rows of CORRECTIONS about the original.
        original: one issued invoice.
        credited: see :func:`left_of`.
    """
    notes = credited.invoices.filter(origin="hand").sort("invoice_id")
    if not notes.height:
        return None
    lines = original.lines.filter(pl.col("line_kind") != "correction").select("line_number", *THING, *TAX)
    given = (
        corrections.filter(pl.col("amount") < 0)
        .join(lines, on=[*THING, *TAX], how="inner", nulls_equal=True)
        .join(left_of(original, credited).filter(pl.col("net_amount") > 0), on="line_number", validate="m:1")
    )
    excess = _sum(given.select(over=-pl.col("amount") - pl.col("left")).filter(pl.col("over") > 0)["over"])
    if excess <= 0:
        return None
    head = original.invoices.row(0, named=True)
    money = f"{excess:.{minor_unit_decimals(head['currency'])}f} {head['currency']}"
    return Finding(
        Severity.WARNING,
        "corrections.given_back_twice",
        f"corrections of {head['period']} and credit notes by hand ({', '.join(notes['number'])}) together give back"
        f" {money} more than lines of invoice {head['number']} were billed with",
        f"if the credit notes were for the same, add an adjustment of {money} for account {head['billing_account_id']}",
        value=head["number"],
    )


def credit_note(
    original: Billed, credited: Billed, credit: Credit, *, invoice_id: str, number: str, issue_date: date
) -> Billed:
    """The credit note, issued.

    Its taxes are per rate what the rate comes to on all that is credited by now, less what was credited as tax before:
    an invoice that is credited in pieces gives back exactly its tax.

    Args:
        original: one issued invoice.
        credited: see :func:`left_of`.
        credit: what is wanted.
        invoice_id: identity of the credit note.
        number: its number.
        issue_date: its day of issue.

    Raises:
        UsageError: more is wanted than is left, or lines the invoice does not have.
    """
    head = original.invoices.row(0, named=True)
    shares = _shares(left_of(original, credited), credit, head, credited)
    lines = _lines(original.lines, shares, credit, original_id=head["invoice_id"], invoice_id=invoice_id)
    taxes = _taxes(original, credited, lines, invoice_id=invoice_id, currency=head["currency"])
    untaxed, tax = _sum(lines["net_amount"]), _sum(taxes["tax_amount"])
    zero = dict.fromkeys(("discount_amount", "commitment_amount", "credit_amount", "prepaid_amount", "rounding"), ZERO)
    row = {
        **head,
        **zero,
        "invoice_id": invoice_id,
        "document": "credit_note",
        "status": "issued",
        "number": number,
        "issue_date": issue_date,
        "due_date": None,
        "corrects_invoice_id": head["invoice_id"],
        "origin": "hand",
        "lines": lines.height,
        "list_amount": untaxed,
        "subtotal_amount": untaxed,
        "untaxed_amount": untaxed,
        "tax_amount": tax,
        "total_amount": untaxed + tax,
        "due_amount": untaxed + tax,
    }
    return Billed(
        pl.DataFrame([row], schema=INVOICES.polars_schema),
        lines,
        INVOICE_DEDUCTIONS.empty(),
        taxes,
        CREDIT_LEDGER.empty(),
        COMMITMENT_LEDGER.empty(),
    )


def _shares(left: pl.DataFrame, credit: Credit, head: dict[str, object], credited: Billed) -> pl.DataFrame:
    """line_number, net_amount, share: what is credited of each line; the sign is that of the line."""
    name = head["number"] or head["invoice_id"]
    unknown = sorted(set(credit.lines) - set(left["line_number"]))
    if unknown:
        raise UsageError(f"invoice {name} has no line {unknown[0]}: its lines are 1 to {left.height}")
    chosen = left.filter(pl.col("line_number").is_in(credit.lines)) if credit.lines else left
    there = _sum(chosen["left"])
    what = f"invoice {name}" if not credit.lines else f"the chosen lines of invoice {name}"
    if there <= 0:
        raise UsageError(f"nothing is left to credit of {what}{_told(credited)}")
    if credit.amount is None:
        return chosen.rename({"left": "share"}).filter(pl.col("share") != 0)
    currency = str(head["currency"])
    decimals = minor_unit_decimals(currency)
    if credit.amount <= 0 or credit.amount != round(credit.amount, decimals):
        raise UsageError(
            f"{credit.amount:f} is no amount to credit: it must be above 0 and have at most {decimals} decimals, as"
            f" {currency} has"
        )
    if credit.amount > there:
        raise UsageError(
            f"{credit.amount:.{decimals}f} {currency} is more than the {there:.{decimals}f} {currency}, untaxed,"
            f" that are left of {what}{_told(credited)}"
        )
    return _spread(chosen.filter(pl.col("left") > 0), credit.amount, currency)


def _spread(chosen: pl.DataFrame, amount: Decimal, currency: str) -> pl.DataFrame:
    """The amount over lines, pro rata to what is left of each, by largest remainder."""
    rows = (
        chosen.with_columns(group=pl.lit(0), currency=pl.lit(currency), wanted=pl.lit(amount).cast(AMOUNT))
        .join(minor_units(pl.Series([currency])), on="currency", how="left", validate="m:1")
        .with_columns(total=to_whole("wanted"), base=to_whole("left"))
    )
    return (
        spread(rows)
        .with_columns(share=to_amount("share"))
        .filter(pl.col("share") != 0)
        .select("line_number", "net_amount", "share")
    )


def _sum(amounts: pl.Series) -> Decimal:
    return sum(amounts, ZERO)


def _told(credited: Billed) -> str:
    """Which documents credited it before."""
    notes = credited.invoices.filter((pl.col("origin") == "hand") | (pl.col("untaxed_amount") < 0)).sort("invoice_id")
    numbers = [row["number"] or row["invoice_id"] for row in notes.iter_rows(named=True)]
    return f"; credited before on {', '.join(numbers)}" if numbers else ""


def _lines(
    lines: pl.DataFrame, shares: pl.DataFrame, credit: Credit, *, original_id: str, invoice_id: str
) -> pl.DataFrame:
    """The original's lines with negative amounts; what was not credited whole has no quantity."""
    amount = -pl.col("share")
    whole = pl.col("share") == pl.col("net_amount")
    nothing = [*(f"{name}_amount" for name in ("discount", "commitment", "credit")), "rounding"]
    return (
        lines.join(shares.select("line_number", "share"), on="line_number", how="inner", validate="1:1")
        .with_columns(
            invoice_id=pl.lit(invoice_id),
            corrects_invoice_id=pl.lit(original_id),
            description=pl.concat_str(
                pl.when(pl.col("description") != "").then(pl.col("description") + ": "),
                pl.lit(credit.reason),
                ignore_nulls=True,
            ),
            pricing_quantity=pl.when(whole).then(-pl.col("pricing_quantity")),
            pricing_unit=pl.when(whole).then("pricing_unit"),
            unit_price=pl.when(whole).then("unit_price"),
            **dict.fromkeys(("list_cost", "cap_cost", "minimum_cost"), pl.lit(None)),
            cost=amount.cast(COST),
            amount=amount,
            **{name: pl.lit(0) for name in nothing},
        )
        .with_columns(net_amount="amount")
        .pipe(INVOICE_LINES.conform)
        .sort("line_number")
    )


def _taxes(original: Billed, credited: Billed, lines: pl.DataFrame, *, invoice_id: str, currency: str) -> pl.DataFrame:
    """Per rate: what the rate comes to on everything credited by now, less what was credited as tax before."""
    notes = credited.invoices.filter(pl.col("origin") == "hand").select("invoice_id")
    tax_key = {"tax_code": "tax_code", "tax_category": "category", "tax_rate": "rate"}
    by_hand = credited.taxes.join(notes, on="invoice_id", how="semi")
    before = [_positive(by_hand.select(*tax_key.values(), "base_amount", "tax_amount"))]
    by_runs = collect(
        _by_runs(original, credited)
        .lazy()
        .group_by("invoice_id", *TAX)
        .agg(pl.col("amount").sum().alias("base_amount"))
    ).rename(tax_key)
    before.append(_positive(by_runs.with_columns(tax_amount=_tax("base_amount", currency)).drop("invoice_id")))
    so_far = collect(
        pl.concat(before, how="diagonal_relaxed")
        .lazy()
        .group_by(*tax_key.values())
        .agg(
            # Corrections upwards were billed elsewhere and give nothing back here.
            pl.col("base_amount").sum().alias("base_before"),
            pl.col("tax_amount").sum().alias("tax_before"),
        )
    )
    now = collect(lines.lazy().group_by(TAX).agg(-pl.col("net_amount").sum().alias("base"))).rename(tax_key)
    taxed = (
        now.join(so_far, on=[*tax_key.values()], how="left", validate="1:1")
        .with_columns(pl.col("base_before", "tax_before").fill_null(ZERO))
        .with_columns(whole_base=pl.col("base") + pl.col("base_before"))
        .with_columns(
            invoice_id=pl.lit(invoice_id),
            base_amount=-pl.col("base"),
            tax_amount=pl.col("tax_before") - _tax("whole_base", currency),
        )
    )
    kinds = original.taxes.select(*tax_key.values(), "kind", "note")
    return (
        taxed.join(kinds, on=[*tax_key.values()], how="left", validate="1:1")
        .pipe(TAX_LINES.conform)
        .sort("tax_code", "category", "rate")
    )


def _positive(rows: pl.DataFrame) -> pl.DataFrame:
    """What was credited as a positive amount; nothing where more was billed than given back."""
    signed = rows.with_columns(-pl.col("base_amount", "tax_amount"))
    return signed.with_columns(
        pl.when(pl.col("base_amount") > 0).then(pl.col(name)).otherwise(pl.lit(ZERO).cast(AMOUNT)).alias(name)
        for name in ("base_amount", "tax_amount")
    ).cast({"base_amount": AMOUNT, "tax_amount": AMOUNT})


def _tax(base: str, currency: str) -> pl.Expr:
    exact = pl.col(base).cast(COST) * pl.col("rate") / HUNDRED
    return round_to_minor_unit(exact, pl.lit(currency), [currency])
