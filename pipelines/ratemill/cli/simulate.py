"""``ratemill simulate``: what invoices would have been."""

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
    read_periods,
    working,
)
from ratemill.errors import UsageError

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console
    from rich.table import Table

    from ratemill.book.what_if import Raise
    from ratemill.steps.simulate import Question, Simulated

_SHOWN = 8
_SHOWN_CHANGES = 10
_TABLES = (("customer", "Customer"), ("service", "Service"), ("sku", "SKU"))


def _table_option(table: str) -> Any:
    return typer.Option(
        f"--{table}", metavar="FILE", show_default=False, help=f"CSV or Parquet file in place of the book's {table}."
    )


def simulate(
    period: PeriodOption,
    raises: Annotated[
        list[str] | None,
        typer.Option(
            "--raise",
            metavar="NAME=PERCENT",
            show_default=False,
            help="Raise the prices of a SKU, service or category: storage=5%, *=-2.5% for all; may be given again.",
        ),
    ] = None,
    price_list: Annotated[
        list[str] | None,
        typer.Option(
            "--price-list",
            metavar="NAME",
            show_default=False,
            help="Raise only prices on this list, such as public; may be given again.",
        ),
    ] = None,
    prices: Annotated[Path | None, _table_option("prices")] = None,
    discounts: Annotated[Path | None, _table_option("discounts")] = None,
    commitments: Annotated[Path | None, _table_option("commitments")] = None,
    taxes: Annotated[Path | None, _table_option("taxes")] = None,
    book: Annotated[
        Path | None,
        typer.Option("--book", metavar="DIR", show_default=False, help="Folder in place of the whole book."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Put the rows of files over the book's, by key, and keep the others.")
    ] = False,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            show_default=False,
            help="Write a .html page, .xlsx workbook or .csv, or all three to a folder; may be given again.",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Show what invoices would have been with other prices.

    Or other discounts, commitments or taxes.

    Each month is taken as it was drafted or issued, and once more with what is different. Nothing is billed, and
    nothing in the workspace changes.

    \b
    Examples:
      ratemill simulate -p 2026-08..2026-10 --raise "storage=5%" -o storage.html
      ratemill simulate -p last --discounts no-discounts.csv
      ratemill simulate -p last --taxes new-taxes.csv --merge --json
    """  # noqa: D301 - the mark that keeps lines apart in --help must be a real \b
    from ratemill.steps.simulate import Question  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.steps.simulate import simulate as simulate_step  # noqa: PLC0415
    from ratemill.steps.simulate_files import files_to_write, write_simulation  # noqa: PLC0415

    tables = {"prices": prices, "discounts": discounts, "commitments": commitments, "taxes": taxes}
    given = {name: path for name, path in tables.items() if path is not None}
    question = Question(given, book, merge, _read_raises(raises or []), tuple(price_list or []))
    _refuse_contradictions(question)
    chosen = read_periods(period)
    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    files = files_to_write(opened, output or [])
    with working(
        opened, f"ratemill simulate --period {period}", quiet=quiet, json=json, log_format=log_format, read_only=True
    ) as context:
        simulated = simulate_step(context, chosen, question)
        write_simulation(context, simulated, files)
    if json:
        finish(_summary(simulated, [str(file) for file in files]), json=True)
    else:
        _print(simulated, [str(file) for file in files])


def _read_raises(texts: list[str]) -> tuple[Raise, ...]:
    from ratemill.book.what_if import Raise  # noqa: PLC0415 - heavy libraries, not needed for --help

    try:
        found = tuple(Raise.parse(text) for text in texts)
    except ValueError as error:
        raise UsageError(f"--raise: {error}") from None
    names = [each.name.casefold() for each in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--raise: {name!r} is given twice; which percentage counts?")
    return found


def _refuse_contradictions(question: Question) -> None:
    if not question.tables and question.book is None and not question.raises:
        raise UsageError(
            'nothing is different → give --raise "storage=5%", --prices FILE, --discounts FILE, --commitments FILE,'
            " --taxes FILE or --book DIR"
        )
    if question.merge and not question.tables:
        raise UsageError("--merge is for the files of --prices, --discounts, --commitments and --taxes; none is given")
    if question.price_lists and not question.raises:
        raise UsageError("--price-list is for --raise; none is given")


# --------------------------------------------------------------------------------------------------------------- --json


def _summary(simulated: Simulated, files: list[str]) -> dict[str, Any]:
    effects = simulated.effects
    return {
        "periods": simulated.periods,
        "changes": simulated.changes,
        "notes": simulated.notes,
        "findings": [finding.as_dict() for finding in simulated.findings],
        "changed": effects.changed(),
        "customers": effects.customers.to_dicts(),
        "steps": _rows(effects.steps),
        "by": {level: _rows(rows) for level, rows in effects.levels.items()},
        "files": files,
    }


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    from ratemill.documents.formats import plain  # noqa: PLC0415 - heavy libraries, not needed for --help

    return [
        {name: plain(value) if isinstance(value, Decimal) else value for name, value in row.items()}
        for row in frame.iter_rows(named=True)
    ]


# ----------------------------------------------------------------------------------------------------------- for people


def _print(simulated: Simulated, files: list[str]) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=sys.stdout, highlight=False)
    months = " to ".join(dict.fromkeys((simulated.periods[0], simulated.periods[-1])))
    console.print()
    console.print(Text.assemble((f"{months}  ", "bold"), "simulated; nothing was billed"))
    console.print()
    console.print(Text("What is different", style="bold"))
    for change in simulated.changes[:_SHOWN_CHANGES]:
        console.print(Text(f"  {printable(change)}"))
    if len(simulated.changes) > _SHOWN_CHANGES:
        console.print(Text(f"  … and {len(simulated.changes) - _SHOWN_CHANGES:,} more (--json lists all)", style="dim"))
    for note in (*simulated.notes, *map(str, simulated.findings)):
        console.print(Text(f"  {printable(note)}", style="yellow"))
    for customers in simulated.effects.customers.iter_rows(named=True):
        _print_currency(console, customers, simulated)
    for file in files:
        console.print(Text.assemble(("\nWritten  " if file == files[0] else "         ", "dim"), printable(file)))


def _print_currency(console: Console, customers: dict[str, Any], simulated: Simulated) -> None:
    from rich.text import Text  # noqa: PLC0415 - heavy libraries, not needed for --help

    from ratemill.documents.formats import format_amount  # noqa: PLC0415
    from ratemill.documents.simulate import who_pays  # noqa: PLC0415

    currency, effects = customers["currency"], simulated.effects
    (total,) = effects.levels["total"].filter(currency=currency).iter_rows(named=True)
    console.print()
    if not effects.changed(currency):
        told = f"nothing differs: {format_amount(total['taxed_before'], currency)} with tax"
        console.print(Text.assemble((f"{currency}  ", "bold"), told))
        return
    console.print(Text.assemble((f"{currency}  ", "bold"), who_pays(customers)))
    console.print()
    console.print(_steps(effects.steps.filter(currency=currency), currency))
    for level, heading in _TABLES:
        rows = effects.levels[level].filter(currency=currency)
        if rows.filter(rows["effect"] != 0).height:
            console.print()
            console.print(_level(rows, heading, currency, "taxed" if level == "customer" else "billed"))


def _steps(rows: pl.DataFrame, currency: str) -> Table:
    from ratemill.documents.simulate import step_percent  # noqa: PLC0415 - heavy libraries, not needed for --help

    table = _table("", "Before", "After", "Effect", "Change")
    for row in rows.iter_rows(named=True):
        if row["before"] or row["after"]:
            style = "bold" if row["step"] in ("billed", "taxed", "due") else ""
            cells = _cells(row["before"], row["after"], row["effect"], currency, step_percent(row))
            table.add_row(row["title"], *cells, style=style)
    return table


def _level(rows: pl.DataFrame, heading: str, currency: str, main: str) -> Table:
    """The largest effects, in order, and one row for the rest of those that change."""
    from rich.text import Text  # noqa: PLC0415 - heavy libraries, not needed for --help

    from ratemill.money import ZERO, percent_of  # noqa: PLC0415

    table = _table(f"{heading}, {'with' if main == 'taxed' else 'before'} tax", "Before", "After", "Effect", "Change")
    changed = rows.filter(rows["effect"] != 0)
    shown = changed.sort(changed["effect"].abs(), descending=True, maintain_order=True).head(_SHOWN)
    for row in shown.sort("effect", descending=True, maintain_order=True).iter_rows(named=True):
        cells = _cells(row[f"{main}_before"], row[f"{main}_after"], row["effect"], currency, row["change_percent"])
        table.add_row(Text(printable(row["name"])), *cells)
    rest = changed.height - shown.height
    if rest:
        left = changed.join(shown, on=changed.columns, how="anti", nulls_equal=True)
        before, after, effect = (
            sum(left[name].to_list(), ZERO) for name in (f"{main}_before", f"{main}_after", "effect")
        )
        table.add_row(
            f"{rest:,} more", *_cells(before, after, effect, currency, percent_of(effect, before)), style="dim"
        )
    return table


def _table(first: str, *rest: str) -> Table:
    from rich import box  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    table.add_column(first, overflow="fold")
    for heading in rest:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _cells(
    before: Decimal, after: Decimal, effect: Decimal, currency: str, percent: Decimal | None
) -> tuple[str, str, str, str]:
    from ratemill.documents.formats import format_amount  # noqa: PLC0415 - heavy libraries, not needed for --help

    return (
        format_amount(before, currency),
        format_amount(after, currency),
        f"{'+' if effect > 0 else ''}{format_amount(effect, currency)}" if effect else "-",
        f"{percent:+,.1f} %" if percent else "",
    )
