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
    ).with_columns(sku_id=pl.lit("vm"), account_id="billing_account_id", project_id=pl.lit(None, pl.String), cells=31)
    shards = assign_shards(owned, whole_skus={"vm"})
    assert sorted(shards["series_id"]) == list(range(len(payers)))
    found = owned.join(shards, on="series_id").select("billing_account_id", "shard").unique()
    assert dict(found.iter_rows()) == expected, why


def dealt(monkeypatch, *, most, whole=(), **columns):
    """The shards of series 0, 1, 2 …, each a cell of 30; ``columns``: a letter per series, payer and account alike."""
    monkeypatch.setattr(series_module, "SHARD_ROWS", most)
    payers = list(columns.pop("payers", "a" * 6))
    owned = pl.DataFrame(
        {
            "series_id": range(len(payers)),
            "billing_account_id": payers,
            "account_id": list(columns.get("accounts", payers)),
            "project_id": list(columns["projects"]) if "projects" in columns else [None] * len(payers),
            "sku_id": list(columns.get("skus", "x" * len(payers))),
            "cells": columns.get("cells", [30] * len(payers)),
        },
        schema_overrides={"project_id": pl.String},
    )
    shards = assign_shards(owned, whole_skus=set(whole))
    return "".join(map(str, shards.sort("series_id")["shard"]))


def test_small_payers_share_a_shard_up_to_its_size(monkeypatch):
    # 90, 180, 210, 240 rows: a shard begins behind each hundred
    assert dealt(monkeypatch, most=100, payers="aaabbbcd", whole="x") == "00011122"
    assert dealt(monkeypatch, most=100, payers="aaabbbcd", whole="x", cells=[30, 1, 1, 30, 1, 1, 1, 90]) == "00000001"


def test_one_payer_who_has_most_rows_is_dealt_over_shards(monkeypatch):
    assert dealt(monkeypatch, most=60, skus="xxyyzz") == "001122", "by SKU"
    assert dealt(monkeypatch, most=60, accounts="mmnnoo") == "001122", "by account"
    assert dealt(monkeypatch, most=60, projects="ppqqrr") == "001122", "by project"
    assert dealt(monkeypatch, most=60, projects="ppqqrr", whole="x") == "222222", "not where tiers count all of it"
    assert dealt(monkeypatch, most=60, skus="xxyyyy", projects="ppqqrr", whole="y") == "002222"


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
