"""``ratemill anomalies``: unusual spend of a month."""

from __future__ import annotations

import sys
from decimal import Decimal, InvalidOperation
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
    read_instant,
    read_period,
    working,
)
from ratemill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

_SHOWN_ROWS = 40
_SHOWN_DRIVERS = 3
_SHOWN_DAYS = 14
_KINDS = {"spike": "one-off", "shift": "new level", "rise": "just now", "new": "new service"}
_BLOCKS = "▁▂▃▄▅▆▇█"


def anomalies(
    period: PeriodOption,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="INSTANT",
            show_default=False,
            help="Look from this instant, or from the midnight a day begins with; else from now.",
        ),
    ] = None,
    at_least: Annotated[
        str | None,
        typer.Option(
            "--at-least",
            metavar="AMOUNT",
            show_default=False,
            help="Least excess that counts, in whatever the currency; else 1,000 of its smallest unit.",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Show unusual spend of a period, and the resources behind it.

    Each account's use of a service is compared with its own past, day by day. Nothing is written.
    """  # fmt: skip
    from ratemill.steps.anomalies import anomalies as anomalies_step  # noqa: PLC0415 - heavy libraries, not needed for --help

    chosen, floor = read_period(period), _amount(at_least)
    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    instant = read_instant(as_of, option="--as-of", time_zone=opened.config.period.time_zone)
    with working(opened, f"ratemill anomalies --period {period}", quiet=True) as context:
        found = anomalies_step(context, chosen, as_of=instant, at_least=floor)
    if json:
        finish({"period": str(chosen), "anomalies": found.to_dicts()}, json=True)
    else:
        _print(found, str(chosen))


def _amount(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise UsageError(f"--at-least: {text!r} is no amount; write it as 25 or 25.50")
    return amount


def _print(found: pl.DataFrame, period: str) -> None:
    from rich import box  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from ratemill.documents.formats import format_amount  # noqa: PLC0415

    console = Console(file=sys.stdout, highlight=False)
    console.print()
    count = f"{found.height:,} {'anomaly' if found.height == 1 else 'anomalies'}"
    console.print(Text.assemble((f"{period}  ", "bold"), count if found.height else "no unusual spend"))
    for (currency,), rows in found.partition_by("currency", as_dict=True, maintain_order=True).items():
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
        table.add_column("Day", no_wrap=True)
        for name in (f"Above, {currency}", "Usual"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("Two weeks", no_wrap=True)
        table.add_column("Where, and because of what", overflow="fold")
        for row in rows.head(_SHOWN_ROWS).iter_rows(named=True):
            table.add_row(
                _days(row),
                Text(f"+{format_amount(row['excess'], currency)}", style="bold"),
                format_amount(row["expected"], currency),
                _sparkline(row["recent"][-_SHOWN_DAYS:]),
                Text.assemble(
                    (printable(f"{row['account_id']} · {row['service']}"), "bold"),
                    f", {_KINDS[row['kind']]}",
                    (f"\n{_drivers(row, currency)}", "dim"),
                ),
            )
        console.print()
        console.print(table)
        if rows.height > _SHOWN_ROWS:
            console.print(Text(f"… and {rows.height - _SHOWN_ROWS:,} more (--json lists all)", style="dim"))


def _days(row: dict[str, Any]) -> str:
    first, last = row["day"], row["last_day"]
    return f"{first:%m-%d}" if first == last else f"{first:%m-%d}..{last:%d}"


def _drivers(row: dict[str, Any], currency: str) -> str:
    from ratemill.documents.formats import format_amount  # noqa: PLC0415 - heavy libraries, not needed for --help

    told = [
        f"{printable(driver['resource_id'] or '(no resource)')} {printable(driver['sku_id'])}"
        f" +{format_amount(driver['excess'], currency)}"
        for driver in row["drivers"][:_SHOWN_DRIVERS]
    ]
    return "\n".join(told) or "many small ones"


def _sparkline(values: Sequence[float]) -> str:
    """One block per day, from nothing to the highest."""
    highest = max(values, default=0)
    if highest <= 0:
        return ""
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, int(value / highest * (len(_BLOCKS) - 1) + 0.5))] for value in values)
