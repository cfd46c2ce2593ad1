"""The engine on a world: the code of the real run, from usage rows to invoices, without files in between.

What is left out is only what touches disk: Parquet and CSV on the way in, the charge store and documents on the way
out. A warehouse is opened once per process and emptied between worlds.
"""

from __future__ import annotations

import atexit
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import polars as pl

from ratemill.book.model import SOURCE_SCHEMA, Book
from ratemill.config import Config, Engine, Period, Policy, Seller
from ratemill.config import Usage as UsageConfig
from ratemill.engines import shards as engine_shards
from ratemill.invoicing.assembly import Invoices, assemble_invoices
from ratemill.invoicing.invariants import assert_invoices_add_up
from ratemill.io import stored_usage
from ratemill.io.usage_files import UsageFile
from ratemill.io.warehouse import Warehouse
from ratemill.period import BillingPeriod
from ratemill.progress import make_progress
from ratemill.rating.shard import RatedShard, rate_shard
from ratemill.steps import rate as rate_step
from ratemill.steps.check import Checked
from ratemill.steps.context import Context
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.charges import CHARGE_ORDER, CHARGES, UNPRICED
from ratemill.tables.invoices import CORRECTIONS, CREDIT_LEDGER
from ratemill.usage.intake import take_in
from ratemill.usage.mapping import ColumnMapping, map_columns
from ratemill.workspace import Workspace
from reference.exact import EXACT
from reference.model import (
    COMPARED_CHARGE_FIELDS,
    CommitmentMonth,
    CreditDraw,
    Deduction,
    Invoice,
    InvoiceLine,
    TaxLine,
    Unpriced,
)
from strategies import prefix_of, side_by_side
from worlds import usage_table

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from ratemill.tables.columns import Table
    from reference.model import Bill, Usage, World
    from reference.model import Book as WorldBook

DRAWN_SCHEMA = pl.Schema({name: CREDIT_LEDGER.polars_schema[name] for name in ("credit_id", "amount")})
INPUTS: dict[str, Any] = {"usage": {}}
"""Of a run without files: its name is the same for every world of a month."""
LATER = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class EngineBill:
    """Everything the engine says about one month; columns as in the tables of the product."""

    charges: pl.DataFrame
    """Usage, caps and minimums in CHARGE_ORDER, then what invoicing adds (rounding, fees, discounts, …) in it."""
    unpriced: pl.DataFrame
    invoices: pl.DataFrame
    lines: pl.DataFrame
    deductions: pl.DataFrame
    tax_lines: pl.DataFrame
    credits: pl.DataFrame
    commitments: pl.DataFrame
    facts: dict[str, Any]
    """Counts of usage rows, as a run's summary has them."""


def bill(world: World, *, files: int = 1, by_day: bool = False, threads: int = 1) -> EngineBill:
    """The month's bill by the engine.

    ``files``: how many deliveries the records are dealt into, in turn; the bill must not depend on it.
    ``by_day``: search duplicates day by day, as a run does, and not at once.
    ``threads``: of the warehouse. A world is a few rows, more threads only wait for each other.

    Raises:
        InvariantError: the engine's own sums do not agree.
        DataRefusedError: a cost overflows.
    """
    book, period, config = make_book(world.book), BillingPeriod.parse(world.period), make_config(world)
    warehouse, kept = _scratch_warehouse(threads), _KeptCharges()
    with warehouse.rolled_back():
        for number in range(files):
            store(warehouse, world.usage[number::files], config.usage, name=f"usage-{number:02d}.parquet")
        warehouse.usage.settle_duplicates() if by_day else warehouse.settle_duplicates_at_once()
        context = Context(Workspace(Path(), config), warehouse, make_progress(quiet=True), LATER)
        checked = Checked(period, book, warehouse.usage.files(), INPUTS, ())
        facts = rate_step.rate_into(context, checked, kept)  # type: ignore[arg-type]
    invoices = invoice(world, kept.usage, book, checked.run_id)
    return EngineBill(
        charges=pl.concat([kept.usage, invoices.charges]),
        unpriced=pl.concat([UNPRICED.empty(), *kept.unpriced]),
        invoices=invoices.invoices,
        lines=invoices.lines,
        deductions=invoices.deductions,
        tax_lines=invoices.taxes,
        credits=invoices.credits,
        commitments=invoices.commitments,
        facts=facts,
    )


