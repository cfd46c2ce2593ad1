"""Bringing a warehouse of a former layout up to date: from files, in one transaction, with a copy of it kept aside."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratemill.errors import UsageError
from ratemill.io.atomic import staged_file

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

_FILE = re.compile(r"(\d{4})_to_(\d{4})\.sql")


@dataclass(frozen=True)
class Migration:
    """One step up."""

    before: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Of its file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def apply(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Run its statements, inside a transaction."""
        for statement in connection.extract_statements(self.text):
            connection.execute(statement)


def migrations_between(folder: Path, version: int, wanted: int) -> list[Migration]:
    """The files that lead from one layout to another, in order.

    Raises:
        UsageError: one is missing.
    """
    known: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None or int(match[2]) != int(match[1]) + 1:
            raise UsageError(f"{path} is no migration: its name must be like 0004_to_0005.sql")
        known[int(match[1])] = Migration(int(match[1]), path.name, path.read_text(encoding="utf-8"))
    missing = [step for step in range(version, wanted) if step not in known]
    if missing:
        raise UsageError(
            f"there is no way from layout {missing[0]} of the warehouse to {missing[0] + 1}"
            " → use the version of ratemill that wrote it, or move the state folder away and run again"
        )
    return [known[step] for step in range(version, wanted)]


def copy_aside(path: Path, version: int) -> Path:
    """Keep the warehouse as it was, and its log beside it, before the first step."""
    kept = path.with_name(f"{path.stem}.layout-{version}{path.suffix}")
    with staged_file(kept) as staged:
        shutil.copyfile(path, staged)
    return kept
