"""What changed between two runs of a period, what it is worth, and why.

Pure: the charges, books and inputs of both runs in, small frames out, exact decimals. Currencies are never added up.

Charges are compared by what they are for (:data:`KEY`): the price and the hours that a day's usage happens to start and
end at are what may change. Every difference is given a cause, and all effects of a currency add up to the difference of
its untaxed totals to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.frames import collect
from ratemill.insight.costs import quantity_effect
from ratemill.money import COST, QUANTITY, ZERO
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.columns import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ratemill.book.model import Book

KEY = (
    "billing_account_id", "currency", "account_id", "project_id", "sku_id", "region", "resource_id", "tags", "day",
    "charge_kind", "source_id", "corrects_period",
)  # fmt: skip
"""Charges of both runs that agree in these are the same. ``day``: local day of the payer, of usage only."""
GROUP = ("currency", "billing_account_id", "account_id", "sku_id")
"""What differences are added up by."""

USAGE = "usage"
"""Usage files came, went or changed, and with them quantities; or records of the same id were decided otherwise."""
PRICE = "price"
"""Another price, or the same price with other numbers."""
EXCHANGE_RATE = "exchange rate"
MOVE = "move"
"""The same usage belongs to another account or project."""
BOOK = "book"
"""Other tables of the book: accounts, projects, SKUs."""
CONFIGURATION = "configuration"
CODE = "code"
UNKNOWN = "unknown"
"""None of the inputs that are remembered differs in a way that explains it."""
CAUSES = (USAGE, PRICE, EXCHANGE_RATE, MOVE, BOOK, CONFIGURATION, CODE, UNKNOWN)
"""Causes of changed usage charges. Of others the kind is the cause: a discount, a fee, the rounding of lines."""

ADDED, REMOVED, CHANGED = "added", "removed", "changed"

_TABLES = {table.name: table for table in BOOK_TABLES}
_SOURCES = {"discount": "discounts", "commitment": "commitments", "credit": "credits", "recurring": "recurring",
            "adjustment": "adjustments"}  # fmt: skip
"""Kind of charge → table of the book that its source_id is a row of."""
_PRICE_TABLES = ("prices", "windows")


@dataclass(frozen=True)
class Run:
    """One of the two runs."""

    charges: pl.LazyFrame
    """All of them (CHARGES), those that invoicing added included."""
    inputs: Mapping[str, Any]
    """What identified the run, see :mod:`ratemill.steps.inputs`."""
    book: Book


@dataclass(frozen=True)
class InputChanges:
    """Which inputs of the two runs differ."""

    files: tuple[str, ...] = ()
    """``usage/a.parquet: new``, sorted."""
    records: bool = False
    """Records of the same id were decided otherwise, because of a file of another month."""
    book: tuple[str, ...] = ()
    """Tables with other rows, as far as they concern the period."""
    configuration: bool = False
    rating_configuration: bool = False
    """The configuration of how usage is read and what a month is; part of the configuration."""
    code: str = ""
    """``0.1.0 → 0.2.0``."""
    ledger: bool = False
    """What earlier periods left to this one: closed periods, credits drawn, corrections."""

    @property
    def usage(self) -> bool:
        """Whether other usage was billed."""
        return bool(self.files) or self.records

    def sentences(self) -> list[str]:
        """All of it, in words."""
        told = list(self.files)
        if self.records:
            told.append("records of the same record_id in files of other months")
        told += [f"book: {table}" for table in self.book]
        if self.configuration:
            told.append("ratemill.toml")
        if self.code:
            told.append(f"ratemill {self.code}")
        if self.ledger:
            told.append("earlier periods: what was closed, drawn on credits, or corrected")
        return told


@dataclass(frozen=True)
class RunDiff:
    """The differences between two runs."""

    inputs: InputChanges
    totals: pl.DataFrame
    """Per currency: before, after, difference (untaxed), added, removed, changed (number of charges)."""
    groups: pl.DataFrame
    """Per GROUP and cause: effect, added, removed, changed, detail. The GROUP with the largest effect first."""
    charges: pl.DataFrame
    """Per KEY: status, prices, unit prices, quantities, costs of both runs, effect, and causes."""


def compare_runs(before: Run, after: Run, *, default_zone: str) -> RunDiff:
    """What differs between ``before`` and ``after``.

    ``default_zone``: time zone of accounts that name none.
    """
    inputs = changed_inputs(before.inputs, after.inputs)
    rows = _with_causes(_differing(before, after, default_zone), inputs, before.book, after.book)
    causes = _by_cause(rows)
    groups = _groups(causes, inputs, before.book, after.book)
    return RunDiff(inputs, _totals(before, after, rows), groups, _told(rows, causes))


def changed_inputs(before: Mapping[str, Any], after: Mapping[str, Any]) -> InputChanges:
    """Which of two runs' inputs differ. A file that was only renamed does not count."""
    old, new = before["usage"], after["usage"]
    same_content = {*old.values()} & {*new.values()}
    files = [f"{name}: changed" for name in old.keys() & new.keys() if old[name] != new[name]]
    files += [f"{name}: new" for name in new.keys() - old.keys() if new[name] not in same_content]
    files += [f"{name}: gone" for name in old.keys() - new.keys() if old[name] not in same_content]
    tables = {name for name in _TABLES if before["book"].get(name) != after["book"].get(name)}
    if before.get("credits") != after.get("credits"):
        tables.add("credits")
    return InputChanges(
        files=tuple(sorted(files)),
        records=before["record_ids"] != after["record_ids"],
        book=tuple(sorted(tables)),
        configuration=before["configuration"] != after["configuration"],
        rating_configuration=before["rating_configuration"] != after["rating_configuration"],
        code=f"{before['code']} → {after['code']}" if before["code"] != after["code"] else "",
        ledger=any(before.get(name) != after.get(name) for name in ("ledger", "corrections")),
    )


