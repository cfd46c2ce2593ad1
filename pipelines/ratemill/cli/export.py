"""``ratemill export``: files for other systems."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ratemill.cli.shared import (
    JsonOption,
    LogFormatOption,
    PeriodOption,
    QuietOption,
    WorkspaceOption,
    finish,
    open_workspace,
    printable,
    read_clock,
    read_instant,
    read_period,
    read_periods,
    working,
)


class FocusVersion(StrEnum):
    """Versions of FOCUS that can be written."""

    V1_4 = "1.4"
    V1_2 = "1.2"


class DatasetFormat(StrEnum):
    """Formats of datasets."""

    PARQUET = "parquet"
    CSV = "csv"


class Syntax(StrEnum):
    """Syntaxes of EN 16931."""

    UBL = "ubl"
    CII = "cii"


ToOption = Annotated[
    Path | None,
    typer.Option(
        "--to", metavar="DIR", show_default=False, help="Folder to make the export's folder in; else exports/."
    ),
]


def focus(
    period: PeriodOption,
    version: Annotated[FocusVersion, typer.Option("--focus-version", help="Version of FOCUS.")] = FocusVersion.V1_4,
    file_format: Annotated[DatasetFormat, typer.Option("--format", help="Format of the files.")] = (
        DatasetFormat.PARQUET
    ),
    to: ToOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Write the FOCUS datasets of a period that has invoices.

    FOCUS is the FinOps Open Cost and Usage Specification. 1.4: Cost and Usage, Invoice Detail, Billing Period and
    Contract Commitment; 1.2: Cost and Usage. The files are in DIR/focus-VERSION/PERIOD, with their schemas and a
    manifest; the export of drafts is replaced by that of the issued invoices.
    """
    from ratemill.steps.export import export_focus  # noqa: PLC0415 - heavy libraries, not needed for --help

    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    one = read_period(period)
    with working(
        opened, f"ratemill export focus --period {one}", quiet=quiet, json=json, log_format=log_format
    ) as context:
        exported = export_focus(context, one, version=version.value, file_format=file_format.value, to=to)
    place = opened.relative(exported.folder)
    if json:
        finish({"folder": place, **exported.manifest}, json=True)
        return
    for name, facts in exported.manifest["files"].items():
        if "rows" in facts:
            typer.echo(f"{name:<30} {facts['rows']:>12,} rows")
    typer.echo(printable(f"{place}  FOCUS {version}, {exported.manifest['status']} invoices"))


