"""Price versions: what all tiers of a price_id share, and how versions follow one another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from ratemill.rating.integers import to_integers
from ratemill.rating.owners import EVER, NEVER
from ratemill.rating.tiers import Tier, Tiers

ATTRIBUTE_PREFIX = "attr."
TRACK = ["price_list", "sku_id", "currency"]
"""With every condition, what earlier and later versions of one price share."""


@dataclass(frozen=True)
class PriceVersions:
    """Every price version of a book."""

    rows: pl.DataFrame
    """One row per price_id: price_list, sku_id, currency, valid_from, valid_to (never empty here), the conditions,
    mode, scope, cap, minimum, unit_price (empty unless the price is one number per unit), run (versions that count
    their tiers together), place (order within the track)."""
    conditions: list[str]
    """Columns that narrow a price down: region, window, ``attr.*``; empty means any."""
    tiers: dict[str, Tiers]
    """price_id → its tiers."""

    @classmethod
    def of(cls, prices: pl.DataFrame) -> PriceVersions:
        """The versions of a book's prices (rows of PRICES, ``attr.*`` included)."""
        conditions = ["region", "window", *sorted(n for n in prices.columns if n.startswith(ATTRIBUTE_PREFIX))]
        ordered = prices.sort("price_id", "up_to", nulls_last=True)
        plain = (
            (pl.len().over("price_id") == 1)
            & (pl.col("flat_fee") == 0)
            & pl.col("package_size").is_null()
        )  # fmt: skip
        first = ordered.with_columns(
            unit_price=pl.when(plain).then("unit_price"),
            valid_from=pl.col("valid_from").fill_null(EVER),
            valid_to=pl.col("valid_to").fill_null(NEVER),
        ).unique("price_id", keep="first", maintain_order=True)
        return cls(
            rows=_with_runs(first, conditions).select(
                "price_id", *TRACK, "valid_from", "valid_to", *conditions, "mode", "scope", "cap", "minimum",
                "unit_price", "run", "place",
            ),
            conditions=conditions,
            tiers=_tiers(ordered, flat_at_zero=frozenset(first.filter("flat_at_zero")["price_id"])),
        )  # fmt: skip

    @property
    def attributes(self) -> list[str]:
        """Names of the attributes that prices ask for, without the prefix."""
        return [name.removeprefix(ATTRIBUTE_PREFIX) for name in self.conditions if name.startswith(ATTRIBUTE_PREFIX)]

    @cached_property
    def has_limits(self) -> bool:
        """Whether any version has a cap or a minimum."""
        return bool(self.rows.select(pl.col("cap", "minimum").is_not_null()).sum_horizontal().sum())

    @cached_property
    def counted_by_payer(self) -> frozenset[str]:
        """SKUs with tiers that count a payer's whole use of them."""
        counted = self.rows.filter(pl.col("mode") != "per_unit", pl.col("scope") == "account")
        return frozenset(counted["sku_id"])

    @cached_property
    def cuts(self) -> pl.DataFrame:
        """Every instant at which a SKU's price may change: sku_id, cut."""
        edges = [self.rows.select("sku_id", pl.col(name).alias("cut")) for name in ("valid_from", "valid_to")]
        inside = (pl.col("cut") > EVER) & (pl.col("cut") < NEVER)
        return pl.concat(edges).filter(inside).unique().sort("sku_id", "cut")

    @cached_property
    def windows_of_skus(self) -> pl.DataFrame:
        """sku_id, window: the time windows that a SKU's prices ask for."""
        return self.rows.select("sku_id", "window").drop_nulls().unique().sort("sku_id", "window")


def _with_runs(versions: pl.DataFrame, conditions: list[str]) -> pl.DataFrame:
    """Number the runs: a track's versions in time order, cut before each ``tier_reset``."""
    track = [*TRACK, *conditions]
    ordered = versions.sort(*track, "valid_from")
    starts = (pl.int_range(pl.len()).over(track) == 0) | pl.col("tier_reset")
    return ordered.with_columns(
        place=pl.int_range(pl.len(), dtype=pl.Int32).over(track), run=starts.cum_sum().cast(pl.Int32)
    )


def _tiers(ordered: pl.DataFrame, *, flat_at_zero: frozenset[str]) -> dict[str, Tiers]:
    """``flat_at_zero``: price_ids whose first flat fee is due without usage."""
    columns = [to_integers(ordered[name]) for name in ("up_to", "unit_price", "flat_fee", "package_size")]
    found: dict[str, list[Tier]] = {}
    for price_id, up_to, unit_price, flat_fee, package_size in zip(ordered["price_id"], *columns, strict=True):
        found.setdefault(price_id, []).append(Tier(up_to, unit_price or 0, flat_fee or 0, package_size))
    return {price_id: Tiers(tiers, flat_at_zero=price_id in flat_at_zero) for price_id, tiers in found.items()}
