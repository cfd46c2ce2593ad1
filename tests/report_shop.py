"""The small shop that the worked examples of sql/reports are about: three customers, three months.

August and September are closed, October is a draft; acme's lab is new in September, globex gives up its machine and
doubles its disk, machines cost more from October on, traffic of acme is unusual on one day, and something was metered
that has no price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from workspaces import ADDRESSED, BOOK, NOW, Ended, TinyWorkspace, hours, make_workspace

if TYPE_CHECKING:
    from pathlib import Path

AUGUST, SEPTEMBER, OCTOBER = "2026-08", "2026-09", "2026-10"
_HOURS = {AUGUST: 744, SEPTEMBER: 720, OCTOBER: 744}
_WEB = {"project_id": "web", "tags": '{"env":"prod","team":"web"}'}
_LAB = {"tags": '{"env":"test"}'}


def report_shop(folder: Path) -> TinyWorkspace:
    """The shop, billed: nothing in it depends on the clock or on chance."""
    shop = make_workspace(
        folder,
        usage={f"{month}.parquet": _usage(month) for month in _HOURS},
        book=_BOOK,
        config={"policy": {"unpriced": "warn", "max_total_change": "5"}, "output": {"workbook": False}},
    )
    for period, issued in ((AUGUST, "2026-09-02"), (SEPTEMBER, "2026-10-02")):
        _done(shop.run(period=period))
        _done(shop.close("--issue-date", issued, period=period, waive=_KNOWN[period]))
    _done(
        shop.command(
            "credit-note", "--invoice", "2026-00001", "--amount", "12.50", "--reason", "Late answer to a ticket",
            "--issue-date", "2026-10-05", "--as-of", NOW,
        )
    )  # fmt: skip
    _done(shop.run(period=OCTOBER))
    return shop


def _usage(month: str) -> pl.DataFrame:
    first, count = f"{month}-01T00:00:00Z", _HOURS[month]
    frames = [
        hours(first=first, count=count, **_WEB),
        hours(sku="egress", resource="nic-1", first=first, count=count, **_WEB),
        hours("globex", "disk", resource="disk-1", first=first, count=count,
              quantity="2000" if month == OCTOBER else "1000", project_id=None, tags=None),
    ]  # fmt: skip
    if month == AUGUST:
        frames.append(hours("globex", resource="vm-3", first=first, count=count, project_id=None, tags=None))
    else:
        frames.append(
            hours("acme-lab", resource="vm-2", first=first, count=count, quantity="2", project_id=None, **_LAB)
        )
    if month == OCTOBER:
        peak = {"first": "2026-10-20T00:00:00Z", "count": 24, "project_id": None, "tags": None}
        frames += [
            hours(sku="egress", resource="nic-2", quantity="12", **peak),
            hours(sku="snapshot", resource="snap-1", quantity="40", **peak),
            hours("nobody", **peak | {"count": 1}),
        ]
    text = [pl.col(name).cast(pl.String) for name in ("project_id", "tags")]
    return pl.concat([frame.with_columns(text) for frame in frames])


def _done(ended: Ended) -> None:
    assert ended.code == 0, ended


_KNOWN = {AUGUST: (), SEPTEMBER: ()}
"""Points of the checklist that a person would wave through."""

_MACHINES = {"price_list": "public", "sku_id": "vm", "currency": "EUR"}
_BOOK = {
    "accounts": [
        *ADDRESSED,
        ADDRESSED[0] | {"account_id": "acme-lab", "name": "Acme Lab", "billing_account_id": "acme"},
    ],
    "projects": [{"project_id": "web", "account_id": "acme", "name": "Web shop"}],
    "skus": [
        *(row | {"pricing_unit": row["usage_unit"], "units_per_pricing_unit": "1"} for row in BOOK["skus"]),
        {
            "sku_id": "snapshot",
            "service": "Block Storage",
            "category": "Storage",
            "name": "Snapshot",
            "usage_unit": "GiB",
            "pricing_unit": "GiB",
        },
    ],
    "prices": [
        *(row for row in BOOK["prices"] if row["sku_id"] == "egress"),
        _MACHINES | {"price_id": "vm-2025", "valid_to": "2026-10-01", "unit_price": "0.10"},
        _MACHINES | {"price_id": "vm-2026", "valid_from": "2026-10-01", "unit_price": "0.12"},
        {
            "price_id": "snapshot",
            "price_list": "public",
            "sku_id": "snapshot",
            "currency": "EUR",
            "valid_to": "2026-10-01",
            "unit_price": "0.02",
        },
        {"price_id": "disk", "price_list": "public", "sku_id": "disk", "currency": "EUR", "unit_price": "0.0001"},
        {
            "price_id": "disk-globex",
            "price_list": "globex",
            "sku_id": "disk",
            "currency": "EUR",
            "unit_price": "0.00008",
        },
    ],
    "discounts": [
        {"discount_id": "frame", "account_id": "acme", "percent": "10", "category": "Compute", "note": "Frame contract"}
    ],
    "commitments": [
        {
            "commitment_id": "plan-100",
            "account_id": "globex",
            "amount": "100",
            "discount_percent": "5",
            "currency": "EUR",
            "note": "Plan 100",
        }
    ],
    "credits": [
        {
            "credit_id": "launch",
            "account_id": "acme",
            "amount": "15",
            "currency": "EUR",
            "kind": "promotional",
            "granted_on": "2026-08-01",
            "note": "Launch credit",
        }
    ],
}
_BOOK["accounts"] = [
    row | {"price_lists": "globex" if row["account_id"] == "globex" else ""} for row in _BOOK["accounts"]
]
