"""book pull: projects and members of the book, brought up to what another system says."""

from __future__ import annotations

import csv
import io
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from ratemill.book.checks import check_book
from ratemill.book.pulled import Change, Remote, with_members, with_projects
from ratemill.errors import DataRefusedError, UsageError
from ratemill.findings import errors
from ratemill.io.atomic import write_file
from ratemill.io.book_files import read_book
from ratemill.io.lock import hold_lock
from ratemill.tables.book import MEMBERS, PROJECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ratemill.book.pulled import Row
    from ratemill.tables.columns import Table
    from ratemill.workspace import Workspace

TABLES = {"projects": PROJECTS, "members": MEMBERS}


@dataclass(frozen=True)
class Pulled:
    """What was different."""

    changes: tuple[Change, ...]
    files: tuple[str, ...]
    """Files that were written, or would be."""

    def counts(self) -> dict[str, dict[str, int]]:
        """Table → what happened → how often."""
        return {
            table: {
                what: sum((change.table, change.what) == (table, what) for change in self.changes)
                for what in ("added", "changed", "ended")
            }
            for table in TABLES
        }


def pull(
    workspace: Workspace, remotes: Sequence[Remote], *, tables: Sequence[str], now: datetime, dry_run: bool = False
) -> Pulled:
    """Put what the other system says into the book's files: all of it, or nothing where the book would be wrong.

    Args:
        workspace: the workspace.
        remotes: the organizations.
        tables: projects, members, or both.
        now: the clock: when what is gone ends.
        dry_run: look only.

    Raises:
        UsageError: an organization is no account of the book, or a table is no CSV file.
        DataRefusedError: the book has mistakes, or would have; nothing was written.
        LockedError: a run is at work.
    """
    with hold_lock(workspace.lock, command="ratemill book pull"):
        _refuse_unknown_accounts(workspace, remotes)
        sheets = {name: _Sheet.read(workspace.book / f"{name}.csv", TABLES[name]) for name in tables}
        changes = []
        for remote in remotes:
            for name, sheet in sheets.items():
                changes += sheet.take(name, remote, now=now, zone=workspace.config.period.time_zone)
        changed = {name: sheet for name, sheet in sheets.items() if any(change.table == name for change in changes)}
        _prove(workspace, changed)
        if not dry_run:
            for sheet in changed.values():  # projects first: members name them
                write_file(sheet.path, sheet.text().encode("utf-8"))
    return Pulled(tuple(changes), tuple(f"book/{name}.csv" for name in changed))


def _refuse_unknown_accounts(workspace: Workspace, remotes: Sequence[Remote]) -> None:
    book, findings = read_book(workspace.book, time_zone=workspace.config.period.time_zone)
    if book is None:
        raise DataRefusedError("the book has mistakes; nothing was pulled", findings=findings)
    known = set(book.accounts["account_id"])
    unknown = [remote.account_id for remote in remotes if remote.account_id not in known]
    if unknown:
        raise UsageError(
            f"organization {unknown[0]} is no account of book/accounts.csv → add it there with this account_id, or name"
            " the account that it is: --organization UUID=ACCOUNT"
        )


def _prove(workspace: Workspace, changed: Mapping[str, _Sheet]) -> None:
    """Check the book as it would be, in a copy."""
    if not changed:
        return
    zone = workspace.config.period.time_zone
    with tempfile.TemporaryDirectory(prefix="ratemill-") as folder:
        copy = Path(folder) / workspace.book.name
        shutil.copytree(workspace.book, copy)
        for name, sheet in changed.items():
            (copy / f"{name}.csv").write_text(sheet.text(), encoding="utf-8")
        book, findings = read_book(copy, time_zone=zone)
        if book is not None:
            findings = [*findings, *check_book(book, time_zone=zone)]
    wrong = errors(findings)
    if wrong:
        count = f"{len(wrong)} mistake{'s' if len(wrong) != 1 else ''}"
        raise DataRefusedError(f"the book would have {count}; nothing was written", findings=wrong)


@dataclass
class _Sheet:
    """A CSV file of the book as rows of text; how it is separated stays, and so do its columns."""

    path: Path
    columns: list[str]
    rows: list[Row]
    separator: str = ","

    @classmethod
    def read(cls, path: Path, table: Table) -> _Sheet:
        """The file, or an empty one of the table where there is none."""
        if path.with_suffix(".parquet").exists():
            raise UsageError(f"book/{path.stem}.parquet is no CSV file → save it as book/{path.name}, and remove it")
        if not path.exists():
            return cls(path, table.names, [])
        text = path.read_text(encoding="utf-8-sig")
        header = text.partition("\n")[0]
        separator = max(",;\t", key=header.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restval="")
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = [{name: (row.get(name) or "").strip() for name in columns} for row in reader]
        return cls(path, columns, [row for row in rows if any(row.values())], separator)

    def take(self, name: str, remote: Remote, *, now: datetime, zone: str) -> list[Change]:
        """Bring the rows of an organization up to date; what that changed."""
        over = _is_over(now, zone)
        today = now.astimezone(ZoneInfo(zone)).date()
        if name == "projects":
            self.rows, changes = with_projects(
                self.rows,
                remote,
                is_over=over,
                today=today.isoformat(),
                tomorrow=(today + timedelta(days=1)).isoformat(),
            )
        else:
            instant = now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            self.rows, changes = with_members(self.rows, remote, is_over=over, now=instant)
        for row in self.rows:
            self.columns += [column for column, value in row.items() if value and column not in self.columns]
        return changes

    def text(self) -> str:
        """The file's new content."""
        made = io.StringIO()
        writer = csv.DictWriter(
            made, self.columns, restval="", delimiter=self.separator, lineterminator="\n", extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows(self.rows)
        return made.getvalue()


def _is_over(now: datetime, zone: str) -> Callable[[Row], bool]:
    """Whether a row's ``valid_to`` has been reached."""

    def is_over(row: Row) -> bool:
        text = row.get("valid_to", "")
        if not text:
            return False
        end = datetime.fromisoformat(text)
        return (end if end.tzinfo is not None else end.replace(tzinfo=ZoneInfo(zone))) <= now

    return is_over
