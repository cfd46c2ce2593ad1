"""A simulation as an HTML page, a workbook and a CSV file. It opens no file and knows no rule of billing."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.documents.charts import signed_bars
from ratemill.documents.environment import make_environment, render
from ratemill.documents.formats import format_money, format_month
from ratemill.documents.sheets import Field, Kind, Sheets
from ratemill.documents.simulate_model import (
    SimulatedRow,
    SimulatedSection,
    SimulatedStep,
    SimulatedTable,
    SimulationPage,
)
from ratemill.documents.spreadsheet import spreadsheet_csv
from ratemill.insight.simulate import LEVELS, SIDES, SUMS, WHOLE_INVOICES, Effects
from ratemill.money import COST, ZERO, percent_of, round_to_minor_unit
from ratemill.period import BillingPeriod
from ratemill.tables.columns import TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import jinja2
    from markupsafe import Markup

    from ratemill.documents.guard import Guard

TEMPLATE = "simulate/simulation.html.j2"
_LANGUAGE = "en"
_SHOWN = {"customer": 40}
"""Rows of a table with the largest effects; of customers each has a bar in the chart."""
_SHOWN_ELSEWHERE = 20
_MOST_ROWS = 100_000
"""Rows of a sheet; the CSV file has all."""
_TITLES = {
    "customer": ("Winners and losers", "Customer"),
    "service": ("By service", "Service"),
    "sku": ("By SKU", "SKU"),
    "account": ("By account", "Account"),
    "month": ("By month", "Month"),
}
_SUMS_OF_STEPS = ("billed", "taxed", "due")
_ALWAYS_SHOWN = ("list", "contracted", "billed", "tax", "taxed")

Record = dict[str, Any]


@dataclass(frozen=True)
class Simulation:
    """What the documents are about."""

    seller: str
    periods: tuple[str, ...]
    changes: tuple[str, ...]
    notes: tuple[str, ...]
    effects: Effects

    @property
    def first(self) -> BillingPeriod:
        """The first month."""
        return BillingPeriod.parse(self.periods[0])

    @property
    def last(self) -> BillingPeriod:
        """The last month."""
        return BillingPeriod.parse(self.periods[-1])

    @property
    def months(self) -> str:
        """``August 2026 to October 2026``."""
        names = [format_month(period.first_day, _LANGUAGE) for period in (self.first, self.last)]
        return " to ".join(dict.fromkeys(names))


# --------------------------------------------------------------------------------------------------------------- page


def simulation_page(simulation: Simulation) -> SimulationPage:
    """What the template shows."""
    effects = simulation.effects
    return SimulationPage(
        title=f"Simulation · {simulation.months} · {simulation.seller}",
        seller=simulation.seller,
        first_day=simulation.first.first_day,
        last_day=simulation.last.last_day,
        month_count=len(simulation.periods),
        changes=simulation.changes,
        notes=simulation.notes,
        is_changed=effects.changed(),
        sections=tuple(_section(row, effects) for row in effects.customers.iter_rows(named=True)),
    )


def who_pays(customers: Mapping[str, Any]) -> str:
    """How many customers pay more, less and the same, of a row of ``customers``, in words."""
    more, less, same = (customers[name] for name in ("worse", "better", "same"))
    those = "customer pays" if more == 1 else "customers pay"
    return f"{more:,} {those} more, {less:,} less, {same:,} the same"


@dataclass(frozen=True)
class SimulationPrinter:
    """Makes the page; it can be pickled, and templates are opened where the work is done."""

    templates: Path
    """The workspace's own; need not exist."""

    def open(self, guard: Guard) -> Callable[[PageJob], Iterator[tuple[str, str, bytes]]]:
        """The function that makes the page: nothing it belongs to, name, and bytes.

        Raises:
            UsageError: a template of the workspace is wrong.
        """
        environment = make_environment(self.templates, guard)

        def make(job: PageJob) -> Iterator[tuple[str, str, bytes]]:
            yield "", job.name, render_simulation(job.page, environment).encode()

        return make


@dataclass(frozen=True)
class PageJob:
    """A page to be rendered."""

    name: str
    page: SimulationPage

    @property
    def size(self) -> int:
        """Rows to show."""
        return sum(len(table.rows) for section in self.page.sections for table in section.tables)


def render_simulation(page: SimulationPage, environment: jinja2.Environment) -> str:
    """A simulation as an HTML page.

    Raises:
        UsageError: when a template of the user is wrong.
    """
    return render(environment, TEMPLATE, page=page, language=_LANGUAGE, direction="ltr")


def _section(customers: Record, effects: Effects) -> SimulatedSection:
    currency = customers["currency"]
    steps = {row["step"]: _step(row) for row in effects.steps.filter(currency=currency).iter_rows(named=True)}
    tables = {level: _table(level, currency, effects) for level in _TITLES}
    return SimulatedSection(
        currency=currency,
        taxed=steps["taxed"],
        billed=steps["billed"],
        worse=customers["worse"],
        better=customers["better"],
        same=customers["same"],
        chart=_chart(tables["customer"], currency),
        steps=tuple(
            step for step in steps.values()
            if step.before or step.after or step.name in _ALWAYS_SHOWN
        ),
        tables=tuple(
            table for level, table in tables.items()
            if level in ("customer", "service", "sku") or _count(table) > 1
        ),
    )  # fmt: skip


