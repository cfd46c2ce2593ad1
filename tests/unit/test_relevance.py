"""Which changes of the book may change what a closed month was billed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest

from ratemill.book.model import Book
from ratemill.book.relevance import Used, changes_that_matter
from ratemill.tables.book import BOOK_TABLES

USED = Used(accounts={"acme"}, projects={"web"}, skus={"vm"}, has_wrong_units=False)
SKU = {"service": "Compute", "category": "Compute", "usage_unit": "h", "pricing_unit": "h", "tax_category": "standard"}
ROWS = {
    "accounts": [{"account_id": "acme", "name": "Acme", "country": "FR", "currency": "EUR", "time_zone": None},
                 {"account_id": "idle", "name": "Idle", "country": "IT", "currency": "EUR", "time_zone": None}],
    "projects": [{"project_id": "web", "account_id": "acme", "name": "Web"}],
    "skus": [{"sku_id": "vm", "name": "VM", **SKU}, {"sku_id": "ip", "name": "IP", **SKU}],
    "prices": [{"price_id": sku, "sku_id": sku, "currency": "EUR", "unit_price": Decimal(1)} for sku in ("vm", "ip")],
    "taxes": [{"tax_code": "fr", "country": "FR", "rate": Decimal(20)}],
    "discounts": [{"discount_id": "d", "account_id": "acme", "percent": Decimal(5), "note": "Partner"}],
}  # fmt: skip


def book(rows):
    schemas = {table.name: table.polars_schema for table in BOOK_TABLES}
    return Book.of(
        **{
            name: pl.DataFrame(table, schema={column: schemas[name].get(column, pl.String) for column in table[0]})
            for name, table in rows.items()
        }
    )


def changed(table, key, **values):
    """The rows with other values in the row that starts with ``key``; a new row if there is none."""
    rows = [dict(row) for row in ROWS[table]]
    found = [row for row in rows if key == next(iter(row.values()))]
    if found:
        found[0].update(values)
    else:
        rows.append(rows[0] | {next(iter(rows[0])): key} | values)
    return ROWS | {table: [{**dict.fromkeys(values), **row} for row in rows]}


def without(table, key):
    return ROWS | {table: [row for row in ROWS[table] if next(iter(row.values())) != key]}


MATTERS = [
    changed("accounts", "acme", country="IT"),
    changed("accounts", "acme", price_lists="gold"),
    changed("accounts", "acme", billing_account_id="idle"),
    changed("accounts", "idle", time_zone="Asia/Tokyo"),  # what was the next month's may be of this one
    without("accounts", "idle"),  # usage may name it, and its project another
    changed("projects", "web", account_id="idle"),
    changed("skus", "vm", tax_category="low"),
    changed("prices", "vm", unit_price=Decimal(2)),
    changed("prices", "vm-night", sku_id="vm"),
    changed("taxes", "fr", rate=Decimal(21)),
    changed("discounts", "d", percent=Decimal(6)),
    changed("discounts", "all", account_id=None),
]
DOES_NOT = [
    changed("accounts", "acme", email="bills@example.com", city="Lyon", legal_name="Acme SAS", language="fr"),
    changed("accounts", "newcomer", country="IT"),
    changed("projects", "web", name="Shop", cost_center="7"),
    changed("projects", "app"),
    changed("skus", "vm", name="Virtual machine"),
    changed("skus", "gpu"),
    changed("skus", "ip", tax_category="low"),
    changed("prices", "ip", unit_price=Decimal(2)),
    changed("taxes", "it", country="IT"),
    changed("discounts", "d", note="Gold partner"),
    changed("discounts", "other", account_id="idle"),
]


def differing(rows, used=USED):
    return changes_that_matter(book(ROWS), book(rows), ROWS, used)


@pytest.mark.parametrize("rows", MATTERS)
def test_what_may_change_an_amount_matters(rows):
    assert len(differing(rows)) == 1


@pytest.mark.parametrize("rows", DOES_NOT)
def test_what_cannot_change_an_amount_does_not(rows):
    assert differing(rows) == []


def test_what_usage_waited_for_matters():
    used = Used(accounts={"acme", "newcomer"}, projects={"web"}, skus={"vm", "gpu"}, has_wrong_units=False)
    assert differing(changed("accounts", "newcomer"), used) == ["accounts"]
    assert differing(changed("skus", "gpu"), used) == ["skus"]
    wrong_units = Used(accounts={"acme"}, projects={"web"}, skus={"vm"}, has_wrong_units=True)
    assert differing(changed("skus", "ip", usage_unit="day"), wrong_units) == ["skus"]


def test_new_project_matters_where_payers_live_in_several_zones():
    there = ROWS | {"accounts": [row | {"time_zone": "Asia/Tokyo"} if row["account_id"] == "idle" else row for row in ROWS["accounts"]]}  # fmt: skip
    here = there | {"projects": changed("projects", "app", account_id="idle")["projects"]}
    assert changes_that_matter(book(there), book(here), ROWS, USED) == ["projects"]


def test_attributes_of_prices_count():
    rows = ROWS | {"prices": [row | {"attr.plan": "gold"} for row in ROWS["prices"]]}
    assert differing(rows) == ["prices"]


def test_dates_count():
    assert differing(changed("prices", "vm", valid_from=datetime(2026, 9, 8, tzinfo=UTC))) == ["prices"]
