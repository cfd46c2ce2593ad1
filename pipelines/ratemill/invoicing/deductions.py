"""What discounts, commitments and credits have in common: an amount is taken off some lines of an invoice.

Invoices are worked on together. Each has its deductions in an order of its own, and step k takes the k-th of every
invoice, so that there are as many steps as the invoice with most deductions has, not as many as there are invoices.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ratemill.frames import collect
from ratemill.invoicing.spread import WHOLE, minor_units, spread, to_amount, to_whole
from ratemill.money import PRICE, ZERO
from ratemill.tables.columns import TEXT
from ratemill.tables.invoices import DEDUCTION_KINDS, INVOICE_DEDUCTIONS

_TAKEN = pl.Schema(
    [
        ("invoice_id", TEXT),
        ("line_number", pl.Int32),
        ("step", pl.Int64),
        ("kind", TEXT),
        ("source_id", TEXT),
        ("description", TEXT),
        ("percent", PRICE),
        ("taken", WHOLE),
        ("unit", WHOLE),
    ]
)
LINE = ["invoice_id", "line_number"]
_LOOKED_AT = [
    "invoice_id", "line_number", "billing_account_id", "account_id", "currency", "line_kind", "source_id", "category",
    "service", "sku_id", "project_id", "region", "cost", "tax_point",
]  # fmt: skip


@dataclass(frozen=True)
class OpenLines:
    """Lines while deductions are taken off them, and what was taken so far."""

    lines: pl.DataFrame
    """What deductions look at, and in whole minor units: amount, and left, what former deductions left of it."""
    taken: tuple[pl.DataFrame, ...] = ()

    @classmethod
    def of(cls, lines: pl.DataFrame) -> OpenLines:
        """Numbered lines with nothing taken off yet."""
        units = minor_units(lines["currency"])
        return cls(
            lines.select(*_LOOKED_AT, money="amount")
            .join(units, on="currency", how="left", validate="m:1", maintain_order="left")
            .with_columns(amount=to_whole("money"))
            .with_columns(left="amount")
            .drop("money")
        )

    def beside(self, deductions: pl.DataFrame) -> pl.DataFrame:
        """The lines that have something left, each beside its invoice's deduction (at most one per invoice).

        ``deductions``: invoice_id, deduction_id, deduction_name, percent, and what is needed to tell which lines.
        """
        return self.lines.filter(pl.col("left") > 0).join(deductions, on="invoice_id", how="inner", validate="m:1")

    def after(self, rows: pl.DataFrame, *, kind: str) -> OpenLines:
        """With each invoice's total taken off its rows, pro rata to base, off no line more than it has left.

        ``rows``: of :meth:`beside`, with base and total (see :func:`ratemill.invoicing.spread.spread`).
        """
        shared = spread(rows.filter(pl.col("base") > 0, pl.col("total") > 0).rename({"invoice_id": "group"})).rename(
            {"group": "invoice_id"}
        )
        taken = (
            shared.with_columns(
                kind=pl.lit(kind),
                source_id="deduction_id",
                description="deduction_name",
                step=pl.lit(len(self.taken)),
                taken=pl.min_horizontal("share", "left"),
            )
            .filter(pl.col("taken") > 0)
            .select(_TAKEN.names())
            .cast(_TAKEN)
        )
        lines = self.lines.join(
            taken.select(*LINE, "taken"), on=LINE, how="left", validate="1:1", maintain_order="left"
        ).with_columns(left=pl.col("left") - pl.col("taken").fill_null(pl.lit(0, dtype=WHOLE)))
        return OpenLines(lines.drop("taken"), (*self.taken, taken))

    def deductions(self) -> pl.DataFrame:
        """Everything that was taken off, as INVOICE_DEDUCTIONS."""
        everything = pl.concat([pl.DataFrame(schema=_TAKEN), *self.taken])
        numbers = (
            everything.select("invoice_id", "step")
            .unique()
            .sort("invoice_id", "step")
            .with_columns(deduction_number=pl.int_range(1, pl.len() + 1).over("invoice_id"))
        )
        return (
            everything.join(numbers, on=["invoice_id", "step"], how="left", validate="m:1")
            .with_columns(amount=-to_amount("taken"))
            .pipe(INVOICE_DEDUCTIONS.conform)
            .sort(INVOICE_DEDUCTIONS.key)
        )


def places(deductions: pl.DataFrame, *order: str | pl.Expr) -> pl.DataFrame:
    """``deductions`` of invoices with ``place``: from 1, each one's place in the order of its invoice."""
    return deductions.sort("invoice_id", *order).with_columns(
        place=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("invoice_id")
    )


def in_turn(placed: pl.DataFrame) -> list[pl.DataFrame]:
    """The first deduction of every invoice, then the second, and so on."""
    ordered = placed.sort("place", "invoice_id")
    return [part.drop("place") for part in ordered.partition_by("place", maintain_order=True)]


def shares_by_line(deductions: pl.DataFrame) -> pl.DataFrame:
    """invoice_id, line_number and, zero or negative, discount_amount, commitment_amount and credit_amount."""
    parts = [
        pl.when(pl.col("kind") == kind).then("amount").otherwise(ZERO).sum().alias(f"{kind}_amount")
        for kind in DEDUCTION_KINDS
    ]
    return collect(deductions.lazy().group_by(LINE).agg(parts))
