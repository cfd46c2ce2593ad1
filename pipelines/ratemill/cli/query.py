"""``ratemill query``: report queries by name, shipped and the workspace's own."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratemill.cli.rows import (
    TABLE_ROWS,
    FormatOption,
    MemoryOption,
    OutputFormat,
    OutputOption,
    TimeoutOption,
    choose_format,
    deliver,
)
from ratemill.cli.shared import (
    JsonOption,
    LogFormatOption,
    WorkspaceOption,
    finish,
    open_workspace,
    printable,
    read_periods,
)
from ratemill.errors import RatemillError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratemill.findings import Finding
    from ratemill.io.query import QueryLimits, QueryResult, Value
    from ratemill.io.report_queries import Parameter, ReportQuery
    from ratemill.workspace import Workspace

_EVERY_PERIOD = ("0000-01", "9999-12")


def query(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", show_default=False, help="Report, as --list names it.")
    ] = None,
    period: Annotated[
        str | None,
        typer.Option(
            "--period",
            "-p",
            metavar="YYYY-MM",
            show_default=False,
            help="Billing period, a range 2026-01..2026-10, or last; else every month.",
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="NAME=VALUE", show_default=False, help="Value of a parameter."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="SQL", show_default=False, help='Condition on columns: "cost > 100".'),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option("--columns", "-c", metavar="NAMES", show_default=False, help="Only these, in this order: a,b,c."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=0, metavar="N", show_default=False, help="At most N rows; a table: 1000."),
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the reports and their parameters.")] = False,
    timing: Annotated[bool, typer.Option("--timing", help="Time the report; without NAME, each of them.")] = False,
    output_format: FormatOption = None,
    output: OutputOption = None,
    timeout: TimeoutOption = 60,
    memory: MemoryOption = 1024,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Ask a report query of the published data.

    Values of parameters are bound, never put into the SQL. Queries of your own belong in sql/reports of the workspace.

    \b
    Examples:
      ratemill query --list
      ratemill query top_movers --period 2026-10 --limit 10
      ratemill query cost_by --period 2026-10 --set by=project --set then_by=tag.env --where "cost > 100"
    """  # noqa: D301 - the mark that keeps lines apart in --help must be a real \b
    from ratemill.io.query import QueryLimits  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.io.report_queries import find_report_queries  # noqa: PLC0415

    chosen = choose_format(output_format, output)
    opened = open_workspace(workspace, log_format=log_format)
    reports, findings = find_report_queries(opened)
    if list_all:
        _list(reports, findings, json=json)
        return
    asked = _Asked(
        periods=_read_periods(period),
        where=where,
        limits=QueryLimits(timeout_seconds=timeout, memory_bytes=memory << 20, max_rows=limit),
    )
    if timing:
        wanted = [_named(reports, findings, name)] if name is not None else reports
        _time(opened, wanted, asked, json=json)
        return
    if name is None:
        raise UsageError("name a report; ratemill query --list shows them")
    report = _named(reports, findings, name)
    values = _read_values(report, given or [])
    if limit is None and chosen is OutputFormat.TABLE and output is None and not json:
        asked.limits = QueryLimits(timeout_seconds=timeout, memory_bytes=memory << 20, max_rows=TABLE_ROWS)
    result = asked.run(opened, report, values)
    if columns is not None:
        result = _only(result, columns)
    deliver(result, chosen, output, json=json, query=_as_asked(report, period, given or [], where), more="--limit N")


class _Asked:
    """What every report is asked with."""

    def __init__(self, *, periods: tuple[str, str] | None, where: str | None, limits: QueryLimits) -> None:
        self.periods = periods
        self.where = where
        self.limits = limits

    def run(self, workspace: Workspace, report: ReportQuery, values: dict[str, Value]) -> QueryResult:
        """The rows of a report."""
        from ratemill.io.query import run_query  # noqa: PLC0415 - heavy libraries, not needed for --help

        return run_query(
            workspace.published_database,
            report.text,
            parameters=values,
            periods=self.periods or (_EVERY_PERIOD if report.of_periods else None),
            where=self.where,
            limits=self.limits,
        )


def _read_periods(period: str | None) -> tuple[str, str] | None:
    if period is None:
        return None
    periods = read_periods(period)
    return str(periods[0]), str(periods[-1])


def _named(reports: Sequence[ReportQuery], findings: Sequence[Finding], name: str) -> ReportQuery:
    """The report of that name.

    Raises:
        UsageError: there is none, or its file can't be used.
    """
    for report in reports:
        if report.name == name:
            return report
    for finding in findings:
        if finding.file is not None and Path(finding.file).stem == name:
            raise UsageError(str(finding))
    from difflib import get_close_matches  # noqa: PLC0415 - for errors only

    near = get_close_matches(name, [report.name for report in reports], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"there is no report {name!r}{hint} → run: ratemill query --list")


