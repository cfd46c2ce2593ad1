"""Writes the pages that are made from the program itself: ``make docs``.

docs/data-dictionary.md comes from the table definitions and the report queries, docs/cli.md from ``--help``. With
``--readme``, the outputs shown in README.md are made anew by running its commands. tests/unit/test_docs.py fails where
a page is not what this writes.
"""  # noqa: INP001 - a script, not part of a package

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import typer

from ratemill.cli import COMMANDS, LazyCommand, app
from ratemill.errors import ExitCode
from ratemill.io.report_queries import PERIOD_PARAMETERS, shipped_report_queries
from ratemill.tables.book import BOOK_TABLES, REQUIRED_BOOK_TABLES, TABLES_THAT_RATE_NOTHING
from ratemill.tables.charges import CHARGES, UNPRICED_USAGE
from ratemill.tables.columns import Column, Table, duckdb_type
from ratemill.tables.focus import COST_AND_USAGE, DATASETS, FOCUS_VERSIONS
from ratemill.tables.invoices import BILLING_TABLES
from ratemill.tables.runs import CHECKLIST, CLOSED_PERIODS, DOCUMENTS, EVENTS, FINDINGS, REPORT_QUERIES, RUNS
from ratemill.tables.usage import REJECTED_ROWS, REQUIRED_INPUT_COLUMNS, USAGE, USAGE_FILES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratemill.io.report_queries import ReportQuery

ROOT = Path(__file__).resolve().parents[1]
HELP_WIDTH = 88
GENERATED = "<!-- Made by make docs; edit the definitions instead. -->"

PUBLISHED = (
    CHARGES, *BILLING_TABLES, CLOSED_PERIODS, CHECKLIST, DOCUMENTS, EVENTS, USAGE, USAGE_FILES, REJECTED_ROWS,
    UNPRICED_USAGE, RUNS, FINDINGS, REPORT_QUERIES, COST_AND_USAGE[FOCUS_VERSIONS[0]],
)  # fmt: skip
"""Tables of the published database, besides those of the book."""


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str


def data_dictionary() -> str:
    """Every table and column: what you give, and what you get."""
    return _page(_dictionary())


