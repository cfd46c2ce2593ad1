"""The engine and the reference say the same of every world, to the last digit.

They share no code: the reference works record by record in plain decimals, the engine adds usage up in DuckDB and
prices whole tables in Polars. `make worlds N=100000` asks about as many worlds as one has time for.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from engine import (
    INVOICE_TABLES,
    RATED_KINDS,
    EngineBill,
    assert_agree,
    bill,
    bill_each,
    describe,
    differences,
    make_book,
    shards,
)
from ratemill.book.checks import check_book
from ratemill.book.model import Book
from ratemill.findings import errors
from ratemill.io.charge_store import ChargeStore
from ratemill.rating import series
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.charges import CHARGE_ORDER, CHARGES
from ratemill.tables.invoices import BILLING_TABLES, Billed
from reference.rating import rate_month
from strategies import neighbours, side_by_side
from workspaces import run_here
from worlds import write_world

TESTS = Path(__file__).resolve().parents[1]
WORLDS = int(os.environ.get("WORLDS", "2000"))
PARTS = 8
FIRST_SEED = 0 if os.environ.get("CI") else secrets.randbelow(10**9)
"""The same worlds each time in CI, others each time at a desk; a failure names the seed."""


def ask(world):
    assert_agree(world, bill(world), rate_month(world))


def ask_of_shards(world):
    """Charges stand shard after shard; the reference knows no shards."""
    billed = bill(world)
    assert_agree(world, replace(billed, charges=in_order(billed.charges)), rate_month(world))


def in_order(charges):
    return charges.sort(~pl.col("charge_kind").is_in(RATED_KINDS), *CHARGE_ORDER, maintain_order=True)


def ask_about(count, first_seed, ask=ask):
    """Ask about at least ``count`` worlds, up to ten at a time."""
    asked = 0

    def examples(number):
        @seed(number)
        @settings(max_examples=15, database=None)
        @given(neighbours("everything", most=10) | neighbours("deals", most=10))
        def ask_neighbours(some):
            nonlocal asked
            asked += len(some)
            ask(side_by_side(some))

        ask_neighbours()

    number = first_seed
    while asked < count:
        try:
            examples(number)
        except AssertionError as error:
            error.add_note(f"seed {number}")
            raise
        number += 1


def test_forty_worlds():
    ask_about(40, FIRST_SEED)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_many_worlds(part):
    ask_about(WORLDS // PARTS, FIRST_SEED + 10**9 * (part + 1))


@pytest.mark.slow
def test_shards_cut_as_small_as_they_can_be_say_the_same(monkeypatch):
    monkeypatch.setattr(series, "SHARD_ROWS", 1)
    ask_about(max(80, WORLDS // 20), FIRST_SEED, ask_of_shards)


# The harness itself --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(neighbours("everything", most=4))
@settings(max_examples=6)
def test_a_world_says_the_same_alone_and_beside_others(some):
    for world, part in zip(some, bill_each(some), strict=True):
        alone = rate_month(world)
        facts = {"rows_billed": len(alone.accepted), "rows_unpriced": sum(row.records for row in alone.unpriced)}
        part.facts.update(facts)
        assert_agree(world, part, alone)


@pytest.mark.slow
@given((neighbours("everything", most=4) | neighbours("deals", most=4)).map(side_by_side))
@settings(max_examples=10)
def test_books_of_worlds_are_good_books(world):
    quick = make_book(world.book)
    checked = Book.of(**{table.name: quick.frame(table.name) for table in BOOK_TABLES})
    assert checked.sha256 == quick.sha256
    assert not errors(check_book(checked))


def test_a_difference_is_told_by_place_column_and_both_values():
    world = side_by_side(example(neighbours("deals", most=3)))
    reference = rate_month(world)
    engine = bill(world)
    assert differences(engine, reference) == []
    line = engine.lines.row(0, named=True)
    wrong = engine.lines.with_columns(
        amount=pl.when(pl.int_range(pl.len()) == 0).then(pl.col("amount") + 1).otherwise("amount")
    )
    (found,) = differences(changed(engine, lines=wrong), reference)
    assert found.startswith(f"lines {line['invoice_id']} {line['account_id']} ")
    assert found.endswith(f": amount is {(line['amount'] + 1).normalize():f}, not {line['amount'].normalize():f}")
    assert all("rows, not" in text for text in differences(changed(engine, lines=engine.lines.head(0)), reference))
    for name in ("charges", *INVOICE_TABLES):
        frame = getattr(engine, name)
        assert frame.height, f"no {name} in the example"
        assert differences(changed(engine, **{name: frame.head(0)}), reference)
    assert differences(changed(engine, charges=engine.charges.reverse()), reference)
    with pytest.raises(AssertionError, match=f"usage:\n  account_id={world.usage[0].account_id} "):
        assert_agree(world, changed(engine, lines=wrong), reference)
    assert describe(world).startswith(f"{world.period} in {world.time_zone}, by {world.detail}")


def example(strategy):
    """The same example each time: the first of a few with a row in every table."""
    found = []

    @seed(1)
    @settings(max_examples=40, database=None)
    @given(strategy)
    def look(some):
        if not found:
            bill = rate_month(side_by_side(some))
            if all(getattr(bill, name) for name in ("charges", *INVOICE_TABLES)):
                found.append(some)

    look()
    return found[0]


def changed(engine, **frames):
    return EngineBill(**(vars(engine) | frames))


# What must not matter ------------------------------------------------------------------------------------------------


def assert_same(one, other):
    for name in ("charges", "unpriced", *INVOICE_TABLES):
        assert_frame_equal(getattr(one, name), getattr(other, name))


@pytest.mark.slow
@given(neighbours("everything", most=6).map(side_by_side), st.integers(0, 10**6))
@settings(max_examples=10)
def test_the_row_order_of_a_shard_does_not_matter(world, chance):
    for shard in shards(world):
        rated = shard.rated()
        mixed = type(shard)(
            shard.metered.sample(fraction=1, shuffle=True, seed=chance),
            shard.hourly.sample(fraction=1, shuffle=True, seed=chance + 1),
            shard.others,
        ).rated()
        assert_frame_equal(mixed.charges, rated.charges)
        assert_frame_equal(mixed.unpriced, rated.unpriced)


@pytest.mark.slow
@given(neighbours("everything", most=6).map(side_by_side))
@settings(max_examples=10)
def test_both_polars_engines_say_the_same(world):
    streamed = bill(world)
    collect = pl.LazyFrame.collect

    def in_memory(self, **options):
        return collect(self, **(options | {"engine": "in-memory"}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl.LazyFrame, "collect", in_memory)
        assert_same(bill(world), streamed)


BILL_WORLDS = """
import hashlib, io, sys
from hypothesis import given, seed, settings
from engine import INVOICE_TABLES, bill
from strategies import neighbours, side_by_side

