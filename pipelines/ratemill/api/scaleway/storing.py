"""Rows of the store as the dialect changes them: one at a time, with who changed it and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ratemill.api.scaleway.errors import quotas_exceeded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from sqlite3 import Connection

    from ratemill.api.access import Principal
    from ratemill.api.app import Core


@dataclass(frozen=True)
class Quota:
    """How many rows may share a value of a column."""

    column: str
    resource: str
    """What clients call them."""
    most: int


def insert(core: Core, table: str, row: Mapping[str, Any], principal: Principal, quota: Quota) -> dict[str, Any]:
    """Add a row, if there are not too many; the row with its times.

    Raises:
        Problem: there are (403).
    """
    now = core.now().isoformat()
    stored = {**row, "created_at": now, "updated_at": now, "changed_by": principal.key_id}
    with core.store.transaction() as connection:
        count = _count(connection, table, quota.column, row[quota.column])
        if count >= quota.most:
            raise quotas_exceeded(quota.resource, quota.most, count)
        columns, values = ", ".join(stored), ", ".join(f":{name}" for name in stored)
        connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})", stored)  # noqa: S608 - our names
    return stored


def update(
    core: Core, table: str, row: Mapping[str, Any], changes: Mapping[str, Any], principal: Principal
) -> dict[str, Any]:
    """Change a row, named by its first column; what is None stays. The row as it is then."""
    key = next(iter(row))
    given = {name: value for name, value in changes.items() if value is not None}
    given |= {"updated_at": core.now().isoformat(), "changed_by": principal.key_id}
    assigned = ", ".join(f"{name} = :{name}" for name in given)
    core.store.write(f"UPDATE {table} SET {assigned} WHERE {key} = :{key}", {**given, key: row[key]})  # noqa: S608
    return {**row, **given}


def delete(core: Core, table: str, row: Mapping[str, Any]) -> None:
    """Remove a row, named by its first column."""
    key = next(iter(row))
    core.store.write(f"DELETE FROM {table} WHERE {key} = :{key}", {key: row[key]})  # noqa: S608 - our names


def times(row: Mapping[str, Any]) -> dict[str, str]:
    """When a row was made and changed, as the dialect writes instants."""
    return {name: row[name].replace("+00:00", "Z") for name in ("created_at", "updated_at")}


def _count(connection: Connection, table: str, column: str, value: Any) -> int:
    (row,) = connection.execute(f"SELECT count(*) FROM {table} WHERE {column} = :value", {"value": value})  # noqa: S608
    return int(row[0])
