"""What the template of a simulation may use: frozen objects, every field documented.

Money is exact (Decimal), percentages are rounded to one decimal. Texts come from the book and are not escaped yet: the
template's autoescape does that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date
    from decimal import Decimal

    from markupsafe import Markup


@dataclass(frozen=True)
class SimulatedStep:
    """One sum on the way from public prices to what is due."""

    name: str
    """`list`, `contracted`, `others`, `rounding`, `discounts`, `commitments`, `credits`, `billed`, `tax`, `taxed`,
    `prepaid` or `due`."""
    title: str
    """The same in words."""
    is_sum: bool
    """Whether it is a sum of what stands above it."""
    before: Decimal
    """As it was billed."""
    after: Decimal
    """As it would have been."""
    effect: Decimal
    """After minus before."""
    change_percent: Decimal | None
    """The effect in percent of before; none where there was nothing."""


@dataclass(frozen=True)
class SimulatedRow:
    """One line of a table."""

    number: int
    """Number of its bar in the chart; 0: it has none."""
    name: str
    """A name from the book, else the id."""
    note: str
    """Smaller, behind the name: the id, where the name is something else."""
    before: Decimal
    """As it was billed."""
    after: Decimal
    """As it would have been."""
    effect: Decimal
    """After minus before."""
    change_percent: Decimal | None
    """The effect in percent of before; none where there was nothing."""
    share_percent: Decimal | None
    """Its share of everything that goes the same way; none where nothing changes."""


@dataclass(frozen=True)
class SimulatedTable:
    """The difference by one thing; its rows, the smaller and the unchanged ones add up to its total."""

    anchor: str
    """Id of its section, unique on the page."""
    title: str
    """Heading of the section."""
    heading: str
    """Heading of the first column."""
    has_tax: bool
    """Whether its amounts include tax."""
    rows: tuple[SimulatedRow, ...]
    """The largest effects, from what pays most more to what pays most less."""
    smaller: SimulatedRow | None
    """All smaller effects together; none: there are no others."""
    smaller_count: int
    """How many rows that sums up."""
    unchanged: SimulatedRow | None
    """Everything that stays as it is; none: all changes."""
    unchanged_count: int
    """How many rows that sums up."""
    total: SimulatedRow
    """Everything together."""


@dataclass(frozen=True)
class SimulatedSection:
    """One currency."""

    currency: str
    """ISO 4217 code of its amounts."""
    taxed: SimulatedStep
    """The total with tax."""
    billed: SimulatedStep
    """The total before tax."""
    worse: int
    """How many customers pay more, with tax."""
    better: int
    """How many pay less."""
    same: int
    """How many pay the same."""
    chart: Markup | None
    """An `<svg>` element with a bar for each of the customers shown, described for screen readers; none: nothing
    changes."""
    steps: tuple[SimulatedStep, ...]
    """From public prices to what is due, in order; what is nothing on both sides is left out."""
    tables: tuple[SimulatedTable, ...]
    """By customer, by service, by SKU, by account, by month; those that have one row only are left out."""


@dataclass(frozen=True)
class SimulationPage:
    """A simulation."""

    title: str
    """For the browser's tab."""
    seller: str
    """Name of the seller."""
    first_day: date
    """First day of the first month."""
    last_day: date
    """Last day of the last month."""
    month_count: int
    """Number of months."""
    changes: tuple[str, ...]
    """What is different, in words."""
    notes: tuple[str, ...]
    """What a reader must know of the figures."""
    is_changed: bool
    """Whether anything comes of it."""
    sections: tuple[SimulatedSection, ...]
    """The result, a section for each currency."""
