"""Which price version applied, and why none of the others did. Rules: docs/how-we-bill.md, "Price version"."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.book.windows import hours_of_the_week
from ratemill.insight.explain.arithmetic import Tier, divided
from ratemill.money import PRICE_DECIMALS, ZERO
from ratemill.tables.book import PUBLIC_PRICE_LIST
from ratemill.tables.usage import ATTRIBUTE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratemill.book.model import Book

_EVER = datetime.min.replace(tzinfo=UTC)
_MINUTES_OF_A_DAY = 24 * 60


@dataclass(frozen=True)
class Version:
    """A price version of the book."""

    price_id: str
    price_list: str
    sku_id: str
    currency: str
    valid_from: datetime | None
    valid_to: datetime | None
    conditions: tuple[tuple[str, str], ...]
    """Column (region, window, ``attr.*``) and value, of those that are filled in."""
    mode: str
    scope: str
    tiers: tuple[Tier, ...]
    cap: Decimal | None
    minimum: Decimal | None
    flat_at_zero: bool
    tier_reset: bool
    run: int
    """Versions of one run count their tiers together."""
    place: int
    """Order within the versions of one list, SKU, currency and set of conditions."""

    @property
    def has_limit(self) -> bool:
        """Whether a resource's month has a cap or a minimum."""
        return self.cap is not None or self.minimum is not None

    @property
    def flat_price(self) -> Decimal | None:
        """The unit price where every quantity costs it, whatever the mode is called."""
        return self.tiers[0].unit_price if self.mode == "per_unit" else None


def versions_of(book: Book, sku_id: str) -> dict[str, Version]:
    """price_id → version, of every price of a SKU."""
    names = book.price_conditions
    rows = book.prices.filter(pl.col("sku_id") == sku_id).sort("price_id", "up_to", nulls_last=True)
    tiers = [list(tiers) for _, tiers in groupby(rows.iter_rows(named=True), key=lambda row: row["price_id"])]

    def track(first: Mapping[str, object]) -> tuple[str, ...]:
        shared = (first[name] for name in ("price_list", "currency", *names))
        return tuple("" if value is None else f"={value}" for value in shared)

    found: dict[str, Version] = {}
    run = 0
    tiers.sort(key=lambda rows: (track(rows[0]), rows[0]["valid_from"] or _EVER))
    for _, versions in groupby(tiers, key=lambda rows: track(rows[0])):
        for place, (first, *more) in enumerate(versions):
            run += place == 0 or first["tier_reset"]
            conditions = tuple((name, first[name]) for name in names if first[name] is not None)
            found[first["price_id"]] = Version(
                tiers=_tiers([first, *more]), conditions=conditions, run=run, place=place,
                **{name: first[name] for name in _OF_FIRST_TIER},
            )  # fmt: skip
    return found


_OF_FIRST_TIER = ("price_id", "price_list", "sku_id", "currency", "valid_from", "valid_to", "mode", "scope", "cap",
                  "minimum", "flat_at_zero", "tier_reset")  # fmt: skip


def _tiers(rows: Sequence[Mapping[str, Decimal | None]]) -> tuple[Tier, ...]:
    tiers = []
    lower = ZERO
    for row in rows:
        tiers.append(Tier(lower, row["up_to"], row["unit_price"] or ZERO, row["flat_fee"] or ZERO, row["package_size"]))
        lower = row["up_to"] or lower
    return tuple(tiers)


# --------------------------------------------------------------------------------------------------------- candidates


@dataclass(frozen=True)
class Sought:
    """What a price was looked for with."""

    instant: datetime
    """UTC."""
    zone: str
    """Of the account that pays: of windows and of the day of an exchange rate."""
    lists: tuple[str, ...]
    """Price lists in the order they are searched, the public one included."""
    currency: str
    region: str | None
    attributes: Mapping[str, str] | None
    """What the meter says; none where the usage of then is no longer there."""
    windows: frozenset[str] = field(default=frozenset())
    """Those that hold at the instant."""

    @property
    def day(self) -> date:
        """The local day."""
        return self.instant.astimezone(ZoneInfo(self.zone)).date()