digest = hashlib.sha256()

@seed(7)
@settings(max_examples=12, database=None, deadline=None)
@given(neighbours("everything", most=8).map(side_by_side))
def bill_some(world):
    engine = bill(world, threads=int(sys.argv[1]))
    for name in ("charges", "unpriced", *INVOICE_TABLES):
        file = io.BytesIO()
        getattr(engine, name).rechunk().write_parquet(file)
        digest.update(file.getvalue())

bill_some()
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_the_number_of_threads_does_not_matter():
    told = set()
    for threads in ("1", "2", "7"):
        environment = {
            **os.environ,
            "POLARS_MAX_THREADS": threads,
            "PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)]),
        }
        ended = subprocess.run(
            [sys.executable, "-c", BILL_WORLDS, threads], env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        told.add(ended.stdout)
    assert len(told) == 1


# Through files and the command ---------------------------------------------------------------------------------------


@pytest.mark.slow
@given(some=neighbours("everything", most=8) | neighbours("deals", most=8), files=st.integers(1, 3))
@settings(max_examples=20)
def test_the_command_says_the_same_of_written_worlds(some, files, tmp_path_factory):
    # no credit was drawn on and nothing is to be corrected: earlier months were never run here
    world = replace(side_by_side(some), credits_drawn={}, corrections=())
    folder = write_world(world, tmp_path_factory.mktemp("world"), files=files)
    with (folder / "ratemill.toml").open("a", encoding="utf-8") as file:
        file.write("\n[output]\npdf = false\nhtml = false\n")
    ended = run_here(
        ["run", "--workspace", str(folder), "--period", world.period, "--as-of", "2027-01-01T00:00:00Z", "--json"]
    )
    reference = rate_month(world)
    if not reference.accepted and not reference.invoices:
        assert ended.code == 99, ended.stderr
        return
    assert ended.code == 0, ended.stderr
    assert_agree(world, published(folder, world.period), reference)


def published(folder, period):
    """What analysts see of the period, and what the charge store has of usage without a price."""
    with duckdb.connect(folder / "published" / "billing.duckdb", read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        charges, *frames = (
            connection.sql(f"FROM {table.name}").pl().cast(table.polars_schema) for table in (CHARGES, *BILLING_TABLES)
        )
    billed = Billed.of(frames)
    run_id = charges["run_id"].unique().item() if charges.height else None
    store = ChargeStore(folder / "state" / "charges")
    if run_id is None:
        (run_id,) = (path.name.removeprefix("run=") for path in (store.root / f"period={period}").glob("run=*"))
    return EngineBill(
        charges=in_order(charges),
        unpriced=store.unpriced(period, run_id),
        invoices=billed.invoices.sort("billing_account_id", "currency"),
        lines=billed.lines,
        deductions=billed.deductions,
        tax_lines=billed.taxes,
        credits=billed.credits,
        commitments=billed.commitments,
        facts=store.facts(period, run_id),
    )
