"""Price pages: which price, beside which public one, what a unit saves; and that pages, JSON and CSV say the same."""

from __future__ import annotations

import ast
import inspect
import json
import re
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise

import polars as pl
import pytest

from outline import Outline
from ratemill.book.model import Book
from ratemill.config import Seller
from ratemill.documents import price_model
from ratemill.documents.environment import make_environment
from ratemill.documents.guard import Guard
from ratemill.documents.prices import PricePrinter, PriceSource, account_price_files, public_price_files
from ratemill.insight import price_list
from ratemill.insight.price_list import account_offers, change_percent, price_versions, public_offers, steps, terms_of
from ratemill.resources import shipped
from ratemill.tables.book import ACCOUNTS, FX_RATES, PRICES, SKUS, WINDOWS

D = Decimal
AT = datetime(2026, 10, 20, 12, tzinfo=UTC)
OCTOBER_15 = datetime(2026, 10, 15, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
SELLER = Seller(name="Nordwind Cloud", country="FR", website="https://nordwind.example")


def frame(table, rows, **extra):
    return pl.DataFrame(
        [{name: row.get(name) for name in (*table.names, *extra)} for row in rows],
        schema={**table.polars_schema, **extra},
    )


def price(price_id, unit_price, sku="vm", **values):
    """A row of prices.csv: one price per unit, in EUR, on the public list, unless said otherwise."""
    usual = {
        "price_id": price_id, "price_list": "public", "sku_id": sku, "currency": "EUR", "mode": "per_unit",
        "unit_price": D(unit_price), "flat_fee": D(0), "scope": "account", "flat_at_zero": False, "tier_reset": False,
    }  # fmt: skip
    return usual | {k: D(v) if isinstance(v, str) and k in _DECIMALS else v for k, v in values.items()}


_DECIMALS = {"up_to", "flat_fee", "package_size", "cap", "minimum"}


def tiered(price_id, *tiers, sku="egress", mode="graduated", **values):
    """Rows of one price version; tiers are (up_to, unit_price)."""
    return [price(price_id, unit, sku=sku, mode=mode, up_to=up_to, **values) for up_to, unit in tiers]


def sku(sku_id, service="Machines", category="Compute", **values):
    usual = {
        "sku_id": sku_id, "service": service, "category": category, "name": f"The {sku_id}", "usage_unit": "Hours",
        "pricing_unit": "Hours", "units_per_pricing_unit": "1", "aggregation": "sum", "tax_category": "standard",
    }  # fmt: skip
    return usual | values


def account(account_id, price_lists=None, currency="EUR", **values):
    return {"account_id": account_id, "name": account_id.title(), "country": "FR", "currency": currency,
            "price_lists": price_lists} | values  # fmt: skip


def book(prices, *, skus=None, accounts=(), fx_rates=(), windows=()):
    listed = skus or [sku("vm"), sku("egress", "Network", "Networking", pricing_unit="GiB", usage_unit="GiB")]
    return Book.of(
        prices=frame(PRICES, prices, **{"attr.os": pl.String}),
        skus=frame(SKUS, listed),
        accounts=frame(ACCOUNTS, accounts),
        fx_rates=frame(FX_RATES, fx_rates),
        windows=frame(WINDOWS, windows),
    )


def offers_of(given, account_id, at=AT):
    terms = terms_of(given, account_id, default_zone="UTC")
    return {
        (offer.sku_id, *(value for _, value in offer.conditions)): offer
        for offer in account_offers(given, terms, at=at)
    }


# Public prices ---------------------------------------------------------------------------------------------------------


def test_the_public_list_shows_what_is_valid_what_comes_and_what_was():
    given = book([
        price("v1", "0.10", valid_to=OCTOBER_15),
        price("v2", "0.12", valid_from=OCTOBER_15, valid_to=DECEMBER),
        price("v3", "0.09", valid_from=DECEMBER),
        price("gone", "1", sku="egress", valid_to=OCTOBER_15),
    ])  # fmt: skip
    (offer,) = public_offers(given, currency="EUR", at=AT)
    assert (offer.current.price_id, [v.price_id for v in offer.later], [v.price_id for v in offer.earlier]) == (
        "v2", ["v3"], ["v1"],
    )  # fmt: skip


@pytest.mark.parametrize(("at", "valid"), [(OCTOBER_15, "v2"), (datetime(2026, 10, 14, 23, 59, tzinfo=UTC), "v1")])
def test_validity_begins_with_its_first_instant_and_ends_before_its_last(at, valid):
    given = book([price("v1", "0.10", valid_to=OCTOBER_15), price("v2", "0.12", valid_from=OCTOBER_15)])
    (offer,) = public_offers(given, currency="EUR", at=at)
    assert offer.current.price_id == valid


def test_a_price_that_is_still_to_come_is_announced():
    (offer,) = public_offers(book([price("v1", "0.10", valid_from=DECEMBER)]), currency="EUR", at=AT)
    assert (offer.current, offer.steps, offer.later[0].price_id) == (None, (), "v1")


def test_each_currency_has_its_own_list_and_private_lists_stay_private():
    given = book([price("eur", "0.1"), price("usd", "0.11", currency="USD"), price("mine", "0.05", price_list="acme")])
    assert price_list.public_currencies(given) == ["EUR", "USD"]
    assert [o.current.price_id for o in public_offers(given, currency="USD", at=AT)] == ["usd"]
    assert [o.current.price_id for o in public_offers(given, currency="EUR", at=AT)] == ["eur"]


# What one account pays -------------------------------------------------------------------------------------------------


def test_a_contract_price_stands_beside_the_public_one_with_what_a_unit_saves():
    given = book([price("pub", "0.10"), price("mine", "0.08", price_list="acme")], accounts=[account("acme", "acme")])
    offer = offers_of(given, "acme")["vm",]
    assert (offer.current.price_id, offer.public.price_id, offer.is_contract) == ("mine", "pub", True)
    (step,) = offer.steps
    assert (step.unit_price, step.public_unit_price, step.saving, step.saving_percent) == (
        D("0.08"), D("0.10"), D("0.02"), D("20.0"),
    )  # fmt: skip


def test_lists_are_searched_in_order_and_the_payers_serve_an_account_without():
    given = book(
        [price("pub", "10"), price("growth", "9", price_list="growth"), price("acme", "8", price_list="acme")],
        accounts=[
            account("acme", "acme growth"), account("child", billing_account_id="acme"), account("else", "growth"),
            account("nobody"),
        ],
    )  # fmt: skip
    paid = {name: offers_of(given, name)["vm",].current.price_id for name in ("acme", "child", "else", "nobody")}
    assert paid == {"acme": "acme", "child": "acme", "else": "growth", "nobody": "pub"}


def test_a_price_of_ones_own_for_every_region_saves_differently_in_each():
    """The list that has a price decides, however special the public one is."""
    given = book(
        [price("pub", "0.10"), price("tokyo", "0.16", region="tyo"), price("mine", "0.08", price_list="acme")],
        accounts=[account("acme", "acme")],
    )
    found = offers_of(given, "acme")
    assert {
        key[1:]: (o.current.price_id, o.public.price_id, o.steps[0].saving_percent) for key, o in found.items()
    } == {
        (): ("mine", "pub", D("20.0")),
        ("tyo",): ("mine", "tokyo", D("50.0")),
    }


def test_conditions_of_both_lists_are_put_together():
    given = book(
        [
            price("pub", "1"), price("pub-tyo", "2", region="tyo"),
            price("mine-win", "1.5", price_list="acme", **{"attr.os": "windows"}), price("mine", "0.5", price_list="acme"),
        ],
        accounts=[account("acme", "acme")],
    )  # fmt: skip
    found = offers_of(given, "acme")
    assert {key[1:]: (o.current.price_id, o.public.price_id) for key, o in found.items()} == {
        (): ("mine", "pub"),
        ("tyo",): ("mine", "pub-tyo"),
        ("windows",): ("mine-win", "pub"),
        ("tyo", "windows"): ("mine-win", "pub-tyo"),
    }


def test_a_combination_that_says_nothing_new_is_left_out():
    same = price("mine", "0.5", price_list="acme"), price("mine-tyo", "0.4", price_list="acme", region="tyo")
    given = book(
        [price("pub", "1"), price("pub-win", "2", **{"attr.os": "windows"}), *same], accounts=[account("acme", "acme")]
    )
    assert ("vm", "tyo", "windows") in offers_of(given, "acme")
    no_windows = book([price("pub", "1"), *same], accounts=[account("acme", "acme")])
    assert list(offers_of(no_windows, "acme")) == [("vm",), ("vm", "tyo")]


def test_a_price_in_a_time_window():
    given = book(
        [price("pub", "1"), price("night", "0.6", price_list="acme", window="night")], accounts=[account("acme", "acme")],
        windows=[{"window": "night", "days": "mon", "from_time": "00:00", "to_time": "06:00"}],
    )  # fmt: skip
    found = offers_of(given, "acme")
    assert {key[1:]: o.current.price_id for key, o in found.items()} == {(): "pub", ("night",): "night"}
    assert found["vm", "night"].steps[0].saving_percent == D("40.0")


def test_a_foreign_price_comes_with_the_rate_of_the_day():
    given = book(
        [price("pub", "1")],
        accounts=[account("acme", currency="CHF")],
        fx_rates=[
            {"date": date(2026, 10, 1), "base": "EUR", "quote": "CHF", "rate": D("0.95"), "source": "x"},
            {"date": date(2026, 10, 19), "base": "EUR", "quote": "CHF", "rate": D("0.93"), "source": "x"},
            {"date": date(2026, 11, 1), "base": "EUR", "quote": "CHF", "rate": D("0.91"), "source": "x"},
        ],
    )
    offer = offers_of(given, "acme")["vm",]
    assert (offer.current.currency, offer.exchange_rate) == ("EUR", D("0.93"))


def test_an_account_that_is_not_in_the_book_has_no_terms():
    assert terms_of(book([price("pub", "1")]), "nobody", default_zone="UTC") is None


# Steps and savings -----------------------------------------------------------------------------------------------------


def cut(own, public):
    one, other = price_versions(book([*own, *public]))
    return [
        (step.above, step.up_to, step.unit_price, step.public_unit_price)
        for step in steps(*sorted((one, other), key=lambda version: version.price_id != own[0]["price_id"]))
    ]


def test_tiers_of_both_are_cut_where_either_begins():
    """Each unit is compared with the public price of the same unit: the 50th with the 50th, the 150th with the 150th."""
    own = tiered("mine", ("1024", "0"), (None, "0.07"), price_list="acme")
    public = tiered("pub", ("100", "0"), ("10240", "0.079"), (None, "0.064"))
    assert cut(own, public) == [
        (0, 100, 0, 0),
        (100, 1024, 0, D("0.079")),
        (1024, 10240, D("0.07"), D("0.079")),
        (10240, None, D("0.07"), D("0.064")),
    ]


@pytest.mark.parametrize(
    "own",
    [
        tiered("mine", ("10", "1"), (None, "2"), mode="volume"),
        tiered("mine", (None, "1"), flat_fee="5"),
        tiered("mine", (None, "1"), package_size="10"),
    ],
    ids=["another mode", "a fee", "packages"],
)
def test_what_is_sold_in_another_way_is_not_compared(own):
    public = tiered("pub", ("10", "1"), (None, "0.5"))
    assert {public_price for *_, public_price in cut(own, public)} == {None}


def test_a_price_that_is_free_in_public_has_no_percentage():
    (step, *_) = steps(*price_versions(book([price("a-mine", "1"), price("pub", "0")])))
    assert (step.saving, step.saving_percent) == (D(-1), None)


@pytest.mark.parametrize(
    ("before", "after", "percent"),
    [
        ([(None, "0.10")], [(None, "0.12")], D("20.0")),
        ([("100", "0"), (None, "0.079")], [("100", "0"), (None, "0.07505")], D("-5.0")),
        ([("100", "1"), (None, "2")], [("100", "1"), (None, "1.8")], None),  # one tier only
        ([("100", "1"), (None, "2")], [("200", "1"), (None, "2")], None),  # other bounds
        ([(None, "0")], [(None, "1")], None),  # was free
        ([(None, "1")], [(None, "1")], D(0)),
    ],
)
def test_a_change_is_told_in_percent_where_it_is_one_number(before, after, percent):
    old, new = price_versions(book([*tiered("a", *before), *tiered("b", *after)]))
    assert change_percent(new, old) == percent


# Pages -----------------------------------------------------------------------------------------------------------------


def rich_book():
    return book(
        [
            price("vm-1", "0.10", valid_to=OCTOBER_15), price("vm-2", "0.12", valid_from=OCTOBER_15, valid_to=DECEMBER, cap="70"),
            price("vm-3", "0.09", valid_from=DECEMBER), price("vm-tyo", "0.2", region="tyo"),
            *tiered("egress-1", ("100", "0"), (None, "0.08")),
            price("vm-usd", "0.13", currency="USD"),
            price("vm-mine", "0.06", price_list="acme"), *tiered("egress-mine", (None, "0.05"), price_list="acme"),
        ],
        accounts=[account("acme", "acme", name="Acme <b>& Co</b>"), account("plain")],
    )  # fmt: skip


def source(given=None, at=AT):
    return PriceSource(given or rich_book(), SELLER, at, "UTC")


def files(made):
    make = PricePrinter(shipped("templates")).open(Guard())
    return {name: data.decode("utf-8-sig") for file in made for _, name, data in make(file)}


def customer_files(account_id, given=None):
    one = source(given)
    return files(account_price_files(one, terms_of(one.book, account_id, default_zone="UTC")))


def text_of(html):
    """What a reader sees, blanks as one."""
    body = re.sub(r"<(style|head).*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_public_files_are_a_page_per_currency_and_one_of_each_for_machines():
    made = files(public_price_files(source()))
    assert list(made) == ["public-EUR.html", "public-USD.html", "public.json", "public.csv"]
    assert 'href="public-USD.html"' in made["public-EUR.html"]
    assert "0.06" not in text_of(made["public-EUR.html"])


def test_a_page_tells_price_unit_validity_limits_history_and_what_comes():
    text = text_of(files(public_price_files(source()))["public-EUR.html"])
    for words in (
        "Prices on October 20, 2026", "The vm vm", "0.12", "since October 15, 2026", "until November 30, 2026",
        "at most 70.00 a month each", "1 earlier", "until October 14, 2026: 0.10", "20% higher than the last",
        "0.09 from December 1, 2026 (-25%)", "tyo", "all others", "up to 100", "over 100", "Hours", "GiB",
        "2 products", "Changes ahead",
    ):  # fmt: skip
        assert words in text, words


def test_a_customers_page_tells_what_it_saves():
    text = text_of(customer_files("acme")["acme-EUR.html"])
    for words in ("Your prices on October 20, 2026", "0.06", "0.12", "50%", "70%", "Prices of your own"):
        assert words in text, words
    assert "Acme <b>" not in text
    assert "Acme &lt;b&gt;&amp; Co&lt;/b&gt;" in text


def test_a_customer_without_prices_of_its_own_sees_public_ones_and_no_savings():
    text = text_of(customer_files("plain")["plain-EUR.html"])
    assert "You save" not in text
    assert "0.12" in text


def test_json_and_csv_have_every_version_exactly():
    made = customer_files("acme")
    content = json.loads(made["acme-EUR.json"])
    assert (content["format"], content["at"], content["price_lists"]) == (
        "ratemill-prices/1", "2026-10-20T12:00:00Z", ["acme"],
    )  # fmt: skip
    first = content["offers"][0]
    assert (first["sku_id"], first["current"]["tiers"][0]["unit_price"], first["steps"][0]["saving_percent"]) == (
        "vm",
        "0.06",
        "50",
    )
    rows = pl.read_csv(made["acme-EUR.csv"].encode(), infer_schema=False)
    assert rows.filter(sku_id="egress").select(
        "above", "up_to", "unit_price", "public_unit_price", "saving"
    ).rows() == [
        ("0", "100", "0.05", "0", "-0.05"),
        ("100", None, "0.05", "0.08", "0.03"),
    ]
    public = files(public_price_files(source()))
    past = pl.read_csv(public["public.csv"].encode(), infer_schema=False).filter(pl.col("status") == "past")
    assert past.select("price_id", "valid_to", "unit_price").rows() == [("vm-1", "2026-10-15T00:00:00Z", "0.1")]


def test_equal_books_give_equal_bytes():
    assert files(public_price_files(source())) == files(public_price_files(source(rich_book())))


@pytest.mark.parametrize("page", ["public", "acme"])
def test_a_page_can_be_read_without_seeing_it(page):
    made = (
        files(public_price_files(source()))["public-EUR.html"]
        if page == "public"
        else customer_files("acme")["acme-EUR.html"]
    )
    outline = Outline(made)
    assert outline.levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(outline.levels))
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.targets) <= set(outline.ids)
    assert outline.scopeless == 0
    assert outline.outside == []
    assert '<html lang="en" dir="ltr">' in made


