"""What discounts, commitments and credits have in common: an amount is taken off some lines of an invoice.

Each invoice has its deductions in an order of its own: their *place*. What can't touch the same line is taken in one
turn, deductions of different invoices and those of different accounts alone, so that there are as many turns as one
account's lines have deductions, however many accounts there are.
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
        ("place", pl.Int64),
        ("kind", TEXT),
        ("source_id", TEXT),
        ("description", TEXT),
        ("percent", PRICE),
        ("taken", WHOLE),
        ("unit", WHOLE),
    ]
)
_KINDS_IN_ORDER = pl.Enum(DEDUCTION_KINDS)
"""Discounts come first, then those of commitments, then credits."""
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

    def beside(self, turn: pl.DataFrame) -> pl.DataFrame:
        """The lines that have something left, each beside the deduction of the turn that may be for it.

        ``turn``: of :func:`in_turns`; place, invoice_id, only_account, deduction_id, deduction_name, percent, and what
        is needed to tell which lines.
        """
        lines, alone = self.lines.filter(pl.col("left") > 0), pl.col("only_account").is_not_null()
        whole = lines.join(turn.filter(~alone), on="invoice_id", how="inner", validate="m:1")
        own = lines.with_columns(only_account="account_id").join(
            turn.filter(alone), on=["invoice_id", "only_account"], how="inner", validate="m:1"
        )
        return pl.concat([whole, own.select(whole.columns)])

    def after(self, rows: pl.DataFrame, *, kind: str) -> OpenLines:
        """With each deduction's total taken off its rows, pro rata to base, off no line more than it has left.

        ``rows``: of :meth:`beside`, with base and total (see :func:`ratemill.invoicing.spread.spread`).
        """
        shared = spread(rows.filter(pl.col("base") > 0, pl.col("total") > 0).with_columns(group="place"))
        taken = (
            shared.with_columns(
                kind=pl.lit(kind),
                source_id="deduction_id",
                description="deduction_name",
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
            everything.select("invoice_id", "kind", "place")
            .unique()
            .sort("invoice_id", pl.col("kind").cast(_KINDS_IN_ORDER), "place")
            .with_columns(deduction_number=pl.int_range(1, pl.len() + 1).over("invoice_id"))
        )
        return (
            everything.join(numbers, on=["invoice_id", "kind", "place"], how="left", validate="m:1")
            .with_columns(amount=-to_amount("taken"))
            .pipe(INVOICE_DEDUCTIONS.conform)
            .sort(INVOICE_DEDUCTIONS.key)
        )


def in_turns(deductions: pl.DataFrame, *order: str | pl.Expr) -> list[pl.DataFrame]:
    """Deductions with their ``place`` in the order of their invoice, turn by turn: those of a turn share no line.

    ``deductions``: invoice_id; only_account, the one account of the invoice that it is for, null where it may be for
    any line. One for any line has a turn of its own, between those of single accounts before and after it.
    """
    placed = deductions.sort("invoice_id", *order).with_row_index("place")
    for_any = pl.col("only_account").is_null()
    # A stretch is such a deduction, and those of single accounts until the next; the first may lack the former.
    nth_of_account = pl.int_range(pl.len()).over("invoice_id", "stretch", "only_account")
    ranked = placed.with_columns(stretch=for_any.cum_sum().over("invoice_id")).with_columns(
        rank=pl.when(for_any).then(0).otherwise(nth_of_account + (pl.col("stretch") > 0))
    )
    lengths = collect(ranked.lazy().group_by("invoice_id", "stretch").agg(length=pl.col("rank").max() + 1))
    begins = lengths.sort("invoice_id", "stretch").with_columns(
        begin=(pl.col("length").cum_sum() - pl.col("length")).over("invoice_id")
    )
    ordered = (
        ranked.join(begins, on=["invoice_id", "stretch"], how="left", validate="m:1")
        .with_columns(pl.col("place").cast(pl.Int64), turn=pl.col("begin") + pl.col("rank"))
        .drop("stretch", "rank", "length", "begin")
        .sort("turn", "place")
    )
    return [part.drop("turn") for part in ordered.partition_by("turn", maintain_order=True)]


def shares_by_line(deductions: pl.DataFrame) -> pl.DataFrame:
    """invoice_id, line_number and, zero or negative, discount_amount, commitment_amount and credit_amount."""
    parts = [
        pl.when(pl.col("kind") == kind).then("amount").otherwise(ZERO).sum().alias(f"{kind}_amount")
        for kind in DEDUCTION_KINDS
    ]
    return collect(deductions.lazy().group_by(LINE).agg(parts))