def bill_each(worlds: Sequence[World]) -> list[EngineBill]:
    """The bill of each world, those with the same settings computed in one go. Without ``facts``."""
    together: dict[Hashable, list[int]] = {}
    for place, world in enumerate(worlds):
        book = world.book
        everybodys = tuple(row for row in book.discounts if row.account_id is None)
        shared = (world.period, world.time_zone, world.detail, book.windows, book.taxes, book.fx_rates, everybodys)
        together.setdefault(shared, []).append(place)
    found: dict[int, EngineBill] = {}
    for places in together.values():
        whole = bill(side_by_side([worlds[place] for place in places]))
        found |= {place: _part(whole, number, len(places)) for number, place in enumerate(places)}
    return [found[place] for place in range(len(worlds))]


def _part(whole: EngineBill, number: int, parts: int) -> EngineBill:
    """What one of the worlds side by side is billed, under its own names."""
    prefix = prefix_of(number) if parts > 1 else ""

    def own(frame: pl.DataFrame, column: str) -> pl.DataFrame:
        mine = frame.filter(pl.col(column).str.contains(prefix, literal=True))
        return mine.with_columns(pl.selectors.string().str.replace(prefix, "", literal=True))

    return EngineBill(
        charges=own(whole.charges, "billing_account_id"),
        unpriced=own(whole.unpriced, "billing_account_id"),
        invoices=own(whole.invoices, "billing_account_id"),
        lines=own(whole.lines, "invoice_id"),
        deductions=own(whole.deductions, "invoice_id"),
        tax_lines=own(whole.tax_lines, "invoice_id"),
        credits=own(whole.credits, "invoice_id"),
        commitments=own(whole.commitments, "invoice_id"),
        facts={},
    )


@dataclass(frozen=True)
class Shard:
    """What :func:`ratemill.rating.shard.rate_shard` is given."""

    metered: pl.DataFrame
    hourly: pl.DataFrame
    others: dict[str, Any]

    def rated(self) -> RatedShard:
        return rate_shard(self.metered, self.hourly, **self.others)


def shards(world: World) -> list[Shard]:
    """The shards that the world's month is rated in."""
    seen: list[Shard] = []

    def rate_and_note(metered: pl.DataFrame, hourly: pl.DataFrame, **others: Any) -> RatedShard:
        seen.append(Shard(metered, hourly, others))
        return seen[-1].rated()

    with patch.object(engine_shards, "rate_shard", rate_and_note):
        bill(world)
    return seen


def invoice(world: World, charges: pl.DataFrame, book: Book, run_id: str) -> Invoices:
    """Invoices of the charges, with every invariant asserted, as ``steps/invoice.py`` makes them."""
    drawn = pl.DataFrame(list(world.credits_drawn.items()), DRAWN_SCHEMA, orient="row")
    invoices = assemble_invoices(
        charges.lazy(),
        book=book,
        period=BillingPeriod.parse(world.period),
        time_zone=world.time_zone,
        run_id=run_id,
        credits_drawn=drawn,
        corrections=pl.DataFrame(list(map(vars, world.corrections)), CORRECTIONS.polars_schema),
    )
    assert not invoices.findings, invoices.findings
    if invoices.invoices.height:
        assert_invoices_add_up(charges.lazy(), invoices)
    return invoices


class _KeptCharges:
    """What a ``ChargeWriter`` is to rating, in memory."""

    def __init__(self) -> None:
        self.shards: list[pl.DataFrame] = []
        self.unpriced: list[pl.DataFrame] = []

    def write_shard(self, charges: pl.DataFrame, unpriced: pl.DataFrame) -> None:
        self.shards.append(charges)
        self.unpriced.append(unpriced)

    def replace_unpriced(self, unpriced: pl.DataFrame) -> None:
        self.unpriced = [unpriced]

    @property
    def charges(self) -> int:
        return self.usage.height

    @property
    def usage(self) -> pl.DataFrame:
        return pl.concat([CHARGES.empty(), *self.shards])


# Book, configuration, usage ------------------------------------------------------------------------------------------


def make_book(book: WorldBook) -> Book:
    """The world's book as the product's. That it keeps the contract of every table is tested apart: it takes long."""
    attributes = sorted({name for price in book.prices for name in price.attributes})
    prices = [vars(row) | {f"attr.{name}": row.attributes.get(name) for name in attributes} for row in book.prices]
    rows = {name: [vars(row) for row in table] for name, table in vars(book).items()}
    rows["prices"] = prices
    extra = {"prices": [f"attr.{name}" for name in attributes]}
    return Book(**{table.name: _frame(table, rows[table.name], extra.get(table.name, ())) for table in BOOK_TABLES})


def _frame(table: Table, rows: Iterable[Mapping[str, Any]], extra: Sequence[str] = ()) -> pl.DataFrame:
    """Rows as a frame of the book; columns that worlds do without are empty."""
    listed = list(rows)
    schema = {**table.polars_schema, **dict.fromkeys(extra, pl.String), **SOURCE_SCHEMA}
    return pl.DataFrame({name: [_cell(row.get(name)) for row in listed] for name in schema}, schema=schema)


