"""What invoices are, and what they would have been: by month, payer, account, service, SKU, and from list price to tax.

Pure: the invoices of both sides in, small frames out, exact decimals. Currencies are never added up.

The four sums that a price goes through:

- ``list``: usage at public prices, exact (where a SKU has none, at the price that applied);
- ``contracted``: usage at the prices that applied, with caps and minimums, exact;
- ``billed``: what is invoiced before tax: rounded, with fees and shortfalls, after discounts and promotional credits;
- ``taxed``: the same with tax. Tax is reckoned on whole invoices, so accounts and SKUs have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.errors import InvariantError
from ratemill.frames import collect
from ratemill.insight.costs import ADJUSTMENTS, FEES, OTHER, SHORTFALLS
from ratemill.money import AMOUNT, COST, ZERO, percent_of
from ratemill.tables.columns import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratemill.tables.invoices import Billed

SIDES = ("before", "after")
SUMS = ("list", "contracted", "billed", "tax", "taxed", "prepaid", "due")
"""What each level has, of both sides, as ``list_before`` and so on; the last four where there are whole invoices."""
_OF_LINES = SUMS[:3]
_PERCENT = pl.Decimal(38, 1)

LEVELS: dict[str, tuple[str, ...]] = {
    "total": (),
    "month": ("period",),
    "customer": ("billing_account_id",),
    "account": ("billing_account_id", "account_id"),
    "service": ("service",),
    "sku": ("sku_id", "item"),
}
"""Level → what its rows are told apart by, within a currency."""
WHOLE_INVOICES = ("total", "month", "customer")
"""Levels whose rows have tax."""

STEPS = (
    ("list", "Usage at public prices"),
    ("contracted", "Usage at the prices that applied"),
    ("others", "Fees, adjustments and shortfalls"),
    ("rounding", "Rounding of invoice lines"),
    ("discounts", "Discounts"),
    ("commitments", "Discounts of commitments"),
    ("credits", "Promotional credits"),
    ("billed", "Billed, before tax"),
    ("tax", "Tax"),
    ("taxed", "Total with tax"),
    ("prepaid", "Paid by prepaid credits"),
    ("due", "Due"),
)
"""The way from public prices to what is due; ``contracted`` to ``credits`` add up to ``billed``."""

_ITEMS = {"recurring": FEES, "adjustment": ADJUSTMENTS, "commitment": SHORTFALLS}


@dataclass(frozen=True)
class Month:
    """One month's invoices as they are, and as they would have been; neither with corrections of other months."""

    period: str
    before: Billed
    after: Billed


@dataclass(frozen=True)
class Effects:
    """The difference that another book makes. Frames by currency; a money column's name ends in the side."""

    steps: pl.DataFrame
    """currency, step, title, before, after, effect: see STEPS."""
    levels: Mapping[str, pl.DataFrame]
    """Level of LEVELS → currency, its columns, name, the SUMS of both sides, effect (of ``taxed`` where the level has
    tax, else of ``billed``), change_percent (of before), share_percent (of all that goes the same way). What pays most
    more comes first, what pays most less last."""
    customers: pl.DataFrame
    """currency, worse, better, same: how many customers pay more, less and the same, tax included. Amounts of different
    currencies can't be compared, numbers of customers can: the main currency comes first."""

    def changed(self, currency: str | None = None) -> bool:
        """Whether anything differs, in a currency or in any."""
        mine = pl.lit(value=True) if currency is None else pl.col("currency") == currency
        return any(
            rows.filter(
                mine, pl.any_horizontal(pl.col(f"{name}_before") != pl.col(f"{name}_after") for name in _sums(level))
            ).height
            for level, rows in self.levels.items()
        )


def effects_of(months: Sequence[Month], names: Mapping[str, str]) -> Effects:
    """Compare both sides of ``months``.

    Args:
        months: in order.
        names: account → its name.

    Raises:
        InvariantError: the levels do not add up to the same.
    """
    lines = pl.concat([_lines(month, side) for month in months for side in SIDES])
    invoices = pl.concat([_invoices(month, side) for month in months for side in SIDES])
    levels = {level: _level(level, lines, invoices, names) for level in LEVELS}
    _assert_levels_agree(levels)
    steps = _steps(lines, invoices)
    _assert_steps_add_up(steps)
    return Effects(steps, levels, _customers(levels["customer"]))


# ------------------------------------------------------------------------------------------------ what is compared


