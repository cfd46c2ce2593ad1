"""``ratemill forecast``: what a month is expected to cost at its end."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratemill.cli.shared import (
    JsonOption,
    LogFormatOption,
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
    import polars as pl
    from rich.console import Console

    from ratemill.insight.forecast import Forecast
    from ratemill.steps.forecast import Backtest

_SHOWN_ROWS = 30
_BAR_WIDTH = 20
_SHORTEST_BAR = 6
_BACKTEST_BAR = 8
_NARROWEST = 10
_HEADINGS = {"actual_cost": "So far", "forecast_cost": "Expected"}
_NAMES = {
    "payer": "billing_account_id",
    "account": "account_id",
    "project": "project_id",
    "service": "service",
    "category": "category",
    "sku": "sku_id",
    "region": "region",
    "tags": "tags",
    "currency": "currency",
}
"""What ``--by`` may name."""


def forecast(
    period: Annotated[
        str | None,
        typer.Option(
            "--period",
            "-p",
            metavar="YYYY-MM",
            show_default=False,
            help="Month to forecast; else the one that --as-of lies in.",
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="INSTANT",
            show_default=False,
            help="Look from this instant, or from the midnight a day begins with; else from now.",
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="NAMES",
            help="What to add up by: any of payer, account, project, service, category, sku, region, tags.",
        ),
    ] = "account",
    backtest: Annotated[
        bool, typer.Option("--backtest", help="Tell how far off past months would have been forecast.")
    ] = False,
    periods: Annotated[
        int, typer.Option("--periods", min=1, max=36, metavar="N", help="With --backtest: how many months.")
    ] = 3,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Show what a month is expected to cost at its end, with an interval.

    Usage so far goes on as it did; the month is then priced by the code that bills it. Nothing is written.
    """  # fmt: skip
    from ratemill.steps.forecast import backtest as backtest_step  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.steps.forecast import forecast as forecast_step  # noqa: PLC0415

    columns = _columns(by)
    if backtest and (period is not None or as_of is not None):
        raise UsageError("--backtest looks at past months by itself: leave out --period and --as-of, or use --periods")
    chosen = read_period(period) if period is not None else None
    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    zone = opened.config.period.time_zone
    instant = read_instant(as_of, option="--as-of", time_zone=zone)
    with working(opened, "ratemill forecast", quiet=quiet or not backtest) as context:
        if backtest:
            tested = backtest_step(context, periods=periods)
        else:
            found = forecast_step(context, chosen or _month_of(instant, zone), as_of=min(instant, context.now)
                                  if as_of is None else instant)  # fmt: skip
    if backtest:
        finish(_tested(tested), json=True) if json else _print_backtest(tested)
    elif json:
        finish(_summary(found, columns), json=True)
    else:
        _print(found, columns)


def _columns(by: str) -> list[str]:
    names = [name.strip() for name in by.split(",") if name.strip()]
    wrong = [name for name in names if name not in _NAMES]
    if wrong or not names:
        raise UsageError(f"--by: {', '.join(map(repr, wrong)) or 'nothing'} is none of {', '.join(_NAMES)}")
    return list(dict.fromkeys(_NAMES[name] for name in names))


def _month_of(instant: Any, zone: str) -> Any:
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    from ratemill.period import BillingPeriod  # noqa: PLC0415 - heavy libraries, not needed for --help

    return BillingPeriod.containing(instant.astimezone(ZoneInfo(zone)).date())


def _summary(found: Forecast, columns: list[str]) -> dict[str, Any]:
    return {
        "period": str(found.period),
        "as_of": found.as_of.isoformat().replace("+00:00", "Z"),
        "known_until": found.known_until.isoformat().replace("+00:00", "Z"),
        "totals": found.interval(None, []).to_dicts(),
        "rows": found.interval(None, columns).to_dicts(),
        "invoices": found.invoices.to_dicts(),
        "findings": [finding.as_dict() for finding in found.findings],
    }


def _tested(tested: Backtest) -> dict[str, Any]:
    from ratemill.insight.forecast_backtest import by_day  # noqa: PLC0415 - heavy libraries, not needed for --help

    return {"days": by_day(tested.scores).to_dicts(), "scores": tested.scores.to_dicts(), "changed": tested.changed}


# ------------------------------------------------------------------------------------------------------- for the eye


def _print(found: Forecast, columns: list[str]) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=sys.stdout, highlight=False)
    console.print()
    console.print(
        Text.assemble(
            (f"{found.period}  ", "bold"),
            f"as of {found.as_of:%Y-%m-%d %H:%M} UTC",
            (f"   usage until {found.known_until:%Y-%m-%d %H:%M}, the rest is expected" if not found.is_complete
             else "   nothing is left to expect: this is the bill", "dim"),
        )
    )  # fmt: skip
    for finding in found.findings:
        console.print(Text(f"{finding.severity.value}: {printable(str(finding))}", style="yellow"))
    rows = found.interval(None, columns)
    for total in found.interval(None, []).iter_rows(named=True):
        _print_currency(console, found, rows.filter(currency=total["currency"]), total, columns)
    rest = found.invoices.join(rows.select("currency").unique(), on="currency", how="anti")
    for currency in rest["currency"].unique().sort():
        console.print()
        _print_invoices(console, rest.filter(currency=currency), currency)


