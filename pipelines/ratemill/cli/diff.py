"""``ratemill diff``: what changed between two runs of a period."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    read_period,
    working,
)

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from ratemill.steps.diff import Compared

_SHOWN_GROUPS = 30
_SHOWN_INPUTS = 12


def diff(
    period: PeriodOption,
    before: Annotated[
        str | None,
        typer.Option("--from", metavar="RUN", show_default=False, help="Run to compare; else the one before --to."),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option("--to", metavar="RUN", show_default=False, help="Run to compare it with; else the current one."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", show_default=False, help="Write every charge that differs to a file."),
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Show what changed between two runs of a period, and why.

    Amounts are untaxed; the total is the difference of the two runs' untaxed totals.
    """
    from ratemill.documents.spreadsheet import spreadsheet_csv  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.io.atomic import write_file  # noqa: PLC0415
    from ratemill.steps.diff import diff as diff_step  # noqa: PLC0415

    chosen = read_period(period)
    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    with working(opened, f"ratemill diff --period {period}", quiet=True) as context:
        compared = diff_step(context, chosen, before=before, after=after)
    if csv is not None:
        write_file(csv, spreadsheet_csv(compared.diff.charges))
    if json:
        finish(_summary(compared, str(chosen)), json=True)
    else:
        _print(compared, str(chosen))


def _summary(compared: Compared, period: str) -> dict[str, Any]:
    found = compared.diff
    return {
        "period": period,
        "from": compared.before,
        "to": compared.after,
        "inputs": vars(found.inputs),
        "totals": found.totals.to_dicts(),
        "groups": found.groups.to_dicts(),
    }


def _print(compared: Compared, period: str) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=sys.stdout, highlight=False)
    console.print()
    console.print(Text.assemble((f"{period}  ", "bold"), f"run {compared.before} → run {compared.after}"))
    inputs = compared.diff.inputs.sentences()
    console.print()
    console.print(Text("Inputs that differ", style="bold"))
    for sentence in inputs[:_SHOWN_INPUTS] or ["none"]:
        console.print(Text(f"  {printable(sentence)}"))
    if len(inputs) > _SHOWN_INPUTS:
        console.print(Text(f"  … and {len(inputs) - _SHOWN_INPUTS:,} more (--json lists all)", style="dim"))
    for total in compared.diff.totals.iter_rows(named=True):
        _print_currency(console, total, compared.diff.groups)


def _print_currency(console: Console, total: dict[str, Any], groups: pl.DataFrame) -> None:
    from rich import box  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from ratemill.documents.formats import format_amount  # noqa: PLC0415

    currency = total["currency"]
    untaxed = " → ".join(format_amount(total[side], currency) for side in ("before", "after"))
    counts = f"{total['added']:,} charges added, {total['removed']:,} removed, {total['changed']:,} changed"
    console.print()
    console.print(Text.assemble((f"{currency}  ", "bold"), f"untaxed {untaxed}", (f"   {counts}", "dim")))
    if not total["added"] + total["removed"] + total["changed"]:
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim", show_footer=True)
    table.add_column("Account", footer="Total", overflow="fold")
    table.add_column("SKU", overflow="fold")
    table.add_column("Effect", footer=_signed(total["difference"], currency), justify="right", no_wrap=True)
    table.add_column("Why", overflow="fold")
    rows = _by_account_and_sku(groups, currency)
    for row in rows[:_SHOWN_GROUPS]:
        table.add_row(*(Text(printable(cell)) for cell in row.cells(currency)))
    rest = rows[_SHOWN_GROUPS:]
    if rest:
        effect = sum((row.effect for row in rest), Decimal())
        table.add_row(f"{len(rest):,} more", "", _signed(effect, currency), "(--json lists all, --csv every charge)")
    console.print(table)


class _Row:
    """One account's difference for one SKU."""

    def __init__(self, account: str, payer: str, sku: str | None) -> None:
        self.account = account if account == payer else f"{account} (paid by {payer})"
        self.sku = sku or "(no SKU)"
        self.effect = Decimal()
        self.causes: list[tuple[str, str, Decimal]] = []

    def cells(self, currency: str) -> tuple[str, str, str, str]:
        """What the table shows. Rounding is only told of where nothing else changed: it follows the other causes."""
        told = [cause for cause in self.causes if cause[0] != "rounding"] or self.causes
        why = [
            f"{cause}{f' ({detail})' if detail else ''}{f' {_signed(effect, currency)}' if len(told) > 1 else ''}"
            for cause, detail, effect in told
        ]
        return self.account, self.sku, _signed(self.effect, currency), "; ".join(why)


def _by_account_and_sku(groups: pl.DataFrame, currency: str) -> list[_Row]:
    """In the order of ``groups``. The effect of each row is whole minor units: the rounding of its lines is in it."""
    rows: dict[tuple[Any, ...], _Row] = {}
    for group in groups.filter(currency=currency).iter_rows(named=True):
        key = (group["billing_account_id"], group["account_id"], group["sku_id"])
        row = rows.setdefault(key, _Row(group["account_id"], group["billing_account_id"], group["sku_id"]))
        row.effect += group["effect"]
        row.causes.append((group["cause"], group["detail"], group["effect"]))
    return list(rows.values())


def _signed(amount: Decimal, currency: str) -> str:
    from ratemill.documents.formats import format_amount  # noqa: PLC0415 - heavy libraries, not needed for --help

    return f"{'+' if amount > 0 else ''}{format_amount(amount, currency)}"