def test_every_table_row_has_as_many_cells_as_its_head():
    """Row and column spans are counted by hand in the template; one cell too few would shift a price under "You save"."""
    given = rich_book()
    many = book(
        [*given.prices.select(*PRICES.names, "attr.os").to_dicts(), price("gpu-later", "1", sku="gpu", valid_from=DECEMBER)],
        skus=[sku("vm"), sku("gpu"), sku("egress", aggregation="p95", record_increment=D("0.25"))],
        accounts=[account("acme", "acme")],
    )  # fmt: skip
    for page in (
        files(public_price_files(source(many)))["public-EUR.html"],
        customer_files("acme", many)["acme-EUR.html"],
    ):
        for table in re.findall(r"<table.*?</table>", page, re.DOTALL):
            head, *bodies = re.findall(r"<(?:thead|tbody)>(.*?)</(?:thead|tbody)>", table, re.DOTALL)
            width = len(re.findall(r"<th", head))
            for body in bodies:
                rows = re.findall(r"<tr.*?</tr>", body, re.DOTALL)
                taken = [0] * len(rows)
                for at, row in enumerate(rows):
                    for cell in re.findall(r"<t[hd][ >][^>]*", row):
                        down = int((re.search(r'rowspan="(\d+)"', cell) or [0, 1])[1])
                        across = int((re.search(r'colspan="(\d+)"', cell) or [0, 1])[1])
                        for below in range(at, at + down):
                            taken[below] += across
                assert taken == [width] * len(rows)


