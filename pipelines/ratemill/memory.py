"""One ceiling for the memory of a whole run, and what each part of it may take.

A run works step by step, so its parts share the same room one after the other: the database keeps its share all the
time, and beside it there are the processes that read usage files, or a shard that is rated, or processes that make
documents, or the database that is published. Nothing here decides a figure: with less room the same work is cut into
smaller pieces, done by fewer processes, and spilled to disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from ratemill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

SMALLEST = 1_000_000_000
"""Bytes that a run needs, whatever it bills."""
_UNITS = {"MB": 10**6, "GB": 10**9, "MiB": 1 << 20, "GiB": 1 << 30}

_OWN = 250_000_000
"""The run's process with its libraries and the book."""
_DATABASE_PER_THREAD = 100_000_000
"""A thread of the database that has less works on blocks that do not fit."""
_READER = 70_000_000
"""A process that reads usage files, before its first row."""
_READ_ROW = 700
"""Bytes of a row while it is read and checked, and of the same row on its way into the warehouse."""
_STORED_ROW = 250
MOST_SLICE_ROWS = 1_000_000
_USEFUL_SLICE_ROWS = 250_000
"""Reading smaller slices with more processes takes longer than larger ones with fewer."""
_DOCUMENT_PROCESS = 200_000_000
_LIMITED_DOCUMENT_PROCESS = 350_000_000
"""The same where each is stopped for what it takes, libraries included that it shares with others."""
_CHARGE = 1_600
"""Bytes of a charge while its shard is rated."""
_SERIES = 1_500
"""Bytes of a series (a resource's use of a SKU) while a period is rated."""
_MOST_OF_RAM = Decimal("0.5")
_MOST_OF_LIMIT = Decimal("0.8")
"""What a run takes when nobody says how much. Of a container's own limit it takes more: nobody else is in there."""
_SURELY_OF_LIMIT = Decimal("0.9")
"""The kernel counts pages of files and its own buffers against a container as well."""


_ADDRESSES = 80_000_000_000
"""The engine that draws charts reserves between 50 and 70 GB of addresses, and uses next to none of them."""


@dataclass(frozen=True)
class Machine:
    """What there is, in bytes."""

    ram: int
    limit: int | None = None
    """The smallest limit that the system sets to this process or its container; None where there is none."""
    limited_by: str = ""
    """Who sets it, as a message names it."""
    cores: int = 1
    reserved: int = 0
    """Bytes that count against the limit without being used: libraries reserve them."""
    addresses: int | None = None
    """Addresses that a process may have, used or not; None where there is no limit."""