def _print_currency(
    console: Console, found: Forecast, rows: pl.DataFrame, total: dict[str, Any], columns: list[str]
) -> None:
    from rich import box  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from ratemill.documents.formats import format_amount  # noqa: PLC0415

    currency = total["currency"]

    def money(value: Decimal) -> str:
        return format_amount(value, currency)

    console.print()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim", show_footer=True)
    shown_columns = [name for name in columns if name != "currency"]
    names = {column: name for name, column in _NAMES.items()}
    for number, column in enumerate(shown_columns):
        footer = "" if number else f"Total {currency}"
        table.add_column(names[column].capitalize(), footer=footer, overflow="fold", min_width=_NARROWEST)
    for name in ("actual_cost", "forecast_cost"):
        table.add_column(_HEADINGS[name], footer=money(total[name]), justify="right", no_wrap=True)
    table.add_column("80 % sure: from, to", footer=_between(total, money), justify="right", no_wrap=True)
    ordered = rows.sort("forecast_cost", *shown_columns, descending=[True, *(False for _ in shown_columns)])
    cells = [
        [*(printable(str(row[column] or "(none)")) for column in shown_columns), money(row["actual_cost"]),
         money(row["forecast_cost"]), _between(row, money)]
        for row in ordered.head(_SHOWN_ROWS).iter_rows(named=True)
    ]  # fmt: skip
    more = ordered.slice(_SHOWN_ROWS)
    # Bars where there is room for them: names and amounts come first.
    edges = [[str(column.header) for column in table.columns], [str(column.footer) for column in table.columns]]
    taken = sum(max(map(len, texts)) + 3 for texts in zip(*edges, *cells, strict=True))
    width = min(_BAR_WIDTH, console.width - taken)
    if width >= _SHORTEST_BAR:
        table.add_column("", no_wrap=True)
    largest = max(ordered["forecast_cost"], default=Decimal())
    for row, texts in zip(ordered.iter_rows(named=True), cells, strict=False):
        bar = [_bar(row["actual_cost"], row["forecast_cost"], largest, width)] if width >= _SHORTEST_BAR else []
        table.add_row(*map(Text, texts), *bar)
    if more.height:
        sums = [sum(more[name], Decimal()) for name in ("actual_cost", "forecast_cost")]
        blank = [""] * (len(shown_columns) - 1)
        table.add_row(
            *([f"{more.height:,} more"] if shown_columns else []), *blank, *map(money, sums), "--json lists all"
        )
    console.print(table)
    _print_invoices(console, found.invoices.filter(currency=currency), currency)


def _between(row: dict[str, Any], money: Any) -> str:
    return "" if row["low"] == row["high"] else f"{money(row['low'])} to {money(row['high'])}"


def _bar(so_far: Decimal, expected: Decimal, largest: Decimal, width: int) -> str:
    """What was used, full; what is expected, in outline."""
    if largest <= 0 or expected <= 0:
        return ""
    whole = max(1, round(expected / largest * width))
    full = min(whole, round(whole * max(so_far, Decimal()) / expected))
    return "█" * full + "░" * (whole - full)


_STEPS = (
    ("recurring_amount", "fees"),
    ("adjustment_amount", "adjustments"),
    ("shortfall_amount", "shortfall of commitments"),
    ("correction_amount", "corrections"),
    ("discount_amount", "discounts"),
    ("commitment_amount", "commitments"),
    ("credit_amount", "credits"),
)


def _print_invoices(console: Console, invoices: pl.DataFrame, currency: str) -> None:
    """What invoices make of it, in one line."""
    from rich.text import Text  # noqa: PLC0415 - heavy libraries, not needed for --help

    from ratemill.documents.formats import format_amount  # noqa: PLC0415

    def money(name: str) -> str:
        return format_amount(sum(invoices[name], Decimal()), currency)

    parts = [f"usage {money('usage_amount')}"]
    parts += [f"{word} {money(name)}" for name, word in _STEPS if any(invoices[name])]
    count = f"{invoices.height} invoice{'s' if invoices.height != 1 else ''}"
    console.print(
        Text.assemble(
            (f"{count}: ", "dim"), (", ".join(parts) + " → ", "dim"),
            (f"{currency} {money('untaxed_amount')} untaxed", "bold"),
            f", {money('total_amount')} with tax",
            f", {money('due_amount')} due" if any(invoices["prepaid_amount"]) else "",
        )
    )  # fmt: skip


def _print_backtest(tested: Backtest) -> None:
    from rich import box  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from ratemill.insight.forecast_backtest import by_day  # noqa: PLC0415

    console = Console(file=sys.stdout, highlight=False)
    console.print()
    console.print(Text("How far off past months would have been forecast", style="bold"))
    console.print(Text("against what they came to cost: in total, and each account and service", style="dim"))
    for period in tested.changed:
        console.print(Text(f"{period}: usage or book changed since it was billed; compared with what it costs today"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for name in ("Month", "End of\nday"):
        table.add_column(name, no_wrap=True)
    for name in ("Total\noff", "Each\noff", "Bias", "80 %\nheld", "Run rate:\ntotal", "\neach"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    days = by_day(tested.scores)
    widest = max((max(row["naive_wape"], row["wape"]) for row in days.iter_rows(named=True)), default=1) or 1
    last = None
    for row in days.iter_rows(named=True):
        if last not in (None, row["period"]):
            table.add_section()
        table.add_row(
            row["period"] if row["period"] != last else "",
            str(row["day"]),
            f"{row['total_error']:.1%}",
            f"{row['wape']:.1%}",
            f"{row['bias']:+.1%}",
            f"{row['coverage']:.0%}",
            f"{row['naive_total_error']:.1%}",
            f"{row['naive_wape']:.1%}",
            "█" * max(1, round(row["wape"] / widest * _BACKTEST_BAR))
            + "░" * max(0, round((row["naive_wape"] - row["wape"]) / widest * _BACKTEST_BAR)),
        )
        last = row["period"]
    console.print(table)
    console.print(Text("█ the forecast, ░ how much further off a run rate is: so far ÷ elapsed × month", style="dim"))
