"""The prompt of ``ratemill sql``: completion, history, a few dot commands, and each query in a process of its own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer

from ratemill.cli.rows import OutputFormat, choose_format, format_rows, write_rows
from ratemill.cli.shared import print_text, printable, terminal_width, wrapped
from ratemill.errors import RatemillError, UsageError
from ratemill.io.atomic import PRIVATE_FILE
from ratemill.io.query import run_query
from ratemill.io.report_queries import PERIOD_PARAMETERS, find_report_queries
from ratemill.resources import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document
    from prompt_toolkit.key_binding import KeyPressEvent

    from ratemill.io.query import QueryLimits
    from ratemill.workspace import Workspace

HISTORY_FILE = "sql_history"
"""In the workspace's state folder, for its owner alone."""

_HELP = """\
SELECT …;          a query; it may have several lines and ends with a semicolon
.tables            tables and views
.schema TABLE      columns of one, with what they mean
.reports           report queries, for: ratemill query NAME
.output FILE       write the next result to a file: .csv .json .parquet .xlsx .txt
.help              this
.quit              leave (Ctrl-D)

Tab completes, the arrow keys and Ctrl-R look into the history, Ctrl-C drops what is typed or stops what runs.
"""
_COMMANDS = {
    ".tables": "tables and views",
    ".schema": "columns of a table",
    ".reports": "report queries",
    ".output": "the next result to a file",
    ".help": "what can be done here",
    ".quit": "leave",
}
_NOT_CODE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", re.DOTALL)
_BEFORE_A_TABLE = re.compile(r"\b(?:from|join|describe|summarize|into|table)\s+$", re.IGNORECASE)
_NAMED = re.compile(r"\b(?:from|join)\s+(\w+)(?:\s+(?:as\s+)?(\w+))?", re.IGNORECASE)
_LIMIT_HINT = "start with --limit-rows N"


@dataclass(frozen=True)
class Catalogue:
    """Names that the published database knows."""

    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name → its row of sql/prompt/catalogue.sql, of tables and views."""
    columns: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    keywords: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[dict[str, Any]]) -> Catalogue:
        """From the rows of sql/prompt/catalogue.sql."""
        catalogue: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            catalogue.setdefault(row["kind"], []).append(row)
        columns: dict[str, list[dict[str, Any]]] = {}
        for row in catalogue.get("column", []):
            columns.setdefault(row["parent"], []).append(row)
        relations = [*catalogue.get("table", []), *catalogue.get("view", [])]
        return cls(
            tables={row["name"]: row for row in sorted(relations, key=lambda row: str(row["name"]))},
            columns=columns,
            keywords=tuple(sorted(row["name"] for row in catalogue.get("keyword", []))),
            functions=tuple(sorted(row["name"] for row in catalogue.get("function", []))),
        )


class SqlCompleter(Completer):
    """Completes dot commands, tables after FROM and JOIN, columns of the tables that are named, and SQL's own words."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:  # noqa: ARG002
        """What may follow, the likeliest first."""
        before = document.text_before_cursor
        if before.lstrip().startswith("."):
            yield from self._command(before.lstrip())
            return
        word = re.search(r"(?:(\w+)\.)?(\w*)$", before)
        table, start = (word[1], word[2]) if word else (None, "")
        seen: set[str] = set()
        for name, meta in self._candidates(document.text, before[: len(before) - len(start)], table, start):
            if name.lower().startswith(start.lower()) and name not in seen:
                seen.add(name)
                yield Completion(name, start_position=-len(start), display_meta=meta)

    def _candidates(self, text: str, before: str, table: str | None, start: str) -> Iterator[tuple[str, str]]:
        found = _NAMED.findall(text)
        named = {alias or name: name for name, alias in found} | {name: name for name, _ in found}
        if table is not None:
            yield from self._columns(named.get(table, table))
            return
        if _BEFORE_A_TABLE.search(before):
            yield from ((name, row["kind"]) for name, row in self.catalogue.tables.items())
            return
        for name in dict.fromkeys(named.values()):
            yield from self._columns(name)
        if not start:
            return  # not every word of SQL at once
        in_capitals = start.isupper()
        yield from ((word.upper() if in_capitals else word, "") for word in self.catalogue.keywords)
        yield from ((name, row["kind"]) for name, row in self.catalogue.tables.items())
        yield from ((name, "function") for name in self.catalogue.functions)

    def _columns(self, table: str) -> Iterator[tuple[str, str]]:
        for row in self.catalogue.columns.get(table, []):
            yield row["name"], row["type"]

    def _command(self, before: str) -> Iterator[Completion]:
        command, blank, start = before.partition(" ")
        if not blank:
            for name, meta in _COMMANDS.items():
                if name.startswith(command):
                    yield Completion(name, start_position=-len(command), display_meta=meta)
        elif command == ".schema":
            for name, row in self.catalogue.tables.items():
                if name.startswith(start.strip()):
                    yield Completion(name, start_position=-len(start.strip()), display_meta=row["kind"])


