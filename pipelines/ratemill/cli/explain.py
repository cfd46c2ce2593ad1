"""``ratemill explain``: why a figure is what it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratemill.cli.shared import (
    JsonOption,
    LogFormatOption,
    QuietOption,
    WorkspaceOption,
    finish,
    open_workspace,
    print_text,
    read_period,
    working,
)

if TYPE_CHECKING:
    from ratemill.insight.explain.model import Explanation

_LINES_OF_A_PAGE = 10


def explain(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="An invoice (number or id), INVOICE:LINE, a charge of a line INVOICE:LINE#NUMBER, an account, or a "
            "resource. Where several things have the name: invoice:…, line:…, account:…, resource:…",
        ),
    ],
    period: Annotated[
        str | None,
        typer.Option(
            "--period",
            "-p",
            metavar="YYYY-MM",
            show_default=False,
            help="Billing period: 2026-10, or last (the month before today, UTC). An invoice knows its own.",
        ),
    ] = None,
    lines: Annotated[
        int | None,
        typer.Option(
            "--lines",
            metavar="N",
            min=0,
            max=1000,
            show_default=False,
            help="How many lines of an invoice, account or resource are taken apart as well, the largest; "
            f"else none, and {_LINES_OF_A_PAGE} on an HTML page.",
        ),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=1, max=10000, help="Rows of a table.")] = 12,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", show_default=False, help="Write it as an HTML page, print no text."),
    ] = None,
    pager: Annotated[
        bool, typer.Option("--pager/--no-pager", help="On a terminal, show a long text page by page ($PAGER).")
    ] = True,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Explain a figure: from usage and price to rounding, discounts and tax.

    Every figure is recomputed from its parts, and must equal what was billed to the last digit.
    """
    from ratemill.steps.explain import Extent, write_page  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.steps.explain import explain as explain_step  # noqa: PLC0415

    chosen = None if period is None else read_period(period)
    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    wanted = lines if lines is not None else _LINES_OF_A_PAGE if html is not None else 0
    with working(opened, "ratemill explain", quiet=True, read_only=True) as context:
        explained = explain_step(context, what, chosen, extent=Extent(rows, wanted))
        if html is not None:
            write_page(context, explained, html)
    if html is None and not json:
        _print(explained, pager=pager)
    elif html is not None and not json:
        print_text(f"{html}\n")
    finish(explained.as_dict() | ({"html": str(html)} if html else {}), json=json)


def _print(explained: Explanation, *, pager: bool) -> None:
    """The text, in colours on a terminal; page by page where it is longer than that."""
    from rich.console import Console  # noqa: PLC0415 - heavy libraries, not needed for --help

    from ratemill.documents.explain import WIDTH, render_text  # noqa: PLC0415

    console = Console(file=sys.stdout)
    colour = console.is_terminal and console.color_system is not None
    width = max(min(console.width, WIDTH), WIDTH * 3 // 4) if console.is_terminal else WIDTH
    text = render_text(explained, width=width, colour=colour)
    if pager and console.is_terminal and text.count("\n") >= console.height:
        import pydoc  # noqa: PLC0415 - finds and runs the reader's pager

        os.environ.setdefault("LESS", "-FRX")
        pydoc.pager(text)
    else:
        print_text(text)
