"""What things cost at an instant: to everybody, and to one account beside what everybody pays.

Pure: a book in, offers out. Which price an account pays is decided by the search that rates its usage
(``rating/prices.py``), so a page never promises what an invoice does not keep.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from itertools import product
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.rating.owners import owners_of
from ratemill.rating.prices import find_prices, price_key
from ratemill.rating.versions import PriceVersions
from ratemill.tables.book import PRICES, PUBLIC_PRICE_LIST
from ratemill.tables.columns import INSTANT, TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from ratemill.book.model import Book

Conditions = tuple[tuple[str, str], ...]
"""What a price is for, as (column, value) in the order of ``Book.price_conditions``: region, window, ``attr.*``."""


@dataclass(frozen=True)
class Tier:
    """One tier of a price version."""

    up_to: Decimal | None
    """Last quantity of the tier; None on the last one."""
    unit_price: Decimal
    flat_fee: Decimal
    package_size: Decimal | None


@dataclass(frozen=True)
class Version:
    """One version of a price."""

    price_id: str
    price_list: str
    sku_id: str
    currency: str
    conditions: Conditions
    valid_from: datetime | None
    valid_to: datetime | None
    mode: str
    scope: str
    cap: Decimal | None
    minimum: Decimal | None
    flat_at_zero: bool
    tier_reset: bool
    tiers: tuple[Tier, ...]

    @property
    def track(self) -> tuple[str, str, str, Conditions]:
        """What earlier and later versions of the same price share."""
        return (self.price_list, self.sku_id, self.currency, self.conditions)

    def status(self, at: datetime) -> str:
        """``past``, ``current`` or ``upcoming`` at an instant."""
        if self.valid_to is not None and self.valid_to <= at:
            return "past"
        return "upcoming" if self.valid_from is not None and self.valid_from > at else "current"


@dataclass(frozen=True)
class Step:
    """What a unit costs within a span of quantity, beside the public price of the same span."""

    above: Decimal
    """The span begins above this quantity: 0 for the first."""
    up_to: Decimal | None
    """Last quantity of the span; None: no end."""
    unit_price: Decimal
    flat_fee: Decimal
    package_size: Decimal | None
    public_unit_price: Decimal | None
    """None: there is none, or the two are sold in ways that no unit can be compared in."""

    @property
    def saving(self) -> Decimal | None:
        """What a unit is cheaper than in public; negative: dearer."""
        return None if self.public_unit_price is None else self.public_unit_price - self.unit_price

    @property
    def saving_percent(self) -> Decimal | None:
        """The saving in percent of the public price, to one decimal; None also where the public price is zero."""
        if self.saving is None or not self.public_unit_price:
            return None
        with localcontext(prec=60):
            return (self.saving * 100 / self.public_unit_price).quantize(Decimal("0.1"), ROUND_HALF_EVEN)


@dataclass(frozen=True)
class Offer:
    """One SKU under one set of conditions: what it costs, cost, and is going to cost."""

    sku_id: str
    conditions: Conditions
    """What usage this is for. The price may ask for less: a price for every region is for each of them."""
    current: Version | None
    """The version that applies; None: the first one is still to come."""
    public: Version | None
    """The public version for the same usage; None: there is none. Of public offers the same as ``current``."""
    exchange_rate: Decimal | None
    """What one unit of the price's currency is worth on the day; None: it is priced in the payer's currency."""
    steps: tuple[Step, ...]
    earlier: tuple[Version, ...]
    """Former versions of the current one, the latest first."""
    later: tuple[Version, ...]
    """Versions to come, the earliest first."""

    @property
    def is_contract(self) -> bool:
        """Whether the price is on a list of the customer's own."""
        return self.current is not None and self.current.price_list != PUBLIC_PRICE_LIST


@dataclass(frozen=True)
class Terms:
    """What decides about an account's prices besides its usage."""

    account_id: str
    currency: str
    time_zone: str
    price_lists: str
    """In the order of search, separated by spaces; the public list comes last by itself."""


def terms_of(book: Book, account_id: str, *, default_zone: str) -> Terms | None:
    """An account's terms: its own price lists, else its payer's; its payer's currency. None: the book has no such."""
    pair = pl.DataFrame({"account_id": [account_id], "project_id": [None]}, schema_overrides={"project_id": TEXT})
    found = owners_of(pair, book.accounts, book.projects, time_zone=default_zone)
    if found.is_empty():
        return None
    row = found.row(0, named=True)
    return Terms(account_id, row["currency"], row["time_zone"], row["price_lists"])


