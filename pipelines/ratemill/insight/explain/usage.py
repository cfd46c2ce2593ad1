"""Which usage records a charge was made of: what the warehouse holds today, attributed by the rules of rating."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.frames import collect
from ratemill.money import ZERO
from ratemill.rating.prices import find_prices, price_key
from ratemill.tables.columns import INSTANT

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping
    from decimal import Decimal

    from ratemill.rating.metering import Metering

CHARGE_KEY = ["account_id", "project_id", "sku_id", "region", "resource_id", "tags", "local_date", "moment", "price_id",
              "list_price_id"]  # fmt: skip
"""What makes a charge of a billing account; ``moment`` as in rating/calendar.py."""


@dataclass(frozen=True)
class Metered:
    """Usage of today that belongs to charges of the run, by the number of the charge."""

    parts: pl.DataFrame
    """charge, file, records, quantity, billable, first_start, last_end."""
    attributes: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """Charge → attributes that its meter says, of the charges that have usage today."""
    hours: Mapping[int, Mapping[int, Decimal]] = field(default_factory=dict)
    """Charge → hour of the month → billable, of SKUs whose hours are not summed; unpriced usage included."""
    more: tuple[int, Decimal] = (0, ZERO)
    """Records and quantity of today that would be on the line, and are in none of its charges."""
    records: pl.DataFrame | None = None
    """Of a single charge: file, row_number, usage_start, usage_end, quantity, record_id."""

    @cached_property
    def by_charge(self) -> dict[int, dict[str, Any]]:
        """Charge → records, quantity, billable, first_start, last_end."""
        rows = added_up(self.parts, ["charge"])
        return {row["charge"]: row for row in rows.iter_rows(named=True)}


def _placed(sums: pl.DataFrame, metering: Metering) -> pl.DataFrame:
    """``sums`` (series_id, cell, …) with what their series, owner and cell are."""
    calendars = metering.series.select("series_id", "calendar_id")
    return (
        sums.join(calendars, on="series_id", how="inner", validate="m:1")
        .join(metering.cells, on=["calendar_id", "cell"], how="inner", validate="m:1")
        .join(metering.owned, on=["series_id", "owner_from"], how="inner", validate="m:1")
    )


def hours_by_series(billable: pl.DataFrame, metering: Metering) -> dict[int, dict[int, Decimal]]:
    """Number of what is charged together → hour of the month → billable, whether a price was found for it or not.

    ``billable``: series_id, cell, hour, billable.
    """
    hours = collect(_placed(billable, metering).lazy().group_by("charged_series", "hour").agg(pl.col("billable").sum()))
    found: dict[int, dict[int, Decimal]] = {}
    for series, hour, quantity in hours.iter_rows():
        found.setdefault(series, {})[hour] = quantity
    return found


def attributed(sums: pl.DataFrame, metering: Metering, fx_rates: pl.DataFrame, charges: pl.DataFrame) -> pl.DataFrame:
    """``sums`` (series_id, cell, …) of usage of the payers of ``charges``, with the number of its ``charge``.

    ``charges``: charge, billing_account_id, and the columns of CHARGE_KEY. Comes back with charged_series as well, and
    with price_id, account_id and resource_id, by which usage that belongs to no charge can be told.
    """
    payers = charges.select("billing_account_id").unique()
    placed = _placed(sums, metering).join(payers, on="billing_account_id", how="semi")
    found = find_prices(placed, metering.versions, fx_rates)
    key = [*price_key(metering.versions), "local_date"]
    priced = placed.join(found, on=key, how="left", nulls_equal=True, validate="m:1")
    numbers = charges.select("charge", *CHARGE_KEY)
    return priced.join(numbers, on=CHARGE_KEY, how="left", nulls_equal=True, validate="m:1").select(
        *sums.columns, "charge", "charged_series", "price_id", "account_id", "resource_id"
    )


def with_moments(charges: pl.DataFrame, zone: str, month_start: dt.datetime, *, hourly: bool) -> pl.DataFrame:
    """``charges`` with local_date and moment, from their first instant."""
    local = pl.col("charge_start").dt.convert_time_zone(zone)
    hour = (pl.col("charge_start") - pl.lit(month_start, dtype=INSTANT)).dt.total_hours().cast(pl.Int32)
    return charges.with_columns(local_date=local.dt.date(), moment=hour if hourly else local.dt.day().cast(pl.Int32))


def added_up(parts: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Records, quantities and the span of usage by some columns."""
    return collect(
        parts.lazy()
        .group_by(by)
        .agg(
            pl.col("records").sum(),
            pl.col("quantity", "billable").sum(),
            pl.col("first_start").min(),
            pl.col("last_end").max(),
        )
    )
