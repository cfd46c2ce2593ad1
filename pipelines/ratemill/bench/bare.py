"""What the bare engine needs, as a process: ``python -m ratemill.bench.bare read|by-day|by-hour DATABASE FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

from ratemill.resources import sql


def read(database: Path, folder: Path) -> None:
    """DuckDB CREATE TABLE AS SELECT over the usage files: read, decompress, compress, write."""
    files = [str(path) for path in sorted((folder / "usage").glob("*.parquet"))]
    with duckdb.connect(str(database)) as connection:
        # Not a prepared parameter: DuckDB takes none in CREATE TABLE AS.
        connection.execute(f"CREATE TABLE usage AS {sql('bench/usage_as_it_is').replace('$files', str(files))}")


def group(database: Path, folder: Path, *, query: str) -> None:
    """DuckDB GROUP BY at the grain of a charge, into Parquet."""
    target = folder / "grouped.parquet"
    with duckdb.connect(str(database)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"COPY ({sql(query)}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")


if __name__ == "__main__":
    action, database, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if action == "read":
        read(database, folder)
    else:
        group(database, folder, query={"by-day": "bench/usage_by_day", "by-hour": "bench/usage_by_hour"}[action])
