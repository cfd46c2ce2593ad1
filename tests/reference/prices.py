"""Which price a record gets: the lists in order, the most specific row, the account's currency."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from reference.exact import exactly, half_even
from reference.model import PUBLIC, Account, Book, BookError, FxRate, PriceTier, Usage, Window
from reference.tiers import Tier, graduated, tiers_are_valid, volume

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable
    from decimal import Decimal

NO_PRICE = "no_price"
NO_EXCHANGE_RATE = "no_exchange_rate"
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class PriceVersion:
    """A price version: what its rows agree on, and its tiers in order."""

    row: PriceTier
    tiers: tuple[Tier, ...]

    @property
    def price_id(self) -> str:
        return self.row.price_id

    @property
    def conditions(self) -> int:
        """How specific it is: how many of region, window and attributes it asks for."""
        return (self.row.region is not None) + (self.row.window is not None) + len(self.row.attributes)

    @property
    def track(self) -> Hashable:
        """What its earlier and later versions share: list, SKU, currency and every condition.

        Only along a track do tiers go on counting over a price change. A price of another list, region, window or
        attribute counts for itself.
        """
        row = self.row
        attributes = tuple(sorted(row.attributes.items()))
        return (row.price_list, row.sku_id, row.currency, row.region, row.window, attributes)

    @property
    def unit_price(self) -> Decimal | None:
        """The price of one pricing unit, where there is just one: a single tier, no flat fee, no packages."""
        only = self.tiers[0]
        plain = len(self.tiers) == 1 and only.flat_fee == 0 and only.package_size is None
        return only.unit_price if plain else None

    def cost(self, quantity: Decimal) -> Decimal:
        """F(Q) of this version, for the two tiered modes."""
        function = {"graduated": graduated, "volume": volume}[self.row.mode]
        return function(self.tiers, quantity, flat_at_zero=self.row.flat_at_zero)


@dataclass(frozen=True)
class Quote:
    """The price that applies to a record, and how its currency becomes the account's."""

    version: PriceVersion
    exchange_rate: Decimal | None

    def converted_unit_price(self) -> Decimal | None:
        """Unit price in the billing account's currency, half-even at 12 places."""
        price = self.version.unit_price
        if price is None or self.exchange_rate is None:
            return price
        return _times(price, self.exchange_rate, 12)

    def converted_cost(self, cost: Decimal) -> Decimal:
        """A cost in the billing account's currency, half-even at 18 places."""
        return cost if self.exchange_rate is None else _times(cost, self.exchange_rate, 18)


@exactly
def _times(value: Decimal, rate: Decimal, places: int) -> Decimal:
    return half_even(value * rate, places)


def price_versions(rows: Iterable[PriceTier]) -> list[PriceVersion]:
    """Rows of one price_id become one version, tiers in order of their bounds.

    Raises:
        BookError: for tiers that do not rise to one open end, or a per_unit price with tiers, fees or packages.
    """
    by_id: dict[str, list[PriceTier]] = defaultdict(list)
    for row in rows:
        by_id[row.price_id].append(row)
    versions = []
    for price_id, group in by_id.items():
        group.sort(key=lambda row: (row.up_to is None, row.up_to or 0))
        tiers = tuple(
            Tier(up_to=r.up_to, unit_price=r.unit_price, flat_fee=r.flat_fee, package_size=r.package_size)
            for r in group
        )
        version = PriceVersion(group[0], tiers)
        if not tiers_are_valid(tiers) or (group[0].mode == "per_unit" and version.unit_price is None):
            raise BookError(f"the tiers of price {price_id} are no {group[0].mode} price")
        versions.append(version)
    return versions


def runs(versions: Iterable[PriceVersion]) -> dict[str, tuple[int, int]]:
    """price_id → (run, place in the track). Versions of one run count their tiers together.

    A track's versions in time order form one run, except that a version with ``tier_reset`` starts the next one.

    Raises:
        BookError: when two versions of one track overlap in time.
    """
    tracks: dict[Hashable, list[PriceVersion]] = defaultdict(list)
    for version in versions:
        tracks[version.track].append(version)
    found: dict[str, tuple[int, int]] = {}
    run = 0
    for track in tracks.values():
        track.sort(key=lambda version: (version.row.valid_from is not None, version.row.valid_from or 0))
        for former, latter in pairwise(track):
            end, start = former.row.valid_to, latter.row.valid_from
            if end is None or start is None or end > start:
                raise BookError(f"prices {former.price_id} and {latter.price_id} overlap")
        run += 1
        for place, version in enumerate(track):
            if version.row.tier_reset and place:
                run += 1
            found[version.price_id] = (run, place)
    return found