def _count(table: SimulatedTable) -> int:
    return len(table.rows) + table.smaller_count + table.unchanged_count


def _step(row: Record) -> SimulatedStep:
    return SimulatedStep(
        name=row["step"],
        title=row["title"],
        is_sum=row["step"] in _SUMS_OF_STEPS,
        before=row["before"],
        after=row["after"],
        effect=row["effect"],
        change_percent=step_percent(row),
    )


def step_percent(step: Mapping[str, Any]) -> Decimal | None:
    """The effect on a row of ``steps`` in percent; not on what rounding adds, which is chance."""
    return None if step["step"] == "rounding" else percent_of(step["effect"], step["before"])


def _table(level: str, currency: str, effects: Effects) -> SimulatedTable:
    main = "taxed" if level in WHOLE_INVOICES else "billed"
    records = effects.levels[level].filter(currency=currency).to_dicts()
    changed = [row for row in records if row["effect"]]
    most = _SHOWN.get(level, _SHOWN_ELSEWHERE)
    largest = sorted(changed, key=lambda row: -abs(row["effect"]))[:most]
    shown = changed if len(changed) <= most else [row for row in changed if any(row is one for one in largest)]
    if level == "month":
        shown = sorted(shown, key=lambda row: row["period"])
    rest = [row for row in changed if not any(row is one for one in shown)]
    same = [row for row in records if not row["effect"]]
    title, heading = _TITLES[level]
    return SimulatedTable(
        anchor=f"{currency}-{level}",
        title=title,
        heading=heading,
        has_tax=level in WHOLE_INVOICES,
        rows=tuple(
            _row(level, row, main, number=number if level == "customer" else 0)
            for number, row in enumerate(shown, start=1)
        ),
        smaller=_sum_of(rest, main, f"{len(rest):,} smaller changes") if rest else None,
        smaller_count=len(rest),
        unchanged=_sum_of(same, main, f"{len(same):,} unchanged") if same else None,
        unchanged_count=len(same),
        total=_sum_of(records, main, "Total"),
    )


def _row(level: str, record: Record, main: str, *, number: int) -> SimulatedRow:
    ids = LEVELS[level]
    own_id = {"customer": "billing_account_id", "account": "account_id", "sku": "sku_id"}.get(level, ids[0])
    name, identity = record["name"], record[own_id]
    if level == "month":
        name = format_month(BillingPeriod.parse(record["period"]).first_day, _LANGUAGE)
        identity = name
    note = "" if identity in (None, name) else identity
    if level == "account" and record["billing_account_id"] != record["account_id"]:
        note = f"{note or name} · paid by {record['billing_account_id']}"
    return SimulatedRow(
        number=number,
        name=name,
        note=note,
        before=record[f"{main}_before"],
        after=record[f"{main}_after"],
        effect=record["effect"],
        change_percent=record["change_percent"],
        share_percent=record["share_percent"],
    )


def _sum_of(records: Sequence[Record], main: str, name: str) -> SimulatedRow:
    before, after, effect = (_added(row[column] for row in records)
                             for column in (f"{main}_before", f"{main}_after", "effect"))  # fmt: skip
    return SimulatedRow(0, name, "", before, after, effect, percent_of(effect, before), None)


def _added(values: Iterable[Decimal]) -> Decimal:
    with localcontext(prec=80):
        return sum(values, ZERO)


def _chart(table: SimulatedTable, currency: str) -> Markup | None:
    rows = table.rows
    if len(rows) < 2:  # noqa: PLR2004 - one bar says nothing that its row doesn't
        return None
    told = [f"{row.name} {'pays' if row.effect > 0 else 'saves'} {format_money(abs(row.effect), currency)}"
            f"{' more' if row.effect > 0 else ''}" for row in rows[:1] + rows[1:][-1:]]  # fmt: skip
    return signed_bars(
        [row.effect for row in rows],
        unit=currency,
        title="Customer, by its number in the table below",
        description=f"Effect on {len(rows)} customers, from the one that pays most more to the one that pays most less:"
        f" {'; '.join(told)}",
    )


# ---------------------------------------------------------------------------------------------------------------- CSV


def simulation_csv(simulation: Simulation) -> bytes:
    """Every row of every level in one table, told apart by the first column, with all digits."""
    ids = list(dict.fromkeys(name for names in LEVELS.values() for name in names if name != "item"))
    sums = [f"{name}_{side}" for name in SUMS for side in SIDES]
    parts = []
    for level, rows in simulation.effects.levels.items():
        missing = [pl.lit(None, dtype=TEXT).alias(name) for name in ids if name not in rows.columns]
        missing += [pl.lit(None, dtype=COST).alias(name) for name in sums if name not in rows.columns]
        parts.append(
            rows.with_columns(*missing, level=pl.lit(level)).select(
                "level", "currency", *ids, "name", *sums, "effect", "change_percent", "share_percent"
            )
        )
    return spreadsheet_csv(pl.concat(parts))


