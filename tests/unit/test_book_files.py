"""Reading the book: what a spreadsheet may save, what each cell becomes, and what the hash depends on."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratemill.book.checks import check_book
from ratemill.book.model import SOURCE_DEFAULTS, SOURCE_FILE, SOURCE_ROW, SOURCE_SCHEMA, Book, without_rows
from ratemill.io.book_files import read_book
from ratemill.tables.book import BOOK_TABLES, EVERY_BOOK_TABLE, PRICES, REQUIRED_BOOK_TABLES
from ratemill.tables.columns import INSTANT

if TYPE_CHECKING:
    from ratemill.findings import Finding

GOOD = Path(__file__).parents[1] / "broken" / "book" / "_good"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the good book, to change."""
    shutil.copytree(GOOD, tmp_path / "book")
    return tmp_path / "book"


def book_of(folder: Path, time_zone: str = "Europe/Paris") -> Book:
    book, findings = read_book(folder, time_zone=time_zone)
    assert book is not None, [str(finding) for finding in findings]
    assert findings == []
    return book


def findings_of(folder: Path) -> list[Finding]:
    book, findings = read_book(folder, time_zone="Europe/Paris")
    assert book is None
    return findings


def write_prices(folder: Path, *rows: str, header: str = "price_id,sku_id,currency,unit_price,valid_from") -> None:
    (folder / "prices.csv").write_text("\n".join([header, *rows]) + "\n")


def test_book_has_every_table_and_keeps_every_contract(folder: Path) -> None:
    book = book_of(folder)
    assert list(Book.__dataclass_fields__) == [table.name for table in EVERY_BOOK_TABLE]
    for table in EVERY_BOOK_TABLE:
        frame = book.frame(table.name)
        assert frame.columns[-3:] == list(SOURCE_SCHEMA)
        assert table.validate(frame).schema == table.polars_schema
    assert book.prices.columns[: len(PRICES.names)] == PRICES.names
    assert book.price_conditions == ["region", "window", "attr.disk_type"]


def test_only_required_tables_need_a_file(folder: Path) -> None:
    for table in BOOK_TABLES:
        if table.name not in (*REQUIRED_BOOK_TABLES, "windows"):
            (folder / f"{table.name}.csv").unlink()
    book = book_of(folder)
    for name in ("projects", "fx_rates"):
        table = next(table for table in BOOK_TABLES if table.name == name)
        assert book.frame(name).equals(without_rows(table))


def test_every_missing_table_is_named(folder: Path) -> None:
    for name in REQUIRED_BOOK_TABLES:
        (folder / f"{name}.csv").unlink()
    found = findings_of(folder)
    assert [finding.file for finding in found] == [
        "book/accounts.csv",
        "book/skus.csv",
        "book/prices.csv",
        "book/taxes.csv",
    ]
    assert {finding.rule for finding in found} == {"book.missing_table"}
    assert "price_id, sku_id, currency" in found[2].cure


def test_no_folder_is_one_finding(tmp_path: Path) -> None:
    (finding,) = findings_of(tmp_path / "book")
    assert finding.rule == "book.missing"
    assert "accounts.csv" in finding.cure


def test_a_table_with_two_files_is_refused(folder: Path) -> None:
    book_of(folder).taxes.drop(SOURCE_SCHEMA).write_parquet(folder / "taxes.parquet")
    (finding,) = findings_of(folder)
    assert finding.rule == "book.two_files"
    assert "taxes.csv and taxes.parquet" in finding.message


def test_notes_and_hidden_files_are_left_alone(folder: Path) -> None:
    for name in ("README.md", ".prices.csv.swp", "~$prices.xlsx", ".~lock.prices.csv"):
        (folder / name).write_text("notes")
    (folder / "old.csv").mkdir()
    book_of(folder)


# value of unit_price as the file spells it → value
NUMBERS = [
    ("0.0074", "0.0074"),
    ("0", "0"),
    ("007.50", "7.5"),
    (" 1.5 ", "1.5"),
    ("0.000000000001", "0.000000000001"),
    ("0.1000000000000000", "0.1"),  # zeros behind the twelfth decimal are nothing to round
    ("99999999999999999999999999.999999999999", "99999999999999999999999999.999999999999"),
]


def test_numbers_are_exact(folder: Path) -> None:
    write_prices(folder, *(f"p{index},disk,EUR,{text}," for index, (text, _) in enumerate(NUMBERS)))
    assert book_of(folder).prices["unit_price"].to_list() == [Decimal(value) for _, value in NUMBERS]


REFUSED_NUMBERS = ["1.5.2", "+1", "1.", ".5", "NaN", "inf", "0x10", "1_000", "١", "5 %", "€5", "−1", "1e400"]  # noqa: RUF001