@dataclass(frozen=True)
class Candidate:
    """A price version, and what became of it in the search."""

    version: Version
    applies: bool
    verdict: str
    """Why it lost, in words; of the one that won: why it did."""
    won: bool = False


def lists_of(book: Book, account_id: str, billing_account_id: str) -> tuple[tuple[str, ...], str]:
    """The lists that are searched for an account, in order, and whose they are: its own, its payer's, or nobody's."""
    named = dict(book.accounts.select("account_id", "price_lists").iter_rows())
    for owner, whose in ((account_id, f"account {account_id}"), (billing_account_id, f"payer {billing_account_id}")):
        if named.get(owner) is not None:
            lists = tuple(named[owner].split())
            return lists if PUBLIC_PRICE_LIST in lists else (*lists, PUBLIC_PRICE_LIST), whose
    return (PUBLIC_PRICE_LIST,), ""


def windows_at(book: Book, instant: datetime, zone: str) -> frozenset[str]:
    """The time windows that a wall clock is in."""
    clock = instant.astimezone(ZoneInfo(zone))
    minute = clock.weekday() * _MINUTES_OF_A_DAY + clock.hour * 60 + clock.minute
    return frozenset(name for name, bits in hours_of_the_week(book.windows).items() if bits >> minute & 1)


def candidates(versions: Mapping[str, Version], sought: Sought, rates: Rates, *, zone: str) -> list[Candidate]:
    """Every version of the SKU with its verdict: the winner, then those it beat, then those that did not apply.

    ``zone``: in which validities are told.
    """
    failed = {name: _why_not(version, sought, rates, zone) for name, version in versions.items()}
    standing = sorted((v for v in versions.values() if failed[v.price_id] is None), key=lambda v: _rank(v, sought))
    found: list[Candidate] = []
    for version in standing:
        if not found:
            found.append(Candidate(version, applies=True, verdict=_won(version, sought, standing), won=True))
        else:
            found.append(Candidate(version, applies=True, verdict=_beaten(version, standing[0], sought)))
    others = (version for version in versions.values() if failed[version.price_id] is not None)
    found += [
        Candidate(version, applies=False, verdict=failed[version.price_id] or "")
        for version in sorted(others, key=lambda v: _nearness(v, sought))
    ]
    return found


def _list_rank(version: Version, sought: Sought) -> int:
    return sought.lists.index(version.price_list) if version.price_list in sought.lists else len(sought.lists)


def _rank(version: Version, sought: Sought) -> tuple[int, bool, int, str]:
    return (_list_rank(version, sought), version.currency != sought.currency, -len(version.conditions),
            version.currency)  # fmt: skip


def _nearness(version: Version, sought: Sought) -> tuple[bool, int, str, tuple[tuple[str, str], ...], str]:
    """Of versions that do not apply, those in the right currency come first."""
    return (version.currency != sought.currency, _list_rank(version, sought), version.currency, version.conditions,
            version.price_id)  # fmt: skip


def _why_not(version: Version, sought: Sought, rates: Rates, zone: str) -> str | None:
    """Why a version does not apply; None where it does."""
    if version.price_list not in sought.lists:
        return f"list {version.price_list} is not searched for this account"
    if version.valid_from is not None and sought.instant < version.valid_from:
        return f"not valid before {moment(version.valid_from, zone)}"
    if version.valid_to is not None and sought.instant >= version.valid_to:
        return f"no longer valid from {moment(version.valid_to, zone)} on"
    failed = next((_condition(name, wanted) for name, wanted in version.conditions if not _holds(name, wanted, sought)),
                  None)  # fmt: skip
    if failed is not None or version.currency == sought.currency:
        return failed
    known = rates.find(version.currency, sought.currency, sought.day)
    return None if known else f"in {version.currency}, and no exchange rate to {sought.currency} by that day"


def _holds(name: str, wanted: str, sought: Sought) -> bool:
    """Whether a condition of a price holds; an attribute that is not known any more is taken to."""
    if name == "region":
        return wanted == sought.region
    if name == "window":
        return wanted in sought.windows
    return sought.attributes is None or sought.attributes.get(name.removeprefix(ATTRIBUTE_PREFIX)) == wanted