def _cell(value: Any) -> Any:
    """Names in a list stand in one cell, separated by spaces."""
    return (" ".join(value) or None) if isinstance(value, tuple) else value


def make_config(world: World) -> Config:
    """The settings that a written world has."""
    return _config(world.time_zone, world.detail)


@cache
def _config(time_zone: str, detail: Any) -> Config:
    return Config(
        seller=Seller(name="Example Cloud", country="US"),
        period=Period(time_zone=time_zone, detail=detail),
        policy=Policy(max_rejected_share=1, unpriced="warn"),
    )


def store(warehouse: Warehouse, records: Sequence[Usage], config: UsageConfig, *, name: str) -> None:
    """One delivery of usage, as ``steps/load.py`` stores a file."""
    attributes = sorted({key for record in records for key in record.attributes})
    raw = pl.DataFrame(pl.from_arrow(usage_table(records, attributes)))
    mapping = map_columns(raw.schema, config)
    assert isinstance(mapping, ColumnMapping), mapping
    intake = take_in(raw.select(mapping.file_columns), mapping)
    warehouse.usage.store_file(UsageFile(Path(name), name, f"hash of {name}"), iter([intake]), settings_sha256="")


# Against the reference ----------------------------------------------------------------------------------------------

CHARGE_FIELDS = (*COMPARED_CHARGE_FIELDS, "pricing_currency", "exchange_rate", "list_exchange_rate")
UNPRICED_FIELDS = tuple(field.name for field in fields(Unpriced))
RATED_KINDS = ("usage", "cap", "minimum")
"""Kinds of charges that rating makes; the others are made by invoicing."""
_KEYS = {
    "charges": (*CHARGE_ORDER, "source_id"),
    "unpriced": ("billing_account_id", "account_id", "sku_id", "region", "reason"),
    "invoices": ("billing_account_id", "currency"),
    "lines": (
        "invoice_id",
        "account_id",
        "project_id",
        "sku_id",
        "region",
        "price_id",
        "line_kind",
        "source_id",
        "corrects_period",
    ),
    "deductions": ("invoice_id", "deduction_number", "line_number"),
    "tax_lines": ("invoice_id", "tax_code", "category", "rate"),
    "credits": ("invoice_id", "credit_id"),
    "commitments": ("invoice_id", "commitment_id"),
}
INVOICE_TABLES = {
    "invoices": Invoice,
    "lines": InvoiceLine,
    "deductions": Deduction,
    "tax_lines": TaxLine,
    "credits": CreditDraw,
    "commitments": CommitmentMonth,
}


def differences(engine: EngineBill, reference: Bill) -> list[str]:
    """Where the engine's bill is not the reference's, to the last digit and in the same order, one line each."""
    found = [
        *_differences("charges", _charges_of_engine(engine), _charges_of_reference(reference)),
        *_differences("unpriced", _unpriced_of_engine(engine), [vars(row) for row in reference.unpriced]),
    ]
    for name, row_type in INVOICE_TABLES.items():
        names = [field.name for field in fields(row_type)]
        expected = [vars(row) for row in getattr(reference, name)]
        found += _differences(name, list(getattr(engine, name).select(names).iter_rows(named=True)), expected)
    counts = {"rows_billed": len(reference.accepted), "rows_unpriced": sum(row.records for row in reference.unpriced)}
    found += [f"{name}: {engine.facts[name]}, not {n}" for name, n in counts.items() if engine.facts[name] != n]
    return found


def _charges_of_engine(bill: EngineBill) -> list[dict[str, Any]]:
    """Rows that CHARGE_ORDER leaves side by side, the deductions of one line, are put in order of their source."""
    usage: list[dict[str, Any]] = []
    added: list[dict[str, Any]] = []
    for row in bill.charges.select(CHARGE_FIELDS).iter_rows(named=True):
        (usage if row["charge_kind"] in RATED_KINDS else added).append(row)
    for _, side_by_side_rows in groupby(added, key=lambda row: [row[name] for name in CHARGE_ORDER]):
        usage += sorted(side_by_side_rows, key=lambda row: (row["source_id"] or "", row["cost"]))
    return usage


def _charges_of_reference(bill: Bill) -> list[dict[str, Any]]:
    """The engine keeps what invoicing adds apart, and says no price's currency there: it belongs to no price."""
    usage: list[dict[str, Any]] = []
    added: list[dict[str, Any]] = []
    for charge in bill.charges:
        is_rated = charge.charge_kind in RATED_KINDS
        row = vars(charge) | {"pricing_currency": charge.price_currency if is_rated else None}
        (usage if is_rated else added).append({name: row[name] for name in CHARGE_FIELDS})
    return [*usage, *added]