@dataclass(frozen=True)
class Budget:
    """What the parts of a run may use."""

    ceiling: int
    """Bytes of all processes of the run together."""
    threads: int
    reason: str = ""
    """Where the ceiling comes from, in words."""
    lowered: bool = False
    """Whether a limit of the system made it smaller than the setting."""

    @property
    def database(self) -> int:
        """Bytes of the database; beyond, it spills to disk."""
        return (self.ceiling - _OWN) * 2 // 5

    @property
    def database_threads(self) -> int:
        """Threads that the database's memory is enough for."""
        return max(1, min(self.threads, self.database // _DATABASE_PER_THREAD))

    @property
    def beside(self) -> int:
        """Bytes of whatever works beside the database. The rest is for what allocators keep."""
        return (self.ceiling - _OWN) // 2

    def readers(self, wanted: int) -> int:
        """How many processes may read usage files at once, of so many that have work."""
        fitting = [number for number in range(2, wanted + 1) if self.slice_rows(number) >= _USEFUL_SLICE_ROWS]
        return max(fitting, default=1)

    def slice_rows(self, readers: int) -> int:
        """Rows that each of them reads at a time."""
        rows = (self.beside - readers * _READER) // (readers * _READ_ROW + _STORED_ROW)
        return max(1, min(MOST_SLICE_ROWS, rows))

    def document_processes(self, wanted: int, *, limited: bool = False) -> int:
        """How many processes may make documents at once; at least one.

        ``limited``: each gets an equal share of what is beside the database, and is stopped if it takes more.
        """
        return max(1, min(wanted, self.beside // (_LIMITED_DOCUMENT_PROCESS if limited else _DOCUMENT_PROCESS)))

    def require_series(self, series: int) -> None:
        """Refuse a period with so many series that knowing them all at once does not fit.

        Raises:
            UsageError: naming the ceiling that it needs.
        """
        self._require(
            series * _SERIES,
            lambda: f"{series:,} resources and SKUs have usage in this period, and knowing all of them",
        )

    def require_charges(self, charges: int, what: Callable[[], str]) -> None:
        """Refuse to rate so many charges together, which nothing can cut.

        ``what``: names whose charges they are.

        Raises:
            UsageError: naming the ceiling that it needs.
        """
        self._require(charges * _CHARGE, lambda: f"{what()} comes to {charges:,} charges, and rating them together")

    def has_room_for(self, charges: int) -> bool:
        """Whether so many charges may be rated at once."""
        return charges * _CHARGE <= self.beside

    def _require(self, needed: int, what: Callable[[], str]) -> None:
        if needed > self.beside:
            raise UsageError(
                f"{what()} takes about {size_text(needed)}, more than is left beside the database of the"
                f" {size_text(self.ceiling)} that this run may take"
                f" → set [engine] memory to {size_text(_OWN + 2 * needed, up=True)} or more"
            )

    def told(self) -> str:
        """The ceiling in a sentence, for the log."""
        return f"memory: at most {size_text(self.ceiling)} for all processes of this run, {self.reason}"


def deal(setting: str, threads: int | None, machine: Machine) -> Budget:
    """The budget of a run.

    Args:
        setting: ``[engine] memory``; empty: a share of what there is.
        threads: ``[engine] threads``, if it is set.
        machine: what there is.

    Raises:
        UsageError: the system leaves less than a run needs.
    """
    if machine.addresses is not None and machine.addresses < _ADDRESSES:
        raise UsageError(
            f"the process's limit (ulimit -v) allows {size_text(machine.addresses)} of addresses, and drawing charts"
            f" reserves up to {size_text(_ADDRESSES)} that it does not use → lift it (ulimit -v unlimited), and limit"
            " memory by [engine] memory, the container, or ulimit -d"
        )
    threads = threads or machine.cores
    room = None if machine.limit is None else max(0, machine.limit - machine.reserved)
    if not setting:
        share, reason = int(machine.ram * _MOST_OF_RAM), f"half of the machine's {size_text(machine.ram)}"
        if share < SMALLEST <= machine.ram:
            share, reason = SMALLEST, "the least that a run needs"
        if room is not None and int(room * _MOST_OF_LIMIT) < share:
            share = int(room * _MOST_OF_LIMIT)
            reason = f"four fifths of the {size_text(room)} that {machine.limited_by} allows{_less(machine)}"
        return _at_least(Budget(share, threads, reason), machine)
    ceiling = parse_size(setting)
    if room is not None and room * _SURELY_OF_LIMIT < ceiling:
        lowered = int(room * _SURELY_OF_LIMIT)
        reason = (
            f'and not the [engine] memory = "{setting}", since {machine.limited_by} allows'
            f" {size_text(room)}{_less(machine)}"
        )
        return _at_least(Budget(lowered, threads, reason, lowered=True), machine)
    return Budget(ceiling, threads, "as [engine] memory says")


def _at_least(budget: Budget, machine: Machine) -> Budget:
    if budget.ceiling >= SMALLEST:
        return budget
    limit = "this machine has less"
    if machine.limit is not None:
        room = max(0, machine.limit - machine.reserved)
        limit = f"{machine.limited_by} allows {size_text(room)}{_less(machine)}"
    raise UsageError(
        f"a run needs at least {size_text(SMALLEST)} of memory, and {limit} → raise that limit to"
        f" {size_text(int(SMALLEST / _MOST_OF_LIMIT) + machine.reserved, up=True)} or more"
    )


def _less(machine: Machine) -> str:
    """What is taken off the limit before it is told, in words."""
    return f" besides {size_text(machine.reserved)} that libraries reserve" if machine.reserved else ""


def parse_size(text: str) -> int:
    """Bytes of a size such as ``1.5GB`` or ``512MiB``.

    Raises:
        ValueError: it is none.
    """
    for unit, size in _UNITS.items():
        number = text.removesuffix(unit)
        if number != text and re.fullmatch(r"[0-9]+(\.[0-9]+)?", number):
            return int(Decimal(number) * size)
    raise ValueError(f"{text!r} is no size such as 4GB or 1.5GiB")


def size_text(size: int, *, up: bool = False) -> str:
    """A size in GB for people, with a decimal; ``up``: never less than it is."""
    tenths = -(-size // 10**8) if up else round(size / 10**8)
    return f"{tenths // 10}.{tenths % 10} GB" if tenths % 10 else f"{tenths // 10} GB"