def changed_rows(table: str, before: pl.DataFrame, after: pl.DataFrame) -> dict[str, str]:
    """Id → what became of its rows in a table of the book: ``new``, ``gone``, or each column, old → new."""
    identity, *rest = _TABLES[table].key
    old, new = (_rows_by(frame, identity, rest) for frame in (before, after))
    told = dict.fromkeys(new.keys() - old.keys(), "new") | dict.fromkeys(old.keys() - new.keys(), "gone")
    for name in old.keys() & new.keys():
        if old[name] != new[name]:
            told[name] = _difference(old[name], new[name])
    return dict(sorted(told.items()))


# -------------------------------------------------------------------------------------------------- rows that differ


def _differing(before: Run, after: Run, default_zone: str) -> pl.DataFrame:
    """One row per KEY whose cost, quantity or price differs, sorted."""
    now, then = pl.col("is_after"), ~pl.col("is_after")
    both = pl.concat(
        [
            _keyed(run, default_zone).with_columns(is_after=pl.lit(is_after))
            for run, is_after in ((before, False), (after, True))
        ]
    )
    sides = [("before", then), ("after", now)]
    summed = both.group_by(KEY).agg(
        pl.col("is_after").any().alias("is_there_after"),
        (~pl.col("is_after")).any().alias("is_there_before"),
        *(_sum("usage_quantity", side, QUANTITY).alias(f"quantity_{name}") for name, side in sides),
        *(_sum("cost", side, COST).alias(f"cost_{name}") for name, side in sides),
        *(
            pl.col(column).filter(side).min().alias(f"{column}_{name}")
            for column in ("price_id", "contracted_unit_price", "exchange_rate")
            for name, side in sides
        ),
        *(
            pl.col(column).filter(side).max().alias(f"last_{column}_{name}")
            for column in ("price_id", "contracted_unit_price")
            for name, side in sides
        ),
    )
    compared = ("quantity", "cost", "price_id", "contracted_unit_price", "last_price_id", "last_contracted_unit_price")
    differs = reduce(
        lambda left, right: left | right,
        [pl.col(f"{name}_before").ne_missing(pl.col(f"{name}_after")) for name in compared],
        pl.col("is_there_before") != pl.col("is_there_after"),
    )
    status = (
        pl.when(~pl.col("is_there_before"))
        .then(pl.lit(ADDED))
        .when(~pl.col("is_there_after"))
        .then(pl.lit(REMOVED))
        .otherwise(pl.lit(CHANGED))
    )
    return collect(
        summed.filter(differs).with_columns(status=status, effect=pl.col("cost_after") - pl.col("cost_before"))
    ).sort(KEY)


