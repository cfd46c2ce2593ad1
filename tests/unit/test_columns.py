"""The contract of a table: the one query that proves a frame says the same as pandera, which tells what is wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pandera.errors
import polars as pl
import pytest

from ratemill.money import AMOUNT
from ratemill.tables.book import EVERY_BOOK_TABLE
from ratemill.tables.columns import INSTANT, TEXT, Column, Table
from ratemill.usage import intake

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)
THINGS = Table(
    "things",
    "a thing of a day",
    (
        Column("thing_id", TEXT, "Its name", max_length=4),
        Column("since", INSTANT, "From when on", nullable=True),
        Column("colour", TEXT, "Its colour", nullable=True, one_of=("red", "blue")),
        Column("weight", AMOUNT, "At least this", nullable=True, minimum=Decimal(1)),
        Column("size", AMOUNT, "More than this", nullable=True, above=Decimal(1)),
        Column("share", AMOUNT, "At most this", nullable=True, maximum=Decimal(100)),
    ),
    key=("thing_id", "since"),
)
GOOD = {
    "thing_id": "tree", "since": NOON, "colour": "red", "weight": Decimal(1), "size": Decimal(2), "share": Decimal(100),
}  # fmt: skip
NOTHING = dict.fromkeys(GOOD) | {"thing_id": "é" * 4}

KEEPS = {
    "no row": [],
    "one at its limits": [GOOD],
    "one without all that may be left out": [NOTHING],
    "two that differ in a part of the key": [GOOD, GOOD | {"since": None}, GOOD | {"thing_id": "bush"}],
}
BREAKS = {
    "no name": [GOOD, GOOD | {"thing_id": None}],
    "a name of five characters": [GOOD | {"thing_id": "bushé"}],
    "a colour that is none": [GOOD, NOTHING | {"colour": "Red"}],
    "too light": [GOOD | {"weight": Decimal("0.9999")}],
    "as large as it must be larger than": [GOOD | {"size": Decimal(1)}],
    "more than the whole": [GOOD | {"share": Decimal("100.0001")}],
    "two of one key": [GOOD, GOOD | {"colour": "blue"}],
    "two of one key that is empty in part": [NOTHING, NOTHING | {"colour": "blue"}],
}


def things(rows: list[dict[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=THINGS.polars_schema, orient="row")


@pytest.mark.parametrize("rows", KEEPS.values(), ids=KEEPS)
def test_what_keeps_the_contract_keeps_it_by_both(rows: list[dict[str, object]]) -> None:
    frame = things(rows)
    assert THINGS.is_kept_by(frame)
    assert THINGS.pandera_schema.validate(frame, lazy=True).equals(frame)
    assert THINGS.validate(frame).equals(frame)


@pytest.mark.parametrize("rows", BREAKS.values(), ids=BREAKS)
def test_what_breaks_the_contract_breaks_it_by_both(rows: list[dict[str, object]]) -> None:
    assert not THINGS.is_kept_by(things(rows))
    with pytest.raises(pandera.errors.SchemaErrors):
        THINGS.validate(things(rows))


def test_values_of_another_type_break_it() -> None:
    other = things([GOOD]).with_columns(pl.col("weight").cast(pl.Decimal(38, 2)))
    assert not THINGS.is_kept_by(other)
    with pytest.raises(pandera.errors.SchemaErrors, match="weight"):
        THINGS.validate(other)


def test_columns_are_asked_for_by_name_and_given_in_order() -> None:
    shuffled = things([GOOD]).select("share", "size", pl.lit(1).alias("more"), *THINGS.names[:4])
    assert THINGS.validate(shuffled).columns == THINGS.names


@pytest.mark.parametrize("table", [*EVERY_BOOK_TABLE, intake._SERIES, intake._ROWS], ids=lambda table: table.name)
def test_each_rule_of_a_column_is_in_both(table: Table) -> None:
    for column in table.columns:
        assert len(column.kept()) == len(column.checks()) + (not column.nullable), column.name


def test_an_empty_frame_is_its_owners_alone() -> None:
    """It is made once; whoever renames its columns renames no other's."""
    mine = THINGS.empty()
    mine.columns = [name.upper() for name in mine.columns]
    assert THINGS.empty().columns == THINGS.names
