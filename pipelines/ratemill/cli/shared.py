"""What all commands share: options, the workspace they work on, and how they end."""

from __future__ import annotations

import getpass
import json as jsonlib
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO
from zoneinfo import ZoneInfo

import typer

from ratemill import logs
from ratemill.errors import UsageError

if TYPE_CHECKING:
    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context
    from ratemill.workspace import Workspace

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        metavar="DIR",
        show_default=False,
        help="Folder with ratemill.toml; else $RATEMILL_WORKSPACE, else the current folder.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="End with one JSON object as the last line of stdout.")]
LogFormatOption = Annotated[
    logs.LogFormat, typer.Option("--log-format", help="Log lines on stderr: for people, or one JSON object per line.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors on stderr; no progress.")]
PeriodOption = Annotated[
    str,
    typer.Option(
        "--period",
        "-p",
        metavar="YYYY-MM",
        show_default=False,
        help="Billing period: 2026-10, a range 2026-01..2026-10, or last (the month before today, UTC).",
    ),
]

ByOption = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="NAME",
        show_default=False,
        help="Who does this, for the audit log; else $RATEMILL_ACTOR, else the system's user name.",
    ),
]

IssueDateOption = Annotated[
    str | None,
    typer.Option(
        "--issue-date",
        metavar="YYYY-MM-DD",
        show_default=False,
        help="Day of issue; else today in the seller's time zone.",
    ),
]

WaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        show_default=False,
        help="Wait this long for another process that is at work here; else end with exit code 4 at once.",
    ),
]

opened_workspace: ContextVar[Workspace | None] = ContextVar("opened_workspace", default=None)
"""The workspace of this command, for the report of an internal error."""


def open_workspace(workspace: Path | None, *, log_format: logs.LogFormat = "text", quiet: bool = False) -> Workspace:
    """Set up logging and find the workspace of a command.

    Raises:
        UsageError: there is none, or its configuration is wrong.
    """
    from ratemill.workspace import find_workspace  # noqa: PLC0415 - pydantic takes half the time of --help

    set_up_logging(log_format=log_format, quiet=quiet)
    found = find_workspace(workspace)
    opened_workspace.set(found)
    return found


@contextmanager
def working(
    opened: Workspace, command: str, *, now: datetime | None = None, by: str | None = None, quiet: bool = False,
    json: bool = False, log_format: logs.LogFormat = "text", in_doubt: bool = False, read_only: bool = False,
    wait: float = 0,
) -> Iterator[Context]:  # fmt: skip
    """``opened``, locked for ``command``, with bars on stderr where people look at it and nothing else is there.

    Args:
        opened: the workspace.
        command: as a message to whoever waits names it.
        now: the clock; default: the system's.
        by: as ``--by`` gives it, see :func:`read_actor`.
        quiet: no bars.
        json: as the option; no bars either.
        log_format: as the option; lines of JSON have no bars between them.
        in_doubt: see :func:`ratemill.pipeline.open_run`.
        read_only: see there.
        wait: as ``--wait``.

    Raises:
        LockedError: another process is at work.
        DataRefusedError: the warehouse does not know what was issued.
    """
    from ratemill.observe import observe  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.pipeline import open_run  # noqa: PLC0415
    from ratemill.progress import make_progress  # noqa: PLC0415
    from ratemill.steps.observers import observers_of  # noqa: PLC0415

    now, actor = now or read_clock(None), read_actor(by)
    observers = () if read_only else observers_of(opened, command)
    observe(observers)
    with (
        make_progress(quiet=quiet or json or log_format == "json") as progress,
        open_run(
            opened, progress, now=now, command=command, actor=actor, in_doubt=in_doubt, read_only=read_only, wait=wait,
            observers=observers,
        ) as context,
    ):  # fmt: skip
        yield context


def set_up_logging(*, log_format: logs.LogFormat = "text", quiet: bool = False) -> None:
    """Log to stderr as the options say."""
    level = logging.WARNING if quiet else logging.INFO
    logs.configure(log_format, level=level, watched=sys.stderr.isatty())


def read_periods(text: str, *, now: datetime | None = None) -> list[BillingPeriod]:
    """The periods that ``--period`` names, in order; ``last`` is the month before that of ``now`` (or today) in UTC.

    Raises:
        UsageError: it is no period.
    """
    from ratemill.period import parse_periods  # noqa: PLC0415 - polars is not needed for --help

    try:
        return parse_periods(text, today=(now or datetime.now(UTC)).date())
    except ValueError as error:
        raise UsageError(f"--period: {error}") from None