def is_finished(text: str) -> bool:
    """Whether Enter ends what was typed: a semicolon outside of quotes and comments, a dot command, or nothing."""
    stripped = text.strip()
    if not stripped or stripped.startswith("."):
        return True
    code = _NOT_CODE.sub(" ", text).rstrip()
    return code.endswith(";") and "'" not in code and '"' not in code and "/*" not in code


class Prompt:
    """Asks, runs, shows, until Ctrl-D."""

    def __init__(self, workspace: Workspace, limits: QueryLimits) -> None:
        self._workspace = workspace
        self._limits = limits
        self._completer = SqlCompleter()
        self._known: tuple[int, int] | None = None
        self._output: tuple[Path, OutputFormat] | None = None
        self._session: PromptSession[str] = PromptSession(
            history=_history(workspace.state),
            lexer=PygmentsLexer(SqlLexer),
            completer=self._completer,
            complete_while_typing=False,
            enable_history_search=True,
            multiline=True,
            prompt_continuation=lambda width, *_: "…> ".rjust(width),
            key_bindings=_bindings(),
        )

    def run(self) -> None:
        """Until the person leaves.

        Raises:
            RatemillError: at the start, where there is nothing to ask.
        """
        with _every_interrupt():
            self._look()
            known = len(self._completer.catalogue.tables)
            database = self._workspace.relative(self._workspace.published_database)
            print_text(f"{database}, read-only: {known} tables and views. End a query with ; and try .help\n")
            while True:
                try:
                    self._take_turn()
                except EOFError:
                    return
                except KeyboardInterrupt:
                    continue

    def _take_turn(self) -> None:
        with suppress(RatemillError):  # old names do until the query itself says what is wrong
            self._look()
        text = self._session.prompt("sql> ").strip()
        try:
            if text.startswith("."):
                self._obey(text)
            elif text:
                self._ask(text)
        except (RatemillError, OSError) as error:
            label = "error: "
            print_text(f"{wrapped(label + printable(str(error)), sys.stdout, under=len(label))}\n")
        except KeyboardInterrupt:
            print_text("stopped\n")

    def _look(self) -> None:
        """Read the names anew where a run has published since."""
        seen = None
        with suppress(OSError):
            state = self._workspace.published_database.stat()
            seen = (state.st_ino, state.st_mtime_ns)
        if seen is not None and seen == self._known:
            return
        result = run_query(self._workspace.published_database, sql("prompt/catalogue"))
        self._completer.catalogue = Catalogue.of(result.table.to_pylist())
        self._known = seen

    def _ask(self, text: str) -> None:
        started = time.monotonic()
        result = run_query(self._workspace.published_database, text, limits=self._limits)
        seconds = time.monotonic() - started
        if self._output is not None:
            path, chosen = self._output
            write_rows(result, chosen, path, query=text)
            self._output = None
            print_text(f"{result.table.num_rows:,} rows written to {printable(str(path))}\n")
            return
        shown = format_rows(result, OutputFormat.TABLE, terminal_width(), more=_LIMIT_HINT)
        _show(f"{shown.removesuffix(chr(10))} {seconds:.1f} s\n")

    def _obey(self, text: str) -> None:
        command, _, rest = text.partition(" ")
        rest = rest.strip().removesuffix(";").strip()
        match command.removesuffix(";"):
            case ".tables":
                self._tables()
            case ".schema":
                self._schema(rest)
            case ".reports":
                self._reports()
            case ".output":
                self._redirect(rest)
            case ".help":
                print_text(_HELP)
            case ".quit" | ".exit":
                raise EOFError
            case unknown:
                raise UsageError(f"there is no {unknown}; try .help")

    def _tables(self) -> None:
        known = self._completer.catalogue.tables
        rows = [
            (name, row["kind"], "" if row["rows"] is None else f"{row['rows']:,}", row["comment"] or "")
            for name, row in known.items()
        ]
        _show(_columns(("name", "kind", "rows", "meaning"), rows, right=(2,)))

    def _schema(self, table: str) -> None:
        columns = self._completer.catalogue.columns.get(table)
        if columns is None:
            from difflib import get_close_matches  # noqa: PLC0415 - for errors only

            near = get_close_matches(table, self._completer.catalogue.tables, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; .tables shows them"
            raise UsageError(f"there is no table {table!r}{hint}" if table else "name a table: .schema charges")
        rows = [(row["name"], row["type"], row["comment"] or "") for row in columns]
        about = self._completer.catalogue.tables[table]["comment"] or ""
        _show(f"{printable(about)}\n{_columns(('column', 'type', 'meaning'), rows)}")

    def _reports(self) -> None:
        reports, findings = find_report_queries(self._workspace)
        rows = []
        for report in reports:
            asked = [each.name for each in report.parameters if each.name not in PERIOD_PARAMETERS]
            rows.append((report.name, " ".join(asked), report.purpose))
        text = _columns(("report", "parameters", "shows"), rows)
        text += "".join(f"{finding.severity.value}: {printable(str(finding))}\n" for finding in findings)
        _show(f"{text}Ask one: ratemill query NAME, or as a view where it has no parameters.\n")

    def _redirect(self, path: str) -> None:
        if not path:
            self._output = None
            print_text("results are shown here\n")
            return
        try:
            words = shlex.split(path)
        except ValueError:
            raise UsageError(f".output {path}: a quote is not closed") from None
        if len(words) != 1:
            raise UsageError(f".output takes one file, and {path} is {len(words)}; put a name with blanks in quotes")
        target = Path(words[0]).expanduser()
        self._output = (target, choose_format(None, target))
        print_text(f"the next result goes to {printable(str(target))}\n")


def _columns(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, right: tuple[int, ...] = ()) -> str:
    """Text in columns; the last one is cut at the terminal's width."""
    cells = [headings, *(tuple(printable(str(value)).replace("\n", " ") for value in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings) - 1)]
    width = terminal_width()
    lines = []
    for row in cells:
        parts = [
            value.rjust(size) if column in right else value.ljust(size)
            for column, (value, size) in enumerate(zip(row, widths, strict=False))
        ]
        line = "  ".join([*parts, row[-1]]).rstrip()
        lines.append(line if width is None or len(line) <= width else f"{line[: width - 1]}…")
    return "\n".join(lines) + "\n"


def _show(text: str) -> None:
    """Print; what is longer than the terminal goes through a pager, ``$PAGER`` or less."""
    rows = shutil.get_terminal_size().lines
    words = shlex.split(os.environ.get("PAGER") or "less -SRFX")
    if not sys.stdout.isatty() or text.count("\n") < rows or not words or shutil.which(words[0]) is None:
        print_text(text)
        return
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pager's while it runs
    try:
        environment = {"LESSSECURE": "1", "LESSCHARSET": "utf-8", **os.environ}
        subprocess.run(words, input=text.encode(), env=environment, check=False)  # noqa: S603 - the person's own pager
    finally:
        signal.signal(signal.SIGINT, former)


def _history(state: Path) -> History:
    """The history of this workspace, which names customers: private. In memory where it can't be kept."""
    path = state / HISTORY_FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, PRIVATE_FILE)
    except OSError:
        return InMemoryHistory()
    with os.fdopen(descriptor) as _:
        os.fchmod(descriptor, PRIVATE_FILE)
    return FileHistory(str(path))


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter", filter=has_focus(DEFAULT_BUFFER))
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state is not None and buffer.complete_state.current_completion is not None:
            buffer.complete_state = None  # takes what is chosen
        elif is_finished(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.newline()

    return bindings


@contextmanager
def _every_interrupt() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt each time: elsewhere the first one ends the command."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