# ----------------------------------------------------------------------------------------------------------- workbook


def simulation_workbook(simulation: Simulation) -> bytes:
    """Sheets: Summary, then one for each level; sums of exact costs are shown in the currency's smallest unit."""
    sheets = Sheets(
        title=f"Simulation, {simulation.months}",
        author=simulation.seller,
        created=simulation.last.last_day,
        footer=f"{simulation.seller} · simulation of {simulation.months}",
    )
    _summary_sheet(sheets, simulation)
    for level, (title, heading) in _TITLES.items():
        rows = _whole_units(simulation.effects.levels[level])
        if rows.height > _MOST_ROWS:
            rows = rows.sort(pl.col("effect").abs(), descending=True, maintain_order=True).head(_MOST_ROWS)
        name = "Customers" if level == "customer" else title.removeprefix("By ").capitalize().replace("Sku", "SKU")
        sheets.table(sheets.sheet(name), f"by_{level}", _fields(level, heading), rows)
    return sheets.finish()


def _fields(level: str, heading: str) -> list[Field]:
    ids = {
        "customer": [Field("name", heading, width=28), Field("billing_account_id", "Account", width=18)],
        "account": [Field("name", heading, width=28), Field("account_id", "Account id", width=18),
                    Field("billing_account_id", "Paid by", width=18)],
        "sku": [Field("name", heading, width=32), Field("sku_id", "SKU id", width=22)],
        "service": [Field("service", heading, width=28)],
        "month": [Field("period", heading, width=12)],
    }  # fmt: skip
    words = {"list": "List", "contracted": "Contracted", "billed": "Billed", "tax": "Tax", "taxed": "With tax",
             "prepaid": "Prepaid", "due": "Due"}  # fmt: skip
    sums = SUMS if level in WHOLE_INVOICES else SUMS[:3]
    return [
        *ids[level],
        Field("currency", "Currency", width=10),
        Field("effect", f"Effect, {'with' if level in WHOLE_INVOICES else 'before'} tax", Kind.AMOUNT),
        Field("change_percent", "Change %", Kind.PERCENT, 10),
        Field("share_percent", "Share %", Kind.PERCENT, 10),
        *(Field(f"{name}_{side}", f"{words[name]} {side}", Kind.AMOUNT) for name in sums for side in SIDES),
    ]


def _whole_unit(value: Decimal, currency: str) -> Decimal:
    rounded: Decimal = _whole_units(pl.DataFrame({"currency": [currency], "value": [value]}, _ONE_VALUE))["value"][0]
    return rounded


_ONE_VALUE = pl.Schema([("currency", TEXT), ("value", COST)])


def _whole_units(rows: pl.DataFrame) -> pl.DataFrame:
    currencies = sorted(rows["currency"].unique())
    return rows.with_columns(
        round_to_minor_unit(pl.col(name), pl.col("currency"), currencies).alias(name)
        for name, dtype in rows.schema.items()
        if dtype == COST
    )


def _summary_sheet(sheets: Sheets, simulation: Simulation) -> None:
    sheet = sheets.sheet("Summary", landscape=False, title=f"What if: {simulation.months}")
    for column, width in enumerate((44, 18, 18, 16, 11)):
        sheet.set_column(column, column, width)
    row = 2
    for title, texts in (("What is different", simulation.changes), ("To be known", simulation.notes)):
        if texts:
            sheets.text(sheet, row, 0, title, sheets.section)
            for text in texts:
                row += 1
                sheets.text(sheet, row, 0, text)
            row += 2
    for customers in simulation.effects.customers.iter_rows(named=True):
        row = _summary_of_currency(sheets, sheet, row, customers, simulation.effects)


def _summary_of_currency(
    sheets: Sheets, sheet: Any, row: int, customers: Mapping[str, Any], effects: Effects
) -> int:  # fmt: skip
    currency = customers["currency"]
    sheets.text(sheet, row, 0, currency, sheets.section)
    row += 1
    for column, heading in enumerate(("", "Before", "After", "Effect", "Change %")):
        sheets.text(sheet, row, column, heading, sheets.heading("right" if column else "left"))
    percent = sheets.style(num_format='+0.0"%";[Red]-0.0"%"', align="right")
    for step in map(_step, effects.steps.filter(currency=currency).iter_rows(named=True)):
        row += 1
        style = {"bold": True} if step.is_sum else {}
        sheets.text(sheet, row, 0, step.title, sheets.style(**style))
        for column, value in enumerate((step.before, step.after, step.effect), start=1):
            sheets.amount(sheet, row, column, _whole_unit(value, currency), currency, **style)
        if step.change_percent is not None:
            sheet.write_number(row, 4, float(step.change_percent), percent)
    row += 1
    sheets.text(sheet, row, 0, who_pays(customers), sheets.muted)
    return row + 2
