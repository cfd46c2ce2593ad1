"""What the book knows of metered series, what their owners pay for, and how payers are dealt into shards."""

from datetime import UTC, datetime

import polars as pl
import pytest

from engine import make_book
from ratemill.rating import series as series_module
from ratemill.rating.series import assign_shards, own_series, split_by_book, spread_attributes
from reference.model import Account, Book, Sku

BOOK = make_book(Book(accounts=(Account(account_id="a"),), skus=(Sku(sku_id="vm", usage_unit="hour"),)))

KNOWN = [  # (account, SKU, unit, broken rules)
    ("a", "vm", "hour", []),
    ("a", "vm", None, []),
    ("a", "vm", "Hour", ["unit.wrong"]),
    ("b", "vm", "hour", ["account_id.unknown"]),
    ("a", "disk", "hour", ["sku_id.unknown"]),
    ("b", "disk", "GiB", ["account_id.unknown", "sku_id.unknown"]),
]


def test_the_book_knows_accounts_skus_and_units():
    metered = pl.DataFrame(
        [(number, account, sku, unit, 7) for number, (account, sku, unit, _) in enumerate(KNOWN)],
        schema={
            "series_id": pl.Int32,
            "account_id": pl.String,
            "sku_id": pl.String,
            "unit": pl.String,
            "records": pl.Int64,
        },
        orient="row",
    )
    split = split_by_book(metered, BOOK.accounts, BOOK.skus)
    broken = {number: rules for number, (*_, rules) in enumerate(KNOWN) if rules}
    assert split.known["series_id"].to_list() == [number for number, (*_, rules) in enumerate(KNOWN) if not rules]
    found = split.unknown.group_by("series_id", maintain_order=True).agg("rule")
    assert dict(found.iter_rows()) == broken
    assert split.unknown.filter(series_id=2).select("value", "message", "records").row(0) == (
        "Hour", "must be hour, the usage unit of SKU vm", 7,
    )  # fmt: skip


LINKS = [  # (why, payers of each series, shards of the payers with one series a shard)
    ("each payer fills a shard", ["a", "b", "c"], {"a": 0, "b": 1, "c": 2}),
    ("a series that moved keeps both payers together", ["ab", "c"], {"a": 0, "b": 0, "c": 1}),
    ("also through others", ["ab", "bc", "d"], {"a": 1, "b": 1, "c": 1, "d": 2}),
    ("found late", ["ab", "cd", "bd", "e"], {"a": 2, "b": 2, "c": 2, "d": 2, "e": 3}),
    ("order plays no part", ["e", "db", "dc", "ba"], {"a": 2, "b": 2, "c": 2, "d": 2, "e": 3}),
]


@pytest.mark.parametrize(("why", "payers", "expected"), LINKS)
def test_shards_hold_a_payer_s_whole_use_of_a_sku(why, payers, expected, monkeypatch):
    monkeypatch.setattr(series_module, "SHARD_ROWS", 31)
    owned = pl.DataFrame(
        [(number, payer) for number, group in enumerate(payers) for payer in group],
        schema={"series_id": pl.Int32, "billing_account_id": pl.String},
        orient="row",
    ).with_columns(sku_id=pl.lit("vm"))
    shards = assign_shards(owned, cells_per_series=31)
    assert sorted(shards["series_id"]) == list(range(len(payers)))
    found = owned.join(shards, on="series_id").select("billing_account_id", "shard").unique()
    assert dict(found.iter_rows()) == expected, why


def test_small_payers_share_a_shard_up_to_its_size(monkeypatch):
    monkeypatch.setattr(series_module, "SHARD_ROWS", 100)
    owned = pl.DataFrame({"series_id": range(8), "billing_account_id": list("aaabbbcd"), "sku_id": "vm"})
    shards = assign_shards(owned, cells_per_series=30).sort("series_id")["shard"].to_list()
    assert shards == [0, 0, 0, 1, 1, 1, 2, 2]  # 90, 180, 210, 240 rows: a shard begins behind each hundred


def test_one_payer_who_has_most_rows_is_dealt_over_shards_by_sku(monkeypatch):
    monkeypatch.setattr(series_module, "SHARD_ROWS", 60)
    owned = pl.DataFrame({"series_id": range(6), "billing_account_id": "a", "sku_id": list("xxyyzz")})
    shards = assign_shards(owned, cells_per_series=30).sort("series_id")["shard"].to_list()
    assert shards == [0, 0, 1, 1, 2, 2]


def test_series_that_differ_in_what_is_not_charged_share_a_charge():
    march = datetime(2026, 3, 1, tzinfo=UTC)
    names = ["account_id", "project_id", "resource_id", "resource_name", "sku_id", "region", "tags"]
    rows = [
        ("m1", "x", "r", "old", "vm", None, None),
        ("m1", "x", "r", "new", "vm", None, None),
        ("m2", "x", "r", "new", "vm", None, None),
        ("m1", "x", "q", "new", "vm", None, None),
        ("m1", None, "r", "new", "vm", None, None),
    ]
    known = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row").with_row_index("series_id")
    owner = {"owner_from": march, "owner_to": march, "billing_account_id": "p", "currency": "EUR",
             "time_zone": "UTC", "price_lists": ""}  # fmt: skip
    owners = pl.DataFrame(
        [
            {"account_id": metered, "project_id": project, "owner_account_id": mine, **owner}
            for metered, project, mine in (("m1", "x", "a"), ("m2", "x", "a"), ("m1", None, "m1"))
        ]
    )
    owned = own_series(known, owners).sort("series_id")
    assert owned["account_id"].to_list() == ["a", "a", "a", "a", "m1"]
    assert owned["charged_series"].to_list() == [1, 1, 1, 0, 2]  # in the order of charges
    assert owned["shares_series"].to_list() == [True, True, True, False, False]


def test_attributes_become_columns_where_prices_ask_for_them():
    metered = pl.DataFrame({"attributes": ['{"plan":"gold","size":"xl"}', None, '{"size":"s"}']})
    spread = spread_attributes(metered, ["plan", "tier"])
    assert spread.to_dict(as_series=False) == {"attr.plan": ["gold", None, None], "attr.tier": [None, None, None]}
    assert spread_attributes(metered, []).columns == []