def workbook(
    period: PeriodOption,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", show_default=False, help="The file; else exports/workbook-PERIOD.xlsx."),
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Write the workbook of a period that has invoices.

    Control totals, a summary beside last month, invoices, lines, taxes, deductions, exceptions, the journal for an
    accounting system, and corrections, each on a sheet. Credit notes issued by hand in the month are included.
    """
    from ratemill.steps.export_workbook import export_workbook  # noqa: PLC0415 - heavy libraries, not needed for --help

    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    one = read_period(period)
    with working(
        opened, f"ratemill export workbook --period {one}", quiet=quiet, json=json, log_format=log_format
    ) as context:
        files = export_workbook(context, one, to=to)
    places = [opened.relative(file) for file in files]
    if json:
        finish({"files": places}, json=True)
        return
    for place in places:
        typer.echo(printable(place))


def einvoice(
    period: PeriodOption,
    syntax: Annotated[
        Syntax,
        typer.Option("--syntax", help="ubl: UBL 2.1, Peppol BIS Billing 3. cii: as Factur-X and ZUGFeRD have it."),
    ] = Syntax.UBL,
    validate: Annotated[
        bool,
        typer.Option("--validate", help="Check each against its schema and EN 16931; needs ratemill[einvoice]."),
    ] = False,
    to: ToOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Write the e-invoices of a closed period.

    One XML file for each invoice and credit note, named after its number, in DIR/einvoice-SYNTAX/PERIOD, with a
    manifest that also names the documents without an e-invoice and the reason. What was issued is taken as issued.
    """
    from ratemill.steps.export_einvoices import export_einvoices  # noqa: PLC0415 - heavy libraries, not needed for --help

    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    one = read_period(period)
    with working(
        opened, f"ratemill export einvoice --period {one}", quiet=quiet, json=json, log_format=log_format
    ) as context:
        exported = export_einvoices(context, one, syntax=syntax.value, to=to, validate=validate)
    place, files = opened.relative(exported.folder), exported.manifest["files"]
    if json:
        findings = [finding.as_dict() for finding in exported.advice]
        finish({"folder": place, **exported.manifest, "findings": findings}, json=True)
        return
    for finding in exported.advice:
        typer.echo(printable(f"warning  {finding.rule}  {finding}"))
    for invoice_id, reason in exported.manifest["without"].items():
        typer.echo(printable(f"none     {invoice_id}: {reason}"))
    checked = f", {sum(facts['rules'] for facts in files.values()):,} rules checked" if validate else ""
    typer.echo(printable(f"{place}  {len(files):,} e-invoices, {syntax.upper()}{checked}"))


def prices(
    account: Annotated[
        str | None,
        typer.Option("--account", metavar="ID", show_default=False, help="Whose prices; else the public ones."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="INSTANT",
            show_default=False,
            help="Prices of this instant (2026-11-01T00:00:00Z) or day; else of now.",
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", show_default=False, help="Folder; else exports/prices.")
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Write price pages: everybody's, or one customer's.

    HTML, JSON and CSV: by category and service, with tiers, units, regions, validity, what is coming and what was. A
    customer's page has the public price and the saving beside each price of its own.
    """
    from ratemill.steps.prices import export_prices  # noqa: PLC0415 - heavy libraries, not needed for --help

    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    instant = read_instant(at, option="--at", time_zone=opened.config.period.time_zone)
    with working(opened, "ratemill export prices", quiet=quiet, json=json, log_format=log_format) as context:
        files = export_prices(context, account_id=account, at=instant, to=to)
    places = [opened.relative(file) for file in files]
    if json:
        finish({"files": places}, json=True)
        return
    for place in places:
        typer.echo(printable(place))


def member(
    principal: Annotated[
        str, typer.Argument(metavar="PRINCIPAL", help="E-mail address or key name of book/members.csv.")
    ],
    period: PeriodOption,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            "--output",
            metavar="DIR",
            show_default=False,
            help="Folder to make the export's folder in; else exports/members.",
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="INSTANT",
            show_default=False,
            help="Who may see what at this instant (2026-11-01T00:00:00Z); else now.",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Write what one member may see, and nothing else.

    A folder with a DuckDB file, Parquet, CSV, FOCUS rows, cost reports and a workbook of the organizations, accounts
    and projects that book/members.csv gives the member; for organizations also invoices with their documents. The
    folder is DIR/PRINCIPAL/PERIOD, readable by its owner only, with a manifest.
    """
    from ratemill.steps.export_member import export_member  # noqa: PLC0415 - heavy libraries, not needed for --help

    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    periods = read_periods(period)
    with working(
        opened,
        f"ratemill export member --period {period}",
        now=read_clock(as_of),
        quiet=quiet,
        json=json,
        log_format=log_format,
    ) as context:
        exported = export_member(context, principal, periods, to=to)
    place = opened.relative(exported.folder)
    if json:
        finish({"folder": place, **exported.manifest}, json=True)
        return
    for grant in exported.scope.grants:
        typer.echo(printable(f"{grant.role:<16} {grant}"))
    rows = sum(facts.get("rows", 0) for name, facts in exported.manifest["files"].items() if name.endswith(".parquet"))
    typer.echo(printable(f"{place}  {len(exported.manifest['files']):,} files, {rows:,} rows"))


def lines(
    period: PeriodOption,
    file_format: Annotated[DatasetFormat, typer.Option("--format", help="Format of the file.")] = DatasetFormat.CSV,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="FILE", show_default=False, help="The file; else exports/lines-PERIOD with its ending."
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Write the invoice lines of a period that has invoices.

    One file, CSV or Parquet, with every id and every digit: each line with number, dates and payer of its invoice.
    Credit notes issued by hand in the months are included. The sum of net_amount is what the invoices add up to
    before tax.
    """
    from ratemill.steps.export_lines import export_lines  # noqa: PLC0415 - heavy libraries, not needed for --help

    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    periods = read_periods(period)
    with working(
        opened, f"ratemill export lines --period {period}", quiet=quiet, json=json, log_format=log_format
    ) as context:
        exported = export_lines(context, periods, file_format=file_format.value, to=to)
    place = opened.relative(exported.file)
    if json:
        finish({"file": place, "rows": exported.rows, "net_amount": exported.totals}, json=True)
        return
    sums = ", ".join(f"{amount} {currency}" for currency, amount in exported.totals.items())
    typer.echo(printable(f"{place}  {exported.rows:,} lines, {sums or 'nothing'} before tax"))