def public_currencies(book: Book) -> list[str]:
    """Currencies that anything is sold in publicly."""
    return book.prices.filter(pl.col("price_list") == PUBLIC_PRICE_LIST)["currency"].unique().sort().to_list()


def public_offers(book: Book, *, currency: str, at: datetime) -> list[Offer]:
    """What is on the public list in a currency at ``at``, or comes onto it later; in order of SKU and conditions."""
    tracks = _tracks(price_versions(book))
    offers = []
    for (price_list, sku_id, listed, conditions), versions in tracks.items():
        if (price_list, listed) != (PUBLIC_PRICE_LIST, currency):
            continue
        current = next((one for one in versions if one.status(at) == "current"), None)
        later = tuple(one for one in versions if one.status(at) == "upcoming")
        if current is not None or later:
            spans = () if current is None else steps(current)
            offers.append(Offer(sku_id, conditions, current, current, None, spans, _earlier(versions, at), later))
    return _in_order(book, offers)


def account_offers(book: Book, terms: Terms, *, at: datetime) -> list[Offer]:
    """What an account pays at ``at`` for every SKU that it has a price for; in order of SKU and conditions.

    There is an offer for each combination of conditions that its lists or the public list tell apart, unless a less
    specific one says the same.
    """
    every = price_versions(book)
    by_id = {one.price_id: one for one in every}
    tracks = _tracks(every)
    offers: dict[tuple[str, Conditions], Offer] = {}
    for row in _applying(book, terms, every, at).iter_rows(named=True):
        conditions = tuple((name, row[f"_{name}"]) for name in book.price_conditions if row[f"_{name}"] is not None)
        current, public = by_id[row["price_id"]], by_id.get(row["list_price_id"] or "")
        comparable = public if public is not None and public.currency == current.currency else None
        versions = tracks[current.track]
        later = tuple(one for one in versions if one.status(at) == "upcoming")
        spans = steps(current, comparable)
        offers[row["sku_id"], conditions] = Offer(
            row["sku_id"], conditions, current, public, row["exchange_rate"], spans, _earlier(versions, at), later
        )
    return _in_order(book, [offer for offer in offers.values() if not _says_nothing_new(offer, offers)])


def price_versions(book: Book) -> list[Version]:
    """Every price version of a book, with its tiers in order."""
    names = book.price_conditions
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in book.prices.sort("price_id", "up_to", nulls_last=True).iter_rows(named=True):
        rows[row["price_id"]].append(row)
    shared = [name for name in PRICES.names if name in Version.__dataclass_fields__]
    tiers = Tier.__dataclass_fields__
    return [
        Version(
            **{name: first[name] for name in shared},
            conditions=tuple((name, first[name]) for name in names if first[name] is not None),
            tiers=tuple(Tier(**{name: row[name] for name in tiers}) for row in (first, *more)),
        )
        for first, *more in rows.values()
    ]


def _tracks(versions: Iterable[Version]) -> dict[tuple[str, str, str, Conditions], list[Version]]:
    """The versions of each price, the earliest first."""
    tracks: dict[tuple[str, str, str, Conditions], list[Version]] = defaultdict(list)
    for one in versions:
        tracks[one.track].append(one)
    for followers in tracks.values():
        followers.sort(key=lambda one: (one.valid_from is not None, one.valid_from, one.price_id))
    return tracks


def _earlier(versions: Sequence[Version], at: datetime) -> tuple[Version, ...]:
    return tuple(one for one in reversed(versions) if one.status(at) == "past")


def _in_order(book: Book, offers: Sequence[Offer]) -> list[Offer]:
    """By SKU as the book lists them; the least specific first."""
    place = {sku_id: number for number, sku_id in enumerate(book.skus["sku_id"])}
    return sorted(
        offers, key=lambda offer: (place.get(offer.sku_id, len(place)), len(offer.conditions), offer.conditions)
    )


