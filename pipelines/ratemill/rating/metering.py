"""What the warehouse adds up, and what its sums are about: series, owners, calendars and shards put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ratemill.frames import collect
from ratemill.rating.calendar import make_calendars
from ratemill.rating.owners import owners_in, owners_of
from ratemill.rating.series import assign_shards, own_series, spread_attributes
from ratemill.rating.versions import PriceVersions

if TYPE_CHECKING:
    from ratemill.book.model import Book
    from ratemill.config import Period as PeriodConfig
    from ratemill.period import BillingPeriod


@dataclass(frozen=True)
class Metering:
    """How the warehouse is to add usage up, and what its sums are about."""

    versions: PriceVersions
    series: pl.DataFrame
    """series_id, calendar_id, shard, record_increment, by_the_hour."""
    instants: pl.DataFrame
    owned: pl.DataFrame
    """Each series once per stretch of ownership, see rating/series.py."""
    cells: pl.DataFrame

    def metered(self, sums: pl.DataFrame, billable: pl.DataFrame) -> pl.DataFrame:
        """A shard's sums with the columns of their series, owner and cell; see ``rate_shard``."""
        per_cell = collect(billable.lazy().group_by("series_id", "cell").agg(pl.col("billable").sum()))
        return (
            self._with_owner(sums)
            .join(per_cell, on=["series_id", "cell"], how="left", validate="1:1")
            .with_columns(may_merge=pl.col("shares_charge") | pl.col("shares_series"))
            .drop("series_id", "calendar_id", "cell", "owner_from", "shares_charge", "shares_series")
        )

    def hourly(self, billable: pl.DataFrame) -> pl.DataFrame:
        """A shard's charged_series, hour, billable of SKUs whose hours are not summed."""
        hours = billable.filter(pl.col("hour").is_not_null())
        return self._with_owner(hours, ["charged_series"]).select("charged_series", "hour", "billable")

    def what_is_in(self, shard: int) -> str:
        """A shard's usage in words: whose, and of what."""
        inside = self.owned.join(self.series.filter(shard=shard), on="series_id", how="semi")
        payers, skus = (sorted(inside[name].unique()) for name in ("billing_account_id", "sku_id"))
        return f"the use of {_first_of(skus, 'SKU')} by {_first_of(payers, 'billing account')}"

    def _with_owner(self, sums: pl.DataFrame, columns: list[str] | None = None) -> pl.DataFrame:
        """``sums`` with the columns of their cell and series, or with some of the series' only: hours are many."""
        calendars = self.series.select("series_id", "calendar_id")
        cells, owned = self.cells, self.owned
        if columns is not None:
            cells = cells.select("calendar_id", "cell", "owner_from")
            owned = owned.select("series_id", "owner_from", *columns)
        return (
            sums.join(calendars, on="series_id", how="inner", validate="m:1")
            .join(cells, on=["calendar_id", "cell"], how="inner", validate="m:1")
            .join(owned, on=["series_id", "owner_from"], how="inner", validate="m:1")
        )


def _first_of(names: list[str], kind: str) -> str:
    others = len(names) - 1
    return f"{kind} {names[0]}{f' and {others:,} others' if others else ''}"


def plan_metering(
    known: pl.DataFrame, book: Book, instants: pl.DataFrame, *, period: BillingPeriod, config: PeriodConfig
) -> Metering:
    """Plan the sums for the series that the book knows, over the instants at which usage starts.

    ``known``: series_id, records, the columns of a series. ``instants``: usage_start.
    """
    versions = PriceVersions.of(book.prices)
    pairs = known.select("account_id", "project_id").unique()
    owners = owners_in(
        owners_of(pairs, book.accounts, book.projects, time_zone=config.time_zone),
        period.widest_start,
        period.widest_end,
    )
    calendars = make_calendars(known, owners, versions, book.windows, instants, period=period, detail=config.detail)
    owned = own_series(spread_attributes(known, versions.attributes), owners)
    assigned = known.select("series_id", "account_id", "project_id", "sku_id", "records").join(
        calendars.assigned, on=["account_id", "project_id", "sku_id"], nulls_equal=True, validate="m:1"
    )
    filled = assigned.join(calendars.cells.group_by("calendar_id").len("cells"), on="calendar_id", how="left").select(
        "series_id", cells=pl.min_horizontal("records", pl.col("cells").fill_null(0).cast(pl.Int64))
    )
    shards = assign_shards(
        owned.select("series_id", "billing_account_id", "account_id", "project_id", "sku_id")
        .unique()
        .join(filled, on="series_id", validate="m:1"),
        whole_skus=versions.counted_by_payer,
    )
    counting = book.skus.select("sku_id", "record_increment", by_the_hour=pl.col("aggregation") != "sum")
    series = (
        assigned.join(shards, on="series_id", validate="1:1")
        .join(counting, on="sku_id", validate="m:1")
        .select("series_id", "calendar_id", "shard", "record_increment", "by_the_hour")
    )
    columns = ["series_id", "identity_id", "records", "unit"]
    return Metering(versions, series, calendars.instants, owned.drop(columns[1:]), calendars.cells)