def _lines(month: Month, side: str) -> pl.DataFrame:
    """One row per invoice line."""
    billed: Billed = getattr(month, side)
    is_usage = pl.col("line_kind") == "usage"
    no_cost = pl.lit(ZERO, dtype=COST)
    item = pl.col("line_kind").replace_strict(_ITEMS, default=None, return_dtype=TEXT)
    named = pl.when(pl.col("sku_id").is_null()).then(item)
    return billed.lines.join(
        billed.invoices.select("invoice_id", "billing_account_id", "currency"), on="invoice_id", how="left",
        validate="m:1",
    ).select(
        pl.lit(month.period).alias("period"),
        pl.lit(side).alias("side"),
        "currency",
        "billing_account_id",
        "account_id",
        service=pl.coalesce("service", named, pl.lit(OTHER)),
        sku_id="sku_id",
        item=pl.coalesce(named, pl.lit("")),
        sku_name=pl.coalesce(named, "sku_name", "sku_id", pl.lit(OTHER)),
        list=pl.when(is_usage).then(pl.coalesce("list_cost", "cost")).otherwise(no_cost),
        contracted=pl.when(is_usage).then("cost").otherwise(no_cost),
        others=pl.when(is_usage).then(no_cost).otherwise("cost"),
        rounding="rounding",
        discounts=pl.col("discount_amount").cast(COST),
        commitments=pl.col("commitment_amount").cast(COST),
        credits=pl.col("credit_amount").cast(COST),
        billed=pl.col("net_amount").cast(COST),
    )  # fmt: skip


def _invoices(month: Month, side: str) -> pl.DataFrame:
    """One row per invoice."""
    billed: Billed = getattr(month, side)
    return billed.invoices.select(
        pl.lit(month.period).alias("period"),
        pl.lit(side).alias("side"),
        "currency",
        "billing_account_id",
        tax=pl.col("tax_amount").cast(COST),
        taxed=pl.col("total_amount").cast(COST),
        prepaid=pl.col("prepaid_amount").cast(COST),
        due=pl.col("due_amount").cast(COST),
    )


# ------------------------------------------------------------------------------------------------------------- levels


def _sums(level: str) -> tuple[str, ...]:
    return SUMS if level in WHOLE_INVOICES else _OF_LINES


