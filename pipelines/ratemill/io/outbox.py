"""The outbox: ``ops.notifications`` in the warehouse, and the journal of what a sender has done since.

A sender works without the workspace's lock, since a mail server may take minutes to answer and a run must not wait for
it. It writes each outcome into the journal, flushed to disk, before it goes on; whoever opens the outbox next puts the
journal into the warehouse. Killed between the answer of the other side and the line of the journal, one message is sent
again, with the same identity.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.io.atomic import PRIVATE_FILE, make_private_folder, translate_os_errors
from ratemill.notify.messages import Message, grouped, message_of
from ratemill.notify.outcomes import Outcome
from ratemill.notify.schedule import is_quiet, wait_after
from ratemill.tables.runs import NOTIFICATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from zoneinfo import ZoneInfo

    from ratemill.io.warehouse import Warehouse
    from ratemill.workspace import Workspace


class Journal:
    """The file ``state/outbox.journal``: one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, workspace: Workspace) -> Journal:
        """That of a workspace."""
        return cls(workspace.state / "outbox.journal")

    @contextmanager
    def writing(self) -> Iterator[Callable[[Outcome, datetime], None]]:
        """Yields what appends an outcome so that it survives the power going out."""
        with translate_os_errors(f"writing {self._path}"):
            make_private_folder(self._path.parent)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)

            def note(outcome: Outcome, at: datetime) -> None:
                line = json.dumps({**asdict(outcome), "at": at.isoformat()}, ensure_ascii=False)
                # In front too: a line that a killed sender left unfinished must not swallow this one.
                os.write(descriptor, f"\n{line}\n".encode())
                os.fsync(descriptor)

            try:
                yield note
            finally:
                os.close(descriptor)

    def read(self) -> list[tuple[Outcome, datetime]]:
        """Every outcome that was noted, in order; lines that were not finished are left out."""
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                noted = json.loads(line)
                at = datetime.fromisoformat(noted.pop("at"))
                found.append((Outcome(**noted), at))
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
        return found

    def clear(self) -> None:
        """Forget it: the warehouse knows."""
        self._path.unlink(missing_ok=True)


class Outbox:
    """The notifications of an open warehouse. Every change is one transaction."""

    def __init__(self, warehouse: Warehouse, journal: Journal, *, max_attempts: int) -> None:
        self._warehouse = warehouse
        self._journal = journal
        self._max_attempts = max_attempts

    def rows(self, where: str = "true", parameters: Mapping[str, Any] | None = None) -> pl.DataFrame:
        """Notifications, oldest first."""
        found = self._warehouse.table("ops", NOTIFICATIONS, where, dict(parameters or {}))
        return found.sort("queued_at", "kind", "notification_id")

    def unknown(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Those of ``rows`` that were never queued."""
        known = set(self._warehouse.frame("SELECT notification_id FROM ops.notifications")["notification_id"])
        return [dict(row) for row in rows if row["notification_id"] not in known]

    def queue(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Add those that were never queued, whatever became of them; which they were."""
        with self._warehouse.transaction():
            fresh = self.unknown(rows)
            if fresh:
                self._warehouse.insert("ops", NOTIFICATIONS, pl.DataFrame(fresh, schema=NOTIFICATIONS.polars_schema))
        return fresh

    def settle(self) -> None:
        """Put the journal into the warehouse, and forget it."""
        noted = self._journal.read()
        if noted:
            rows = {row["notification_id"]: row for row in self.rows("message_id IS NOT NULL").iter_rows(named=True)}
            changed = {}
            for outcome, at in noted:
                for identity, row in rows.items():
                    if row["message_id"] == outcome.message_id and row["state"] != "sent":
                        rows[identity] = changed[identity] = row | self._became(row, outcome, at)
            self._replace(changed.values())
        self._journal.clear()

    def _became(self, row: Mapping[str, Any], outcome: Outcome, at: datetime) -> dict[str, Any]:
        if outcome.result == "sent":
            return {"state": "sent", "sent_at": at, "last_error": None}
        if outcome.result == "failed":
            return {"state": "failed", "last_error": outcome.error}
        if row["attempts"] >= self._max_attempts:
            return {"state": "given_up", "last_error": outcome.error}
        return {"state": "queued", "not_before": at + wait_after(row["attempts"]), "last_error": outcome.error}

    def due(
        self, now: datetime, zone: ZoneInfo, *, beside: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[list[Message], list[dict[str, Any]]]:
        """Messages that may go out now, and the rows that wait: for a time, or for quiet hours to end.

        What a killed sender left as ``sending`` is due as well. ``beside``: rows that are not queued yet.
        """
        ready: list[dict[str, Any]] = []
        held: list[dict[str, Any]] = []
        waiting = self.rows("state IN ('queued', 'sending')").to_dicts()
        for row in [*waiting, *map(dict, beside)]:
            waits = row["not_before"] > now or is_quiet(now, row["quiet"], zone)
            (held if waits else ready).append(row)
        return [message_of(rows) for rows in grouped(ready)], held

    def claim(self, messages: Sequence[Message], now: datetime) -> None:
        """Note that a sender has them. Hold the sender's lock, and :meth:`settle` before."""
        self._replace(
            dict(row)
            | {
                "state": "sending",
                "message_id": message.message_id,
                "attempts": row["attempts"] + 1,
                "last_attempt_at": now,
            }
            for message in messages
            for row in message.rows
        )

    def retry(self, now: datetime) -> int:
        """Queue what failed or was given up once more; how many those are."""
        ended = self.rows("state IN ('failed', 'given_up')")
        self._replace(
            row | {"state": "queued", "attempts": 0, "not_before": now} for row in ended.iter_rows(named=True)
        )
        return ended.height

    def _replace(self, rows: Iterable[Mapping[str, Any]]) -> None:
        frame = pl.DataFrame([dict(row) for row in rows], schema=NOTIFICATIONS.polars_schema)
        if not frame.height:
            return
        with self._warehouse.transaction():
            self._warehouse.delete(
                "ops",
                NOTIFICATIONS,
                "notification_id IN (SELECT unnest($ids))",
                {"ids": frame["notification_id"].to_list()},
            )
            self._warehouse.insert("ops", NOTIFICATIONS, frame)
