"""A simulation's sums, page, workbook and CSV: they agree with each other, in every currency, to the last digit."""

from __future__ import annotations

import ast
import csv
import inspect
import io
import re
from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
from itertools import pairwise

import openpyxl
import polars as pl
import pytest

from assembled import PAYER, assemble, make_book, usage
from outline import Outline
from ratemill.documents import simulate_model
from ratemill.documents.charts import signed_bars
from ratemill.documents.environment import make_environment
from ratemill.documents.simulate import (
    Simulation,
    render_simulation,
    simulation_csv,
    simulation_page,
    simulation_workbook,
)
from ratemill.errors import InvariantError
from ratemill.insight.simulate import LEVELS, Month, carried_draws, effects_of, lines_that_differ
from ratemill.resources import shipped
from ratemill.tables.invoices import Billed

D = Decimal
FEE = {"recurring_id": "support", "account_id": PAYER, "description": "Support", "amount": "9"}
HOSTILE = '"><script>alert(1)</script>'


def month(period, before, after, *, terms=(), **other):
    """A month of two sets of charges; ``other`` tables are the after side's alone."""
    given = dict(terms)
    return Month(period, assemble(before, **given), assemble(after, **(given | other)))


def together(*sides):
    """Invoices in several currencies as one side."""
    return Billed.of(
        pl.concat(frames) for frames in zip(*([rows for _, rows in side.frames()] for side in sides), strict=True)
    )


@pytest.fixture(scope="module")
def effects():
    """Two months; VMs are dearer, disks cheaper, a discount is new; in yen nothing changes."""
    discount = {"discount_id": "ten", "percent": "10", "sku_ids": "gpu"}
    now = [usage("100.005"), usage("50", "gpu"), usage("20", "disk", account="acme-lab")]
    then = [usage("110.0055"), usage("50", "gpu"), usage("15", "disk", account="acme-lab")]
    yen = assemble([usage("6977", currency="JPY")], currency="JPY")
    months = [month(period, now, then, terms={"recurring": [FEE]}, discounts=[discount])
              for period in ("2026-09", "2026-10")]  # fmt: skip
    months[1] = replace(months[1], before=together(months[1].before, yen), after=together(months[1].after, yen))
    return effects_of(months, {"acme": "Acme", "acme-lab": HOSTILE})


@pytest.fixture(scope="module")
def simulation(effects):
    return Simulation("Example Cloud", ("2026-09", "2026-10"), ("prices: vm +10 %", HOSTILE), ("A note",), effects)


@pytest.fixture(scope="module")
def page(simulation):
    return render_simulation(simulation_page(simulation), make_environment(None))


# -------------------------------------------------------------------------------------------------------------- sums


def test_the_way_from_list_price_to_what_is_due(effects):
    """Each month: 100.005 becomes 100.01 and 110.0055 110.01; the fee of 9; 10 % of 50; 20 % tax of 179.01 and 179.01."""
    steps = {row["step"]: row for row in effects.steps.filter(currency="EUR").iter_rows(named=True)}
    assert {name: (row["before"], row["after"]) for name, row in steps.items() if row["before"] or row["after"]} == {
        "list": (D("340.010"), D("350.0110")),
        "contracted": (D("340.010"), D("350.0110")),
        "others": (D(18), D(18)),
        "rounding": (D("0.010"), D("0.0090")),
        "discounts": (D(0), D(-10)),
        "billed": (D("358.02"), D("358.02")),
        "tax": (D("71.60"), D("71.60")),
        "taxed": (D("429.62"), D("429.62")),
        "due": (D("429.62"), D("429.62")),
    }


def test_what_pays_most_more_comes_first(effects):
    skus = effects.levels["sku"].filter(currency="EUR")
    assert [(row["name"], row["effect"], row["change_percent"], row["share_percent"]) for row in skus.iter_rows(named=True)] == [
        ("Machine", D("20.00"), D("10.0"), D("100.0")),
        ("Recurring fees", D(0), D("0.0"), None),
        ("Disk", D("-10.00"), D("-25.0"), D("50.0")),
        ("Accelerator", D("-10.00"), D("-10.0"), D("50.0")),
    ]  # fmt: skip


