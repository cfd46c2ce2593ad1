"""Rating one shard: the same few lines, whatever engine runs them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from ratemill.frames import collect
from ratemill.invoicing.invariants import assert_quantities_kept
from ratemill.rating.shard import RatedShard, rate_shard
from ratemill.steps.overflow import overflow_refused

if TYPE_CHECKING:
    from ratemill.book.model import Book
    from ratemill.period import BillingPeriod
    from ratemill.rating.metering import Metering


@dataclass(frozen=True)
class Rules:
    """What usage is rated by."""

    skus: pl.DataFrame
    prices: pl.DataFrame
    fx_rates: pl.DataFrame
    period: BillingPeriod
    run_id: str

    @classmethod
    def of(cls, book: Book, period: BillingPeriod, run_id: str) -> Rules:
        """The part of a book that rating looks at."""
        return cls(book.skus, book.prices, book.fx_rates, period, run_id)


@dataclass(frozen=True)
class Rated:
    """A shard's charges, and the usage records that they are of."""

    shard: RatedShard
    records: int


def rate_sums(sums: pl.DataFrame, billable: pl.DataFrame, *, metering: Metering, rules: Rules) -> Rated | None:
    """Rate a shard's sums; none where nobody owned the usage in the period.

    Whether there is memory for so many is asked before, by whoever reads them (``Budget.require_charges``).
    ``sums``, ``billable``: as ``UsageMeter.metered_shard`` and ``UsageMeter.billable_shard`` have them.

    Raises:
        DataRefusedError: a cost overflows.
        InvariantError: usage was lost.
    """
    metered = metering.metered(sums, billable)
    if not metered.height:
        return None
    with overflow_refused("a cost", partial(_largest_quantity, metered)):
        rated = rate_shard(
            metered,
            metering.hourly(billable),
            skus=rules.skus,
            versions=metering.versions,
            fx_rates=rules.fx_rates,
            period=rules.period,
            run_id=rules.run_id,
        )
    usage = rated.charges.filter(pl.col("charge_kind") == "usage")
    assert_quantities_kept(
        _per_sku(metered, "quantity"),
        _per_sku(usage.rename({"usage_quantity": "quantity"}), "quantity"),
        _per_sku(rated.unpriced, "quantity"),
    )
    return Rated(rated, int(metered["records"].sum()))


def _largest_quantity(metered: pl.DataFrame) -> str:
    largest = metered.sort("quantity", descending=True).row(0, named=True)
    return (
        f"The largest quantity is {largest['quantity'].normalize():f} of SKU {largest['sku_id']} for account"
        f" {largest['account_id']}, resource {largest['resource_id'] or '(none)'}, on {largest['local_date']}"
    )


def _per_sku(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    return collect(frame.lazy().group_by("sku_id").agg(pl.col(column).sum()))
