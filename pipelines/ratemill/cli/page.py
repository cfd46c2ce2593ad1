"""The one-page summary of a run, for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ratemill.cli.shared import printable
from ratemill.documents.formats import format_amount
from ratemill.findings import Finding, Severity
from ratemill.steps.load import Loaded
from ratemill.summary import CurrencyTotal, PeriodSummary

_SHOWN_FINDINGS = 12
_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}


_NONE = "-"
_WIDEST = 400


def print_page(summaries: Sequence[PeriodSummary], loaded: Loaded) -> None:
    """Print the summary of each period, then what loading found."""
    console = Console(file=sys.stdout, highlight=False)
    for summary in summaries:
        _print_period(console, summary)
    if loaded.findings:
        _print_findings(console, loaded.findings, "Files")
    if loaded.refused:
        count = len(loaded.refused)
        files = "1 usage file was" if count == 1 else f"{count:,} usage files were"
        console.print(Text(f"\n{files} refused: the drafts are incomplete (exit 3).", style="bold red"))


def _print_period(console: Console, summary: PeriodSummary) -> None:
    state = "nothing to do: this run stands already" if summary.nothing_to_do else "drafts written"
    if summary.closed is not None:
        state = f"closed: {summary.closed['invoices']:,} documents issued on {summary.closed['issue_date']}; "
        state += "nothing to do" if summary.nothing_to_do else "files were missing, and are there again"
    console.print()
    console.print(Text.assemble((f"{summary.period}  ", "bold"), state, (f"   run {summary.run_id}", "dim")))
    console.print()
    _print_whole(console, _rows(summary))
    console.print()
    _print_whole(console, _totals(summary.totals))
    if summary.findings:
        _print_findings(console, summary.findings, "Findings")
    console.print()
    for label, place in (
        ("Start here", f"{summary.out}/index.html"),
        ("Invoices", f"{summary.out}/invoices/"),
        ("SQL", f"{summary.published}"),
    ):
        console.print(Text.assemble((f"{label:<12}", "dim"), place))


def _rows(summary: PeriodSummary) -> Table:
    facts = summary.facts
    table = _table()
    table.add_column("Usage rows", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    lines = [
        ("in", facts["rows_in"], f"of {facts['files']:,} files"),
        ("filtered", facts["rows_filtered"], "by [usage.filter]"),
        ("rejected", facts["rows_rejected"], f"reasons in {summary.out}/rejects.csv"),
        ("duplicates", facts["rows_duplicate"], "dropped"),
        ("other months", facts["rows_other_periods"], "kept for their own period"),
        ("unpriced", facts["rows_unpriced"], f"listed in out/{summary.period}-unpriced.csv"),
        ("billed", facts["rows_billed"] - facts["rows_unpriced"], f"as {facts['charges']:,} charges"),
    ]
    for name, count, note in lines:
        if count or name in ("in", "rejected", "billed"):
            style = "yellow" if count and name in ("rejected", "unpriced") else ""
            table.add_row(name, Text(f"{count:,}", style=style), Text(note if count else ""))
    return table


def _totals(totals: Sequence[CurrencyTotal]) -> Table:
    """What was billed; last month stands right of the amount that it is compared with, which is the one before tax."""
    table = _table()
    for heading in ("Currency", "Invoices", "Before tax", "Last month", "Change", "Tax", "Total"):
        table.add_column(heading, justify="left" if heading == "Currency" else "right", no_wrap=True)
    for total in totals:
        table.add_row(
            total.currency,
            f"{total.invoices:,}",
            format_amount(total.untaxed, total.currency),
            _NONE if total.previous_untaxed is None else format_amount(total.previous_untaxed, total.currency),
            _change(total),
            format_amount(total.tax, total.currency),
            Text(format_amount(total.total, total.currency), style="bold"),
        )
    return table


def _change(total: CurrencyTotal) -> str:
    if not total.previous_untaxed:
        return _NONE if total.previous_untaxed is None else "new"
    share = 100 * (total.untaxed - total.previous_untaxed) / total.previous_untaxed
    return f"{share:+.1f} %"


def _print_findings(console: Console, findings: Sequence[Finding], title: str) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in findings[:_SHOWN_FINDINGS]:
        where = f"{finding.place}: " if finding.place else ""
        told = Text(printable(f"{where}{finding.message}").replace("\n", " "))
        if finding.cure:
            told.append(printable(f"\n→ {finding.cure}"), style="dim")
        grid.add_row(Text(finding.severity.value, style=_STYLES[finding.severity]), told)
    console.print(Padding(grid, (0, 0, 0, 2)))
    if len(findings) > _SHOWN_FINDINGS:
        console.print(Text(f"  … and {len(findings) - _SHOWN_FINDINGS:,} more (--json lists all)", style="dim"))


def _print_whole(console: Console, table: Table) -> None:
    """Print a table in its own width: an amount is never cut short, the terminal wraps a line that is too long."""
    terminal = console.width
    console.width = max(terminal, console.measure(table, options=console.options.update(width=_WIDEST)).maximum)
    console.print(table, crop=False)
    console.width = terminal


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