def test_currencies_are_kept_apart(effects):
    assert effects.customers.rows() == [("EUR", 0, 0, 1), ("JPY", 0, 0, 1)]
    assert effects.levels["total"]["taxed_after"].to_list() == [D("429.62"), D(8372)]
    assert effects.changed()


def test_what_is_the_same_has_not_changed():
    both = [usage("1"), usage("2", "gpu")]
    same = effects_of([month("2026-10", both, both)], {})
    assert not same.changed()
    assert same.levels["customer"]["name"].to_list() == ["acme"]


def test_a_customer_on_one_side_only_counts(effects):
    gone = effects_of([Month("2026-10", assemble([usage("10")]), Billed.empty())], {})
    assert gone.customers.rows() == [("EUR", 0, 1, 0)]
    assert gone.levels["customer"]["effect"].to_list() == [D(-12)]


def test_sums_that_do_not_agree_are_a_mistake_of_ours():
    right = assemble([usage("10")])
    wrong = replace(right, invoices=right.invoices.with_columns(tax_amount=pl.lit(D(3)).cast(pl.Decimal(38, 4))))
    with pytest.raises(InvariantError, match="taxed before in EUR is not billed"):
        effects_of([Month("2026-10", wrong, right)], {})


def test_large_amounts_lose_no_digit():
    cost = "12345678901234567.000000000000000001"
    found = effects_of([Month("2026-10", assemble([usage("1")]), assemble([usage(cost)]))], {})
    steps = {row["step"]: row["effect"] for row in found.steps.iter_rows(named=True)}
    assert steps["contracted"] == D("12345678901234566.000000000000000001")


# ----------------------------------------------------------------------------------------------- ledgers, and what stood


def test_credits_go_from_month_to_month_as_simulated():
    """The ledger says 70 were drawn before, 30 of them by a month that is simulated to draw 45."""

    def drew(amount):
        credit = {"credit_id": "c", "account_id": PAYER, "amount": "1000", "currency": "EUR", "kind": "promotional",
                  "granted_on": "2026-01-01", "expires_on": None}  # fmt: skip
        row = {**credit, "granted_on": pl.datetime(2026, 1, 1, time_zone="UTC")}
        return assemble([usage(amount)], credits=[credit | {"granted_on": pl.select(row["granted_on"]).item()}])

    drawn = pl.DataFrame(
        {"credit_id": ["c", "other"], "amount": [D(70), D(5)]}, schema_overrides={"amount": pl.Decimal(38, 4)}
    )
    carried = carried_draws(drawn, [drew("30")], [drew("45")])
    assert carried.rows() == [("c", D(85)), ("other", D(5))]
    assert carried_draws(drawn, [], []).rows() == drawn.rows()


def test_lines_are_held_against_what_was_billed():
    billed = assemble([usage("10"), usage("5", "gpu")])
    assert lines_that_differ(billed, billed).height == 0
    for other in (assemble([usage("11"), usage("5", "gpu")]), assemble([usage("10")]),
                  assemble([usage("10"), usage("5", "gpu"), usage("1", "disk")])):  # fmt: skip
        assert lines_that_differ(other, billed).height == 1


# -------------------------------------------------------------------------------------------------------------- page


def test_the_page_can_be_read_without_seeing_it(page):
    outline = Outline(page)
    assert outline.levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(outline.levels))
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.targets) <= set(outline.ids)
    assert outline.scopeless == 0
    assert outline.outside == []


def test_names_are_no_markup(page):
    assert "<script" not in page
    assert "alert(1)" in page


def test_every_row_has_as_many_cells_as_its_head(page):
    for table in re.findall(r"<table.*?</table>", page, re.DOTALL):
        width = len(re.findall(r"<th ", table.split("</thead>")[0]))
        for row in re.findall(r"<tr.*?</tr>", table.split("</thead>")[1], re.DOTALL):
            assert len(re.findall(r"<t[hd][ >]", row)) == width


