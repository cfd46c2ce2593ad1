"""Explanations as text for a terminal, and as one HTML page."""

from __future__ import annotations

import io
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from ratemill.documents.environment import make_environment, render
from ratemill.documents.formats import clean_text
from ratemill.insight.explain.arithmetic import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import jinja2

    from ratemill.documents.guard import Guard
    from ratemill.insight.explain.arithmetic import Working
    from ratemill.insight.explain.model import Cell, Column, Explanation, Step, Table

_BOX = box.Box("    \n    \n ── \n    \n ── \n ── \n    \n    \n")
"""A rule below the headings, and one above the total."""
TEMPLATE = "explain/explain.html.j2"
WIDTH = 100
_INDENT = 3


def shown_cell(cell: Cell, column: Column) -> str:
    """A cell as people read it; empty where there is nothing."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    return shown(Decimal(cell), column.at_least if isinstance(cell, Decimal) else 0)


def headline(explanation: Explanation) -> str:
    """The figure with its unit."""
    if explanation.figure is None:
        return "several currencies"
    return f"{shown(explanation.figure, explanation.at_least)} {explanation.unit}"


# ---------------------------------------------------------------------------------------------------------------- text


def render_text(explanation: Explanation, *, width: int = WIDTH, colour: bool = False) -> str:
    """The explanation as text of a width, with escape sequences for colours if wanted."""
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, color_system="standard" if colour else None, highlight=False,
        legacy_windows=False,
    )  # fmt: skip
    console.print(Group(*_blocks(explanation)))
    lines = (line.rstrip() for line in stream.getvalue().splitlines())
    return "\n".join(lines) + "\n"


def _blocks(explanation: Explanation) -> Iterator[RenderableType]:
    yield Text(_clean(explanation.title), style="bold")
    state = "draft" if explanation.is_draft else "issued"
    figure = Text.assemble((headline(explanation), "bold"), f"  {_clean(explanation.figure_is)}")
    yield figure
    yield Text(f"{explanation.period}, {state}, run {explanation.run_id}", style="dim")
    for note in explanation.notes:
        yield Text(f"! {_clean(note)}", style="yellow")
    for number, step in enumerate(explanation.steps, start=1):
        yield Text("")
        yield from _step(step, f"{number}")
    if explanation.asks:
        yield Text("")
        yield Text("Ask on", style="bold")
        for command, answers in explanation.asks:
            yield Padding(Text.assemble(command, (f"   {answers}", "dim")), (0, 0, 0, _INDENT))


def _step(step: Step, number: str) -> Iterator[RenderableType]:
    yield Text.assemble((f"{number:<{_INDENT - 1}} ", "dim"), (_clean(step.title), "bold"))
    inside: list[RenderableType] = [Text(_clean(sentence)) for sentence in step.says]
    for table in step.tables:
        if inside:
            inside.append(Text(""))
        inside += _table(table)
    if step.workings and step.tables:
        inside.append(Text(""))
    inside += [_working(working) for working in step.workings]
    yield Padding(Group(*inside), (0, 0, 0, _INDENT))
    for place, inner in enumerate(step.steps, start=1):
        yield Text("")
        yield Padding(Group(*_step(inner, f"{number}.{place}")), (0, 0, 0, _INDENT if "." not in number else 0))


def _working(working: Working) -> Text:
    name = f"{working.name}: " if working.name else ""
    return Text.assemble((_clean(name), "dim"), _clean(working.formula))


def _table(table: Table) -> Iterator[RenderableType]:
    if table.title:
        yield Text(_clean(table.title), style="dim")
    grid = RichTable(
        box=_BOX,
        show_edge=False,
        pad_edge=False,
        header_style="dim",
        show_footer=False,
        collapse_padding=True,
    )
    for column in table.columns:
        grid.add_column(
            column.heading,
            justify="right" if column.is_number else "left",
            no_wrap=column.is_number or column.is_whole,
            overflow="fold",
        )
    for row in table.rows:
        grid.add_row(*_cells(row, table))
    if table.others is not None:
        grid.add_row(*_cells(table.others, table), style="dim")
    if table.total is not None:
        grid.add_section()
        grid.add_row(*_cells(table.total, table), style="bold")
    yield grid


def _cells(row: tuple[Cell, ...], table: Table) -> list[Text]:
    return [Text(_clean(shown_cell(cell, column))) for cell, column in zip(row, table.columns, strict=True)]


def _clean(text: str) -> str:
    """Names come from files of others: nothing in them may steer a terminal."""
    return clean_text(text)


# ---------------------------------------------------------------------------------------------------------------- page


@dataclass(frozen=True)
class PageTable:
    """A table of the page, every cell as text."""

    title: str
    """What it shows; empty: nothing to say."""
    headings: tuple[tuple[str, bool], ...]
    """Heading, and whether its column is one of numbers."""
    rows: tuple[tuple[str, ...], ...]
    """Rows, of a long table the largest."""
    others: tuple[str, ...]
    """The row of all others; empty: none."""
    total: tuple[str, ...]
    """The last row; empty: none."""


@dataclass(frozen=True)
class PageStep:
    """A step of the page."""

    name: str
    """Stable name of the step."""
    number: str
    """``3`` or ``3.1``."""
    anchor: str
    """Fragment of the page."""
    title: str
    """Its heading."""
    says: tuple[str, ...]
    """Sentences."""
    tables: tuple[PageTable, ...]
    """Tables, before the workings."""
    workings: tuple[tuple[str, str], ...]
    """What comes out, and how."""
    steps: tuple[PageStep, ...]
    """What it consists of in turn."""


@dataclass(frozen=True)
class ExplainPage:
    """The page of an explanation."""

    title: str
    """What is explained."""
    seller: str
    """Name of the seller."""
    figure: str
    """Amount and currency."""
    figure_is: str
    """What the figure is."""
    period: str
    """Billing period, YYYY-MM."""
    run_id: str
    """Run that computed it."""
    is_draft: bool
    """Whether it may still change."""
    notes: tuple[str, ...]
    """What the reader has to know before."""
    steps: tuple[PageStep, ...]
    """The derivation, from the meter on."""
    asks: tuple[tuple[str, str], ...]
    """Commands, and what they answer."""

    @property
    def size(self) -> int:
        """About how many lines it has: what templates with limits may use."""
        return sum(_size(step) for step in self.steps)


def _size(step: PageStep) -> int:
    rows = sum(len(table.rows) for table in step.tables)
    return 1 + rows + len(step.workings) + sum(_size(inner) for inner in step.steps)


@dataclass(frozen=True)
class ExplanationPrinter:
    """Makes pages of explanations; templates are opened where the work is done."""

    templates: Path
    """The workspace's own; need not exist."""

    def open(self, guard: Guard) -> Callable[[ExplainPage], Iterator[tuple[str, str, bytes]]]:
        """The function that makes a page: nothing it belongs to, name, and bytes.

        Raises:
            UsageError: a template of the workspace is wrong.
        """
        environment = make_environment(self.templates, guard)

        def make(page: ExplainPage) -> Iterator[tuple[str, str, bytes]]:
            yield "", "explain.html", render_explanation(page, environment).encode()

        return make