def _keyed(run: Run, default_zone: str) -> pl.LazyFrame:
    """Charges with ``day``."""
    zones = run.book.accounts.select(billing_account_id="account_id", zone=pl.col("time_zone").fill_null(default_zone))
    zone = pl.col("zone").fill_null(default_zone)
    day = pl.lit(None, dtype=pl.Date)
    for name in sorted({default_zone, *zones["zone"]}):
        local = pl.col("charge_start").dt.convert_time_zone(name).dt.date()
        day = pl.when((pl.col("charge_kind") == "usage") & (zone == name)).then(local).otherwise(day)
    return (
        run.charges.join(zones.lazy(), on="billing_account_id", how="left", validate="m:1")
        .with_columns(day=day)
        .select(*KEY, "usage_quantity", "cost", "price_id", "contracted_unit_price", "exchange_rate")
    )


def _sum(column: str, condition: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return pl.when(condition).then(column).otherwise(pl.lit(None, dtype=dtype)).sum()


def _totals(before: Run, after: Run, rows: pl.DataFrame) -> pl.DataFrame:
    both = pl.concat([run.charges.select("currency", "cost", is_after=pl.lit(is_after))
                      for run, is_after in ((before, False), (after, True))])  # fmt: skip
    now = pl.col("is_after")
    sums = both.group_by("currency").agg(
        _sum("cost", ~now, COST).alias("before"), _sum("cost", now, COST).alias("after")
    )
    counts = rows.lazy().group_by("currency").agg(_counts())
    return collect(
        sums.with_columns(difference=pl.col("after") - pl.col("before"))
        .join(counts, on="currency", how="left", validate="1:1")
        .with_columns(pl.col(ADDED, REMOVED, CHANGED).fill_null(0))
    ).sort("currency")


def _counts() -> list[pl.Expr]:
    return [(pl.col("status") == status).sum().cast(pl.Int64).alias(status) for status in (ADDED, REMOVED, CHANGED)]


# ------------------------------------------------------------------------------------------------------------- causes


def _with_causes(rows: pl.DataFrame, inputs: InputChanges, old: Book, new: Book) -> pl.DataFrame:
    """``cause`` and, where a change of usage adds to it, ``usage_effect`` (else null); ``moved``: from or to where."""
    prices = list(changed_rows("prices", old.prices, new.prices))
    price_differs = reduce(
        lambda left, right: left | right,
        [pl.col(f"{name}_before").ne_missing(pl.col(f"{name}_after"))
         for name in ("price_id", "last_price_id", "contracted_unit_price", "last_contracted_unit_price")],
        pl.any_horizontal(pl.col(f"{name}_{side}").is_in(prices).fill_null(value=False)
                          for name in ("price_id", "last_price_id") for side in ("before", "after")),
    )  # fmt: skip
    usage_differs = pl.col("quantity_before") != pl.col("quantity_after")
    rate_differs = pl.col("exchange_rate_before").ne_missing(pl.col("exchange_rate_after"))
    by_price = price_differs & _any_of(inputs, *_PRICE_TABLES)
    by_rate = rate_differs & _any_of(inputs, "fx_rates")
    one_sided = pl.col("status") != CHANGED
    priced_anew = pl.any_horizontal(
        (pl.col("status") == status) & ~pl.col("sku_id").is_in(book.prices["sku_id"].implode()).fill_null(value=True)
        for status, book in ((ADDED, old), (REMOVED, new))
    )
    cause = (
        pl.when(pl.col("charge_kind") != "usage")
        .then(pl.col("charge_kind"))
        .when(pl.col("moved").is_not_null())
        .then(pl.lit(MOVE))
        .when(one_sided & ~priced_anew)
        .then(pl.lit(_first_cause(inputs, usage_first=True)))
        .when(by_price)
        .then(pl.lit(PRICE))
        .when(by_rate)
        .then(pl.lit(EXCHANGE_RATE))
        .when(usage_differs & pl.lit(inputs.usage))
        .then(pl.lit(USAGE))
        .otherwise(pl.lit(_first_cause(inputs, usage_first=False)))
    )
    caused = _with_moves(rows).with_columns(cause=cause)
    split = (pl.col("status") == CHANGED) & usage_differs & pl.col("cause").is_in([PRICE, EXCHANGE_RATE])
    effects = [
        quantity_effect(now, then, cost, cost_before) if is_split else None
        for is_split, now, then, cost, cost_before in caused.select(
            split.alias("split"), "quantity_after", "quantity_before", "cost_after", "cost_before"
        ).iter_rows()
    ]
    return caused.with_columns(pl.Series("usage_effect", effects, dtype=COST))


def _any_of(inputs: InputChanges, *tables: str) -> pl.Expr:
    return pl.lit(bool({*inputs.book} & {*tables}))


def _first_cause(inputs: InputChanges, *, usage_first: bool) -> str:
    """The cause where the charge itself does not tell: a difference of inputs that is able to do it."""
    rest = [
        (BOOK, bool({*inputs.book} - {*_PRICE_TABLES, "fx_rates", *_SOURCES.values()})),
        (PRICE, bool({*inputs.book} & {*_PRICE_TABLES})),
        (EXCHANGE_RATE, "fx_rates" in inputs.book),
        (CONFIGURATION, inputs.rating_configuration),
        (CODE, bool(inputs.code)),
    ]
    order = [(USAGE, inputs.usage), *rest] if usage_first else [*rest, (USAGE, inputs.usage)]
    return next((cause for cause, applies in order if applies), UNKNOWN)


_MOVE_KEY = ("sku_id", "region", "resource_id", "day")
_OWNER = ("billing_account_id", "account_id", "project_id")


def _with_moves(rows: pl.DataFrame) -> pl.DataFrame:
    """``moved``: where usage went or came from that has gone from one account or project and come to another."""
    usage = rows.filter((pl.col("charge_kind") == "usage") & pl.col("resource_id").is_not_null())
    gone, come = (
        usage.filter(status=status)
        .sort(KEY)
        .group_by(_MOVE_KEY)
        .agg(pl.col(*_OWNER).first().name.prefix("other_"))
        .with_columns(status=pl.lit(other))
        for status, other in ((REMOVED, ADDED), (ADDED, REMOVED))
    )
    found = rows.join(
        pl.concat([gone, come]), on=[*_MOVE_KEY, "status"], how="left", nulls_equal=True, validate="m:1",
        maintain_order="left",
    )  # fmt: skip
    other_account = pl.col("account_id").ne_missing(pl.col("other_account_id"))
    other_owner = reduce(
        lambda left, right: left | right, [pl.col(name).ne_missing(pl.col(f"other_{name}")) for name in _OWNER]
    )
    place = (
        pl.when(other_account)
        .then(pl.col("other_account_id"))
        .when(pl.col("billing_account_id") != pl.col("other_billing_account_id"))
        .then(pl.format("payer {}", "other_billing_account_id"))
        .otherwise(pl.format("project {}", pl.col("other_project_id").fill_null("(none)")))
    )
    direction = pl.when(pl.col("status") == REMOVED).then(pl.lit("to")).otherwise(pl.lit("from"))
    moves = (pl.col("charge_kind") == "usage") & pl.col("other_account_id").is_not_null() & other_owner
    return found.with_columns(moved=pl.when(moves).then(pl.format("{} {}", direction, place))).drop(
        f"other_{name}" for name in _OWNER
    )


def _by_cause(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows once for each cause, with its own effect: a change of both usage and price becomes two rows."""
    split = pl.col("usage_effect").is_not_null()
    whole = rows.with_columns(effect=pl.when(split).then(pl.col("effect") - pl.col("usage_effect")).otherwise("effect"))
    usage = rows.filter(split).with_columns(effect=pl.col("usage_effect"), cause=pl.lit(USAGE))
    return pl.concat([whole, usage])


# ------------------------------------------------------------------------------------------------------------- groups


def _groups(causes: pl.DataFrame, inputs: InputChanges, old: Book, new: Book) -> pl.DataFrame:
    by_cause = collect(
        causes.lazy()
        .group_by(*GROUP, "cause")
        .agg(
            pl.col("effect").sum(),
            *_counts(),
            *(pl.col(name).unique().alias(name) for name in _DETAILED),
        )
        .with_columns(group_effect=pl.col("effect").sum().over(GROUP))
    ).sort(
        "currency", pl.col("group_effect").abs(), *GROUP[1:], pl.col("effect").abs(), "cause",
        descending=[False, True, False, False, False, True, False],
    )  # fmt: skip
    told = {name: changed_rows(name, old.frame(name), new.frame(name)) for name in ("prices", *_SOURCES.values())}
    details = [_detail(row, inputs, told) for row in by_cause.iter_rows(named=True)]
    return by_cause.select(*GROUP, "cause", "effect", ADDED, REMOVED, CHANGED, pl.Series("detail", details, dtype=TEXT))


_PRICE_COLUMNS = ("price_id_before", "last_price_id_before", "price_id_after", "last_price_id_after")
_DETAILED = (
    *_PRICE_COLUMNS, "contracted_unit_price_before", "contracted_unit_price_after", "source_id", "corrects_period",
    "moved",
)  # fmt: skip


def _detail(row: Mapping[str, Any], inputs: InputChanges, told: Mapping[str, Mapping[str, str]]) -> str:
    """What the cause of a group is, in a few words."""
    cause = row["cause"]
    if cause == PRICE:
        return _price_detail(row, told["prices"])
    texts: Iterable[str | None] = {
        USAGE: inputs.files,
        BOOK: inputs.book,
        CODE: [inputs.code],
        MOVE: row["moved"],
        "correction": [f"of {period}" for period in row["corrects_period"] if period],
    }.get(cause, ())
    if cause in _SOURCES:
        rows = told[_SOURCES[cause]]
        texts = [f"{name}: {rows.get(name, 'what it applies to changed')}" for name in row["source_id"] if name]
    return _listed(texts)


def _price_detail(row: Mapping[str, Any], rows: Mapping[str, str]) -> str:
    used = {name for column in _PRICE_COLUMNS for name in row[column] if name is not None}
    changed = [f"{name}: {rows[name]}" for name in sorted(used) if name in rows and rows[name] not in ("new", "gone")]
    if changed:
        return _listed(changed)
    old, new = ({name for column in _PRICE_COLUMNS if column.endswith(side) for name in row[column] if name is not None}
                for side in ("before", "after"))  # fmt: skip
    named = f"{_listed(old - new) or 'no price'} → {_listed(new - old) or 'no price'}" if old != new else ""
    prices = [sorted({value for value in row[f"contracted_unit_price_{side}"] if value is not None})
              for side in ("before", "after")]  # fmt: skip
    if prices[0] != prices[1] and all(len(values) == 1 for values in prices):
        change = f"{_plain(prices[0][0])} → {_plain(prices[1][0])}"
        return f"{named}: {change}" if named else change
    return named


_MOST = 3


def _listed(texts: Iterable[str | None]) -> str:
    """The first few of ``texts``, sorted, each once."""
    sorted_texts = sorted({text for text in texts if text})
    more = f" and {len(sorted_texts) - _MOST} more" if len(sorted_texts) > _MOST else ""
    return "; ".join(sorted_texts[:_MOST]) + more


def _told(rows: pl.DataFrame, causes: pl.DataFrame) -> pl.DataFrame:
    """The rows that differ, for a spreadsheet."""
    named = causes.group_by(KEY).agg(pl.col("cause").unique().sort().str.join(", ").alias("causes"))
    sides = ("before", "after")
    prices = {f"price_ids_{side}": _pair(f"price_id_{side}", f"last_price_id_{side}") for side in sides}
    single = {
        f"unit_price_{side}": pl.when(
            pl.col(f"contracted_unit_price_{side}") == pl.col(f"last_contracted_unit_price_{side}")
        ).then(f"contracted_unit_price_{side}")
        for side in sides
    }
    return (
        rows.join(named, on=KEY, how="left", nulls_equal=True, validate="1:1", maintain_order="left")
        .with_columns(**prices, **single)
        .select(
            *KEY, "status", "price_ids_before", "price_ids_after", "unit_price_before", "unit_price_after",
            "quantity_before", "quantity_after", "cost_before", "cost_after", "effect", "causes",
        )
        .sort("currency", pl.col("effect").abs(), *(name for name in KEY if name != "currency"),
              descending=[False, True, *(False for _ in KEY[1:])])
    )  # fmt: skip


def _pair(first: str, last: str) -> pl.Expr:
    return pl.when(pl.col(first) == pl.col(last)).then(first).otherwise(
        pl.concat_str(first, last, separator=" ", ignore_nulls=False)
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------- rows of the book


def _rows_by(frame: pl.DataFrame, identity: str, rest: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Id → its rows, without where they came from; columns without values are left out."""
    by: dict[str, list[dict[str, Any]]] = {}
    for row in frame.sort(identity, *rest, nulls_last=True).iter_rows(named=True):
        values = {name: value for name, value in row.items() if value is not None and not name.startswith("source_")}
        by.setdefault(row[identity], []).append(values)
    return by


def _difference(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> str:
    if len(old) != len(new):
        return f"{len(old)} rows → {len(new)} rows"
    told = []
    for before, after in zip(old, new, strict=True):
        told += [
            f"{name} {_plain(before.get(name))} → {_plain(after.get(name))}"
            for name in dict.fromkeys([*before, *after])
            if before.get(name) != after.get(name)
        ]
    return ", ".join(dict.fromkeys(told))


def _plain(value: Any) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, Decimal):
        return f"{value.normalize() if value else ZERO:f}"
    return str(value)