def in_window(windows: Iterable[Window], name: str, local: datetime) -> bool:
    """Whether a local wall-clock time lies in a window.

    Only the clock on the wall counts: on the day the clocks go back, an hour that comes twice is in the window twice;
    on the day they go forward, a missing hour is in none. A window over midnight is two rows, so from_time lies
    before to_time.
    """
    minute = local.hour * 60 + local.minute
    return any(
        row.window == name
        and _WEEKDAYS[local.weekday()] in row.days.split()
        and _minutes(row.from_time) <= minute < _minutes(row.to_time)
        for row in windows
    )


def _minutes(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def applies(version: PriceVersion, record: Usage, local: datetime, windows: Iterable[Window]) -> bool:
    """Whether a price version is for this record, its currency aside: SKU, dates, region, attributes, window."""
    row = version.row
    return (
        row.sku_id == record.sku_id
        and (row.valid_from is None or row.valid_from <= record.usage_start)
        and (row.valid_to is None or record.usage_start < row.valid_to)
        and (row.region is None or row.region == record.region)
        and all(record.attributes.get(name) == value for name, value in row.attributes.items())
        and (row.window is None or in_window(windows, row.window, local))
    )


def price_lists(account: Account, payer: Account) -> list[str]:
    """Lists to search, in order: the account's own, else its payer's; the public one last unless already named."""
    named = list(account.price_lists or payer.price_lists)
    return named if PUBLIC in named else [*named, PUBLIC]


def find_price(
    book: Book, versions: Iterable[PriceVersion], record: Usage, *, lists: Iterable[str], local: datetime, currency: str
) -> Quote | str:
    """The price of a record, or the reason why there is none.

    A row is searched when its currency is the account's, or one that the book converts: it has a rate between the two,
    of whatever date. So in a book without exchange rates only rows in the account's currency count.

    The first list with any such row that applies decides; later lists are not looked at. In it, rows in the account's
    currency come before all others, whatever their conditions; among those the row with the most conditions wins.
    Only a list without a row in the account's currency is converted: its most specific row, of equals the one whose
    currency has a rate by that day, then the first currency code. If none has a rate by that day the usage is unpriced:
    the next list's price would be a wrong one.

    Raises:
        BookError: when two rows of one currency are equally specific.
    """
    for name in lists:
        here = [
            version
            for version in versions
            if version.row.price_list == name
            and applies(version, record, local, book.windows)
            and (version.row.currency == currency or _is_converted(book, version.row.currency, currency))
        ]
        if not here:
            continue
        own = [version for version in here if version.row.currency == currency]
        if own:
            return Quote(_only(_most_specific(own)), None)
        return _foreign(book, _most_specific(here), local.date(), currency)
    return NO_PRICE


def _is_converted(book: Book, one: str, other: str) -> bool:
    return any({rate.base, rate.quote} == {one, other} for rate in book.fx_rates)


def _foreign(book: Book, rows: list[PriceVersion], day: date, currency: str) -> Quote | str:
    for code in sorted({version.row.currency for version in rows}):
        rate = exchange_rate(book.fx_rates, code, currency, day)
        if rate is not None:
            return Quote(_only([version for version in rows if version.row.currency == code]), rate)
    return NO_EXCHANGE_RATE


def _most_specific(versions: list[PriceVersion]) -> list[PriceVersion]:
    most = max(version.conditions for version in versions)
    return [version for version in versions if version.conditions == most]


def _only(versions: list[PriceVersion]) -> PriceVersion:
    if len(versions) > 1:
        raise BookError("prices overlap: " + ", ".join(sorted(version.price_id for version in versions)))
    return versions[0]


@exactly
def exchange_rate(rates: Iterable[FxRate], base: str, quote: str, day: date) -> Decimal | None:
    """What one ``base`` is worth in ``quote`` on a local day; None if no rate is known by then.

    The rate of the day, else the latest earlier one. Rates written base → quote come first; only where there is none
    by that day, quote → base is turned round, half-even at 12 places. No third currency is gone through.

    Where it is used: tiers, caps and minimums are computed in the price's currency, and each charge's cost is then
    converted at the rate of the charge's local day, half-even at 18 places. The charge records the rate.
    """
    known = [rate for rate in rates if rate.date <= day]
    straight = [rate for rate in known if (rate.base, rate.quote) == (base, quote)]
    turned = [rate for rate in known if (rate.base, rate.quote) == (quote, base)]
    if straight:
        return max(straight, key=lambda rate: rate.date).rate
    if turned:
        return half_even(1 / max(turned, key=lambda rate: rate.date).rate, 12)
    return None


def hour_of_month(start: datetime, instant: datetime) -> int:
    """Number of the real hour of the month that an instant lies in, from 0 at the month's first instant."""
    return (instant - start) // timedelta(hours=1)