def _unpriced_of_engine(bill: EngineBill) -> list[dict[str, Any]]:
    """The engine says the reason in words; its order is by those."""
    rows = list(bill.unpriced.select(UNPRICED_FIELDS).iter_rows(named=True))
    for row in rows:
        row["reason"] = "no_exchange_rate" if "fx_rates has no rate" in row["reason"] else "no_price"
    return sorted(rows, key=lambda row: _sortable(row[name] for name in _KEYS["unpriced"]))


def _differences(table: str, engine: list[dict[str, Any]], reference: list[dict[str, Any]]) -> Iterator[str]:
    if engine == reference:
        return
    here, there = (_by_key(rows, _KEYS[table]) for rows in (engine, reference))
    for key in sorted({*here, *there}, key=_sortable):
        name = f"{table} {' '.join('-' if part is None else str(part) for part in key)}"
        if len(here.get(key, [])) != len(there.get(key, [])):
            yield f"{name}: {len(here.get(key, []))} rows, not {len(there.get(key, []))}"
            continue
        for mine, yours in zip(here[key], there[key], strict=True):
            yield from (
                f"{name}: {n} is {_plain(mine[n])}, not {_plain(yours[n])}" for n in mine if mine[n] != yours[n]
            )
    keys = [[tuple(row[name] for name in _KEYS[table]) for row in rows] for rows in (engine, reference)]
    if keys[0] != keys[1] and sorted(map(_sortable, keys[0])) == sorted(map(_sortable, keys[1])):
        yield f"{table}: the rows stand in another order"


def _by_key(rows: list[dict[str, Any]], key: Sequence[str]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in key), []).append(row)
    return found


def _sortable(key: Iterable[Any]) -> tuple[tuple[bool, Any], ...]:
    return tuple((part is not None, part if part is not None else "") for part in key)


def describe(world: World) -> str:
    """A world as one reads it: only what was given, one row a line."""
    parts = [f"{world.period} in {world.time_zone}, by {world.detail}"]
    if world.credits_drawn:
        parts.append(
            f"drawn before: {', '.join(f'{name} {_plain(value)}' for name, value in world.credits_drawn.items())}"
        )
    for name, rows in {**vars(world.book), "corrections": world.corrections, "usage": world.usage}.items():
        parts += [f"{name}:", *(f"  {_short(row)}" for row in rows)]
    return "\n".join(parts)


def _short(row: Any) -> str:
    """The fields of a row that are not their default."""
    shown = [(f.name, getattr(row, f.name)) for f in fields(row) if getattr(row, f.name) != f.default]
    return " ".join(f"{name}={_plain(value)}" for name, value in shown if value not in ({}, ()))


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%MZ}"
    return f"{value.normalize(EXACT):f}" if isinstance(value, Decimal) else str(value)


def assert_agree(world: World, engine: EngineBill, reference: Bill, *, most: int = 20) -> None:
    """Fail with the world and what differs.

    Raises:
        AssertionError: with at most ``most`` differences.
    """
    found = differences(engine, reference)
    if found:
        more = f"\n… and {len(found) - most} more" if len(found) > most else ""
        raise AssertionError(
            "the engine and the reference differ:\n"
            + "\n".join(found[:most])
            + f"{more}\n\nin this world:\n{describe(world)}"
        )


# Scratch -------------------------------------------------------------------------------------------------------------


class _ScratchWarehouse(Warehouse):
    """A warehouse whose changes are never kept: one transaction around everything, rolled back at the end.

    Emptying tables instead would leave deleted rows in them, which every later query reads over.
    """

    @contextmanager
    def transaction(self) -> Iterator[None]:
        yield

    def settle_duplicates_at_once(self) -> None:
        """One search instead of one a day, which takes half of a little world's time. Days only bound memory."""
        with patch.object(
            stored_usage, "_days", lambda pending: [(min(pending["first_start"]), max(pending["last_start"]))]
        ):
            self.usage.settle_duplicates()

    @contextmanager
    def rolled_back(self) -> Iterator[None]:
        self._connection.execute("BEGIN TRANSACTION")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")


@cache
def _scratch_warehouse(threads: int) -> _ScratchWarehouse:
    """Opened by the product, so its settings are the real ones; lives as long as the process."""
    memory = Path("/dev/shm")  # noqa: S108
    stack = ExitStack()
    atexit.register(stack.close)
    folder = stack.enter_context(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None))
    opened = stack.enter_context(Warehouse.open(Path(folder) / "warehouse.duckdb", Engine(threads=threads)))
    return _ScratchWarehouse(opened._connection)