def read_period(text: str, *, now: datetime | None = None) -> BillingPeriod:
    """The one period that ``--period`` names; see :func:`read_periods`."""
    periods = read_periods(text, now=now)
    if len(periods) != 1:
        raise UsageError(f"--period: {text!r} names {len(periods)} periods, and this command takes one")
    return periods[0]


def read_clock(as_of: str | None) -> datetime:
    """The instant ``--as-of`` names, else the clock's, in UTC.

    Raises:
        UsageError: it is no instant with an offset.
    """
    if as_of is None:
        return datetime.now(UTC)
    try:
        instant = datetime.fromisoformat(as_of)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise UsageError(f"--as-of: {as_of!r} is no instant; write it as 2026-11-01T03:00:00Z")
    return instant.astimezone(UTC)


def read_instant(text: str | None, *, option: str, time_zone: str) -> datetime:
    """The instant that an option names, in UTC: now where it is not given; a day is its midnight in ``time_zone``.

    Raises:
        UsageError: it is neither an instant with an offset nor a day.
    """
    if text is None:
        return datetime.now(UTC)
    try:
        if len(text) == len("YYYY-MM-DD"):
            day = date.fromisoformat(text)
            return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(time_zone)).astimezone(UTC)
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise UsageError(f"{option}: {text!r} is no instant; write it as 2026-11-01T03:00:00Z, or a day as 2026-11-01")
    return instant.astimezone(UTC)


def read_issue_date(text: str | None) -> date | None:
    """The day that ``--issue-date`` names.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--issue-date: {text!r} is no day; write it as YYYY-MM-DD") from None


def read_actor(by: str | None) -> str:
    """Who is at work: ``--by``, else ``$RATEMILL_ACTOR``, else the system's user name."""
    named = by or os.environ.get("RATEMILL_ACTOR")
    if named:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return f"user {os.getuid()}"


def finish(summary: dict[str, Any], *, json: bool) -> None:
    """With ``--json``, print ``summary`` as the last line of stdout, ``status`` (``done``) and ``exit_code`` first.

    Decimals are printed as text, so that no reader turns them into floats.
    """
    if json:
        print_json({"status": "done", "exit_code": 0, **summary})


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on one line of stdout."""
    print_text(jsonlib.dumps(value, ensure_ascii=False, default=_as_text) + "\n")


def print_text(text: str) -> None:
    """All of ``text`` to stdout, or BrokenPipeError.

    With an unbuffered stdout (``PYTHONUNBUFFERED``, common in containers) ``sys.stdout.write`` drops the rest
    in silence when the system takes only a part of a large text.
    """
    sys.stdout.flush()
    rest = memoryview(text.encode(sys.stdout.encoding, "backslashreplace"))
    while rest:
        rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.flush()


def print_entry(head: str, text: str, *, under: int | None = None, colour: str | None = None) -> None:
    """``head``, and ``text`` behind it: on a terminal wrapped below column ``under``, or below where ``text`` begins.

    ``colour`` is that of the head's first word.
    """
    told = wrapped(f"{head}{printable(text)}", sys.stdout, under=len(head) if under is None else under)
    if colour is not None and takes_colour(sys.stdout):
        word, rest = told.split(" ", 1)
        told = f"{typer.style(word, fg=colour)} {rest}"
    typer.echo(told)


def takes_colour(stream: TextIO) -> bool:
    """Whether a stream leads to somebody who sees colours."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def wrapped(text: str, stream: TextIO, *, under: int = 0) -> str:
    """``text`` for a stream: on a terminal wrapped at words, with further lines below column ``under``, else as it is.

    No-break spaces are none to wrap at: an amount stays beside its currency.
    """
    if not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    indent = " " * min(under, width // 2)
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent=indent, break_on_hyphens=False) for line in text.split("\n")
    )


def terminal_width() -> int | None:
    """Columns of the terminal; none where stdout is no terminal, and nothing is to be cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def printable(text: str) -> str:
    r"""``text`` with everything that could steer a terminal made visible, as ``\x1b``; line breaks and tabs stay.

    Names and values come from files of others; an escape sequence in one could rewrite what the screen shows.
    """
    return text.translate(_VISIBLE)


def _as_text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    return str(value)


_CONTROL = [*range(0x20), *range(0x7F, 0xA0)]
_BIDIRECTIONAL = [0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_VISIBLE = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - one byte
    for code in (*_CONTROL, *_BIDIRECTIONAL)
    if chr(code) not in "\n\t"
}