def test_names_and_conditions_are_no_markup():
    hostile = '"><script>alert(1)</script>'
    given = book(
        [price("pub", "1", region=hostile, **{"attr.os": hostile})],
        skus=[sku("vm", service=hostile, name=hostile, pricing_unit=hostile, usage_unit=hostile)],
        accounts=[account("acme", name=hostile)],
    )
    for page in (
        files(public_price_files(source(given)))["public-EUR.html"],
        customer_files("acme", given)["acme-EUR.html"],
    ):
        assert "<script" not in page
        assert "alert(1)" in page


# Documentation ---------------------------------------------------------------------------------------------------------

README = (shipped("templates") / "README.md").read_text(encoding="utf-8")
PRICE_PART = README.partition("\n## Price pages\n")[2].partition("\n## ")[0]
DOCUMENTED = {
    name: cls for name, cls in inspect.getmembers(price_model, is_dataclass) if cls.__module__ == price_model.__name__
}


def documented_fields(name):
    section = re.search(rf"^### {name}\b.*?$(.*?)(?=^##|\Z)", PRICE_PART, re.MULTILINE | re.DOTALL)
    assert section, f"templates/README.md has no section on {name}"
    rows = [[c.strip() for c in row.strip("|").split("|")] for row in section[1].splitlines() if row.startswith("|")]
    return dict(rows[2:])


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_readme_tells_every_field_and_its_meaning(name):
    body = ast.parse(inspect.getsource(DOCUMENTED[name])).body[0].body
    meanings = {
        statement.target.id: " ".join(ast.literal_eval(after.value).split())
        for statement, after in pairwise(body)
        if isinstance(statement, ast.AnnAssign)
    }
    assert list(meanings) == [field.name for field in fields(DOCUMENTED[name])]
    assert documented_fields(name) == meanings


def test_the_readme_has_no_section_on_a_type_that_is_gone():
    assert set(re.findall(r"^### (\w+)", PRICE_PART, re.MULTILINE)) == set(DOCUMENTED)


def test_templates_use_nothing_but_what_is_documented():
    """Strict names: rendering a page with every kind of offer reaches every field that a template names."""
    environment = make_environment(None)
    used = set()
    for name in ("pricing/prices.html.j2", "pricing/macros.html.j2"):
        text, *_ = environment.loader.get_source(environment, name)
        used |= set(
            re.findall(r"\b(?:page|category|service|product|offer|version|step|window|rate|link|file|now)\.(\w+)", text)
        )
    known = {field.name for cls in DOCUMENTED.values() for field in fields(cls)}
    assert used <= known | {"startswith"}
