"""What each step of a run reads and writes, by the names that files have in the workspace: for plans and lineage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratemill.tables.book import EVERY_BOOK_TABLE
from ratemill.workspace import CONFIG_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratemill.workspace import Workspace

_TABLES = {table.name for table in EVERY_BOOK_TABLE}


@dataclass(frozen=True)
class Flow:
    """Paths relative to the workspace where they lie inside; patterns as [usage] files has them."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def flow_of(workspace: Workspace, step: str, period: str, *, corrections: Sequence[str] = ()) -> Flow:
    """What ``step`` of a run of ``period`` reads and writes.

    Args:
        workspace: where; it is looked at for the tables of the book, and for templates and queries of its own.
        step: a name of :data:`ratemill.insight.plan.STEPS`.
        period: the billing period.
        corrections: closed periods that this one bills corrections of.
    """
    warehouse, charges = workspace.relative(workspace.warehouse), f"{workspace.relative(workspace.charges)}/period="
    published, out = workspace.relative(workspace.published), workspace.relative(workspace.root / "out")
    book = book_files(workspace)
    own = {path.name: (workspace.relative(path),) if path.is_dir() else () for path in
           (workspace.templates, workspace.queries)}  # fmt: skip
    corrected = tuple(f"{charges}{closed}" for closed in corrections)
    return {
        "load": Flow(workspace.config.usage.files, (warehouse,)),
        "check": Flow((CONFIG_FILE, *book, warehouse), ()),
        "rate": Flow((warehouse, *book), (f"{charges}{period}",)),
        "correct": Flow((warehouse, *book), corrected),
        "invoice": Flow((f"{charges}{period}", *corrected, *book), (warehouse,)),
        "report": Flow(
            (warehouse, f"{charges}{period}", *own[workspace.templates.name]), (f"{out}/{period}",)
        ),
        "publish": Flow(
            (warehouse, workspace.relative(workspace.charges), *own[workspace.queries.name]),
            (workspace.relative(workspace.published_database), f"{published}/parquet"),
        ),
    }[step]  # fmt: skip


def book_files(workspace: Workspace) -> tuple[str, ...]:
    """The files of the book's tables."""
    if not workspace.book.is_dir():
        return ()
    return tuple(sorted(workspace.relative(path) for path in workspace.book.iterdir() if path.stem in _TABLES))