def _applying(book: Book, terms: Terms, every: Sequence[Version], at: datetime) -> pl.DataFrame:
    """Per SKU and combination of conditions (``_region``, …) the price_id, list_price_id and exchange_rate."""
    versions = PriceVersions.of(book.prices)
    names = book.price_conditions
    searched = {*terms.price_lists.split(), PUBLIC_PRICE_LIST}
    sets: dict[str, dict[str, set[Conditions]]] = defaultdict(lambda: defaultdict(set))
    for one in every:
        if one.price_list in searched and one.status(at) == "current":
            sets[one.sku_id]["public" if one.price_list == PUBLIC_PRICE_LIST else "own"].add(one.conditions)
    wanted = [
        {"sku_id": sku_id, **{f"_{name}": dict(conditions).get(name) for name in names}}
        for sku_id, of in sorted(sets.items())
        for conditions in sorted(_combined(of["own"], of["public"]))
    ]
    schema = {"sku_id": TEXT, **{f"_{name}": TEXT for name in names}}
    rows = pl.DataFrame(wanted, schema=schema).with_columns(
        price_lists=pl.lit(terms.price_lists),
        currency=pl.lit(terms.currency),
        windows=pl.col("_window").fill_null(""),
        slot_start=pl.lit(at, dtype=INSTANT),
        local_date=pl.lit(at, dtype=INSTANT).dt.convert_time_zone(terms.time_zone).dt.date(),
        **{name: pl.col(f"_{name}") for name in names if name != "window"},
    )
    found = find_prices(rows, versions, book.fx_rates)
    key = [*price_key(versions), "local_date"]
    return rows.join(found, on=key, how="left", nulls_equal=True, validate="m:1", maintain_order="left").filter(
        pl.col("price_id").is_not_null()
    )


def _combined(own: set[Conditions], public: set[Conditions]) -> set[Conditions]:
    """Every set, and what a set of one's own and a public one make together where they don't contradict."""
    together = set()
    for one, other in product(own, public):
        values = dict(one)
        if all(values.get(name, value) == value for name, value in other):
            together.add(tuple(sorted({*one, *other}, key=_condition_order)))
    return own | public | together


def _condition_order(condition: tuple[str, str]) -> tuple[int, str]:
    name = condition[0]
    return ({"region": 0, "window": 1}.get(name, 2), name)


def _says_nothing_new(offer: Offer, offers: dict[tuple[str, Conditions], Offer]) -> bool:
    """Whether an offer with fewer conditions has the same prices, and none in between has others."""
    fewer = [
        other
        for (sku_id, conditions), other in offers.items()
        if sku_id == offer.sku_id and len(conditions) < len(offer.conditions) and {*conditions} < {*offer.conditions}
    ]
    if not fewer:
        return False
    most = max(len(other.conditions) for other in fewer)
    nearest = [other for other in fewer if len(other.conditions) == most]
    return all((other.current, other.public) == (offer.current, offer.public) for other in nearest)


def steps(version: Version, public: Version | None = None) -> tuple[Step, ...]:
    """The tiers of a version, cut where the public one's begin, each with its unit price and the public one."""
    compared = public if public is not None and _can_be_compared(version, public) else None
    bounds = {tier.up_to for tier in version.tiers}
    if compared is not None:
        bounds |= {tier.up_to for tier in compared.tiers}
    ends = [*sorted(bound for bound in bounds if bound is not None), None]
    found = []
    above = Decimal(0)
    for up_to in ends:
        tier, other = _tier_of(version, up_to), None if compared is None else _tier_of(compared, up_to)
        price = None if other is None else other.unit_price
        found.append(Step(above, up_to, tier.unit_price, tier.flat_fee, tier.package_size, price))
        above = above if up_to is None else up_to
    return tuple(found)


def _tier_of(version: Version, quantity: Decimal | None) -> Tier:
    """The tier that a quantity is in; None is without end."""
    if quantity is None:
        return version.tiers[-1]
    return next(tier for tier in version.tiers if tier.up_to is None or quantity <= tier.up_to)


def _can_be_compared(one: Version, other: Version) -> bool:
    """Whether both say what a unit costs, and mean the same unit of the same quantity."""
    if any(tier.flat_fee for tier in (*one.tiers, *other.tiers)):
        return False
    if len({tier.package_size for tier in (*one.tiers, *other.tiers)}) > 1:
        return False
    if len(one.tiers) == 1 or len(other.tiers) == 1:
        return True
    return (one.mode, one.scope) == (other.mode, other.scope)


def change_percent(version: Version, before: Version) -> Decimal | None:
    """By how many percent a version is dearer than the one before, to one decimal.

    None where that is not one number: other tiers, fees or packages, or tiers that changed unevenly.
    """
    shapes = [[(tier.up_to, tier.flat_fee, tier.package_size) for tier in one.tiers] for one in (version, before)]
    if shapes[0] != shapes[1] or version.mode != before.mode:
        return None
    pairs = [(new.unit_price, old.unit_price) for new, old in zip(version.tiers, before.tiers, strict=True)]
    with localcontext(prec=60):
        changes = {
            ((new - old) * 100 / old).quantize(Decimal("0.1"), ROUND_HALF_EVEN)
            for new, old in pairs
            if old and new != old
        }
        unchanged = any(new == old and new for new, old in pairs)
    if any(not old and new for new, old in pairs) or len(changes) > 1 or (changes and unchanged):
        return None
    return changes.pop() if changes else Decimal(0)
