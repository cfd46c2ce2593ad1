"""A world written down as a workspace, so that the real command can be run on it."""

from __future__ import annotations

import csv
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from reference.model import Book, PriceTier, Usage, World

_INSTANT = pa.timestamp("us", tz="UTC")
_USAGE_SCHEMA = pa.schema(
    [
        pa.field("account_id", pa.string()),
        pa.field("project_id", pa.string()),
        pa.field("resource_id", pa.string()),
        pa.field("resource_name", pa.string()),
        pa.field("sku_id", pa.string()),
        pa.field("region", pa.string()),
        pa.field("usage_start", _INSTANT),
        pa.field("usage_end", _INSTANT),
        pa.field("quantity", pa.decimal128(38, 12)),
        pa.field("unit", pa.string()),
        pa.field("tags", pa.map_(pa.string(), pa.string())),
        pa.field("record_id", pa.string()),
    ]
)
_ACCOUNT_COLUMNS = (
    "account_id", "billing_account_id", "name", "state", "country", "tax_code", "currency", "time_zone", "price_lists",
)  # fmt: skip
_PRICE_COLUMNS = (
    "price_id", "price_list", "sku_id", "currency", "valid_from", "valid_to", "region", "window", "mode", "up_to",
    "unit_price", "flat_fee", "package_size", "scope", "cap", "minimum", "flat_at_zero", "tier_reset",
)  # fmt: skip


def write_world(world: World, folder: Path, *, files: int = 1) -> Path:
    """Write ``ratemill.toml``, ``book/*.csv`` and ``usage/*.parquet`` into ``folder`` and return it.

    ``files``: how many usage files the records are dealt into, in turn; the bill must not depend on it. Nothing that a
    world contains stops the run: rejects are allowed for and unpriced usage is a warning. What earlier months drew on
    credits is in no file: a workspace has that from its own invoices.
    """
    (folder / "book").mkdir(parents=True, exist_ok=True)
    (folder / "usage").mkdir(exist_ok=True)
    (folder / "ratemill.toml").write_text(
        '[seller]\nname = "Example Cloud"\ncountry = "US"\n\n'
        f'[period]\ntime_zone = "{world.time_zone}"\ndetail = "{world.detail}"\n\n'
        '[policy]\nmax_rejected_share = 1\nunpriced = "warn"\n',
        encoding="utf-8",
    )
    write_book(world.book, folder / "book")
    attributes = sorted({name for record in world.usage for name in record.attributes})
    for number in range(files):
        path = folder / "usage" / f"usage-{number:02d}.parquet"
        pq.write_table(usage_table(world.usage[number::files], attributes), path)
    return folder


def write_book(book: Book, folder: Path) -> None:
    """Write the tables of ``book`` that have rows; files of former books are left as they are."""
    attributes = sorted({name for price in book.prices for name in price.attributes})
    price_columns = [*_PRICE_COLUMNS, *(f"attr.{name}" for name in attributes)]
    _write_csv(folder / "accounts.csv", map(vars, book.accounts), _ACCOUNT_COLUMNS)
    _write_csv(folder / "skus.csv", map(vars, book.skus))
    _write_csv(folder / "prices.csv", map(_price_row, book.prices), price_columns)
    _write_csv(folder / "taxes.csv", map(vars, book.taxes))
    for name, rows in vars(book).items():
        if rows and name not in ("accounts", "skus", "prices", "taxes"):
            _write_csv(folder / f"{name}.csv", map(vars, rows))


def _price_row(price: PriceTier) -> dict[str, Any]:
    return vars(price) | {f"attr.{name}": value for name, value in price.attributes.items()}


def _write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Rows as a CSV file; the columns of the first row unless they are given."""
    written = list(rows)
    names = columns or list(written[0])
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows({name: _text(value) for name, value in row.items()} for row in written)


def _text(value: object) -> str:
    """A value as a book file spells it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            return f"{value:f}"
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case tuple():
            return " ".join(value)
        case _:
            return str(value)


def usage_table(records: Sequence[Usage], attributes: Sequence[str]) -> pa.Table:
    """Usage as meters deliver it; ``attr.NAME`` columns only where a world has attributes."""
    schema = _USAGE_SCHEMA
    for name in attributes:
        schema = schema.append(pa.field(f"attr.{name}", pa.string()))
    rows = [
        vars(record)
        | {"tags": list(record.tags.items()) if record.tags is not None else None}
        | {f"attr.{name}": record.attributes.get(name) for name in attributes}
        for record in records
    ]
    return pa.Table.from_pylist(rows, schema=schema)
