"""Everything a workspace holds, in a form that two workspaces can be compared by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from ratemill.audit import broken_links
from ratemill.tables.runs import EVENTS
from workspaces import tree

if TYPE_CHECKING:
    from pathlib import Path

CLOCK_COLUMNS = ["finished_at"]
"""All that two runs of the same inputs may differ in."""
_SHOWN_ROWS = 2_000


def state_of(root: Path) -> dict[str, Any]:
    """Names of all files, the bytes of documents and charges, and the rows of both databases.

    The audit log tells of the way to a state, which a detour makes longer: only that its chain is whole is compared.
    """
    return {
        "names": names(root),
        "files": {
            name: digest
            for part in ("out", "state/charges", "state/issued", "published")
            for name, digest in tree(root / part, root).items()
            if not name.endswith(".duckdb")
        },
        "published": rows_of(root / "published" / "billing.duckdb"),
        "warehouse": rows_of(root / "state" / "warehouse.duckdb"),
        "audit log": broken_links(audit_log(root)),
    }


def audit_log(root: Path) -> pl.DataFrame:
    """Rows of EVENTS."""
    with duckdb.connect(str(root / "state" / "warehouse.duckdb"), read_only=True) as warehouse:
        warehouse.execute("SET TimeZone = 'UTC'")
        rows = warehouse.sql("SELECT * FROM ops.events").to_arrow_table()
    return pl.DataFrame(pl.from_arrow(rows)).select(EVENTS.names).cast(EVENTS.polars_schema)


def names(root: Path) -> list[str]:
    """Everything below ``root`` but the inputs."""
    return [path for path in tree(root, root) if path.split("/")[0] not in ("usage", "book")]


def rows_of(database: Path) -> dict[str, Any]:
    """Table → its rows, sorted; a number of rows and their hash where there are many."""
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        tables = connection.execute(
            "SELECT table_schema, table_name, string_agg('\"' || column_name || '\"', ', ' ORDER BY ordinal_position)"
            " FROM information_schema.columns INNER JOIN information_schema.tables USING (table_schema, table_name)"
            " WHERE table_type = 'BASE TABLE' AND table_name <> 'events' AND column_name NOT IN (SELECT unnest($clocks)) GROUP BY ALL",
            {"clocks": CLOCK_COLUMNS},
        ).fetchall()
        assert tables, f"{database} is empty"
        return {
            f"{schema}.{table}": _rows(connection, f'"{schema}"."{table}"', columns)
            for schema, table, columns in tables
        }


def _rows(connection: duckdb.DuckDBPyConnection, table: str, columns: str) -> Any:
    compared = f"(SELECT {columns} FROM {table}) AS compared"
    count, hashed = connection.execute(f"SELECT count(*), sum(hash(compared)) FROM {compared}").fetchone() or (0, 0)
    if count > _SHOWN_ROWS:
        return count, hashed
    return sorted(connection.execute(f"SELECT * FROM {compared}").fetchall(), key=repr)


def differences(expected: dict[str, Any], seen: dict[str, Any]) -> list[str]:
    """What differs between two states, in words that lead to the cause; empty when nothing does."""
    found = []
    for part, wanted in expected.items():
        if wanted == seen[part]:
            continue
        if isinstance(wanted, list):
            found += [f"{part}: {name} is missing" for name in sorted({*wanted} - {*seen[part]})]
            found += [f"{part}: {name} is too many" for name in sorted({*seen[part]} - {*wanted})]
            continue
        for key in sorted({*wanted, *seen[part]}):
            if wanted.get(key) != seen[part].get(key):
                found.append(f"{part}: {key}: expected {wanted.get(key)!r:.400}, seen {seen[part].get(key)!r:.400}")
    return found
