"""What an explanation is: a tree of steps, each with its workings and tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ratemill.errors import InvariantError
from ratemill.insight.explain.arithmetic import Working, must_equal, total
from ratemill.money import ZERO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Cell = str | Decimal | int | None


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    heading: str
    is_number: bool = False
    at_least: int = 0
    """Decimals that a number is shown with at least."""
    is_whole: bool = False
    """Whether a cell is one word that is better not broken over lines: an id."""
    adds_up: bool = False
    """Whether the rows, and the row of all others, add up to the last row."""


@dataclass(frozen=True)
class Table:
    """Rows, of a long table the largest; then all others as one row; then the total."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    others: tuple[Cell, ...] | None = None
    """``and 1,234 more``, with what they come to."""
    total: tuple[Cell, ...] | None = None
    title: str = ""

    def prove(self) -> None:
        """The rows that are shown, and the others, come to the total.

        Raises:
            InvariantError: they do not.
        """
        if self.total is None:
            return
        for place, column in enumerate(self.columns):
            if not column.adds_up:
                continue
            cells = [row[place] for row in (*self.rows, *([self.others] if self.others else []))]
            found = total(cell if isinstance(cell, Decimal) else Decimal(cell or 0) for cell in cells)
            last = self.total[place]
            must_equal(f"{column.heading} of {self.title or 'a table'}", found, Decimal(last or 0))

    def as_dict(self) -> dict[str, Any]:
        """For JSON; decimals stay decimals."""
        return {
            "title": self.title,
            "columns": [{"heading": column.heading, "adds_up": column.adds_up} for column in self.columns],
            "rows": [list(row) for row in self.rows],
            "others": list(self.others) if self.others else None,
            "total": list(self.total) if self.total else None,
        }


@dataclass(frozen=True)
class Step:
    """One step of a derivation."""

    name: str
    """Stable: usage, quantity, price, cost, limit, exchange, exact, rounding, discount, commitment, credit, tax, …"""
    title: str
    says: tuple[str, ...] = ()
    """Sentences."""
    tables: tuple[Table, ...] = ()
    workings: tuple[Working, ...] = ()
    steps: tuple[Step, ...] = ()
    """What it consists of in turn."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; decimals stay decimals."""
        return {
            "name": self.name,
            "title": self.title,
            "says": list(self.says),
            "tables": [table.as_dict() for table in self.tables],
            "workings": [working.as_dict() for working in self.workings],
            "steps": [step.as_dict() for step in self.steps],
        }


@dataclass(frozen=True)
class Explanation:
    """Why a figure is what it is."""

    kind: str
    """invoice, line, account, resource or charge."""
    title: str
    subject: str
    """How to ask for it again."""
    period: str
    run_id: str
    is_draft: bool
    figure: Decimal | None
    """None where it would be a sum of several currencies."""
    unit: str
    """Currency of the figure."""
    at_least: int
    """Decimals of the currency."""
    figure_is: str
    """What the figure is: before tax, with tax, exact."""
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    """What the reader has to know before: usage that came later, settings of today."""
    asks: tuple[tuple[str, str], ...] = field(default=())
    """What to ask next: command, and what it answers."""

    def walk(self) -> Iterator[Step]:
        """Every step, a step before those it consists of."""
        waiting = list(reversed(self.steps))
        while waiting:
            step = waiting.pop()
            yield step
            waiting += reversed(step.steps)

    def prove(self) -> Explanation:
        """The explanation itself, every working recomputed from its operands and every table added up.

        Raises:
            InvariantError: a figure is not what its parts come to.
        """
        for step in self.walk():
            for working in step.workings:
                if working.recomputed() != working.result:
                    raise InvariantError(
                        f"{step.title}: {working.name or working.operation} is {working.result}, and its operands come"
                        f" to {working.recomputed()}; nothing is shown"
                    )
            for table in step.tables:
                table.prove()
        return self

    def as_dict(self) -> dict[str, Any]:
        """For JSON; decimals stay decimals."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "title": self.title,
            "period": self.period,
            "run_id": self.run_id,
            "is_draft": self.is_draft,
            "figure": self.figure,
            "unit": self.unit,
            "figure_is": self.figure_is,
            "notes": list(self.notes),
            "steps": [step.as_dict() for step in self.steps],
            "asks": [{"command": command, "answers": answers} for command, answers in self.asks],
        }


def largest_first(
    columns: Sequence[Column],
    rows: Sequence[tuple[Cell, ...]],
    *,
    most: int,
    by: int,
    title: str = "",
    total_name: str = "Total",
    thing: str = "",
    key: Callable[[tuple[Cell, ...]], Any] | None = None,
) -> Table:
    """A table of the ``most`` rows whose column ``by`` is the largest, the others as one row, and the total.

    ``key``: another order. One row more is shown rather than ``1 more``. A table of one row has no total.
    """
    order = key or (lambda row: -abs(Decimal(row[by] or 0)))
    ordered = sorted(rows, key=order)
    kept = len(ordered) if len(ordered) <= most + 1 else most
    rest = ordered[kept:]

    def summed(name: str, several: Sequence[tuple[Cell, ...]]) -> tuple[Cell, ...]:
        sums: list[Cell] = [
            total(_decimal(row[place]) for row in several) if column.adds_up else None
            for place, column in enumerate(columns)
        ]
        return (name, *sums[1:])

    others = summed(f"and {len(rest):,} more{f' {thing}' if thing else ''}", rest) if rest else None
    whole = summed(total_name, ordered) if len(ordered) > 1 else None
    return Table(tuple(columns), tuple(ordered[:kept]), others, whole, title)


def _decimal(cell: Cell) -> Decimal:
    return cell if isinstance(cell, Decimal) else Decimal(cell) if isinstance(cell, int) else ZERO
