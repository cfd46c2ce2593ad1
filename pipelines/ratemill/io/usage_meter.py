"""What a month's usage comes to: which rows may belong to it, their sums per series and hour, and what it would be."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl

from ratemill.io.database import literal, quoted
from ratemill.resources import sql
from ratemill.tables.usage import BOOK_REJECTS, USAGE_DUPLICATES, USAGE_FILES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from ratemill.io.database import Database
    from ratemill.period import BillingPeriod

_OF_SHARD = "WHERE series_id IN (SELECT series_id FROM rating_series WHERE shard = $shard)"


class UsageMeter:
    """Adds up the usage of a warehouse."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def usage_of_period(self, period: BillingPeriod) -> Iterator[None]:
        """Inside, the view ``usage_of_period`` holds what may belong to ``period`` in some time zone."""
        text = sql("raw/usage_of_period")
        # DuckDB refuses parameters in views; these are instants of our own making.
        text = text.replace("$widest_start", literal(period.widest_start))
        text = text.replace("$widest_end", literal(period.widest_end))
        self._database.execute(f"CREATE OR REPLACE TEMP VIEW usage_of_period AS {text}")
        try:
            yield
        finally:
            self._database.execute("DROP VIEW IF EXISTS temp.usage_of_period")

    @contextmanager
    def metered_usage(self, series: pl.DataFrame, cells: pl.DataFrame) -> Iterator[Sequence[tuple[int, int]]]:
        """Add usage up per series and cell into temporary tables (spilling to disk).

        Yields the shards in them: number, and how many rows :meth:`metered_shard` has.

        ``series``: series_id, calendar_id, shard, record_increment, by_the_hour (whether hours are needed one by one).
        ``cells``: calendar_id, usage_start, cell, hour.
        """
        with self._database.registered(rating_series=series, rating_cells=cells):
            try:
                for name in ("metered_usage", "billable_usage"):
                    self._database.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {sql(f'core/{name}')}")
                counted = self._database.frame(sql("core/shards"))
                yield list(counted.iter_rows())
            finally:
                for name in ("metered_usage", "billable_usage"):
                    self._database.execute(f"DROP TABLE IF EXISTS temp.{name}")

    def metered_shard(self, shard: int) -> pl.DataFrame:
        """One shard: series_id, cell, quantity, records, charge_start, charge_end, last_usage_start."""
        return self._database.frame(f"SELECT * FROM metered_usage {_OF_SHARD}", {"shard": shard})

    def billable_shard(self, shard: int) -> pl.DataFrame:
        """What a shard's series with increments, or hour by hour, bill: series_id, cell, hour (or empty), billable."""
        return self._database.frame(f"SELECT * FROM billable_usage {_OF_SHARD}", {"shard": shard})

    @contextmanager
    def expecting(
        self, period: BillingPeriod, before: datetime, expected: Iterable[pl.DataFrame]
    ) -> Iterator[pl.DataFrame]:
        """Inside, ``raw.usage`` is what ``period`` used before an instant, and what is ``expected`` after it.

        It lies in a database in memory of its own, which also is all that the names of tables reach, so that nothing
        can be written to the ledger meanwhile. ``expected``: frames of series_id, usage_start, quantity. Yields the one
        row of USAGE_FILES that all of it counts as coming from.
        """
        row = self._database.row("SELECT current_catalog()")
        ledger = f'"{row[0] if row else ""}"'
        view = sql("raw/usage_with_expected").replace("FROM warehouse.", f"FROM {ledger}.")
        view = view.replace("JOIN warehouse.", f"JOIN {ledger}.")
        view = view.replace("$widest_start", literal(period.widest_start))
        view = view.replace("$before", literal(min(before, period.widest_end)))
        self._database.execute("ATTACH ':memory:' AS imagined (READ_WRITE)")
        try:
            self._database.execute("USE imagined")
            self._database.execute("CREATE SCHEMA raw")
            columns = "series_id INTEGER NOT NULL, usage_start TIMESTAMPTZ NOT NULL, quantity DECIMAL(38,12) NOT NULL"
            self._database.execute(f"CREATE TABLE expected_usage ({columns})")
            for frame in expected:
                with self._database.registered(incoming=frame):
                    self._database.execute(
                        "INSERT INTO expected_usage SELECT series_id, usage_start, quantity FROM incoming"
                    )
            self._database.execute(f"CREATE VIEW raw.usage AS {view}")
            self._database.execute(f"CREATE VIEW raw.series AS SELECT * FROM {ledger}.raw.series")
            self._database.execute(f"CREATE TABLE raw.usage_duplicates ({USAGE_DUPLICATES.duckdb_columns()})")
            counted = self._database.row("SELECT count(*) FROM raw.usage")
            rows = counted[0] if counted else 0
            file = {
                **dict.fromkeys(USAGE_FILES.names),
                "file_id": 0, "rows_in": rows, "rows_filtered": 0, "rows_accepted": rows, "rows_rejected": 0,
            }  # fmt: skip
            yield pl.DataFrame([file], schema=USAGE_FILES.polars_schema)
        finally:
            self._database.execute(f"USE {ledger}")
            self._database.execute("DETACH imagined")

    def replace_book_rejects(self, unknown: pl.DataFrame, period: BillingPeriod) -> None:
        """Keep the rows of ``usage_of_period`` whose series the book does not know, in place of the former ones.

        ``unknown``: see :func:`ratemill.rating.series.split_by_book`.
        """
        with self._database.transaction(), self._database.registered(unknown=unknown):
            self._database.execute("DELETE FROM raw.book_rejects WHERE period = ?", [str(period)])
            if unknown.height:
                self._database.execute(
                    f"INSERT INTO raw.book_rejects ({quoted(BOOK_REJECTS)}) {sql('core/book_rejects')}",
                    {"period": str(period)},
                )
