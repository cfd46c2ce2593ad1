"""Split one file's raw rows into usage that keeps every rule and rejects that say why not.

What repeats hour after hour (account, resource, SKU, tags …) is taken out of the rows as *series*, so that text is
checked once per series instead of once per hour, and a stored row is a few bytes.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.money import QUANTITY, QUANTITY_DECIMALS
from ratemill.tables.columns import INSTANT, Table
from ratemill.tables.usage import ATTRIBUTE_PREFIX, ID_LENGTH, ROW_COLUMNS, SERIES_COLUMNS

if TYPE_CHECKING:
    from datetime import datetime

    from ratemill.usage.mapping import ColumnMapping

SERIES_NAMES = [column.name for column in SERIES_COLUMNS]
ROW_NAMES = [column.name for column in ROW_COLUMNS]
REJECT_SCHEMA = {"row_number": pl.Int64, "column": pl.String, "value": pl.String, "rule": pl.String,
                 "message": pl.String}  # fmt: skip
SHOWN_VALUE_LENGTH = 200
LONGEST_TAGS_TEXT = 65_536
"""Longest tags as the file spells them; the canonical spelling is shorter."""


@dataclass(frozen=True)
class Intake:
    """What one slice of a file came to. Rows in = filtered + rejected + accepted."""

    rows: pl.DataFrame
    """Accepted: row_number, series (index into ``series``), usage_start, usage_end, quantity, record_id."""
    series: pl.DataFrame
    """series, and the columns of SERIES_COLUMNS; no two rows are the same."""
    rejects: pl.DataFrame
    """row_number, column, value, rule, message: one row per broken rule, in file order."""
    rows_in: int
    rows_filtered: int
    rows_rejected: int


@dataclass
class Tally:
    """What a whole file came to, slice by slice."""

    rows_in: int = 0
    rows_filtered: int = 0
    rows_accepted: int = 0
    rows_rejected: int = 0
    first_usage_start: datetime | None = None
    last_usage_start: datetime | None = None

    def add(self, intake: Intake) -> None:
        """Count the next slice."""
        self.rows_in += intake.rows_in
        self.rows_filtered += intake.rows_filtered
        self.rows_rejected += intake.rows_rejected
        self.rows_accepted += intake.rows.height
        if intake.rows.height:
            first, last = intake.rows.select(
                pl.col("usage_start").min().alias("first"), pl.col("usage_start").max().alias("last")
            ).row(0)
            self.first_usage_start = min(first, self.first_usage_start or first)
            self.last_usage_start = max(last, self.last_usage_start or last)


def take_in(raw: pl.DataFrame, mapping: ColumnMapping, *, first_row: int = 1) -> Intake:
    """Map, normalise and check a slice of a usage file whose first row has number ``first_row``."""
    numbers = pl.int_range(first_row, first_row + raw.height, dtype=pl.Int64, eager=True).alias("row_number")
    kept = raw
    if mapping.filters:
        keep = _kept(raw, mapping)
        kept, numbers = raw.filter(keep), numbers.filter(keep)
    coded, raw_series = _code_series(_mapped(kept, mapping), numbers)
    series, series_failures = _check_series(raw_series)
    rows = _normalise_rows(coded)
    row_failures = _check_rows(rows, coded)
    rejects = _rejects(coded, row_failures, series_failures)
    bad = rejects.select("row_number").unique()
    accepted = rows.select("row_number", "series", *ROW_NAMES)
    if bad.height:
        accepted = accepted.join(bad, on="row_number", how="anti", maintain_order="left")
    series = _merge_equal_series(series)
    accepted = _with_merged_series(accepted, series)
    return Intake(
        rows=accepted,
        series=series.select("series", *SERIES_NAMES).unique("series", keep="first", maintain_order=True)
        .join(accepted.select("series").unique(), on="series", how="semi", maintain_order="left"),
        rejects=rejects,
        rows_in=raw.height,
        rows_filtered=raw.height - kept.height,
        rows_rejected=bad.height,
    )  # fmt: skip


def _kept(raw: pl.DataFrame, mapping: ColumnMapping) -> pl.Series:
    """Which rows the filter keeps."""
    keep = pl.all_horizontal(
        pl.col(column).cast(pl.String).is_in(list(values)) for column, values in mapping.filters.items()
    )
    return raw.select(keep.fill_null(False)).to_series()


def _mapped(raw: pl.DataFrame, mapping: ColumnMapping) -> pl.DataFrame:
    """Our names; optional columns a file lacks become null; attributes are still a column each."""
    attributes = [name for name in mapping.columns if name.startswith(ATTRIBUTE_PREFIX)]
    columns = [_text(raw, mapping.columns[name], ID_LENGTH).alias(name) for name in sorted(attributes)]
    for column in (*SERIES_COLUMNS, *ROW_COLUMNS):
        if column.name == "attributes":
            continue
        theirs = mapping.columns.get(column.name)
        if theirs is None:
            missing_type = column.dtype if column.name != "quantity" else QUANTITY
            columns.append(pl.lit(None, dtype=missing_type).alias(column.name))
        elif column.name == "tags" and raw.schema[theirs] == pl.String:
            columns.append(_text(raw, theirs, LONGEST_TAGS_TEXT).alias(column.name))
        elif column.name in ("quantity", "tags", "usage_start", "usage_end"):
            columns.append(pl.col(theirs).alias(column.name))
        else:
            columns.append(_text(raw, theirs, column.max_length or ID_LENGTH).alias(column.name))
    return raw.select(columns)


def _text(raw: pl.DataFrame, name: str, most: int) -> pl.Expr:
    """A column as text, values longer than ``most`` cut behind the next character: rejected, and of bounded size.

    A file can repeat one huge text in millions of rows for a few bytes; hashing or copying it would never end.
    """
    column, dtype = pl.col(name), raw.schema[name]
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return column.cat.slice(0, most + 1)  # shares its texts between rows, which a cast copies
    longest = raw[name].str.len_bytes().max() if dtype == pl.String else 0
    if isinstance(longest, int) and longest > most:
        return column.str.slice(0, most + 1)
    return column.cast(pl.String)


def _code_series(mapped: pl.DataFrame, numbers: pl.Series) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows with a ``series`` number in place of the repeating columns, and those columns once per number.

    Rows are matched by two 64-bit hashes with seeds drawn anew in each process, so that nobody can prepare two
    combinations that collide; equal numbers never leave this function, so the result does not depend on the seeds.
    Hashes and numbers stay apart from the wide columns, which Polars would copy to lay them beside each other.
    """
    keys = mapped.drop(ROW_NAMES)
    hashes = pl.DataFrame({"_h1": keys.hash_rows(secrets.randbits(64)), "_h2": keys.hash_rows(secrets.randbits(64))})
    known = (
        hashes.with_row_index("_first")
        .unique(["_h1", "_h2"], keep="first", maintain_order=True)
        .with_row_index("series")
    )
    series = hashes.join(known, on=["_h1", "_h2"], how="left", maintain_order="left", validate="m:1")["series"]
    coded = mapped.select(ROW_NAMES).with_columns(numbers, series)
    return coded, keys[known["_first"]].with_row_index("series")


