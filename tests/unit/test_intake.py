"""Reading usage: columns of files, forms of values, and what becomes of each row. Rows in = filtered + rejected + kept."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratemill.config import Usage
from ratemill.io import usage_files
from ratemill.io.usage_files import UsageFile, open_usage_file
from ratemill.tables.usage import ID_LENGTH
from ratemill.usage.intake import Intake, take_in
from ratemill.usage.mapping import ColumnMapping, map_columns
from workspaces import hours


def take(frame: pl.DataFrame, *, first_row: int = 1, **config) -> Intake:
    """The intake of a frame that must map; nothing is lost on the way."""
    mapping = map_columns(dict(frame.schema), Usage(**config))
    assert isinstance(mapping, ColumnMapping), mapping
    taken = take_in(frame.select(mapping.file_columns), mapping, first_row=first_row)
    assert taken.rows_in == taken.rows_filtered + taken.rows_rejected + taken.rows.height == frame.height
    assert set(taken.rows["series"]) == set(taken.series["series"]), "a row without its series, or the reverse"
    return taken


def rejects(taken: Intake) -> list[tuple]:
    return taken.rejects.select("row_number", "column", "rule", "value").rows()


# ---------------------------------------------------------------------------------------------------------- columns


def test_columns_are_found_by_our_names_by_preset_and_by_configuration():
    native = map_columns(dict(hours().schema), Usage())
    assert native.columns["quantity"] == "quantity"
    assert "region" not in native.columns, "optional and absent"
    renamed = hours().rename({"quantity": "Menge"})
    assert map_columns(dict(renamed.schema), Usage(columns={"quantity": "Menge"})).columns["quantity"] == "Menge"
    focus = hours().rename({"account_id": "SubAccountId", "sku_id": "SkuPriceId", "usage_start": "ChargePeriodStart",
                            "quantity": "PricingQuantity"})  # fmt: skip
    mapped = map_columns(dict(focus.schema), Usage(preset="focus"))
    assert (mapped.columns["account_id"], mapped.columns["quantity"]) == ("SubAccountId", "PricingQuantity")
    assert "resource_id" not in mapped.columns, "a preset's optional columns may be missing"


MAPPING_PROBLEMS = [
    # config, columns of the file that are dropped, column named, words of the message, words of the cure
    ({}, ["quantity"], "quantity", "the required column 'quantity' is missing", "add it, or map it"),
    ({"columns": {"region": "zone"}}, [], "zone", "the required column 'zone' is missing", "map it"),
    ({"columns": {"colour": "unit"}}, [], "colour", "'colour', which is no usage column", "use one of account_id"),
    ({"filter": {"Kind": ["Usage"]}}, [], "Kind", "the row filter's column 'Kind' is missing", "[usage.filter]"),
    ({"preset": "focus"}, [], "SubAccountId", "the required column 'SubAccountId' is missing", "map it"),
]


@pytest.mark.parametrize(("config", "dropped", "column", "message", "cure"), MAPPING_PROBLEMS)
def test_a_mapping_that_does_not_fit_says_what_to_write(config, dropped, column, message, cure):
    problems = map_columns(dict(hours().drop(dropped).schema), Usage(**config))
    (problem,) = [problem for problem in problems if problem.column == column]
    assert message in problem.message
    assert cure in problem.cure


def test_every_problem_of_a_file_is_told_at_once():
    wrong = pl.Schema({"account_id": pl.Date, "sku_id": pl.String, "usage_start": pl.Datetime("us"),
                       "quantity": pl.Boolean, "tags": pl.Int64})  # fmt: skip
    assert [(problem.column, problem.message) for problem in map_columns(dict(wrong), Usage())] == [
        ("account_id", "'account_id' is Date, expected text"),
        ("tags", "'tags' is Int64, expected a map of text to text, or JSON text"),
        ("usage_start", "'usage_start' is a timestamp without a time zone, so its instants are ambiguous"),
        ("quantity", "'quantity' is Boolean, expected a decimal number"),
    ]


# ------------------------------------------------------------------------------------------------------------ forms


def test_instants_of_any_zone_and_precision_become_microseconds_utc():
    paris = hours(count=2, first="2026-10-25T00:00:00Z").with_columns(  # 02:00 summer time and 02:00 winter time
        pl.col("usage_start").dt.convert_time_zone("Europe/Paris").cast(pl.Datetime("ns", "Europe/Paris"))
    )
    rows = take(paris).rows
    assert rows.schema["usage_start"] == pl.Datetime("us", "UTC")
    assert rows["usage_start"].to_list() == [datetime(2026, 10, 25, hour, tzinfo=UTC) for hour in (0, 1)]


def test_the_end_is_an_hour_after_the_start_unless_given_and_must_be_after_it():
    start = hours(count=3)["usage_start"]
    given = pl.Series([start[0].replace(minute=15), None, start[2]], dtype=start.dtype)
    taken = take(hours(count=3).with_columns(usage_end=given))
    assert (taken.rows["usage_end"] - taken.rows["usage_start"]).dt.total_minutes().to_list() == [15, 60]
    assert [reject[:3] for reject in rejects(taken)] == [(3, "usage_end", "usage_end.after_start")]


def test_an_empty_start_is_one_mistake_and_not_two():
    taken = take(hours(count=1).with_columns(usage_start=pl.lit(None, dtype=pl.Datetime("us", "UTC"))))
    assert rejects(taken) == [(1, "usage_start", "usage_start.empty", None)]


QUANTITIES = [
    # as the file holds it, what is kept or the rule that is broken
    (pl.Series(["1", "0.000000000001", " 2"], dtype=pl.String), ["1", "0.000000000001", "quantity.number"]),
    (pl.Series(["1e3", "+1", "-0"], dtype=pl.String), ["1000", "1", "0"]),
    (pl.Series(["0.0000000000001", "1.5000000000000000", ""], dtype=pl.String),
     ["quantity.decimals", "1.5", "quantity.number"]),
    (pl.Series(["1000000000000000000", "1000000000000000001", "9" * 40], dtype=pl.String),
     ["1000000000000000000", "quantity.maximum", "quantity.number"]),
    (pl.Series([7, 0, -1], dtype=pl.Int64), ["7", "0", "quantity.minimum"]),
    (pl.Series([2**64 - 1, 3, None], dtype=pl.UInt64), ["quantity.maximum", "3", "quantity.empty"]),
    (pl.Series([Decimal("0.5"), Decimal(0), None], dtype=pl.Decimal(10, 1)), ["0.5", "0", "quantity.empty"]),
    (pl.Series([Decimal("1e-15"), Decimal("1.250"), Decimal(3)], dtype=pl.Decimal(38, 15)),
     ["quantity.decimals", "1.25", "3"]),
    (pl.Series([Decimal(10) ** 30, Decimal(1), Decimal(2)], dtype=pl.Decimal(38, 0)), ["quantity.number", "1", "2"]),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), QUANTITIES)
def test_quantities_are_kept_exactly_or_not_at_all(given, expected):
    taken = take(hours(count=3).with_columns(quantity=given))
    found = {row: f"{quantity.normalize():f}" for row, quantity in taken.rows.select("row_number", "quantity").rows()}
    found |= {row: rule for row, _, rule, _ in rejects(taken)}
    assert [found[row] for row in (1, 2, 3)] == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [(0.1, "0.1"), (1e-7, "0.0000001"), (1e15, "1000000000000000"), (0.1 + 0.2, "0.3"), (1 / 3, "0.333333333333")],
)
def test_floats_are_read_as_they_print(given, expected):
    frame = hours(count=1).with_columns(quantity=pl.Series([given]))
    (quantity,) = take(frame, float_quantity="as_text").rows["quantity"]
    assert f"{quantity.normalize():f}" == expected


def test_ids_may_be_numbers_categories_and_enumerations():
    frame = hours(count=2).with_columns(
        account_id=pl.Series([42, 42], dtype=pl.Int64),
        resource_id=pl.Series(["a", "b"], dtype=pl.Categorical),
        sku_id=pl.Series(["vm", "disk"], dtype=pl.Enum(["disk", "vm"])),
    )
    assert take(frame).series.select("account_id", "resource_id", "sku_id").rows() == [
        ("42", "a", "vm"), ("42", "b", "disk"),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical])
def test_a_text_longer_than_allowed_is_rejected_whatever_its_type(dtype):
    longest, too_long = "ü" * ID_LENGTH, "ü" * (ID_LENGTH + 1)
    taken = take(hours(count=3).with_columns(resource_id=pl.Series([longest, too_long, too_long * 99], dtype=dtype)))
    assert taken.series["resource_id"].to_list() == [longest]
    assert [reject[:3] for reject in rejects(taken)] == [
        (2, "resource_id", "resource_id.length"), (3, "resource_id", "resource_id.length"),
    ]  # fmt: skip
    assert all(len(value) == 200 for value in taken.rejects["value"]), "enough to recognise it"


def test_an_empty_text_is_no_value():
    taken = take(hours(count=1).with_columns(resource_id=pl.lit("")))
    assert taken.series["resource_id"].to_list() == [None]


# ------------------------------------------------------------------------------------------------------------- tags


def tag_map(*rows: list[tuple[str, str | None]] | None) -> pl.Series:
    return pl.Series(pl.from_arrow(pa.array(rows, pa.map_(pa.string(), pa.string()))))


TAGS = [
    # form, value, canonical spelling
    ("map", [("b", "2"), ("a", "1")], '{"a":"1","b":"2"}'),
    ("map", [("a", None)], '{"a":""}'),
    ("map", [], None),
    ("map", None, None),
    ("map", [("ä", '"quoted"\n')], '{"ä":"\\"quoted\\"\\n"}'),
    ("text", '{"b": "2", "a": "1"}', '{"a":"1","b":"2"}'),
    ("text", '{"a": null, "b": true, "c": 1.50, "d": 10000000000000000000001}',
     '{"a":"","b":"true","c":"1.50","d":"10000000000000000000001"}'),
    ("text", "{}", None),
    ("text", None, None),
    ("text", '{"a": "\\ud83d\\ude80"}', '{"a":"🚀"}'),
]  # fmt: skip


@pytest.mark.parametrize(("form", "value", "canonical"), TAGS)
def test_tags_have_one_spelling(form, value, canonical):
    tags = tag_map(value) if form == "map" else pl.Series([value], dtype=pl.String)
    assert take(hours(count=1).with_columns(tags=tags)).series["tags"].to_list() == [canonical]


BAD_TAGS = [
    ("text", "", "must be a JSON object of texts"),
    ("text", "env=prod", "must be a JSON object of texts"),
    ("text", '["a"]', "must be a JSON object of texts"),
    ("text", '"a"', "must be a JSON object of texts"),
    ("text", '{"a": {"b": 1}}', "must not be nested; 'a' is"),
    ("text", '{"tags": [{"key": "a", "value": "b"}]}', "must not be nested; 'tags' is"),
    ("text", '{"a": 1, "a": 1}', "must name each tag once; 'a' stands twice"),
    ("text", '{"a": "\\udc00"}', "must be Unicode text; half a surrogate pair is none"),
    ("text", "[" * 100_000, "must be a JSON object of texts"),
    ("map", [("a", "1"), ("a", "2")], "must name each tag once; 'a' stands twice"),
]


@pytest.mark.parametrize(("form", "value", "message"), BAD_TAGS)
def test_tags_that_are_none_are_rejected_with_the_reason(form, value, message):
    tags = tag_map([("fine", "")], value) if form == "map" else pl.Series(["{}", value], dtype=pl.String)
    taken = take(hours(count=2).with_columns(tags=tags))
    assert taken.rejects.select("row_number", "column", "rule", "message").rows() == [(2, "tags", "tags", message)]


# ----------------------------------------------------------------------------------------------------------- series


def test_series_that_turn_out_equal_are_one():
    """Tags in another order, an empty text for no text: three spellings of one thing, in every hour of three."""
    frame = pl.concat(
        hours(count=3).with_columns(tags=pl.lit(tags), resource_id=pl.lit(resource))
        for tags, resource in (('{"a":"1","b":"2"}', "vm"), ('{"b":"2","a":"1"}', "vm"), ('{"a":"1","b":"2"}', "vm "))
    )
    taken = take(frame)
    assert taken.series.select("resource_id", "tags").rows() == [
        ("vm", '{"a":"1","b":"2"}'), ("vm ", '{"a":"1","b":"2"}'),
    ]  # fmt: skip
    by_series = dict(taken.rows.group_by("series").agg("row_number").rows())
    assert sorted(by_series.values()) == [[1, 2, 3, 4, 5, 6], [7, 8, 9]]


def test_a_series_is_not_rejected_for_one_of_its_rows():
    frame = hours(count=3).with_columns(
        quantity=pl.Series([Decimal(1), Decimal(-1), Decimal(1)], dtype=pl.Decimal(38, 12))
    )
    taken = take(frame)
    assert taken.rows["row_number"].to_list() == [1, 3]
    assert taken.series.height == 1


def test_a_row_that_breaks_three_rules_is_one_rejected_row_with_three_reasons():
    frame = hours(count=2).with_columns(
        account_id=pl.Series(["acme", None], dtype=pl.String),
        quantity=pl.Series([Decimal(1), Decimal(-1)], dtype=pl.Decimal(38, 12)),
        tags=pl.Series([None, "x"], dtype=pl.String),
    )
    taken = take(frame)
    assert taken.rows_rejected == 1
    assert [reject[:3] for reject in rejects(taken)] == [
        (2, "account_id", "account_id.empty"), (2, "quantity", "quantity.minimum"), (2, "tags", "tags"),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------- filter, row numbers


def test_the_filter_keeps_what_it_names_and_counts_the_rest():
    frame = hours(count=5).with_columns(
        Kind=pl.Series(["Usage", "Tax", None, "usage", "Usage"]), Level=pl.Series([1, 1, 1, 1, 2])
    )
    taken = take(frame, filter={"Kind": ["Usage"], "Level": ["1"]})
    assert (taken.rows_filtered, taken.rows["row_number"].to_list()) == (4, [1])


def test_row_numbers_are_those_of_the_file_after_filter_and_rejects():
    frame = hours(count=4).with_columns(
        quantity=pl.Series([Decimal(1), Decimal(-1), Decimal(1), Decimal(-1)], dtype=pl.Decimal(38, 12)),
        Kind=pl.Series(["Tax", "Usage", "Usage", "Usage"]),
    )
    taken = take(frame, first_row=101, filter={"Kind": ["Usage"]})
    assert taken.rows["row_number"].to_list() == [103]
    assert [row for row, *_ in rejects(taken)] == [102, 104]


@pytest.mark.parametrize("row_group", [3, 7, 100])
def test_row_numbers_run_on_across_slices_and_row_groups(tmp_path, monkeypatch, row_group):
    monkeypatch.setattr(usage_files, "SMALLEST_SLICE", 1)
    quantity = pl.Series([Decimal(-1 if row in (5, 10) else row) for row in range(1, 11)], dtype=pl.Decimal(38, 12))
    path = tmp_path / "usage.parquet"
    pq.write_table(hours(count=10).with_columns(quantity=quantity).to_arrow(), path, row_group_size=row_group)
    opened = open_usage_file(UsageFile(path, "usage.parquet", ""), Usage(), most_rows=4)
    taken = [take_in(frame, opened.mapping, first_row=first) for first, frame in opened.slices()]
    assert [one.rows_in for one in taken] == [4, 4, 2]
    kept = {row: quantity for one in taken for row, quantity in one.rows.select("row_number", "quantity").rows()}
    assert kept == {row: row for row in (1, 2, 3, 4, 6, 7, 8, 9)}
    assert [row for one in taken for row, *_ in rejects(one)] == [5, 10]
    assert {account for one in taken for account in one.series["account_id"]} == {"acme"}
