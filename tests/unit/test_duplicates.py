"""The same usage delivered twice is billed once; two records that contradict each other are not billed at all.

Which copy stays, and what it costs, depends on contents alone: not on the order of files, rows or deliveries.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from ratemill.config import Engine, Usage
from ratemill.errors import ExitCode
from ratemill.io.usage_files import UsageFile
from ratemill.io.warehouse import Warehouse
from ratemill.tables.usage import USAGE_DUPLICATES
from ratemill.usage.duplicates import settle_duplicates
from ratemill.usage.intake import take_in
from ratemill.usage.mapping import ColumnMapping, map_columns
from workspaces import hours, make_workspace

START = datetime(2026, 10, 1, tzinfo=UTC)


# ------------------------------------------------------------------------------------------------- the rule by itself


def record(file_id: int, row_number: int, *, identity: str = "a", **values) -> dict:
    """One of several records that share an identity, as the warehouse finds them."""
    usual = {
        "file_id": file_id, "row_number": row_number, "identity": identity, "usage_end": START + timedelta(hours=1),
        "quantity": Decimal(1), "unit": "Hours", "attributes": None, "usage_start": START, "has_record_id": False,
        "compared_identity": None, "compared_start": None, "resource_name": None, "sha256": f"{file_id:064}",
    }  # fmt: skip
    return usual | values


def settled(*records: dict) -> set[tuple]:
    """(file, row, kind, file and row kept), the same for every order of the records."""
    answers = []
    for order in itertools.islice(itertools.permutations(records), 24):
        frame = pl.DataFrame(list(order), infer_schema_length=None).cast({"file_id": pl.Int32, "row_number": pl.Int64})
        found = settle_duplicates(frame)
        assert found.columns == USAGE_DUPLICATES.names
        answers.append(set(found.select("file_id", "row_number", "kind", "kept_file_id", "kept_row_number").rows()))
    assert all(answer == answers[0] for answer in answers), "the order of records plays a part"
    return answers[0]


def test_of_equal_records_the_one_with_the_smallest_hash_and_row_stays():
    assert settled(record(1, 5), record(1, 9), record(2, 1)) == {(1, 9, "copy", 1, 5), (2, 1, "copy", 1, 5)}


def test_numbers_of_files_play_no_part():
    first, second = record(1, 1, sha256="b" * 64), record(2, 1, sha256="a" * 64)
    assert settled(first, second) == {(1, 1, "copy", 2, 1)}


@pytest.mark.parametrize(
    "difference",
    [{"quantity": Decimal(2)}, {"usage_end": START + timedelta(minutes=30)}, {"unit": "Minutes"}, {"unit": None},
     {"attributes": '{"tier":"gold"}'}, {"compared_identity": 7}, {"compared_start": START}],
)  # fmt: skip
def test_records_that_differ_in_anything_that_counts_are_all_rejected(difference):
    assert settled(record(1, 1), record(1, 2), record(2, 1, **difference)) == {
        (1, 1, "conflict", None, None), (1, 2, "conflict", None, None), (2, 1, "conflict", None, None),
    }  # fmt: skip


def test_a_quantity_is_compared_by_value():
    assert settled(record(1, 1, quantity=Decimal("1.0")), record(2, 1, quantity=Decimal(1))) == {(2, 1, "copy", 1, 1)}


def test_a_name_is_no_difference_but_decides_which_copy_stays():
    named = record(2, 1, resource_name="web")
    assert settled(record(1, 1), named) == {(1, 1, "copy", 2, 1)}


def test_identities_are_settled_apart():
    assert settled(record(1, 1), record(1, 2), record(1, 3, identity="b"), record(1, 4, identity="b", unit="x")) == {
        (1, 2, "copy", 1, 1), (1, 3, "conflict", None, None), (1, 4, "conflict", None, None),
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------- in the warehouse


@contextmanager
def warehouse(folder: Path):
    with Warehouse.open(folder / "state" / "warehouse.duckdb", Engine(threads=1)) as opened:
        yield opened


def deliver(
    opened: Warehouse, name: str, frame: pl.DataFrame, *, sha256: str | None = None, settle: bool = True
) -> None:
    mapping = map_columns(dict(frame.schema), Usage())
    assert isinstance(mapping, ColumnMapping), mapping
    file = UsageFile(Path(name), name, sha256 or name.ljust(64, "0"))
    opened.usage.store_file(file, iter([take_in(frame, mapping)]), settings_sha256="")
    if settle:
        opened.usage.settle_duplicates()


def duplicates(opened: Warehouse) -> list[tuple]:
    names = dict(opened.usage.files().select("file_id", "file").rows())
    found = opened.table("raw", USAGE_DUPLICATES)
    return sorted(
        (names[row["file_id"]], row["row_number"], row["kind"], names.get(row["kept_file_id"]), row["kept_row_number"])
        for row in found.iter_rows(named=True)
    )


def test_copies_within_and_across_files_are_found(tmp_path):
    with warehouse(tmp_path) as opened:
        deliver(opened, "a", pl.concat([hours(count=2), hours(count=1)]))
        deliver(opened, "b", hours(count=3))
        assert duplicates(opened) == [("a", 3, "copy", "a", 1), ("b", 1, "copy", "a", 1), ("b", 2, "copy", "a", 2)]


def test_other_tags_are_another_record_and_another_spelling_of_them_is_not(tmp_path):
    with warehouse(tmp_path) as opened:
        deliver(opened, "a", hours(count=1, tags='{"a":"1","b":"2"}'))
        deliver(opened, "b", hours(count=1, tags='{"b":"2", "a":"1"}'))
        deliver(opened, "c", hours(count=1, tags='{"a":"1"}'))
        assert duplicates(opened) == [("b", 1, "copy", "a", 1)]


@pytest.mark.slow
def test_the_order_of_files_plays_no_part(tmp_path):
    deliveries = {
        "a": hours(count=2, resource_name="web"),
        "b": hours(count=3),
        "c": pl.concat([hours(count=1, first="2026-10-01T02:00:00Z", quantity="7"), hours(count=1)]),
    }
    answers = []
    for number, order in enumerate(itertools.permutations(deliveries)):
        with warehouse(tmp_path / str(number)) as opened:
            for name in order:
                deliver(opened, name, deliveries[name], settle=number % 2 == 0)
            opened.usage.settle_duplicates()
            answers.append(duplicates(opened))
    assert answers[0] == [
        ("b", 1, "copy", "a", 1),
        ("b", 2, "copy", "a", 2),
        ("b", 3, "conflict", None, None),
        ("c", 1, "conflict", None, None),
        ("c", 2, "copy", "a", 1),
    ]
    assert all(answer == answers[0] for answer in answers)


def test_a_copy_is_billed_again_when_its_original_goes(tmp_path):
    with warehouse(tmp_path) as opened:
        deliver(opened, "a", hours(count=2))
        deliver(opened, "b", hours(count=2))
        assert [row[:3] for row in duplicates(opened)] == [("b", 1, "copy"), ("b", 2, "copy")]
        deliver(opened, "a", hours(count=1), sha256="new")
        assert duplicates(opened) == [("a", 1, "copy", "b", 1)], "the smaller hash stays"
        deliver(opened, "a", hours(count=0), sha256="newer")
        assert duplicates(opened) == []


def test_a_conflict_is_settled_when_one_of_its_records_is_corrected(tmp_path):
    with warehouse(tmp_path) as opened:
        deliver(opened, "a", hours(count=1))
        deliver(opened, "b", hours(count=1, quantity="2"))
        assert [row[2] for row in duplicates(opened)] == ["conflict", "conflict"]
        deliver(opened, "b", hours(count=1), sha256="corrected")
        assert duplicates(opened) == [("b", 1, "copy", "a", 1)]


def test_record_ids_are_identities_of_their_own(tmp_path):
    """Two records of one hour with different ids are two; one id twice is one, or a contradiction."""
    with warehouse(tmp_path) as opened:
        deliver(opened, "a", hours(count=2, record_id=pl.Series(["r1", "r2"])))
        deliver(opened, "b", hours(count=2, record_id=pl.Series(["r3", "r2"])))
        assert duplicates(opened) == [("b", 2, "copy", "a", 2)]
        deliver(opened, "c", hours(count=1, first="2026-09-03T00:00:00Z", record_id="r1"))
        assert duplicates(opened) == [
            ("a", 1, "conflict", None, None), ("b", 2, "copy", "a", 2), ("c", 1, "conflict", None, None),
        ]  # fmt: skip
        deliver(opened, "c", hours(count=1, first="2026-09-03T00:00:00Z", record_id="r4"), sha256="corrected")
        assert duplicates(opened) == [("b", 2, "copy", "a", 2)]


def test_a_record_with_an_id_is_no_copy_of_one_without(tmp_path):
    with warehouse(tmp_path) as opened:
        deliver(opened, "a", hours(count=1))
        deliver(opened, "b", hours(count=1, record_id="r1"))
        assert duplicates(opened) == []


# -------------------------------------------------------------------------------------------------- through a run


@pytest.mark.slow
def test_a_run_notices_that_a_record_of_another_month_came_between(tmp_path):
    """The September file has nothing to do with October but for the id of one record, which then contradicts it."""
    october = hours(count=2, record_id=pl.Series(["r1", "r2"]))
    shop = make_workspace(tmp_path, usage=[october], config={"policy": {"max_rejected_share": "1"}})
    assert (shop.run().code, shop.invoice("acme")["totals"]["untaxed"]) == (ExitCode.DONE, "0.20")

    shop.write_usage("september.parquet", hours(count=1, first="2026-09-03T00:00:00Z", record_id="r1"))
    ended = shop.run()
    assert (ended.code, ended.rows["rejected"], ended.rows["billed"]) == (ExitCode.DONE, 1, 1)
    assert ended.finding("usage.record.conflict")["file"] == "usage/usage-0.parquet"
    assert shop.invoice("acme")["totals"]["untaxed"] == "0.10"

    shop.write_usage("september.parquet", hours(count=1, first="2026-09-03T00:00:00Z", record_id="r9"))
    ended = shop.run()
    assert (ended.code, ended.rows["billed"], shop.invoice("acme")["totals"]["untaxed"]) == (ExitCode.DONE, 2, "0.20")