def test_other_spellings_of_numbers_are_refused(folder: Path) -> None:
    write_prices(folder, *(f"p{index},disk,EUR,{text}," for index, text in enumerate(REFUSED_NUMBERS)))
    found = findings_of(folder)
    assert [(finding.row, finding.value) for finding in found] == list(enumerate(REFUSED_NUMBERS, start=2))
    assert {(finding.file, finding.column) for finding in found} == {("book/prices.csv", "unit_price")}


# time zone of the workspace, what the file says → instant
INSTANTS = [
    ("UTC", "2026-10-01", datetime(2026, 10, 1, tzinfo=UTC)),
    ("Europe/Paris", "2026-10-01", datetime(2026, 9, 30, 22, tzinfo=UTC)),
    ("Europe/Paris", "2026-12-01", datetime(2026, 11, 30, 23, tzinfo=UTC)),
    # the clocks of Cairo went from 00:00 to 01:00 on this day: it begins at 01:00 local time
    ("Africa/Cairo", "2024-04-26", datetime(2024, 4, 25, 22, tzinfo=UTC)),
    # Havana had 00:00 twice on this day: the day begins at the first
    ("America/Havana", "2024-11-03", datetime(2024, 11, 3, 4, tzinfo=UTC)),
    ("Europe/Paris", "2026-10-01T00:00:00Z", datetime(2026, 10, 1, tzinfo=UTC)),
    ("Europe/Paris", "2026-10-01 02:30+02:00", datetime(2026, 10, 1, 0, 30, tzinfo=UTC)),
    ("Europe/Paris", "2026-10-01T02:30:15.123456-0330", datetime(2026, 10, 1, 6, 0, 15, 123456, tzinfo=UTC)),
    ("America/New_York", "9999-12-31", datetime(9999, 12, 31, 5, tzinfo=UTC)),
    ("UTC", "1969-12-31T23:59:59.999999Z", datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
]


@pytest.mark.parametrize(("zone", "text", "instant"), INSTANTS)
def test_a_date_is_local_midnight_and_an_instant_says_its_offset(
    folder: Path, zone: str, text: str, instant: datetime
) -> None:
    write_prices(folder, f"p,disk,EUR,1,{text}")
    assert book_of(folder, zone).prices["valid_from"].to_list() == [instant]


REFUSED_INSTANTS = [
    "2026-10-01T00:00",
    "2026-13-01",
    "2026-10-01T24:00Z",
    "2026-W40-1",
    "20261001",
    "0001-01-01T00:00+14:00",
]


def test_other_spellings_of_instants_are_refused(folder: Path) -> None:
    write_prices(folder, *(f"p{index},disk,EUR,1,{text}" for index, text in enumerate(REFUSED_INSTANTS)))
    found = findings_of(folder)
    assert [(finding.row, finding.value) for finding in found] == list(enumerate(REFUSED_INSTANTS, start=2))
    assert {finding.column for finding in found} == {"valid_from"}


def test_empty_cells_and_columns_get_their_defaults_and_the_row_remembers(folder: Path) -> None:
    write_prices(folder, "p,,disk,EUR,0.5,TRUE", header="price_id,price_list,sku_id,currency,unit_price,tier_reset")
    row = book_of(folder).prices.row(0, named=True)
    assert (row["price_list"], row["mode"], row["scope"], row["flat_fee"]) == ("public", "per_unit", "account", 0)
    assert (row["tier_reset"], row["flat_at_zero"], row["up_to"]) == (True, False, None)
    assert row[SOURCE_DEFAULTS] == "price_list mode flat_fee scope flat_at_zero "


# ways to save the same two rows
WAYS_TO_SAVE = {
    "plain": b"price_id,sku_id,currency,unit_price\na,disk,EUR,1.5\nb,disk,USD,2\n",
    "byte order mark": b"\xef\xbb\xbfprice_id,sku_id,currency,unit_price\na,disk,EUR,1.5\nb,disk,USD,2\n",
    "Windows line ends": b"price_id,sku_id,currency,unit_price\r\na,disk,EUR,1.5\r\nb,disk,USD,2\r\n",
    "no last line end": b"price_id,sku_id,currency,unit_price\na,disk,EUR,1.5\nb,disk,USD,2",
    "semicolons": b"price_id;sku_id;currency;unit_price\na;disk;EUR;1.5\nb;disk;USD;2\n",
    "tabs": b"price_id\tsku_id\tcurrency\tunit_price\na\tdisk\tEUR\t1.5\nb\tdisk\tUSD\t2\n",
    "everything quoted": b'"price_id","sku_id","currency","unit_price"\n"a","disk","EUR","1.5"\n"b","disk","USD","2"\n',
    "other column order": b"unit_price,currency,sku_id,price_id\n1.50,EUR,disk,a\n2.0,USD,disk,b\n",
    "other row order": b"price_id,sku_id,currency,unit_price\nb,disk,USD,2\na,disk,EUR,1.5\n",
    "empty rows and columns": b"\nprice_id,sku_id,currency,unit_price,,\na,disk,EUR,1.5,,\n,,,,,\n\nb,disk,USD,2,,\n,,,,,\n",
    "an empty attribute": b"price_id,sku_id,currency,unit_price,attr.zone\na,disk,EUR,1.5,\nb,disk,USD,2,\n",
    "defaults written out": b"price_id,sku_id,currency,unit_price,mode,flat_fee\na,disk,EUR,1.5,per_unit,0\nb,disk,USD,2,per_unit,0.00\n",
}


@pytest.mark.parametrize("way", WAYS_TO_SAVE)
def test_the_same_content_has_the_same_hash_however_it_is_saved(folder: Path, way: str) -> None:
    (folder / "prices.csv").write_bytes(WAYS_TO_SAVE["plain"])
    plain = book_of(folder)
    (folder / "prices.csv").write_bytes(WAYS_TO_SAVE[way])
    assert book_of(folder).sha256 == plain.sha256


def test_parquet_holds_the_same_book(folder: Path, tmp_path: Path) -> None:
    book = book_of(folder)
    other = tmp_path / "other"
    other.mkdir()
    for table in BOOK_TABLES:
        book.frame(table.name).drop(SOURCE_SCHEMA).write_parquet(other / f"{table.name}.parquet")
    again = book_of(other, "UTC")
    assert again.sha256 == book.sha256
    assert again.prices.select(SOURCE_FILE, SOURCE_ROW).row(0) == ("other/prices.parquet", 1)


# one changed value each → another hash
CHANGES = [
    ("prices.csv", "0.0074", "0.0075"),
    ("prices.csv", ",ssd", ","),
    ("prices.csv", "attr.disk_type", "attr.disk_kind"),
    ("prices.csv", "2026-10-08,,,,per_unit,,0.0079", "2026-10-08,2027-01-01,,,per_unit,,0.0079"),
    ("accounts.csv", "Acme Lab", "Acme Labs"),
    ("taxes.csv", "8.875", "8.8750001"),
    ("windows.csv", "06:00", "05:00"),
    ("fx_rates.csv", "1.0851", "1.0852"),
    ("projects.csv", "CC-18", ""),
]


@pytest.mark.parametrize(("file", "old", "new"), CHANGES)
def test_every_value_counts_in_the_hash(folder: Path, file: str, old: str, new: str) -> None:
    before = book_of(folder).sha256
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    assert book_of(folder).sha256 != before


def test_lines_are_those_an_editor_shows(folder: Path) -> None:
    (folder / "skus.csv").write_text(
        "sku_id,service,category,name,usage_unit,pricing_unit\r\n"
        '"vm-small",Compute,Compute,"VM,\r\nsmall",Hours,Hours\r\n'
        "\r\n"
        'disk,Block Storage,Storage,"Disk ""D""\n\u2028\x85",GiB-Hours,GiB-Hours\n'  # no editor breaks lines there
        "egress,Network,Networking,Egress,GiB,GiB\n",
        newline="",
    )
    skus = book_of(folder).skus
    assert skus.select("sku_id", SOURCE_ROW).rows() == [("vm-small", 2), ("disk", 5), ("egress", 7)]
    assert skus["name"].to_list() == ["VM,\r\nsmall", 'Disk "D"', "Egress"]


def test_a_hostile_name_is_only_a_name(folder: Path) -> None:
    write_prices(folder, "=1+1,disk,EUR,1,", '"\'; DROP TABLE prices; --",disk,USD,1,')
    assert book_of(folder).prices["price_id"].to_list() == ["=1+1", "'; DROP TABLE prices; --"]


def test_every_mistake_of_every_file_is_found_at_once(folder: Path) -> None:
    write_prices(folder, "p,disk,EUR,-1,2026-99-99", ",disk,,x,")
    (folder / "taxes.csv").write_text("tax_code,country,rate\nfr,FR,200\n")
    (folder / "accounts.csv").write_text("account_id,name,country\na,A,FR\na,B,FR\n")
    assert [(finding.place, finding.rule) for finding in findings_of(folder)] == [
        ("book/accounts.csv, column currency", "accounts.missing_column"),
        ("book/accounts.csv:3, column account_id", "accounts.key"),
        ("book/prices.csv:2, column valid_from", "prices.valid_from.format"),
        ("book/prices.csv:2, column unit_price", "prices.unit_price.minimum"),
        ("book/prices.csv:3, column unit_price", "prices.unit_price.format"),
        ("book/prices.csv:3, column price_id", "prices.price_id.required"),
        ("book/prices.csv:3, column currency", "prices.currency.required"),
        ("book/taxes.csv:2, column rate", "taxes.rate.maximum"),
    ]


def test_a_rule_broken_by_many_rows_is_summed_up(folder: Path) -> None:
    write_prices(folder, *(f"p{number},disk,EUR,-1," for number in range(50)))
    found = findings_of(folder)
    assert len(found) == 21
    assert found[-1].message == "… and 30 more of prices.unit_price.minimum"
    assert found[-1].file == "book/prices.csv"


def parquet_prices(folder: Path, **columns: object) -> None:
    (folder / "prices.csv").unlink()
    pl.DataFrame({"price_id": ["p"], "sku_id": ["disk"], "currency": ["EUR"], **columns}).write_parquet(
        folder / "prices.parquet"
    )


# type of a Parquet column → value
PARQUET_VALUES = [
    ("unit_price", pl.Series([Decimal("0.5")], dtype=pl.Decimal(9, 2)), Decimal("0.5")),
    ("unit_price", pl.Series([Decimal("0.5")], dtype=pl.Decimal(38, 18)), Decimal("0.5")),
    ("unit_price", pl.Series([3], dtype=pl.UInt8), Decimal(3)),
    ("unit_price", pl.Series(["0.5"]), Decimal("0.5")),
    ("tier_reset", pl.Series([True]), True),
    ("region", pl.Series(["eu"], dtype=pl.Categorical), "eu"),
    ("region", pl.Series([None], dtype=pl.Float64), None),
    ("valid_from", pl.Series([date(2026, 10, 1)]), datetime(2026, 9, 30, 22, tzinfo=UTC)),
    (
        "valid_from",
        pl.Series([datetime(2026, 10, 1, tzinfo=timezone(timedelta(0)))], dtype=pl.Datetime("ns", "Asia/Tokyo")),
        datetime(2026, 10, 1, tzinfo=UTC),
    ),
]


@pytest.mark.parametrize(("column", "series", "value"), PARQUET_VALUES)
def test_parquet_types_are_read_exactly(folder: Path, column: str, series: pl.Series, value: object) -> None:
    parquet_prices(folder, **{"unit_price": ["1"], column: series})
    book, _ = read_book(folder, time_zone="Europe/Paris")
    assert book is not None
    assert book.prices[column].to_list() == [value]


def test_parquet_floats_and_local_times_are_refused(folder: Path) -> None:
    parquet_prices(folder, unit_price=[0.1], valid_from=[datetime(2026, 10, 1)])  # noqa: DTZ001 - that is the point
    assert [(finding.rule, finding.row, finding.column) for finding in findings_of(folder)] == [
        ("prices.column_type", None, "unit_price"),
        ("prices.valid_from.offset", 1, "valid_from"),
    ]


def test_a_file_that_is_no_parquet_is_refused(folder: Path) -> None:
    (folder / "prices.csv").rename(folder / "prices.parquet")
    (finding,) = findings_of(folder)
    assert (finding.file, finding.rule) == ("book/prices.parquet", "prices.unreadable")


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(
    name=st.sampled_from(["prices.csv", "accounts.csv", "prices.parquet"]),
    position=st.integers(0, 400),
    junk=st.binary(min_size=1, max_size=8)
    | st.sampled_from([b'"', b",", b"\n", b"\r", b";", b"\x00", b"\xef\xbb\xbf"]),
)
def test_damaged_files_are_findings_and_never_a_crash(name: str, position: int, junk: bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "book"
        shutil.copytree(GOOD, folder)
        if name.endswith(".parquet"):
            book_of(folder).prices.drop(SOURCE_SCHEMA).write_parquet(folder / name)
            (folder / "prices.csv").unlink()
        raw = (folder / name).read_bytes()
        (folder / name).write_bytes(raw[:position] + junk + raw[position + 1 :])
        book, findings = read_book(folder, time_zone="UTC")
        assert (book is None) == bool(findings)
        if book is not None:
            check_book(book)


def test_book_of_frames_completes_and_proves_them() -> None:
    prices = pl.DataFrame({"price_id": ["p"], "sku_id": ["s"], "currency": ["EUR"]})
    book = Book.of(prices=prices)
    row = book.prices.row(0, named=True)
    assert (row["price_list"], row["unit_price"], row["flat_at_zero"]) == ("public", 0, False)
    assert book.prices.schema["valid_from"] == INSTANT
    assert book.accounts.is_empty()
    with pytest.raises(KeyError, match="price"):
        Book.of(price=prices)
    with pytest.raises(Exception, match="not_nullable"):
        Book.of(prices=prices.with_columns(sku_id=pl.lit(None, dtype=pl.String)))