def _condition(name: str, wanted: str) -> str:
    if name == "window":
        return f"outside of the hours of {wanted}"
    return f"for {'region' if name == 'region' else name} {wanted} only"


def _won(version: Version, sought: Sought, standing: Sequence[Version]) -> str:
    reasons = []
    lists = {other.price_list for other in standing}
    if len(lists) > 1:
        reasons.append(f"list {version.price_list} comes first")
    same_list = [other for other in standing if other.price_list == version.price_list]
    if any(len(other.conditions) < len(version.conditions) for other in same_list):
        reasons.append("most conditions of its list")
    if version.currency != sought.currency:
        reasons.append(f"none in {sought.currency} on its list: converted")
    if not reasons:
        reasons.append("the only one that applies" if len(standing) == 1 else f"in {sought.currency}")
    return "applies: " + ", ".join(reasons)


def _beaten(version: Version, winner: Version, sought: Sought) -> str:
    if version.price_list != winner.price_list:
        return f"list {version.price_list} comes after {winner.price_list}"
    if (version.currency != sought.currency) != (winner.currency != sought.currency):
        return f"in {version.currency}; prices in {sought.currency} come first"
    if len(version.conditions) < len(winner.conditions):
        fewer = len(version.conditions)
        return f"fewer conditions ({fewer or 'none'} against {len(winner.conditions)})"
    return f"{version.currency} comes after {winner.currency}"


# ------------------------------------------------------------------------------------------------------ exchange rates


@dataclass(frozen=True)
class Rate:
    """An exchange rate as it was used."""

    value: Decimal
    day: date
    """Of the row of fx_rates."""
    written: str
    """``1 EUR = 0.94 CHF``, as the book has it."""
    source: str
    is_inverse: bool


class Rates:
    """The exchange rates of a book."""

    def __init__(self, fx_rates: pl.DataFrame) -> None:
        self._rows: dict[tuple[str, str], list[tuple[date, Decimal, str]]] = {}
        for row in fx_rates.sort("date").iter_rows(named=True):
            rows = self._rows.setdefault((row["base"], row["quote"]), [])
            rows.append((row["date"], row["rate"], row["source"]))

    def find(self, currency: str, to: str, day: date) -> Rate | None:
        """What one ``currency`` is worth: of the day, else the latest before; turned round only where none is straight.

        No third currency is gone through.
        """
        for pair, is_inverse in (((currency, to), False), ((to, currency), True)):
            known = [row for row in self._rows.get(pair, []) if row[0] <= day]
            if known:
                rated, rate, source = known[-1]
                value = divided(Decimal(1), rate, PRICE_DECIMALS) if is_inverse else rate
                return Rate(value, rated, f"1 {pair[0]} = {rate.normalize():f} {pair[1]}", source, is_inverse)
        return None


def moment(instant: datetime, zone: str) -> str:
    """An instant as a person of the zone writes it: the day alone where it is its midnight."""
    local = instant.astimezone(ZoneInfo(zone))
    return f"{local:%Y-%m-%d}" if (local.hour, local.minute, local.second) == (0, 0, 0) else f"{local:%Y-%m-%d %H:%M}"


def validity(version: Version, zone: str) -> str:
    """When a version is valid, see :func:`validity_words`."""
    return validity_words(version.valid_from, version.valid_to, zone)


def validity_words(valid_from: datetime | None, valid_to: datetime | None, zone: str) -> str:
    """``2026-01-01 until 2026-10-15``: from the first instant to the first that is not in it; empty ends are open."""
    begins, ends = (None if end is None else moment(end, zone) for end in (valid_from, valid_to))
    if begins is None and ends is None:
        return "always"
    if begins is None:
        return f"until {ends}"
    return f"from {begins}" if ends is None else f"{begins} until {ends}"


def condition_text(version: Version) -> str:
    """``region eu-west, window night``; empty where there is none."""
    return ", ".join(f"{name} {value}" for name, value in version.conditions)