def _page(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"


def _dictionary() -> Iterator[str]:
    yield "# Data dictionary"
    yield ""
    yield GENERATED
    yield ""
    yield "Every table and column."
    yield "The same words stand in the published database as comments: `SELECT * FROM duckdb_columns()`."
    yield "Instants are UTC, intervals are half-open (the end is not part of them), numbers are exact decimals."
    yield ""
    yield "## What you give: usage"
    yield ""
    yield f"One row is {USAGE.grain}."
    yield "Parquet; the file's column names can be mapped ([workspace.md](workspace.md#usage))."
    yield ""
    yield from _usage_columns()
    yield ""
    yield "## What you give: the book"
    yield ""
    yield "One file per table, `book/<table>.csv` or `.parquet`."
    yield f"Needed: {_listed(REQUIRED_BOOK_TABLES)}; the others may be left out."
    yield "An optional column may be left out as well, and an empty cell is its default."
    yield ""
    for table in BOOK_TABLES:
        yield from _book_table(table)
    yield "The following decide who sees what is billed, and who is told; they change no amount, and apply as they are"
    yield "now. They are not published."
    yield ""
    for table in TABLES_THAT_RATE_NOTHING:
        yield from _book_table(table)
    yield "## What you get: tables"
    yield ""
    yield "In `published/billing.duckdb`, which has the tables that are billed with as well, as of the latest period."
    yield "Also Parquet files in `published/parquet/`: " + _listed(t.name for t in (CHARGES, *BILLING_TABLES)) + "."
    yield ""
    for table in PUBLISHED:
        yield from _published_table(table)
    yield "## What you get: views"
    yield ""
    yield from _views()
    yield "## What you get: reports with parameters"
    yield ""
    yield "Asked with `ratemill query` ([queries.md](queries.md)), as views can be as well."
    yield ""
    for report in shipped_report_queries():
        if not report.is_view:
            yield from _report(report)
    yield "## What you get: FOCUS exports"
    yield ""
    yield "Files of `ratemill export focus` ([exports.md](exports.md#focus))."
    yield "The columns of Cost and Usage are those of the table [focus_cost_and_usage](#focus_cost_and_usage);"
    yield f"FOCUS 1.2 {_versions_differ()}."
    yield ""
    for dataset in DATASETS[FOCUS_VERSIONS[0]][1:]:
        yield from _published_table(dataset.table)


def _versions_differ() -> str:
    newer, older = (set(COST_AND_USAGE[version].names) for version in FOCUS_VERSIONS)
    return f"has {_listed(sorted(older - newer))} in place of {_listed(sorted(newer - older))}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _book_table(table: Table) -> Iterator[str]:
    yield f"### {table.name}"
    yield ""
    yield f"One row is {table.grain}."
    yield f"No two rows have the same {_listed(table.key)}."
    if table.open_prefix:
        yield (
            f"Columns of your own may be added if their names begin with `{table.open_prefix}`:"
            " further conditions, as text."
        )
    yield ""
    # What may be empty and what has a default may be left out (io/book_files.py reads it just so).
    required = [column.name for column in table.columns if not column.nullable and column.default is None]
    yield from _input_columns(table, required=required)
    yield ""


def _input_columns(table: Table, *, required: Iterable[str]) -> Iterator[str]:
    yield "| column | needed | meaning | value |"
    yield "|---|---|---|---|"
    for column in table.columns:
        value = column.expected() + (f"; default {column.default}" if column.default is not None else "")
        yield f"| {column.name} | {'yes' if column.name in required else ''} | {_meaning(column)} | {value} |"


def _usage_columns() -> Iterator[str]:
    kinds = {"usage_start": _INSTANT, "usage_end": _INSTANT, "quantity": "decimal, integer or text; no float",
             "tags": "map of text to text, or JSON text"}  # fmt: skip
    yield "| column | needed | meaning | Parquet type |"
    yield "|---|---|---|---|"
    for column in USAGE.columns:
        if column.name == "attributes":  # how the columns of a user's own are kept
            yield "| attr.* |  | Columns of your own, which prices with a column of the same name ask for | text |"
            continue
        needed = "yes" if column.name in REQUIRED_INPUT_COLUMNS else ""
        yield f"| {column.name} | {needed} | {column.meaning} | {kinds.get(column.name, 'text or integer')} |"


_INSTANT = "timestamp with a time zone"


def _published_table(table: Table) -> Iterator[str]:
    yield f"### {table.name}"
    yield ""
    yield f"One row is {table.grain}."
    if table is USAGE:
        yield (
            'Unless `[output] publish_usage = "hour"`, a view of what charges know of usage:'
            " one row is what was used in one day (or hour, as charges are)."
        )
    if table is COST_AND_USAGE[FOCUS_VERSIONS[0]]:
        yield "There with `[output] publish_focus = true`."
    yield ""
    yield "| column | type | null | meaning |"
    yield "|---|---|---|---|"
    for column in table.columns:
        meaning = _meaning(column) + (f": {column.expected()}" if column.one_of else "")
        yield f"| {column.name} | {duckdb_type(column.dtype)} | {'yes' if column.nullable else ''} | {meaning} |"
    yield ""


def _meaning(column: Column) -> str:
    return f"{column.meaning} (unit: {column.unit})" if column.unit else column.meaning


def _views() -> Iterator[str]:
    """The report queries with their columns, as DuckDB sees them on empty tables."""
    with duckdb.connect(config={"autoload_known_extensions": False}) as connection:
        for table in (*PUBLISHED, *BOOK_TABLES):
            connection.execute(f'CREATE TABLE "{table.name}" ({table.duckdb_columns()})')
        for report in shipped_report_queries():
            if not report.is_view:
                continue
            yield f"### {report.name}"
            yield ""
            yield f"{report.purpose[0].upper()}{report.purpose[1:]}"
            yield f"One row is {report.grain}"
            yield ""
            yield "| column | type |"
            yield "|---|---|"
            described = connection.sql(report.text)
            for name, kind in zip(described.columns, described.types, strict=True):
                yield f"| {name} | {str(kind).replace('TIMESTAMP WITH TIME ZONE', 'TIMESTAMPTZ')} |"
            yield ""


def _report(report: ReportQuery) -> Iterator[str]:
    yield f"### {report.name}"
    yield ""
    yield f"{report.purpose[0].upper()}{report.purpose[1:]}"
    yield f"One row is {report.grain}"
    yield ""
    yield "| parameter | value | default | meaning |"
    yield "|---|---|---|---|"
    for parameter in report.parameters:
        default = "every month" if parameter.name in PERIOD_PARAMETERS else parameter.default or "none: to be given"
        yield f"| {parameter.name} | {parameter.kind} | {default} | {parameter.meaning} |"
    yield ""
    if report.example is not None:
        command, lines = report.example
        yield from ["```text", f"$ {command}", *lines, "```", ""]


def command_line() -> str:
    """What ``--help`` says, for every command."""
    return _page(_commands_and_codes())


def _commands_and_codes() -> Iterator[str]:
    yield "# Command line"
    yield ""
    yield GENERATED
    yield ""
    yield "Every command ends with one of these codes (what to do about each: [operations.md](operations.md)):"
    yield ""
    yield "| code | meaning |"
    yield "|---|---|"
    yield from (f"| {code.value} | {_EXIT_CODES[code]} |" for code in ExitCode)
    yield ""
    yield "With `--json` the last line of stdout is one JSON object, on failure too: `status`, `exit_code`, …"
    yield "Logs and progress go to stderr."
    yield ""
    yield "## ratemill"
    yield ""
    yield from _help(typer.main.get_command(app), "ratemill")
    for command in COMMANDS:
        yield f"## ratemill {command.name}"
        yield ""
        yield from _help(LazyCommand(command).load(), f"ratemill {command.name}")


_EXIT_CODES = {
    ExitCode.DONE: "done, or nothing to do",
    ExitCode.INTERNAL: "internal error: a bug; nothing half-written",
    ExitCode.USAGE: "wrong command line, configuration or workspace",
    ExitCode.DATA_REFUSED: "data refused; trying again changes nothing",
    ExitCode.LOCKED: "another process is at work here, or the period is closed",
    ExitCode.TEMPORARY: "temporary (disk full, out of time or memory): try again later",
    ExitCode.NOTHING_TO_BILL: "there is nothing to bill for the period: no usage and no fees",
}


def _help(command: Any, name: str) -> list[str]:
    context = command.context_class(
        command, info_name=name, terminal_width=HELP_WIDTH, max_content_width=HELP_WIDTH, resilient_parsing=True
    )
    context.help_option_names = ["--help", "-h"]
    lines = [line.rstrip() for line in command.get_help(context).strip().splitlines()]
    return ["```text", *lines, "```", ""]


PAGES = {"docs/data-dictionary.md": data_dictionary, "docs/cli.md": command_line}

OUTPUT_OF = re.compile(r"<!-- output of: (?P<command>.+?)(?: from: (?P<start>.+?))? -->\n```text\n.*?```\n", re.DOTALL)
"""A block of README.md that shows what a command prints, from the first line that begins with ``start``."""


def with_outputs(page: str, outputs: dict[str, str]) -> str:
    """``page`` with each output block holding what its command printed.

    Raises:
        KeyError: a block names a command that was not run.
        ValueError: a command did not print the line its block is to begin with.
    """
    return OUTPUT_OF.sub(lambda match: _output_block(match, outputs[match["command"]]), page)


def _output_block(match: re.Match[str], output: str) -> str:
    comment = match[0].partition("\n")[0]
    lines = output.strip("\n").splitlines()
    if match["start"]:
        starts = [number for number, line in enumerate(lines) if line.startswith(match["start"])]
        if not starts:
            raise ValueError(f"no line begins with {match['start']!r}:\n{output}")
        lines = lines[starts[0] :]
    return "\n".join([comment, "```text", *lines, "```", ""])


def shell_blocks(page: str) -> list[Block]:
    """The ``sh`` blocks of a page, in order."""
    return [Block("sh", text) for text in re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)]


