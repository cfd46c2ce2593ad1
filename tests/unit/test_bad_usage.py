"""Bad usage, told in words: which file, row, column and value, what was expected, and what to do about it.

Each file of tests/broken/usage holds one mistake, in the last rows. It is delivered beside a good file
(workspaces.good_usage), so that every test also shows what happens to everybody else: their rows are counted, and they
are billed or the run is refused as a whole, never half of it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import signal
import time
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratemill.config import Engine, Usage
from ratemill.errors import ExitCode, TemporaryError
from ratemill.io import usage_files
from ratemill.io.usage_files import FileRefusedError, UsageFile, open_usage_file
from ratemill.io.usage_reader import UsageReader
from workspaces import BOOK, GOOD_TOTAL, PERIOD, QUANTITY, good_usage, hours, make_workspace

pytestmark = pytest.mark.slow  # whole runs, a second each

BROKEN = Path(__file__).parents[1] / "broken" / "usage"
GOOD_ROWS = 72
ANY_SHARE = {"policy": {"max_rejected_share": "1"}}


def read_broken(name: str) -> pl.DataFrame:
    """A broken file as a frame. A header says ``name`` or, where the type is the mistake, ``name:type``."""
    text = pl.read_csv(BROKEN / f"{name}.csv", infer_schema=False)
    instant = pl.Datetime("us", "UTC")
    kinds = {"text": pl.String, "float": pl.Float64, "naive": pl.Datetime("us"), "date": pl.Date, "": pl.String}
    usual = {"quantity": QUANTITY, "usage_start": instant, "usage_end": instant}
    columns = []
    for header in text.columns:
        column, _, kind = header.partition(":")
        dtype = kinds[kind] if kind else usual.get(column, pl.String)
        value = pl.when(pl.col(header) != "").then(pl.col(header))
        if dtype == instant:
            value = value.str.to_datetime(time_unit="us", time_zone="UTC")
        elif isinstance(dtype, pl.Datetime):
            value = value.str.strip_suffix("Z").str.to_datetime(time_unit="us")
        elif dtype == pl.Date:
            value = value.str.slice(0, 10).str.to_date()
        else:
            value = value.cast(dtype)
        columns.append(value.alias(column))
    return text.select(columns)


class BadRow(NamedTuple):
    """What is said of rows that break a rule."""

    file: str
    rule: str
    row: int
    column: str
    value: str | None
    words: list[str]
    rows: int = 1


BAD_ROWS = [
    BadRow("negative_quantity", "quantity.minimum", 3, "quantity", "-2.500000000000", ["'-2.5", "at least 0"]),
    BadRow("empty_account", "account_id.empty", 3, "account_id", None, ["must not be empty", "(1 row)"]),
    BadRow("empty_sku", "sku_id.empty", 3, "sku_id", None, ["must not be empty"]),
    BadRow("empty_quantity", "quantity.empty", 3, "quantity", None, ["must not be empty"]),
    BadRow("empty_start", "usage_start.empty", 3, "usage_start", None, ["must not be empty"]),
    BadRow("unknown_account", "account_id.unknown", 3, "account_id", "acmee",
           ["'acmee' must be an account of book/accounts", "add the account"]),
    BadRow("unknown_sku", "sku_id.unknown", 3, "sku_id", "vm-large",
           ["'vm-large' must be a SKU of book/skus", "add the SKU"]),
    BadRow("wrong_unit", "unit.wrong", 3, "unit", "Minutes",
           ["'Minutes' must be Hours, the usage unit of SKU vm", "correct the usage_unit"]),
    BadRow("quantity_beyond_all_measure", "quantity.maximum", 3, "quantity", "1000000000000000000.500000000000",
           ["at most 1,000,000,000,000,000,000"]),
    BadRow("quantity_in_words", "quantity.number", 3, "quantity", "n/a", ["'n/a' must be a decimal number"]),
    BadRow("quantity_with_comma", "quantity.number", 3, "quantity", "1,5", ["'1,5' must be a decimal number"]),
    BadRow("too_many_decimals", "quantity.decimals", 3, "quantity", "0.1234567890123", ["at most 12 decimals"]),
    BadRow("end_before_start", "usage_end.after_start", 3, "usage_end", "2026-10-05", ["must be after usage_start"]),
    BadRow("tags_are_no_json", "tags", 3, "tags", "env=prod", ["'env=prod' must be a JSON object of texts"]),
    BadRow("tag_named_twice", "tags", 3, "tags", '{"env": "prod", "env": "test"}', ["'env' stands twice"]),
    BadRow("tags_nested", "tags", 3, "tags", '{"env": {"name": "prod"}}', ["must not be nested; 'env' is"]),
    BadRow("tags_like_a_map", "tags", 3, "tags", '{"tags": [1]}', ["must not be nested; 'tags' is"]),
    BadRow("tags_half_a_character", "tags", 3, "tags", '{"env": "\\ud800"}', ["must be Unicode text"]),
    BadRow("two_records_differ", "record.conflict", 3, "quantity", None,
           ["another record differs", "find out which", "(2 rows, this is the first)"], rows=2),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_ROWS, ids=lambda bad: bad.file)
def test_bad_rows_are_named_and_too_many_of_them_stop_the_run(tmp_path, bad):
    shop = make_workspace(tmp_path, usage={"good.parquet": good_usage(), "bad.parquet": read_broken(bad.file)})

    refused = shop.run()
    assert refused.code == ExitCode.DATA_REFUSED
    count = GOOD_ROWS + 2 + bad.rows
    assert f"{bad.rows} of {count} usage rows of {PERIOD} are rejected" in refused.stderr
    assert "[policy] max_rejected_share = 0.001" in refused.stderr
    assert "no invoice was drafted" in refused.stderr
    finding = refused.finding(f"usage.{bad.rule}")
    assert (finding["severity"], finding["file"], finding["row"], finding["column"]) == (
        "error", "usage/bad.parquet", bad.row, bad.column,
    )  # fmt: skip
    assert (finding["value"] or "").startswith(bad.value or "")
    told = f"{finding['message']} {finding['cure']}"
    assert [word for word in bad.words if word not in told] == []
    assert finding["cure"]
    assert f"usage/bad.parquet:{bad.row}, column {bad.column}: " in refused.stderr
    assert shop.written() == {}


def test_all_mistakes_at_once_are_counted_row_by_row_and_the_good_rows_are_billed(tmp_path):
    usage = {
        f"{bad.file}.parquet": read_broken(bad.file).with_columns(resource_id=pl.lit(bad.file)) for bad in BAD_ROWS
    }
    shop = make_workspace(tmp_path, usage={"good.parquet": good_usage(), **usage}, config=ANY_SHARE)
    ended = shop.run()
    assert ended.code == ExitCode.DONE
    rejected, good = sum(bad.rows for bad in BAD_ROWS), GOOD_ROWS + 2 * len(BAD_ROWS)
    assert ended.rows == {
        "in": good + rejected, "filtered": 0, "rejected": rejected, "duplicate": 0, "billed": good, "other_periods": 0,
        "unpriced": 0,
    }  # fmt: skip
    assert {finding["severity"] for finding in ended.findings} == {"warning"}
    assert {finding["rule"] for finding in ended.findings} == {f"usage.{bad.rule}" for bad in BAD_ROWS}
    assert shop.invoice("acme")["totals"]["untaxed"] == str(Decimal("3.60") + len(usage) * Decimal("0.20"))
    with (tmp_path / "out" / PERIOD / "rejects.csv").open(encoding="utf-8-sig", newline="") as stream:
        listed = {(row["file"], int(row["row_number"]), row["rule"]) for row in csv.DictReader(stream)}
    assert listed == {
        (f"usage/{bad.file}.parquet", row, bad.rule) for bad in BAD_ROWS for row in range(bad.row, bad.row + bad.rows)
    }


class BadFile(NamedTuple):
    """What is said of a file that cannot be read as usage."""

    file: str
    words: list[str]


BAD_FILES = [
    BadFile("missing_column", ["the required column 'sku_id' is missing", "the file has account_id, resource_id, sku,",
                               'map it: [usage.columns] sku_id = "sku"']),
    BadFile("no_column_like_it", ["the required column 'account_id' is missing", "add it, or map it in"]),
    BadFile("float_quantity", ["'quantity' is Float64", "cannot hold a decimal quantity exactly", "DECIMAL(38,12)",
                               'float_quantity = "as_text"']),
    BadFile("naive_start", ["'usage_start' is a timestamp without a time zone", "TIMESTAMP with time zone UTC"]),
    BadFile("text_start", ["'usage_start' is String, expected a timestamp with a time zone"]),
    BadFile("date_start", ["'usage_start' is Date, expected a timestamp with a time zone"]),
    BadFile("number_of_tags", ["'tags' is Float64, expected a map of text to text, or JSON text"]),
]  # fmt: skip


def assert_only_this_file_is_refused(shop, ended, file: str, words: list[str]) -> None:
    """The file is refused in these words and exit code 3 says so; everything else is billed to the last cent."""
    assert ended.code == ExitCode.DATA_REFUSED, ended
    finding = ended.finding("usage.file_refused")
    assert (finding["severity"], finding["file"]) == ("error", file)
    told = f"{finding['message']} → {finding['cure']}"
    assert [word for word in words if word not in told] == [], told
    assert finding["cure"]
    assert ended.rows["in"] == ended.rows["billed"] == GOOD_ROWS
    assert {account: shop.invoice(account)["totals"]["untaxed"] for account in GOOD_TOTAL} == GOOD_TOTAL


def test_every_case_of_the_folder_is_tested():
    tested = {f"{case.file}.csv" for case in (*BAD_ROWS, *BAD_FILES)} | {ABORTING_PAGE.name}
    assert {path.name for path in BROKEN.iterdir()} == tested


def test_a_float_quantity_read_as_text_is_what_its_writer_printed(tmp_path):
    """0.1 is exactly 0.1. What a float adds of its own, as in 0.1 + 0.2 = 0.30000000000000004, is rounded away."""
    floats = hours(count=4).with_columns(quantity=pl.Series([0.1, 0.25, 1e-7, 0.1 + 0.2]))
    shop = make_workspace(tmp_path, usage=floats, config={"usage": {"float_quantity": "as_text"}})
    ended = shop.run()
    assert (ended.code, ended.rows["billed"]) == (ExitCode.DONE, 4)
    (line,) = shop.invoice("acme")["lines"]
    assert line["quantity"] == "0.6500001"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.5])
def test_a_float_that_is_no_quantity_is_rejected(tmp_path, value):
    floats = hours(count=2).with_columns(quantity=pl.Series([0.1, value]))
    shop = make_workspace(tmp_path, usage=floats, config={**ANY_SHARE, "usage": {"float_quantity": "as_text"}})
    ended = shop.run()
    assert (ended.code, ended.rows["rejected"], ended.rows["billed"]) == (ExitCode.DONE, 1, 1)
    (finding,) = ended.findings
    assert (finding["file"], finding["row"], finding["column"]) == ("usage/usage.parquet", 2, "quantity")
    assert finding["rule"] == ("usage.quantity.minimum" if value < 0 else "usage.quantity.number")


# ------------------------------------------------------------------------------------------- files that are no usage


ABORTING_PAGE = BROKEN / "page_that_asks_for_2_to_the_61_bytes.parquet"
"""One bit of a page header is flipped. Polars either says so, or asks for 2^61 bytes and ends its process."""


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(frame.to_arrow(), sink)
    return sink.getvalue().to_pybytes()


UNREADABLE = {
    "empty": (lambda path: path.write_bytes(b""), ["the file is empty (0 bytes)", "ask its supplier"]),
    "cut off": (
        lambda path: path.write_bytes(parquet_bytes(good_usage())[:-100]),
        ["cut off: it begins as Parquet, and its end is missing", "deliver it again"],
    ),
    "text": (
        lambda path: path.write_text("account_id,quantity\nacme,1\n"),
        ["not a Parquet file: it begins with b'acco'", "deliver usage as Parquet"],
    ),
    "damaged footer": (
        lambda path: path.write_bytes(parquet_bytes(good_usage())[:-60] + b"\xff" * 52 + b"\x10\x00\x00\x00PAR1"),
        ["damaged Parquet: ", "ask its supplier for it again"],
    ),
    "aborting page": (
        lambda path: path.write_bytes(ABORTING_PAGE.read_bytes()),
        ["damaged Parquet: ", "ask its supplier for it again"],
    ),
    "folder": (
        lambda path: path.mkdir(),
        ["is a folder and not a file", '[usage] files = [..., "usage/folder/bad.parquet/*.parquet"]'],
    ),
    "link to nowhere": (
        lambda path: path.symlink_to("moved/away.parquet"),
        ["is a link to moved/away.parquet, which is not there", "mend the link"],
    ),
    "link to a folder": (lambda path: path.symlink_to(path.parent), ["is a folder and not a file"]),
    "pipe": (os.mkfifo, ["is no regular file but a pipe"]),
}


def test_folders_on_the_way_to_files_are_no_mistake(tmp_path):
    shop = make_workspace(tmp_path, usage=[], config={"usage": {"files": ["usage/**/*.parquet", "usage/*"]}})
    (tmp_path / "usage" / "day=01.parquet").mkdir()
    (tmp_path / "usage" / "notes").mkdir()
    shop.write_usage("day=01.parquet/part-0.parquet", good_usage())
    ended = shop.run()
    assert (ended.code, ended.rows["billed"], ended.findings) == (ExitCode.DONE, GOOD_ROWS, [])


def test_a_file_that_is_named_and_not_there_is_refused(tmp_path):
    shop = make_workspace(tmp_path, config={"usage": {"files": ["usage/usage.parquet", "usage/egress.parquet"]}})
    words = ["is named in [usage] files and is not there", "put it there, or correct [usage] files"]
    assert_only_this_file_is_refused(shop, shop.run(), "usage/egress.parquet", words)


def test_wildcards_in_the_name_of_the_workspace_are_no_wildcards(tmp_path):
    shop = make_workspace(tmp_path / "shop [eu] *", config={"usage": {"files": ["usage/[u]*.parquet"]}})
    ended = shop.run()
    assert (ended.code, ended.rows["billed"], ended.findings) == (ExitCode.DONE, GOOD_ROWS, [])


def test_a_sound_file_without_rows_is_pointed_out(tmp_path):
    shop = make_workspace(tmp_path, usage={"good.parquet": good_usage(), "none.parquet": good_usage().head(0)})
    for _ in range(2):  # it stays worth a look
        ended = shop.run()
        assert ended.code == ExitCode.DONE
        finding = ended.finding("usage.file_without_rows")
        assert (finding["severity"], finding["file"]) == ("warning", "usage/none.parquet")
        assert "ask its supplier whether there was no usage" in finding["cure"]
        assert ended.rows["billed"] == GOOD_ROWS


def reader_in(folder) -> UsageReader:
    return UsageReader(folder / "reading", Usage(), Engine())


def test_a_process_that_reads_may_die_of_a_file(tmp_path):
    paths = [tmp_path / f"usage-{number}.parquet" for number in range(4)]
    for path in paths:
        good_usage().write_parquet(path)
    files = [UsageFile(path, path.name, "") for path in paths]

    def rows(read) -> int:
        return sum(intake.rows.height for intake in read.intakes())

    told = []
    with reader_in(tmp_path) as reader:
        for number, read in enumerate(reader.read(files)):
            if number == 0:
                os.kill(reader._processes[0].pid, signal.SIGABRT)  # as a decoder does that asks for too much memory
            try:
                told.append(rows(read))
            except FileRefusedError as refusal:
                told.append("ended the process that did" in str(refusal))
    assert told.count(True) <= 1, "only the file at hand is refused"
    assert told.count(GOOD_ROWS) >= 3, "the next file gets a new process"
    with reader_in(tmp_path) as reader:
        reading = reader.read(files)
        next(reading)
        os.kill(reader._processes[0].pid, signal.SIGKILL)  # what a system does that runs out of memory
        with pytest.raises(TemporaryError, match=r"reading of usage-\d\.parquet, most likely for want of memory"):
            list(reading)
    assert not (tmp_path / "reading").exists()


def whole_files() -> list[bytes]:
    """The same usage in every way that Parquet lays it out: compressed or not, dictionaries or not, maps or text."""
    frame = pl.concat([good_usage()] * 10).with_columns(
        tags=pl.lit('{"a":"b"}'), record_id=pl.int_range(pl.len()).cast(pl.String)
    )
    texts = frame.to_arrow()
    maps = texts.drop(["tags"]).append_column(
        "tags", pa.array([[("k", "v"), ("x", "y")]] * frame.height, pa.map_(pa.string(), pa.string()))
    )
    files = []
    for table, compression, dictionary in (
        *(
            (texts, compression, dictionary)
            for compression in ("none", "snappy", "zstd")
            for dictionary in (True, False)
        ),
        (maps, "snappy", True),
    ):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression=compression, use_dictionary=dictionary, row_group_size=200)
        files.append(sink.getvalue().to_pybytes())
    return files


def flip_bit(data: bytearray, chance: random.Random, first: int, last: int) -> None:
    data[chance.randrange(first, last)] ^= 1 << chance.randrange(8)


def mutated(whole: bytes, chance: random.Random) -> bytes:
    """A damaged copy: flipped bits in footer or pages, garbage, exchanged pieces, a cut, a wrong footer length."""
    data = bytearray(whole)
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    match chance.randrange(7):
        case 0:
            flip_bit(data, chance, footer, len(data) - 8)
        case 1:
            for _ in range(3):
                data[chance.randrange(footer, len(data) - 8)] = chance.randrange(256)
        case 2:
            flip_bit(data, chance, 4, footer)
        case 3:
            for _ in range(8):
                data[chance.randrange(4, footer)] = chance.randrange(256)
        case 4:
            del data[chance.randrange(len(data)) :]
        case 5:
            lengths = (0, 1, len(data) - footer, 2**31 - 1, 2**32 - 1, len(data))
            data[-8:-4] = chance.choice(lengths).to_bytes(4, "little")
        case _:
            one, other = chance.randrange(4, footer - 64), chance.randrange(4, footer - 64)
            data[one : one + 64], data[other : other + 64] = data[other : other + 64], data[one : one + 64]
    return bytes(data)


@pytest.mark.slow
def test_damaged_files_are_refused_or_read_and_end_nothing(tmp_path, capfd):
    """What a bit changed unseen is read as another value: only a manifest can tell. Everything else is a refusal."""
    chance = random.Random(20261001)  # noqa: S311 - the same damage every time
    wholes, path = whole_files(), tmp_path / "usage.parquet"
    refusals, read = [], 0
    with reader_in(tmp_path) as reader:
        for number in range(200):
            path.write_bytes(mutated(wholes[number % len(wholes)], chance))
            (file,) = reader.read([UsageFile(path, "usage/usage.parquet", "")])
            try:
                taken = list(file.intakes())
            except FileRefusedError as refusal:
                refusals.append(str(refusal))
            else:
                assert all(one.rows_in == one.rows_rejected + one.rows.height for one in taken)
                read += 1
    assert len(refusals) > 100
    assert [told for told in refusals if " → " not in told or len(told) > 500] == []
    assert read > 5
    assert capfd.readouterr() == ("", ""), "a decoder's panic reached the user"


# ------------------------------------------------------------------------------------------------------------ bombs


def repeated(value, rows: int) -> pa.Array:
    """One value in every row, which a dictionary stores once."""
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows), pa.array([value]))


def bomb(rows: int, **columns) -> pa.Table:
    instant = pa.scalar(1_790_812_800_000_000, pa.timestamp("us", tz="UTC"))
    return pa.table(
        {
            "account_id": repeated("acme", rows),
            "sku_id": repeated("vm", rows),
            "usage_start": pa.repeat(instant, rows),
            "quantity": pa.repeat(pa.scalar(Decimal(1), pa.decimal128(38, 12)), rows),
            **columns,
        }
    )


def many_tags(rows: int, tags: int) -> pa.Array:
    offsets = pa.array(range(0, rows * tags + 1, tags), pa.int32())
    entries = rows * tags
    return pa.MapArray.from_arrays(offsets, pa.repeat(pa.scalar("k"), entries), pa.repeat(pa.scalar("v"), entries))


BOMBS = {
    "rows": (lambda: bomb(2_000_000), {}, ["unfold to 2,000,000 rows, more than 10 a byte", "decompression bomb",
                                           "check its origin, or raise [usage] max_rows_per_byte"]),
    "tags": (lambda: bomb(1_000, tags=many_tags(1_000, 1_000)), {}, ["unfold to 1,000,000 values in one column",
                                                                     "decompression bomb"]),
    "text": (lambda: bomb(1, resource_id=pa.array(["x" * 50_000_000])), {},
             ["unfold to 1 values in one column and 50,", "decompression bomb"]),
    "limit": (lambda: bomb(5_000), {"max_rows_per_file": 4_999},
              ["5,000 rows are more than max_rows_per_file = 4,999", "split the file"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_a_bomb_is_refused_by_what_its_footer_says(tmp_path, case):
    make, limits, words = BOMBS[case]
    path = tmp_path / "bomb.parquet"
    pq.write_table(make(), path, compression="zstd")
    assert path.stat().st_size < 100_000
    began = time.monotonic()
    with pytest.raises(FileRefusedError) as caught:
        open_usage_file(UsageFile(path, "usage/bomb.parquet", ""), Usage(**limits))
    assert [word for word in words if word not in str(caught.value)] == []
    assert time.monotonic() - began < 2, "its data was looked at"


def test_rows_that_hold_much_are_read_a_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(usage_files, "SLICE_VALUES", 1)
    path = tmp_path / "wide.parquet"
    pq.write_table(bomb(3_000, tags=many_tags(3_000, 10)), path, compression="none", use_dictionary=False)
    opened = open_usage_file(UsageFile(path, "usage/wide.parquet", ""), Usage(), most_rows=20_000)
    assert [(first, frame.height) for first, frame in opened.slices()] == [(1, 2_000), (2_001, 1_000)]


# -------------------------------------------------------------------------------------------------------- manifests


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


MANIFESTS = {
    "sha256": ({"sha256": "0" * 64}, ["differs from bad.parquet.manifest.json", "its SHA-256 is ", "says 0000"]),
    "rows": ({"rows": 25}, ["it has 24 rows, the manifest says 25", "damaged or changed on its way"]),
    "total": ({"quantity_total": "24.5"}, ["its quantities add up to 24.000000000000, the manifest says 24.5"]),
    "no number": ({"quantity_total": "much"}, ["quantity_total = 'much' is no decimal", "mend the manifest"]),
    "no object": ([], ["bad.parquet.manifest.json is no JSON object"]),
    "no JSON": (None, ["bad.parquet.manifest.json cannot be read", "mend or remove the manifest"]),
}


def write_with_manifest(path: Path, manifest: object) -> None:
    hours(resource="vm-9").write_parquet(path)
    path.with_name("bad.parquet.manifest.json").write_text("{" if manifest is None else json.dumps(manifest))


REFUSED_FILES = {
    **{bad.file: (lambda path, bad=bad: read_broken(bad.file).write_parquet(path), bad.words) for bad in BAD_FILES},
    **UNREADABLE,
    **{
        f"manifest, {case}": (lambda path, manifest=manifest: write_with_manifest(path, manifest), words)
        for case, (manifest, words) in MANIFESTS.items()
    },
}
"""What makes the file, and the words its refusal must contain."""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """One run over a good file and every file that is refused: usage/CASE/bad.parquet."""
    shop = make_workspace(
        tmp_path_factory.mktemp("refusals"), config={"usage": {"files": ["usage/*.parquet", "usage/*/bad.parquet"]}}
    )
    for case, (make, _) in REFUSED_FILES.items():
        path = shop.root / "usage" / case / "bad.parquet"
        path.parent.mkdir()
        make(path)
    return shop, shop.run()


@pytest.mark.parametrize("case", REFUSED_FILES)
def test_what_is_no_usage_is_refused_in_words(refusals, case):
    _, ended = refusals
    file = f"usage/{case}/bad.parquet"
    (finding,) = [one for one in ended.findings if one["file"] == file]
    assert (finding["severity"], finding["rule"]) == ("error", "usage.file_refused")
    told = f"{finding['message']} → {finding['cure']}"
    assert [word for word in REFUSED_FILES[case][1] if word not in told] == [], told
    assert finding["cure"]


def test_files_that_are_refused_take_no_other_file_along(refusals):
    shop, ended = refusals
    assert ended.code == ExitCode.DATA_REFUSED
    assert len(ended.findings) == ended.summary["files"]["refused"] == len(REFUSED_FILES)
    assert ended.rows["in"] == ended.rows["billed"] == GOOD_ROWS
    assert {account: shop.invoice(account)["totals"]["untaxed"] for account in GOOD_TOTAL} == GOOD_TOTAL


def test_a_file_that_equals_its_manifest_is_billed(tmp_path):
    shop = make_workspace(tmp_path)
    path = tmp_path / "usage" / "usage.parquet"
    manifest = {"sha256": digest(path).upper(), "rows": GOOD_ROWS, "quantity_total": "24048.00"}
    path.with_name("usage.parquet.manifest.json").write_text(json.dumps(manifest))
    assert (shop.run().code, shop.invoice("acme")["totals"]["untaxed"]) == (ExitCode.DONE, GOOD_TOTAL["acme"])


# ----------------------------------------------------------------------------------------- prices, taxes, accounts


VM, *OTHER_PRICES = BOOK["prices"]


def test_usage_in_a_price_gap_stops_the_run_and_is_listed(tmp_path):
    shop = make_workspace(tmp_path)
    assert shop.run().code == ExitCode.DONE
    before = shop.written()
    gap = [
        VM | {"valid_to": "2026-10-01T06:00:00Z"},
        VM | {"price_id": "vm-eur-2", "valid_from": "2026-10-01T12:00:00Z"},
        *OTHER_PRICES,
    ]

    shop.write_book("prices", gap)
    blocked = shop.run()
    assert blocked.code == ExitCode.DATA_REFUSED
    assert f"6 usage records of {PERIOD} have no price, so no invoice was drafted" in blocked.stderr
    assert 'Bill without them by [policy] unpriced = "warn"' in blocked.stderr
    finding = blocked.finding("usage.unpriced")
    for words in ("account acme: 6 Hours of vm from 2026-10-01 06:00 to 2026-10-01 12:00 UTC (6 records)", "in EUR"):
        assert words in finding["message"]
    assert "add a price to book/prices.csv" in finding["cure"]
    after = shop.written()
    listed = after.pop("out/2026-10-unpriced.csv")
    assert listed
    assert after == before, "earlier drafts stand"
    with (tmp_path / "out" / "2026-10-unpriced.csv").open(encoding="utf-8-sig", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["account_id"], row["sku_id"], row["quantity"], row["records"]) == ("acme", "vm", "6", "6")

    shop.write_config({"policy": {"unpriced": "warn"}})
    warned = shop.run()
    assert (warned.code, warned.rows["unpriced"], warned.rows["billed"]) == (ExitCode.DONE, 6, GOOD_ROWS)
    assert warned.finding("usage.unpriced")["severity"] == "warning"
    assert shop.invoice("acme")["totals"]["untaxed"] == "3.00", "six hours less, and none of them at 0"

    shop.write_book("prices", BOOK["prices"])
    assert (shop.run().code, shop.invoice("acme")["totals"]["untaxed"]) == (ExitCode.DONE, GOOD_TOTAL["acme"])
    assert "out/2026-10-unpriced.csv" not in shop.written()


REFUSED_BOOKS = {
    "overlapping prices": (
        {"prices": [VM | {"valid_to": "2026-10-10"}, VM | {"price_id": "vm-2", "valid_from": "2026-10-05"},
                    *OTHER_PRICES]},
        "prices.overlap", ("book/prices.csv", 3, "valid_from"),
        ["'vm-2'", "'vm-eur' at book/prices.csv:2", "can both apply to SKU 'vm'", "end the one where the other begins"],
    ),
    "one price in two currencies": (
        {"prices": [VM | {"mode": "graduated", "up_to": "10"}, VM | {"mode": "graduated", "currency": "USD"},
                    *OTHER_PRICES]},
        "prices.tiers_agree.currency", ("book/prices.csv", 3, "currency"),
        ["'vm-eur' has currency USD here and EUR at book/prices.csv:2", "same currency, or another price_id"],
    ),
    "prices in another currency": (
        {"prices": [VM | {"currency": "USD"}, *OTHER_PRICES]},
        "usage.unpriced", (None, None, None),
        ["account acme: 24 Hours of vm", "SKU vm is priced in USD, the account is billed in EUR"],
    ),
    "no tax for a country": (
        {"taxes": BOOK["taxes"][:1]},
        "accounts.taxable", ("book/accounts.csv", 3, "country"),
        ["no tax can ever apply to account 'globex'", "no row for country DE", "add a tax for it"],
    ),
    "no tax at the tax point": (
        {"taxes": [BOOK["taxes"][0], BOOK["taxes"][1] | {"valid_to": "2026-10-31"}]},
        "taxes.missing", ("book/taxes.csv", None, None),
        ["account globex has no tax for category standard", "valid at 2026-10-31 23:59 UTC", "add the row to taxes"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("first", [True, False], ids=["first run", "later run"])
@pytest.mark.parametrize("case", REFUSED_BOOKS)
def test_a_book_that_cannot_be_billed_with_leaves_everything_as_it_was(tmp_path, case, first):
    book, rule, place, words = REFUSED_BOOKS[case]
    shop = make_workspace(tmp_path)
    if not first:
        assert shop.run().code == ExitCode.DONE
    before = shop.written()
    for name, rows in book.items():
        shop.write_book(name, rows)
    ended = shop.run()
    assert ended.code == ExitCode.DATA_REFUSED
    assert "nothing was billed" in ended.stderr or "no invoice was drafted" in ended.stderr
    finding = ended.finding(rule)
    assert (finding["file"], finding["row"], finding["column"]) == place
    told = f"{finding['message']} {finding['cure']}"
    assert [word for word in words if word not in told] == []
    after = shop.written()
    after.pop("out/2026-10-unpriced.csv", None)
    assert after == before


def test_a_cost_beyond_all_measure_is_refused_and_says_where_to_look(tmp_path):
    shop = make_workspace(tmp_path, usage=hours(count=1, quantity="1" + "0" * 18),
                          book={"prices": [VM | {"unit_price": "100000"}, *OTHER_PRICES]})  # fmt: skip
    ended = shop.run()
    assert ended.code == ExitCode.DATA_REFUSED, ended
    for words in ("1000000000000000000 of SKU vm for account acme, resource vm-1, on 2026-10-01", "correct the usage"):
        assert words in ended.stderr
    assert shop.written() == {}


# ------------------------------------------------------------------------------------------- files that come and go


def test_two_files_with_the_same_rows_are_billed_once(tmp_path):
    shop = make_workspace(tmp_path, usage=[good_usage(), good_usage().reverse()])
    ended = shop.run()
    assert ended.code == ExitCode.DONE
    assert ended.rows["in"] == 2 * GOOD_ROWS
    assert ended.rows["duplicate"] == ended.rows["billed"] == GOOD_ROWS
    assert {account: shop.invoice(account)["totals"]["untaxed"] for account in GOOD_TOTAL} == GOOD_TOTAL


def test_a_redelivered_file_replaces_its_former_rows(tmp_path):
    shop = make_workspace(tmp_path, usage=[good_usage(), hours(resource="vm-9")])
    assert (shop.run().code, shop.invoice("acme")["totals"]["untaxed"]) == (ExitCode.DONE, "6.00")
    shop.write_usage("usage-1.parquet", hours(resource="vm-9", count=4))
    ended = shop.run()
    assert (ended.code, ended.rows["billed"]) == (ExitCode.DONE, GOOD_ROWS + 4)
    assert shop.invoice("acme")["totals"]["untaxed"] == "4.00"


def test_a_redelivered_file_that_is_damaged_leaves_its_former_rows_billed(tmp_path):
    shop = make_workspace(tmp_path)
    assert shop.run().code == ExitCode.DONE
    before = shop.written()
    (tmp_path / "usage" / "usage.parquet").write_bytes(b"PAR1 is all there is")
    assert_only_this_file_is_refused(shop, shop.run(), "usage/usage.parquet", ["cut off"])
    assert shop.written() == before


def test_a_redelivery_without_usage_takes_the_drafts_back(tmp_path):
    """Former drafts would otherwise stand for usage that its supplier has withdrawn."""
    shop = make_workspace(tmp_path)
    assert shop.run().code == ExitCode.DONE
    shop.write_usage("usage.parquet", good_usage().head(0))
    ended = shop.run()
    assert ended.code == ExitCode.DONE
    assert ended.summary["periods"][0]["totals"] == []
    assert [name for name in shop.written() if "invoices/" in name] == []


def test_a_vanished_file_is_still_billed_and_pointed_out(tmp_path):
    shop = make_workspace(tmp_path, usage=[good_usage(), hours(resource="vm-9")])
    assert shop.run().code == ExitCode.DONE
    before = shop.written()
    (tmp_path / "usage" / "usage-1.parquet").unlink()
    ended = shop.run()
    assert ended.code == ExitCode.DONE
    finding = ended.finding("usage.file_gone")
    assert (finding["severity"], finding["file"]) == ("warning", "usage/usage-1.parquet")
    assert "its usage is still billed" in finding["message"]
    assert "put it back, or move the state folder away" in finding["cure"]
    assert shop.written() == before


# --------------------------------------------------------------------------------------------------- nothing to bill


def test_a_period_without_usage_is_nothing_to_bill_also_where_a_neighbour_has_some(tmp_path):
    """The first of October may be September somewhere on earth; here it is not."""
    shop = make_workspace(tmp_path)
    for period, words in (("2026-09", "72 belong to other months"), ("2026-08", "no usage for 2026-08 in the files")):
        ended = shop.run(period=period)
        assert ended.code == ExitCode.NOTHING_TO_BILL
        assert words in ended.stderr
        assert shop.written() == {}


def test_a_pattern_that_matches_no_file_is_shown(tmp_path):
    shop = make_workspace(tmp_path, config={"usage": {"files": ["usgae/*.parquet"]}})
    ended = shop.run()
    assert ended.code == ExitCode.NOTHING_TO_BILL
    assert f"no file matches [usage] files = usgae/*.parquet in {tmp_path}" in ended.stderr


def test_no_usage_is_an_error_where_files_were_refused(tmp_path):
    """A scheduler takes 99 for an empty month; this month may be in the file that cannot be read."""
    shop = make_workspace(tmp_path, usage=[])
    (tmp_path / "usage" / "usage.parquet").write_bytes(b"")
    ended = shop.run()
    assert ended.code == ExitCode.DATA_REFUSED
    assert "unless it is in the 1 usage file that was refused" in ended.stderr
    assert ended.finding("usage.file_refused")["file"] == "usage/usage.parquet"


@pytest.mark.parametrize("why", ["filtered", "rejected"])
def test_usage_of_which_no_row_is_left_is_told_apart(tmp_path, why):
    config = {"usage": {"filter": {"unit": ["Days"]}}} if why == "filtered" else {}
    shop = make_workspace(tmp_path, usage=hours(quantity="-1"), config=config)
    ended = shop.run()
    if why == "filtered":
        assert ended.code == ExitCode.NOTHING_TO_BILL
    else:
        assert ended.code == ExitCode.DATA_REFUSED
        assert "24 of 24 usage rows of 2026-10 are rejected (100.00 %)" in ended.stderr
    assert shop.written() == {}