def _read_values(report: ReportQuery, given: Sequence[str]) -> dict[str, Value]:
    """Each parameter's value: as given, else its default.

    Raises:
        UsageError: one is unknown, has no value, or a value that is not of its kind.
    """
    from ratemill.io.report_queries import PERIOD_PARAMETERS  # noqa: PLC0415 - heavy libraries, not needed for --help

    texts: dict[str, str] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not equals:
            raise UsageError(f"--set {one}: write it as NAME=VALUE")
        texts[name.strip()] = text
    parameters = {each.name: each for each in report.parameters if each.name not in PERIOD_PARAMETERS}
    unknown = sorted(texts.keys() - parameters.keys())
    if unknown:
        known = ", ".join(parameters) or "no parameters besides --period"
        hint = "; it is given by --period" if unknown[0] in PERIOD_PARAMETERS else ""
        raise UsageError(f"--set {unknown[0]}: {report.name} has {known}{hint}")
    values: dict[str, Value] = {}
    for name, parameter in parameters.items():
        value = texts.get(name, parameter.default)
        if value is None:
            raise UsageError(f"{report.name} needs a value: --set {name}=…; {parameter.meaning}".rstrip("; "))
        values[name] = _read_value(parameter, value)
    return values


def _read_value(parameter: Parameter, text: str) -> Value:
    value = _parse(parameter.kind, text)
    if value is None:
        expected = {"number": "a number such as 12.5", "whole": "a whole number", "day": "a day, YYYY-MM-DD"}
        raise UsageError(f"--set {parameter.name}={text}: it has to be {expected[parameter.kind]}")
    return value


def _parse(kind: str, text: str) -> Value | None:
    """The value of that kind; none where the text is none."""
    try:
        match kind:
            case "number":
                number = Decimal(text)
                return number if number.is_finite() else None
            case "whole":
                return int(text)
            case "day":
                return datetime.now(UTC).date() if text == "today" else date.fromisoformat(text)
            case _:
                return text
    except (ValueError, InvalidOperation):
        return None


def _only(result: QueryResult, columns: str) -> QueryResult:
    """Some columns of a result.

    Raises:
        UsageError: it has no such column.
    """
    names = [name.strip() for name in columns.split(",") if name.strip()]
    unknown = [name for name in names if name not in result.table.column_names]
    if unknown or not names:
        raise UsageError(
            f"--columns: there is no {unknown[0] if unknown else 'name in it'};"
            f" the columns are {', '.join(result.table.column_names)}"
        )
    return replace(result, table=result.table.select(names))


def _as_asked(report: ReportQuery, period: str | None, given: Sequence[str], where: str | None) -> str:
    """How a report was asked, for the reader of a workbook: the command, and the query."""
    words = [f"ratemill query {report.name}"]
    words += [f"--period {period}"] if period else []
    words += [f"--set {one}" for one in given]
    words += [f'--where "{where}"'] if where else []
    return f"{' '.join(words)}\n\n{report.text}"


def _list(reports: Sequence[ReportQuery], findings: Sequence[Finding], *, json: bool) -> None:
    if json:
        finish(
            {
                "reports": [
                    {
                        "name": report.name,
                        "origin": report.origin,
                        "file": report.file,
                        "sha256": report.sha256,
                        "purpose": report.purpose,
                        "grain": report.grain,
                        "is_view": report.is_view,
                        "parameters": [vars(parameter) for parameter in report.parameters],
                    }
                    for report in reports
                ],
                "findings": [finding.as_dict() for finding in findings],
            },
            json=True,
        )
        return
    from rich.console import Console  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.text import Text  # noqa: PLC0415

    from ratemill.io.report_queries import PERIOD_PARAMETERS  # noqa: PLC0415

    console = Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())
    for report in reports:
        own = "" if report.origin == "shipped" else f"  ({report.file})"
        console.print(Text.assemble((report.name, "bold"), own))
        console.print(Text(f"  {printable(_first_sentence(report.purpose)) or 'no purpose told'}"))
        for parameter in report.parameters:
            if parameter.name not in PERIOD_PARAMETERS:
                default = f" (default {parameter.default})" if parameter.default is not None else " (needed)"
                meaning = f": {parameter.meaning}" if parameter.meaning else ""
                told = f"  --set {parameter.name}=…{default}{meaning}"
                console.print(Text(printable(told), style="dim"))
    for finding in findings:
        console.print(Text(f"{finding.severity.value}: {printable(str(finding))}", style="yellow"))


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".")


def _time(workspace: Workspace, reports: Sequence[ReportQuery], asked: _Asked, *, json: bool) -> None:
    """Ask each report with its defaults, and show how long it took; one that fails is told, and the rest go on."""
    rows = []
    for report in reports:
        started = time.monotonic()
        row: dict[str, Any] = {"name": report.name, "rows": None, "database_seconds": None, "problem": None}
        try:
            result = asked.run(workspace, report, _read_values(report, []))
            row |= {"rows": result.table.num_rows, "database_seconds": result.seconds}
        except RatemillError as error:
            row["problem"] = str(error)
        row["seconds"] = round(time.monotonic() - started, 3)
        rows.append(row)
    size = workspace.published_database.stat().st_size if workspace.published_database.is_file() else 0
    if json:
        finish({"database_bytes": size, "reports": rows}, json=True)
        return
    from rich import box  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("Report", no_wrap=True)
    for heading in ("Rows", "Seconds", "In the database"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Problem", overflow="fold")
    for row in rows:
        shown = "" if row["rows"] is None else f"{row['rows']:,}"
        inside = "" if row["database_seconds"] is None else f"{row['database_seconds']:.2f}"
        problem = Text(printable(row["problem"] or ""))
        table.add_row(row["name"], shown, f"{row['seconds']:.2f}", inside, problem)
    console = Console(file=sys.stdout, highlight=False)
    console.print(table)
    console.print(f"database {size / 1e6:,.0f} MB; each in a process of its own")
