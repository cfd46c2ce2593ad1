"""What given quantities of SKUs would cost an account within a month: a quote, by the code that bills.

Pure. Each item stands for all that a resource uses of a SKU in the month, at the prices of one instant; items are rated
together, so that tiers count them together as an invoice would. Discounts, commitments, credits and taxes are not part
of it: they depend on everything else of the month.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.money import QUANTITY
from ratemill.period import BillingPeriod
from ratemill.rating.shard import rate_shard
from ratemill.rating.versions import ATTRIBUTE_PREFIX, PriceVersions
from ratemill.tables.columns import INSTANT, TEXT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime
    from decimal import Decimal

    from ratemill.rating.shard import RatedShard


@dataclass(frozen=True)
class Item:
    """What is asked about."""

    sku_id: str
    quantity: Decimal
    """In usage units; of a SKU whose hours are not added up, the level of every hour."""
    region: str | None = None
    project_id: str | None = None
    window: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Terms:
    """Who asks."""

    account_id: str
    billing_account_id: str
    currency: str
    time_zone: str
    price_lists: str


def quote(
    items: Sequence[Item], terms: Terms, *, at: datetime, skus: pl.DataFrame, prices: pl.DataFrame,
    fx_rates: pl.DataFrame,
) -> RatedShard:  # fmt: skip
    """Charges of the items, each a resource of its own: its ``resource_id`` is its number; and what has no price.

    Args:
        items: at least one; their SKUs are in ``skus``.
        terms: of the account.
        at: the instant whose prices apply, in the account's month that it lies in.
        skus: rows of SKUS.
        prices: rows of PRICES, with ``attr.*``.
        fx_rates: rows of FX_RATES.

    Raises:
        polars.exceptions.ComputeError: a cost overflows.
    """
    day = at.astimezone(ZoneInfo(terms.time_zone)).date()
    period = BillingPeriod.containing(day)
    versions = PriceVersions.of(prices)
    hours = period.hours(terms.time_zone)
    is_level = {row["sku_id"]: row["aggregation"] != "sum" for row in skus.iter_rows(named=True)}
    metered = _metered(items, terms, at=at, day=day, versions=versions).with_columns(
        billable=pl.when(pl.col("sku_id").replace_strict(is_level, return_dtype=pl.Boolean)).then(
            pl.col("quantity") * hours
        )
    )
    levels = metered.filter(pl.col("billable").is_not_null())
    hourly = levels.select("charged_series", "quantity").join(
        pl.DataFrame({"hour": range(hours)}, schema={"hour": pl.Int32}), how="cross"
    )
    return rate_shard(
        metered,
        hourly.select("charged_series", "hour", billable="quantity"),
        skus=skus,
        versions=versions,
        fx_rates=fx_rates,
        period=period,
        run_id="quote",
    )


def _metered(items: Sequence[Item], terms: Terms, *, at: datetime, day: date, versions: PriceVersions) -> pl.DataFrame:
    """Items as :func:`ratemill.rating.shard.rate_shard` wants metered usage: one hour each, at ``at``."""
    rows = [
        {
            "charged_series": number,
            "sku_id": item.sku_id,
            "quantity": item.quantity,
            "region": item.region,
            "project_id": item.project_id,
            "resource_id": str(number),
            "windows": item.window or "",
            **{f"{ATTRIBUTE_PREFIX}{name}": item.attributes.get(name) for name in versions.attributes},
        }
        for number, item in enumerate(items)
    ]
    texts = ("sku_id", "region", "project_id", "resource_id", "windows")
    attributes = [f"{ATTRIBUTE_PREFIX}{name}" for name in versions.attributes]
    schema: dict[str, Any] = {
        "charged_series": pl.UInt32,
        "quantity": QUANTITY,
        **dict.fromkeys((*texts, *attributes), TEXT),
    }
    instant = pl.lit(at, dtype=INSTANT)
    return pl.DataFrame(rows, schema=schema).with_columns(
        account_id=pl.lit(terms.account_id),
        billing_account_id=pl.lit(terms.billing_account_id),
        currency=pl.lit(terms.currency),
        time_zone=pl.lit(terms.time_zone),
        price_lists=pl.lit(terms.price_lists),
        resource_name=pl.lit(None, dtype=TEXT),
        tags=pl.lit(None, dtype=TEXT),
        local_date=pl.lit(day),
        moment=pl.lit(0, dtype=pl.Int32),
        slot_start=instant,
        may_merge=pl.lit(value=False),
        records=pl.lit(1, dtype=pl.Int64),
        charge_start=instant,
        charge_end=instant + pl.duration(hours=1),
        last_usage_start=instant,
    )