def _check_series(raw_series: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Series with canonical tags and attributes, and their failures (series, column, value, rule, message)."""
    texts = [name for name in raw_series.columns if name not in ("series", "tags")]
    blank_is_empty = pl.when(pl.col(texts) != "").then(pl.col(texts))
    series, bad_tags = _canonical_tags(_with_attributes(raw_series.with_columns(blank_is_empty)))
    failures = _failures(_SERIES, series.select(SERIES_NAMES)).with_columns(series=pl.col("index").cast(pl.UInt32))
    return series, pl.concat([failures.drop("index"), bad_tags], how="diagonal_relaxed")


def _with_attributes(series: pl.DataFrame) -> pl.DataFrame:
    """The ``attr.*`` columns as one JSON object of strings with sorted keys; no attribute is null."""
    columns = [name for name in series.columns if name.startswith(ATTRIBUTE_PREFIX)]
    if not columns:
        return series.with_columns(attributes=pl.lit(None, dtype=pl.String))
    encoded = series.select(pl.struct(columns).struct.json_encode()).to_series()
    spellings = encoded.unique()
    known = [
        {name.removeprefix(ATTRIBUTE_PREFIX): value for name, value in json.loads(text).items() if value is not None}
        for text in spellings
    ]
    table = pl.DataFrame(
        {
            "_spelling": spellings,
            "attributes": pl.Series([_json(row) if row else None for row in known], dtype=pl.String),
        }
    )
    return (
        series.drop(columns)
        .with_columns(_spelling=encoded)
        .join(table, on="_spelling", how="left", maintain_order="left", validate="m:1")
        .drop("_spelling")
    )


def _json(texts: dict[str, str]) -> str:
    return json.dumps(texts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _canonical_tags(series: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tags of any accepted type as a JSON object of strings with sorted keys; no tags is null."""
    # Each spelling is parsed once, however many series share it.
    tags = series.select("tags")
    series = series.with_columns(
        _t1=tags.hash_rows(secrets.randbits(64)),
        _t2=tags.hash_rows(secrets.randbits(64)),
    )
    spellings = series.select("_t1", "_t2", "tags").unique(["_t1", "_t2"], keep="first", maintain_order=True)
    texts, parsed = _parsed_tags(spellings["tags"])
    table = spellings.select(
        "_t1",
        "_t2",
        _spelling=pl.Series(texts, dtype=pl.String),
        tags=pl.Series([canonical for canonical, _ in parsed], dtype=pl.String),
        message=pl.Series([message for _, message in parsed], dtype=pl.String),
    )
    joined = series.drop("tags").join(
        table, on=["_t1", "_t2"], how="left", maintain_order="left", validate="m:1"
    ).drop("_t1", "_t2")  # fmt: skip
    bad = joined.filter(pl.col("message").is_not_null()).select(
        "series", column=pl.lit("tags"), value="_spelling", rule=pl.lit("tags"), message="message"
    )
    return joined.drop("_spelling", "message"), bad


def _parsed_tags(tags: pl.Series) -> tuple[list[str | None], list[tuple[str | None, str | None]]]:
    """Each value as text for messages, and what it came to; see :func:`_canonical`."""
    if tags.dtype in (pl.String, pl.Null):
        texts: list[str | None] = tags.cast(pl.String).to_list()
        return texts, [_parse_json(text) if text is not None else (None, None) for text in texts]
    maps = tags.to_frame().select(pl.col("tags").cast(pl.List(pl.Struct({"key": pl.String, "value": pl.String}))))
    pairs = [None if one is None else [(pair["key"], pair["value"]) for pair in one] for one in maps["tags"].to_list()]
    return (
        [None if one is None else json.dumps(one, ensure_ascii=False) for one in pairs],
        [(None, None) if one is None else _canonical(one) for one in pairs],
    )


def _parse_json(text: str) -> tuple[str | None, str | None]:
    try:
        data = json.loads(text, object_pairs_hook=list, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None, "must be a JSON object of texts"
    if not isinstance(data, list) or not all(isinstance(entry, tuple) for entry in data):
        return None, "must be a JSON object of texts"
    return _canonical(data)


def _canonical(pairs: list[tuple[Any, Any]]) -> tuple[str | None, str | None]:
    """Tags in their one spelling, or the reason why there are none: a pair of which one is null."""
    tags: dict[str, str] = {}
    for key, value in pairs:
        if key is None:
            return None, "must name every tag; one has no name"
        if key in tags:
            return None, f"must name each tag once; {key!r} stands twice"
        if isinstance(value, list):
            return None, f"must not be nested; {key!r} is"
        tags[key] = "" if value is None else str(value).lower() if isinstance(value, bool) else value
    if not tags:
        return None, None
    canonical = _json(tags)
    if not canonical.isascii() and any("\ud800" <= letter <= "\udfff" for letter in canonical):
        return None, "must be Unicode text; half a surrogate pair is none"
    return canonical, None


def _normalise_rows(coded: pl.DataFrame) -> pl.DataFrame:
    """Instants at microseconds UTC, the end defaulting to one hour after the start, the quantity a decimal."""
    start = pl.col("usage_start").dt.convert_time_zone("UTC").cast(INSTANT)
    end = pl.col("usage_end").dt.convert_time_zone("UTC").cast(INSTANT)
    return coded.with_columns(
        usage_start=start,
        usage_end=end.fill_null(start + pl.duration(hours=1)),
        quantity=_quantity(coded.schema["quantity"]),
    )


def _quantity(dtype: pl.DataType) -> pl.Expr:
    quantity = pl.col("quantity")
    if dtype.is_float():
        # The shortest decimal that reads back as the same float is what its writer meant (docs/limits.md).
        quantity = quantity.cast(pl.String)
    return quantity.cast(QUANTITY, strict=False)


def _check_rows(rows: pl.DataFrame, coded: pl.DataFrame) -> pl.DataFrame:
    """Failures of single rows: row_number, column, value, rule, message."""
    failures = [
        _failures(_ROWS, rows.select(ROW_NAMES), always=_IN_ORDER)
        .join(rows.select("row_number").with_row_index("index"), on="index", how="left", validate="m:1")
        .drop("index")
        .filter(pl.col("rule") != "usage_end.empty")  # it follows usage_start, and only that is missing
    ]
    unread = _unread_quantities(rows, coded)
    if unread.height:
        # A value that is no number became null: say what it was instead of calling it empty.
        failures[0] = failures[0].join(
            unread.select("row_number", "column"), on=["row_number", "column"], how="anti", maintain_order="left"
        )
        failures.append(unread)
    return pl.concat(failures, how="diagonal_relaxed")


def _unread_quantities(rows: pl.DataFrame, coded: pl.DataFrame) -> pl.DataFrame:
    """Quantities that are there but are no decimal, or have more decimals than can be kept."""
    dtype = coded.schema["quantity"]
    before, after = coded["quantity"], rows["quantity"]
    not_a_number = before.is_not_null() & after.is_null()
    if dtype == pl.String:
        # 18 decimals are read as well, to see whether 12 keep the value.
        wider = before.cast(pl.Decimal(38, 18), strict=False)
        inexact = (wider != after.cast(pl.Decimal(38, 18), strict=False)).fill_null(False) | before.str.contains(
            r"\.\d{18}\d*[1-9]"
        ).fill_null(False)
    elif isinstance(dtype, pl.Decimal) and dtype.scale > QUANTITY_DECIMALS:
        inexact = (before != after.cast(pl.Decimal(38, dtype.scale), strict=False)).fill_null(False)
    else:
        inexact = pl.repeat(False, rows.height, eager=True)
    if not (not_a_number.any() or inexact.any()):
        return pl.DataFrame(schema=REJECT_SCHEMA)
    seen = pl.DataFrame(
        {"row_number": rows["row_number"], "value": before.cast(pl.String), "no": not_a_number, "inexact": inexact}
    ).filter(pl.col("no") | pl.col("inexact"))
    return seen.select(
        "row_number",
        pl.lit("quantity").alias("column"),
        "value",
        pl.when("no").then(pl.lit("quantity.number")).otherwise(pl.lit("quantity.decimals")).alias("rule"),
        pl.when("no")
        .then(pl.lit("must be a decimal number below 10^26"))
        .otherwise(pl.lit(f"must have at most {QUANTITY_DECIMALS} decimals"))
        .alias("message"),
    )


def _rejects(coded: pl.DataFrame, row_failures: pl.DataFrame, series_failures: pl.DataFrame) -> pl.DataFrame:
    parts = [row_failures.select(*REJECT_SCHEMA)]
    if series_failures.height:
        parts.append(
            coded.select("row_number", "series")
            .join(series_failures, on="series", how="inner", validate="m:m")
            .select(*REJECT_SCHEMA)
        )
    return (
        pl.concat(parts)
        .with_columns(pl.col("value").str.slice(0, SHOWN_VALUE_LENGTH))
        .sort("row_number", "column", "rule")
    )


def _merge_equal_series(series: pl.DataFrame) -> pl.DataFrame:
    """Give series that became equal (tags spelled in another order) the number of the first; ``_was`` keeps the old."""
    return series.with_columns(
        _was=pl.col("series"), series=pl.col("series").first().over(SERIES_NAMES, order_by="series")
    )


def _with_merged_series(accepted: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    if (series["_was"] == series["series"]).all():
        return accepted
    renumbered = series.select(pl.col("_was"), pl.col("series").alias("_new"))
    return (
        accepted.join(renumbered, left_on="series", right_on="_was", how="left", maintain_order="left", validate="m:1")
        .with_columns(series="_new")
        .drop("_new")
    )


def _failures(table: Table, frame: pl.DataFrame, *, always: pl.Expr | None = None) -> pl.DataFrame:
    """What is wrong in ``frame``: index, column, value, rule, message. ``always``: what holds in each row besides.

    One query says whether anything is, as a rule nothing; then pandera says what.
    """
    empty = pl.DataFrame(schema={"index": pl.UInt32, **{k: v for k, v in REJECT_SCHEMA.items() if k != "row_number"}})
    if table.is_kept_by(frame) and (always is None or frame.select(always.all()).item()):
        return empty
    import pandera.polars as pa  # noqa: PLC0415 - takes a second, which usage without mistakes is spared

    checks = [] if always is None else [pa.Check(lambda data: data.lazyframe.select(always), name=_END_AFTER_START)]
    try:
        pa.DataFrameSchema(table.pandera_schema.columns, checks=checks, name=table.name).validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
    else:
        raise AssertionError(f"pandera finds nothing wrong with {table.name} that break their contract")
    if cases["index"].null_count():
        raise AssertionError(f"usage frame has the wrong shape: {cases}")  # our own normalising is wrong
    expected = {column.name: column.expected() for column in table.columns}
    failed: pl.DataFrame = cases.select(
        index=pl.col("index").cast(pl.UInt32),
        column=pl.when(pl.col("check") == _END_AFTER_START).then(pl.lit("usage_end")).otherwise("column"),
        value=pl.when(pl.col("check") == _END_AFTER_START)
        .then(pl.col("failure_case").str.json_path_match("$.usage_end"))
        .otherwise("failure_case"),
        check="check",
    ).select(
        "index",
        "column",
        "value",
        rule=pl.col("column") + "." + pl.col("check").replace_strict(_RULES, default=None).fill_null(
            pl.col("check").str.extract(r"^(\w+)").replace(_RULES)
        ),
        message=pl.when(pl.col("check") == "not_nullable")
        .then(pl.lit("must not be empty"))
        .when(pl.col("check") == _END_AFTER_START)
        .then(pl.lit("must be after usage_start"))
        .otherwise(pl.lit("must be ") + pl.col("column").replace_strict(expected, default="valid")),
    )  # fmt: skip
    return failed


_END_AFTER_START = "usage_end_after_start"
_RULES = {
    "not_nullable": "empty",
    "greater_than_or_equal_to": "minimum",
    "less_than_or_equal_to": "maximum",
    "str_length": "length",
    _END_AFTER_START: "after_start",
}

_SERIES = Table("usage series", "what repeats hour after hour", tuple(SERIES_COLUMNS))
_ROWS = Table("usage rows", "one hour of a series", tuple(ROW_COLUMNS))
_IN_ORDER = (pl.col("usage_end") > pl.col("usage_start")).fill_null(True)
