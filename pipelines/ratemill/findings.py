"""Findings: what a check saw, as a value. One place prints them, one place stops the run."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """The run must not go on past the step that found it."""
    WARNING = "warning"
    """A person should look before the period is closed."""
    INFO = "info"
    """Worth knowing; nothing to do."""


@dataclass(frozen=True)
class Finding:
    """One thing wrong or worth knowing: where it is, what was seen, what was expected, what to do."""

    severity: Severity
    rule: str
    """Stable name of the check, for example ``prices.overlap``."""
    message: str
    """What is wrong, in one sentence, with the value seen and what was expected."""
    cure: str = ""
    """What to do about it."""
    file: str | None = None
    row: int | None = None
    """Line of the file as an editor shows it (CSV: the header is line 1), or row number from 1 (Parquet)."""
    column: str | None = None
    value: str | None = None

    @property
    def place(self) -> str:
        """``book/prices.csv:12, column unit_price``; empty when the finding has no place."""
        where = self.file or ""
        if self.row is not None:
            where += f":{self.row}"
        if self.column is not None:
            where += f"{', ' if where else ''}column {self.column}"
        return where

    def __str__(self) -> str:
        parts = [f"{self.place}: " if self.place else "", self.message]
        if self.cure:
            parts.append(f" → {self.cure}")
        return "".join(parts)

    def as_dict(self) -> dict[str, str | int | None]:
        """For ``--json`` and the findings table."""
        return asdict(self) | {"severity": self.severity.value}


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Only the findings that stop a run."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def capped(findings: Iterable[Finding], *, limit: int = 20) -> list[Finding]:
    """The findings in order, at most ``limit`` per rule and file, each excess summed up in one more finding.

    One mistake in a formula breaks every row below it; the first rows tell as much as all of them.
    """
    kept: list[Finding] = []
    seen: Counter[tuple[Severity, str, str | None]] = Counter()
    for finding in findings:
        kind = (finding.severity, finding.rule, finding.file)
        seen[kind] += 1
        if seen[kind] <= limit:
            kept.append(finding)
    kept.extend(
        Finding(severity, rule, f"… and {count - limit} more of {rule}", file=file)
        for (severity, rule, file), count in seen.items()
        if count > limit
    )
    return kept