def _level(level: str, lines: pl.DataFrame, invoices: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    key = ["currency", *LEVELS[level]]
    rows = _by_side(lines, key, _OF_LINES, named=level in ("service", "sku"))
    if level in WHOLE_INVOICES:
        rows = rows.join(
            _by_side(invoices, key, SUMS[3:]), on=key, how="full", coalesce=True, nulls_equal=True, validate="1:1"
        )
    sums = [f"{name}_{side}" for name in _sums(level) for side in SIDES]
    main = "taxed" if level in WHOLE_INVOICES else "billed"
    rows = rows.with_columns(pl.col(sums).fill_null(pl.lit(ZERO, dtype=COST))).with_columns(
        name=_name(level, names), effect=pl.col(f"{main}_after") - pl.col(f"{main}_before")
    )
    ordered = rows.sort("currency", "effect", *LEVELS[level], descending=[False, True, *(False for _ in key[1:])])
    return _with_shares(ordered.select(*key, "name", *sums, "effect"), main)


def _by_side(frame: pl.DataFrame, key: list[str], sums: Sequence[str], *, named: bool = False) -> pl.DataFrame:
    """Sums of both sides beside each other, and the SKU's name as it is after the change."""
    beside = [
        pl.when(pl.col("side") == side).then(name).otherwise(pl.lit(None, dtype=COST)).sum().alias(f"{name}_{side}")
        for name in sums
        for side in SIDES
    ]
    name = [pl.col("sku_name").filter(pl.col("side") == side).max().alias(f"name_{side}") for side in SIDES]
    return collect(frame.lazy().group_by(key).agg(*beside, *(name if named else ())))


def _name(level: str, names: Mapping[str, str]) -> pl.Expr:
    match level:
        case "sku":
            return pl.coalesce("name_after", "name_before")
        case "customer" | "account":
            account = pl.col("billing_account_id" if level == "customer" else "account_id")
            return account.replace_strict(
                pl.Series(list(names), dtype=TEXT), pl.Series(list(names.values()), dtype=TEXT), default=account,
                return_dtype=TEXT,
            )  # fmt: skip
        case "service" | "month":
            return pl.col(LEVELS[level][0])
        case _:
            return pl.lit("Total")


def _with_shares(rows: pl.DataFrame, main: str) -> pl.DataFrame:
    """change_percent and share_percent."""
    effects: dict[tuple[str, bool], Decimal] = {}
    listed = list(rows.select("currency", "effect", f"{main}_before").iter_rows())
    for currency, effect, _ in listed:
        way = (currency, effect > 0)
        effects[way] = _added((effects.get(way, ZERO), effect))
    changes = [percent_of(effect, before) for _, effect, before in listed]
    shares = [percent_of(abs(effect), abs(effects[currency, effect > 0])) if effect else None
              for currency, effect, _ in listed]  # fmt: skip
    return rows.with_columns(
        pl.Series("change_percent", changes, dtype=_PERCENT), pl.Series("share_percent", shares, dtype=_PERCENT)
    )


def _customers(rows: pl.DataFrame) -> pl.DataFrame:
    effect = pl.col("effect")
    return (
        rows.group_by("currency")
        .agg(worse=(effect > ZERO).sum(), better=(effect < ZERO).sum(), same=(effect == ZERO).sum(), _all=pl.len())
        .sort("_all", "currency", descending=[True, False])
        .drop("_all")
    )


# -------------------------------------------------------------------------------------------------------------- steps


def _steps(lines: pl.DataFrame, invoices: pl.DataFrame) -> pl.DataFrame:
    sums = _by_side(lines, ["currency"], ("list", "contracted", "others", "rounding", "discounts", "commitments",
                                          "credits", "billed"))  # fmt: skip
    sums = sums.join(_by_side(invoices, ["currency"], SUMS[3:]), on="currency", how="full", coalesce=True,
                     validate="1:1").sort("currency")  # fmt: skip
    rows: list[dict[str, Any]] = []
    for row in sums.iter_rows(named=True):
        for step, title in STEPS:
            before, after = (row[f"{step}_{side}"] or ZERO for side in SIDES)
            rows.append({"currency": row["currency"], "step": step, "title": title, "before": before, "after": after,
                         "effect": _added((after, -before))})  # fmt: skip
    texts = [(name, TEXT) for name in ("currency", "step", "title")]
    return pl.DataFrame(rows, schema=pl.Schema([*texts, *((name, COST) for name in ("before", "after", "effect"))]))


# --------------------------------------------------------------------------------------------------------------- laws


def _assert_levels_agree(levels: Mapping[str, pl.DataFrame]) -> None:
    """Every level adds up to the same, per currency, sum and side."""
    totals = {row["currency"]: row for row in levels["total"].iter_rows(named=True)}
    for level, rows in levels.items():
        for (currency,), part in rows.partition_by("currency", as_dict=True).items():
            for name in (f"{each}_{side}" for each in _sums(level) for side in SIDES):
                total = totals[currency][name]
                if _added(part[name]) != total:
                    raise InvariantError(f"simulated {name} by {level} in {currency} do not add up to {total}")
        if {*rows["currency"]} != {*totals}:
            raise InvariantError(f"simulated sums by {level} lack a currency")


def _assert_steps_add_up(steps: pl.DataFrame) -> None:
    """From the prices that applied to what is billed, from there to the total with tax, from there to what is due."""
    for (currency,), rows in steps.partition_by("currency", as_dict=True).items():
        for side in SIDES:
            value = dict(rows.select("step", side).iter_rows())
            parts = ("contracted", "others", "rounding", "discounts", "commitments", "credits")
            for sum_, of in (("billed", parts), ("taxed", ("billed", "tax")), ("due", ("taxed", "prepaid"))):
                if _added(value[name] for name in of) != value[sum_]:
                    raise InvariantError(f"simulated {sum_} {side} in {currency} is not {' + '.join(of)}")


def _added(values: Iterable[Decimal]) -> Decimal:
    """Exact: the usual 28 digits are fewer than a cost can have."""
    with localcontext(prec=80):
        return sum(values, ZERO)


# ------------------------------------------------------------------------------------------------------------- ledgers


def carried_draws(drawn: pl.DataFrame, billed: Sequence[Billed], simulated: Sequence[Billed]) -> pl.DataFrame:
    """credit_id, amount: what earlier months use of each credit when some of them are simulated.

    Args:
        drawn: the same by the ledger, those months included.
        billed: those months as the ledger has them.
        simulated: those months as they are simulated.
    """
    parts = [
        drawn.select("credit_id", "amount"),
        *(month.credits.select("credit_id", -pl.col("amount")) for month in billed),
        *(month.credits.select("credit_id", "amount") for month in simulated),
    ]
    amounts = pl.concat([part.cast({"amount": AMOUNT}) for part in parts])
    return collect(amounts.lazy().group_by("credit_id").agg(pl.col("amount").sum())).sort("credit_id")


# ----------------------------------------------------------------------------------------- the side that was billed

_LINE = ("line_kind", "account_id", "project_id", "sku_id", "region", "price_id", "source_id")
_SAME = ("pricing_quantity", "list_cost", "cost", "amount", "discount_amount", "commitment_amount", "tax_code",
         "tax_category", "tax_rate")  # fmt: skip


def has_corrections(billed: Billed) -> bool:
    """Whether corrections of closed months are billed there."""
    return billed.lines.filter(line_kind="correction").height > 0


def lines_that_differ(assembled: Billed, billed: Billed) -> pl.DataFrame:
    """Lines, corrections left out, of which ``assembled`` says otherwise than what was billed; none are to be.

    Shares of credits are not compared: corrections draw on credits too, and so leave others for the rest.
    """
    left, right = (
        side.lines.filter(pl.col("line_kind") != "correction")
        .join(side.invoices.select("invoice_id", "billing_account_id", "currency"), on="invoice_id", validate="m:1")
        .select("billing_account_id", "currency", *_LINE, *_SAME, is_there=pl.lit(value=True))
        for side in (assembled, billed)
    )
    key = ["billing_account_id", "currency", *_LINE]
    both = left.join(right, on=key, how="full", coalesce=True, nulls_equal=True, validate="1:1", suffix="_billed")
    differs = [pl.col(name).ne_missing(pl.col(f"{name}_billed")) for name in (*_SAME, "is_there")]
    return both.filter(pl.any_horizontal(differs)).sort(key)