def explain_page(explanation: Explanation, *, seller: str) -> ExplainPage:
    """The values of the page's template."""
    return ExplainPage(
        title=explanation.title,
        seller=seller,
        figure=headline(explanation),
        figure_is=explanation.figure_is,
        period=explanation.period,
        run_id=explanation.run_id,
        is_draft=explanation.is_draft,
        notes=explanation.notes,
        steps=tuple(_page_step(step, f"{number}") for number, step in enumerate(explanation.steps, start=1)),
        asks=explanation.asks,
    )


def _page_step(step: Step, number: str) -> PageStep:
    return PageStep(
        step.name,
        number,
        f"step-{number.replace('.', '-')}",
        step.title,
        step.says,
        tuple(_page_table(table) for table in step.tables),
        tuple((working.name, working.formula) for working in step.workings),
        tuple(_page_step(inner, f"{number}.{place}") for place, inner in enumerate(step.steps, start=1)),
    )


def _page_table(table: Table) -> PageTable:
    def cells(row: tuple[Cell, ...] | None) -> tuple[str, ...]:
        return tuple(shown_cell(cell, c) for cell, c in zip(row, table.columns, strict=True)) if row else ()

    return PageTable(
        table.title,
        tuple((column.heading, column.is_number) for column in table.columns),
        tuple(cells(row) for row in table.rows),
        cells(table.others),
        cells(table.total),
    )


def render_explanation(page: ExplainPage, environment: jinja2.Environment) -> str:
    """The page: self-contained, no script, nothing to fetch.

    Raises:
        UsageError: when a template of the user is wrong.
    """
    return render(environment, TEMPLATE, page=page, language="en", direction="ltr")
