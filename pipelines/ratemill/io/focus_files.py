"""FOCUS datasets as files: Parquet or CSV, each with its schema beside it, and the manifest last of all."""

from __future__ import annotations

import hashlib
import json
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ratemill import __version__
from ratemill.io.atomic import PRIVATE_FOLDER
from ratemill.tables.focus import JSON, SCHEMA_CREATED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ratemill.tables.columns import Column
    from ratemill.tables.focus import Dataset

FileFormat = Literal["parquet", "csv"]
MANIFEST = "manifest.json"
METADATA = "metadata"
_ROW_GROUP = 250_000
_ID_NAMESPACE = uuid.UUID("6ad9ff2c-9a3c-5d53-9ec1-7cc4aa1a1a57")
"""SchemaIds are made from it and the columns: equal columns have equal ids, everywhere."""


@dataclass(frozen=True)
class FocusSchema:
    """What the specification wants to be said about a dataset's columns."""

    version: str
    dataset: Dataset

    @property
    def columns(self) -> list[dict[str, Any]]:
        """ColumnDefinition."""
        return [_definition(column) for column in self.dataset.table.columns]

    @property
    def schema_id(self) -> str:
        """Identity of version, dataset and columns."""
        return str(uuid.uuid5(_ID_NAMESPACE, json.dumps([self.version, self.dataset.title, self.columns])))

    def as_json(self) -> dict[str, Any]:
        """The schema as a file of its own holds it."""
        return {
            "SchemaId": self.schema_id,
            "FocusVersion": self.version,
            "CreationDate": SCHEMA_CREATED,
            "DataGeneratorVersion": __version__,
            "DatasetName": self.dataset.title,
            "ColumnDefinition": self.columns,
        }


class DatasetWriter(Protocol):
    """Appends frames to the file of a dataset."""

    rows: int

    def write(self, rows: pl.DataFrame) -> None:
        """Append ``rows``, which have at least the dataset's columns."""


@contextmanager
def dataset_writer(folder: Path, schema: FocusSchema, file_format: FileFormat) -> Iterator[DatasetWriter]:
    """Write one dataset into ``folder``; its file is whole when the block ends."""
    path = folder / f"{schema.dataset.file}.{file_format}"
    with ExitStack() as stack:
        if file_format == "parquet":
            arrow = _arrow_schema(schema)
            yield _ParquetWriter(schema, stack.enter_context(pq.ParquetWriter(path, arrow, compression="zstd")), arrow)
        else:
            yield _CsvWriter(schema, stack.enter_context(path.open("w", encoding="utf-8", newline="")))


class _ParquetWriter:
    def __init__(self, schema: FocusSchema, writer: pq.ParquetWriter, arrow: pa.Schema) -> None:
        self.rows = 0
        self._schema, self._writer, self._arrow = schema, writer, arrow

    def write(self, rows: pl.DataFrame) -> None:
        table = self._schema.dataset.table.conform(rows).rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        self._writer.write_table(table.cast(self._arrow), row_group_size=_ROW_GROUP)
        self.rows += rows.height


class _CsvWriter:
    """Numbers without zeros at the end, instants as FOCUS writes them, null as an empty field."""

    def __init__(self, schema: FocusSchema, stream: IO[str]) -> None:
        self.rows = 0
        self._schema, self._stream = schema, stream
        self._stream.write(",".join(schema.dataset.table.names) + "\n")

    def write(self, rows: pl.DataFrame) -> None:
        table = self._schema.dataset.table
        texts = table.conform(rows).select(_as_text(column) for column in table.columns)
        self._stream.write(texts.write_csv(include_header=False, quote_style="necessary", null_value=""))
        self.rows += rows.height


def _as_text(column: Column) -> pl.Expr:
    value = pl.col(column.name)
    if isinstance(column.dtype, pl.Decimal):
        return value.cast(pl.String).str.replace(r"\.?0+$", "")
    if isinstance(column.dtype, pl.Datetime):
        return value.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return value


def write_metadata(folder: Path, schemas: list[FocusSchema], *, generator: str) -> None:
    """``metadata/``: who made the data, and the schema of each dataset."""
    target = folder / METADATA
    target.mkdir(mode=PRIVATE_FOLDER)
    _write_json(target / "data_generator.json", {"DataGenerator": generator})
    for schema in schemas:
        _write_json(target / f"schema_{schema.dataset.file}.json", schema.as_json())


def write_manifest(folder: Path, facts: Mapping[str, Any], rows: Mapping[str, int]) -> dict[str, Any]:
    """``manifest.json``: ``facts``, and rows and hash of every file there is. Where it is, everything is.

    ``rows``: name of the file → rows in it, of those that have rows.
    """
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            **({"rows": rows[path.name]} if path.name in rows else {}),
            "sha256": _sha256(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {**facts, "files": files}
    _write_json(folder / MANIFEST, manifest)
    return manifest


def is_export(folder: Path) -> bool:
    """Whether ``folder`` is a former export, which a new one may replace."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and "focus_version" in manifest


def _definition(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {"ColumnName": column.name, "DataType": _data_type(column)}
    if isinstance(column.dtype, pl.Decimal):
        found |= {"NumericPrecision": column.dtype.precision, "NumberScale": column.dtype.scale}
    if found["DataType"] in ("STRING", JSON):
        found["StringEncoding"] = "UTF-8"
    if column.name == "Tags":
        found["ProviderTagPrefixes"] = []
    return found | {"Deprecated": False}


def _data_type(column: Column) -> str:
    if column.unit == JSON:
        return JSON
    return {pl.Decimal: "DECIMAL", pl.Datetime: "DATETIME", pl.Int32: "INTEGER"}.get(
        column.dtype.base_type(), "STRING"
    )  # fmt: skip


def _arrow_schema(schema: FocusSchema) -> pa.Schema:
    said = {b"FocusVersion": schema.version.encode(), b"SchemaId": schema.schema_id.encode()}
    fields = [pa.field(c.name, _arrow_type(c), nullable=c.nullable) for c in schema.dataset.table.columns]
    return pa.schema(fields, metadata=said)


def _arrow_type(column: Column) -> pa.DataType:
    if isinstance(column.dtype, pl.Decimal):
        return pa.decimal128(column.dtype.precision, column.dtype.scale)
    if isinstance(column.dtype, pl.Datetime):
        return pa.timestamp("us", "UTC")
    return pa.int32() if column.dtype == pl.Int32 else pa.string()


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