def run_blocks(page: str, checkout: Path, environment: dict[str, str]) -> dict[str, str]:
    """Run the page's ``sh`` blocks one after another in ``checkout``; what each command line printed on stdout.

    One shell runs them all, as a reader's would, and stops at the first failure.

    Raises:
        RuntimeError: a command failed; the message holds all output.
    """
    mark = "@@ran@@ "
    script = ["set -eu", "exec 2>&1"]
    for block in shell_blocks(page):
        for command in _commands(block.text):
            script += [f"printf '%s\\n' {shlex.quote(mark + command.splitlines()[0])}", command]
    done = subprocess.run(  # noqa: S603 - our own documentation
        ["/bin/bash", "-c", "\n".join(script)],
        cwd=checkout,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}\n{done.stdout}")
    outputs: dict[str, str] = {}
    for part in done.stdout.split(mark)[1:]:
        command, _, output = part.partition("\n")
        outputs[command] = _plain(output)
    return outputs


def _commands(block: str) -> list[str]:
    """The command lines of a block; here-documents, open quotes and continued lines stay whole."""
    commands: list[str] = []
    complete = True
    for line in block.splitlines():
        if not complete:
            commands[-1] += f"\n{line}"
        elif line.strip() and not line.startswith("#"):
            commands.append(line)
        complete = not commands or _is_complete(commands[-1])
    return commands


def _is_complete(command: str) -> bool:
    first, *more = command.splitlines()
    document = re.search(r"<<'?(\w+)'?", first)
    if document:
        return document[1] in more
    try:
        shlex.split(command)
    except ValueError:  # a quote is open, or the line ends with a backslash
        return False
    return not command.endswith("\\")


_LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z .*\n", re.MULTILINE)


def _plain(output: str) -> str:
    """Without log lines, which say how long things took, and without blanks at line ends."""
    return re.sub(r"[ \t]+$", "", _LOG_LINE.sub("", output), flags=re.MULTILINE)


def main() -> int:
    """Write the generated pages (and with ``--readme`` the outputs in README.md)."""
    os.chdir(ROOT)
    for name, make in PAGES.items():
        Path(name).write_text(make(), encoding="utf-8")
    if "--readme" in sys.argv[1:]:
        sys.path.insert(0, str(ROOT / "tests"))
        from checkouts import reader_checkout  # noqa: PLC0415 - what the test of the README uses too

        with tempfile.TemporaryDirectory() as folder:
            checkout, environment = reader_checkout(Path(folder))
            page = Path("README.md").read_text(encoding="utf-8")
            outputs = run_blocks(page, checkout, environment)
        Path("README.md").write_text(with_outputs(page, outputs), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