def test_rows_and_what_is_summed_up_make_the_total(simulation):
    many = [usage(f"{number + 1}", line=number) | {"sku_id": f"sku-{number}"} for number in range(60)]
    dearer = [
        row | {"cost": row["cost"] + number % 3 - 1, "contracted_cost": row["cost"]} for number, row in enumerate(many)
    ]
    skus = [{"sku_id": f"sku-{number}", "service": "S", "category": "Compute", "name": f"SKU {number}", "usage_unit": "h",
             "pricing_unit": "h"} for number in range(60)]  # fmt: skip
    book = make_book(skus=skus)
    found = effects_of([Month("2026-10", assemble(many, book=book), assemble(dearer, book=book))], {})
    (section,) = simulation_page(replace(simulation, effects=found, periods=("2026-10",))).sections
    table = next(each for each in section.tables if each.heading == "SKU")
    assert (len(table.rows), table.smaller_count, table.unchanged_count) == (20, 20, 20)
    for name in ("before", "after", "effect"):
        rows = [*table.rows, table.smaller, table.unchanged]
        assert sum(getattr(row, name) for row in rows) == getattr(table.total, name)
    assert table.total.effect == section.billed.effect == 0


def test_bars_are_numbered_and_described():
    svg = signed_bars([D(5), D("-2.5")], unit="EUR", title="Customer", description='Acme <pays> "more"')
    assert 'role="img" aria-label="Acme &lt;pays&gt; &#34;more&#34;"' in svg
    assert svg.count("var(--series-2") == svg.count("var(--series-1") == 1
    assert svg == signed_bars([D(5), D("-2.5")], unit="EUR", title="Customer", description='Acme <pays> "more"')
    assert "<svg" in signed_bars([D(n) for n in range(40, 0, -1)], unit="JPY", title="Customer", description="")


# ------------------------------------------------------------------------------------------------------------- tables


def test_every_level_of_the_csv_adds_up_to_the_same(simulation, effects):
    rows = list(csv.DictReader(io.StringIO(simulation_csv(simulation).decode("utf-8-sig"))))
    assert {row["level"] for row in rows} == {*LEVELS}
    for total in effects.levels["total"].iter_rows(named=True):
        for level in LEVELS:
            for name in ("list_before", "contracted_after", "billed_before", "billed_after"):
                mine = [D(row[name]) for row in rows if (row["level"], row["currency"]) == (level, total["currency"])]
                assert sum(mine) == total[name]
    assert not any(row["name"].startswith("=") for row in rows)


def test_the_workbook_has_what_the_page_has(simulation, effects):
    data = simulation_workbook(simulation)
    assert data == simulation_workbook(simulation)
    book = openpyxl.load_workbook(io.BytesIO(data))
    assert book.sheetnames == ["Summary", "Customers", "Service", "SKU", "Account", "Month"]
    head, *rows = book["SKU"].iter_rows(values_only=True)
    skus = [dict(zip(head, row, strict=True)) for row in rows]
    assert [(row["SKU"], row["Currency"], row["Effect, before tax"]) for row in skus[:1]] == [("Machine", "EUR", 20)]
    assert len(skus) == effects.levels["sku"].height
    cells = [cell for row in book["Summary"].iter_rows(values_only=True) for cell in row if cell is not None]
    assert HOSTILE in cells
    assert "0 customers pay more, 0 less, 1 the same" in cells


# ------------------------------------------------------------------------------------------------------ documentation

README = (shipped("templates") / "README.md").read_text(encoding="utf-8")
PART = README.partition("\n## Simulations\n")[2].partition("\n## ")[0]
DOCUMENTED = {
    name: cls for name, cls in inspect.getmembers(simulate_model, is_dataclass) if cls.__module__ == simulate_model.__name__
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_readme_tells_every_field_and_its_meaning(name):
    body = ast.parse(inspect.getsource(DOCUMENTED[name])).body[0].body
    meanings = {
        statement.target.id: " ".join(ast.literal_eval(after.value).split())
        for statement, after in pairwise(body)
        if isinstance(statement, ast.AnnAssign)
    }
    assert list(meanings) == [field.name for field in fields(DOCUMENTED[name])]
    section = re.search(rf"^### {name}\b.*?$(.*?)(?=^##|\Z)", PART, re.MULTILINE | re.DOTALL)
    assert section, f"templates/README.md has no section on {name}"
    rows = [[c.strip() for c in row.strip("|").split("|")] for row in section[1].splitlines() if row.startswith("|")]
    assert dict(rows[2:]) == meanings


def test_the_readme_has_no_section_on_a_type_that_is_gone():
    assert set(re.findall(r"^### (\w+)", PART, re.MULTILINE)) == set(DOCUMENTED)
