"""From usage to charges, in the order of "How we bill": quantity, price, tiers, price changes, caps and minimums."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from reference.exact import COST_PLACES, QUANTITY_PLACES, ZERO, exactly, half_even, shares, to_cost, to_quantity, total
from reference.invoicing import invoice_month
from reference.lines import invoice_id
from reference.model import (
    PUBLIC,
    Account,
    Bill,
    Book,
    Charge,
    Sku,
    Unpriced,
    Usage,
    World,
    month_end,
    month_hours,
    month_start,
)
from reference.prices import PriceVersion, Quote, find_price, hour_of_month, price_lists, price_versions, runs
from reference.quantity import aggregate, billable, deduplicate, pricing_quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence
    from datetime import date, datetime
    from decimal import Decimal

# Who pays, and when it was there -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placed:
    """A record with the account it belongs to, the account that pays, and its place in the local month."""

    record: Usage
    account: Account
    payer: Account
    zone: str
    local: datetime
    hour: int

    @property
    def series(self) -> Hashable:
        """What hours are aggregated over."""
        record = self.record
        return (
            self.payer.account_id,
            self.account.account_id,
            record.project_id,
            record.resource_id,
            record.sku_id,
            record.region,
            record.tags_text,
        )


def account_of(book: Book, record: Usage) -> Account:
    """The account its project belonged to when the record started; without such a project its own."""
    for project in book.projects:
        if (
            project.project_id == record.project_id
            and (project.valid_from is None or project.valid_from <= record.usage_start)
            and (project.valid_to is None or record.usage_start < project.valid_to)
        ):
            return book.account(project.account_id)
    return book.account(record.account_id)


def place(world: World, record: Usage) -> Placed | None:
    """The record in its payer's local month; None when it belongs to another month.

    A record belongs to the month, the local day and the hour that its usage_start lies in, however long it lasts.
    """
    account = account_of(world.book, record)
    payer = world.book.payer_of(account)
    zone = payer.time_zone or world.time_zone
    start = month_start(world.period, zone)
    if not start <= record.usage_start < month_end(world.period, zone):
        return None
    local = record.usage_start.astimezone(ZoneInfo(zone))
    return Placed(record, account, payer, zone, local, hour_of_month(start, record.usage_start))


# Charges in the making -----------------------------------------------------------------------------------------------


@dataclass
class Draft:
    """A usage charge in the making: records of one resource, day and price, with its two prices."""

    placed: list[Placed]
    sku: Sku
    price: Quote
    list_price: Quote | None
    run: tuple[int, int]
    list_run: tuple[int, int]
    billable: Decimal = ZERO
    pricing_quantity: Decimal = ZERO
    cost: Decimal = ZERO
    """In the currency of the price that applied."""
    list_cost: Decimal | None = None
    """In the currency of the public price."""
    hour: int = 0
    """Real hour of the month (from its first instant) where charges are hourly; else 0."""

    @property
    def first(self) -> Placed:
        return self.placed[0]

    @property
    def moment(self) -> tuple[date, int]:
        """What tiers are counted by: the local day, or the hour where charges are hourly."""
        return (self.first.local.date(), self.hour)

    @property
    def start(self) -> datetime:
        return min(placed.record.usage_start for placed in self.placed)

    @property
    def end(self) -> datetime:
        return max(placed.record.end for placed in self.placed)

    @property
    def resource_name(self) -> str | None:
        """The name on the latest usage_start; the greatest of several there, any name before none."""
        latest = max(placed.record.usage_start for placed in self.placed)
        names = [placed.record.resource_name for placed in self.placed if placed.record.usage_start == latest]
        return max(names, key=lambda name: (name is not None, name or ""))

    @property
    def metered(self) -> Decimal:
        return total([placed.record.quantity for placed in self.placed])

    def entity(self, scope: str) -> tuple[str | None, ...]:
        """Whose tiers it counts in. Usage outside of any project (or resource) counts as one project (resource).

        A resource is (billing account, account, project, resource, region): caps and minimums use the same.
        """
        account, record = self.first.account.account_id, self.first.record
        key = (self.first.payer.account_id, account, record.project_id, record.resource_id, record.region)
        return {"account": key[:1], "project": key[:3], "resource": key}[scope]

    def charge(self, world: World) -> Charge:
        """The finished row, money in the payer's currency."""
        placed, payer = self.first, self.first.payer
        listed = self.list_price
        cost = self.price.converted_cost(self.cost)
        return Charge(
            period=world.period,
            billing_account_id=payer.account_id,
            account_id=placed.account.account_id,
            project_id=placed.record.project_id,
            resource_id=placed.record.resource_id,
            resource_name=self.resource_name,
            sku_id=self.sku.sku_id,
            region=placed.record.region,
            tags=placed.record.tags_text,
            charge_start=self.start,
            charge_end=self.end,
            charge_kind="usage",
            price_id=self.price.version.price_id,
            list_price_id=listed.version.price_id if listed else None,
            usage_quantity=self.metered,
            usage_unit=self.sku.usage_unit,
            pricing_quantity=self.pricing_quantity,
            pricing_unit=self.sku.pricing_unit,
            currency=payer.currency,
            list_unit_price=listed.converted_unit_price() if listed else None,
            contracted_unit_price=self.price.converted_unit_price(),
            list_cost=listed.converted_cost(self.list_cost or ZERO) if listed else None,
            contracted_cost=cost,
            cost=cost,
            invoice_id=invoice_id(world.period, payer.account_id, payer.currency),
            local_day=placed.local.date(),
            price_currency=self.price.version.row.currency,
            exchange_rate=self.price.exchange_rate,
            list_exchange_rate=listed.exchange_rate if listed else None,
        )


@dataclass(frozen=True)
class Side:
    """One of the two prices of every charge: the one that applied, or the public one. Both are computed alike."""

    price: Callable[[Draft], Quote | None]
    run: Callable[[Draft], tuple[int, int]]
    cost: Callable[[Draft], Decimal]

    def groups(self, drafts: Iterable[Draft]) -> list[list[Draft]]:
        """Charges of one billing account under one run of price versions."""
        found: dict[Hashable, list[Draft]] = defaultdict(list)
        for draft in drafts:
            if self.price(draft) is not None:
                found[draft.first.payer.account_id, self.run(draft)[0]].append(draft)
        return list(found.values())

    def versions(self, drafts: Iterable[Draft]) -> list[tuple[PriceVersion, list[Draft]]]:
        """Charges by price version, versions in time order."""
        found: dict[int, list[Draft]] = defaultdict(list)
        for draft in drafts:
            found[self.run(draft)[1]].append(draft)
        ordered = []
        for _, mine in sorted(found.items()):
            quote = self.price(mine[0])
            assert quote is not None
            ordered.append((quote.version, mine))
        return ordered


CONTRACTED = Side(lambda draft: draft.price, lambda draft: draft.run, lambda draft: draft.cost)
LISTED = Side(lambda draft: draft.list_price, lambda draft: draft.list_run, lambda draft: draft.list_cost or ZERO)


# The month -----------------------------------------------------------------------------------------------------------


@exactly
def rate_month(world: World) -> Bill:
    """Everything a month's bill says, record by record."""
    kept, copies, conflicts = deduplicate(world.usage)
    month = [placed for placed in (place(world, record) for record in kept) if placed is not None]
    drafts, unpriced = _priced(world, month)
    set_quantities(world, month, drafts)
    for draft, cost in tier_costs(drafts, CONTRACTED):
        draft.cost = cost
    for draft, cost in tier_costs(drafts, LISTED):
        draft.list_cost = cost
    charges = [draft.charge(world) for draft in drafts] + caps_and_minimums(world, drafts)
    invoiced = invoice_month(world, charges)
    return Bill(
        charges=tuple(sorted([*charges, *invoiced.charges], key=lambda charge: charge.order)),
        unpriced=tuple(unpriced),
        invoices=tuple(invoiced.invoices),
        lines=tuple(invoiced.lines),
        deductions=tuple(invoiced.deductions),
        tax_lines=tuple(invoiced.tax_lines),
        credits=tuple(invoiced.credits),
        commitments=tuple(invoiced.commitments),
        accepted=tuple(placed.record for placed in month),
        copies=tuple(copies),
        conflicts=tuple(conflicts),
    )


def _priced(world: World, month: Sequence[Placed]) -> tuple[list[Draft], list[Unpriced]]:
    """Each record's price; records of one charge together, in key order; the rest as unpriced usage.

    Grain of a charge: series, local day (or hour), price, public price.
    """
    book = world.book
    versions = price_versions(book.prices)
    place_in_run = runs(versions)
    groups: dict[Hashable, Draft] = {}
    without: dict[tuple[str, str, str, str | None, str], list[Placed]] = defaultdict(list)
    for placed in month:
        record, payer = placed.record, placed.payer
        lists = price_lists(placed.account, payer)
        price = find_price(book, versions, record, lists=lists, local=placed.local, currency=payer.currency)
        if isinstance(price, str):
            key = (payer.account_id, placed.account.account_id, record.sku_id, record.region, price)
            without[key].append(placed)
            continue
        public = find_price(book, versions, record, lists=[PUBLIC], local=placed.local, currency=payer.currency)
        listed = public if isinstance(public, Quote) else None
        list_id = listed.version.price_id if listed else None
        hour = placed.hour if world.detail == "hour" else 0
        grain = (placed.series, placed.local.date(), hour, price.version.price_id, list_id)
        if grain not in groups:
            list_run = place_in_run[listed.version.price_id] if listed else (-1, -1)
            groups[grain] = Draft(
                [], book.sku(record.sku_id), price, listed, place_in_run[price.version.price_id], list_run
            )
            groups[grain].hour = hour
        groups[grain].placed.append(placed)
    drafts = sorted(groups.values(), key=lambda draft: draft.charge(world).order)
    return drafts, [_unpriced(book, key, rows) for key, rows in sorted(without.items(), key=_nulls_first)]


def _nulls_first(item: tuple[tuple[str | None, ...], list[Placed]]) -> list[tuple[bool, str]]:
    return [(value is not None, value or "") for value in item[0]]


def _unpriced(book: Book, key: tuple[str, str, str, str | None, str], rows: Sequence[Placed]) -> Unpriced:
    payer, account, sku_id, region, reason = key
    return Unpriced(
        billing_account_id=payer,
        account_id=account,
        sku_id=sku_id,
        region=region,
        first_usage=min(placed.record.usage_start for placed in rows),
        last_usage=max(placed.record.end for placed in rows),
        quantity=total([placed.record.quantity for placed in rows]),
        usage_unit=book.sku(sku_id).usage_unit,
        records=len(rows),
        reason=reason,
    )


@exactly
def set_quantities(world: World, month: Sequence[Placed], drafts: Sequence[Draft]) -> None:
    """Pricing quantities: a sum charge by charge, any other aggregation by series (see ``quantity.aggregate``)."""
    every: dict[Hashable, list[Placed]] = defaultdict(list)
    for placed in month:
        every[placed.series].append(placed)
    charged: dict[Hashable, list[Draft]] = defaultdict(list)
    for draft in drafts:
        draft.billable = total([billable(placed.record, draft.sku) for placed in draft.placed])
        charged[draft.first.series].append(draft)
    for series, mine in charged.items():
        sku, hours = mine[0].sku, month_hours(world.period, mine[0].first.zone)
        if sku.aggregation == "sum":
            for draft in mine:
                draft.pricing_quantity = pricing_quantity(draft.billable, sku, hours)
            continue
        by_hour: dict[int, Decimal] = defaultdict(lambda: ZERO)
        for placed in every[series]:
            by_hour[placed.hour] += billable(placed.record, sku)
        everything = total(list(by_hour.values()))
        whole = pricing_quantity(aggregate(by_hour, sku.aggregation, hours), sku, hours)
        weights = [draft.billable for draft in mine]
        priced = to_quantity(whole * total(weights) / everything) if everything else whole
        for draft, part in zip(mine, shares(priced, weights, QUANTITY_PLACES), strict=True):
            draft.pricing_quantity = part


# Tiers ---------------------------------------------------------------------------------------------------------------


@exactly
def tier_costs(drafts: Sequence[Draft], side: Side) -> list[tuple[Draft, Decimal]]:
    """The cost of each charge on one side, in the currency of that side's price.

    - per_unit: quantity × unit price, half-even at 18 places, charge by charge.
    - graduated: charges of one version and scope, day by day (or hour): F(counted after) minus F(counted before), shared
      inside the day pro rata to quantity. Counting begins with the run: earlier versions of the run, of whatever mode,
      have counted already, by this version's scope.
    - volume: the version's part of what the run's whole month costs under it: F(month) × part ÷ month, shared over its
      charges pro rata to quantity. So an unchanged price that is written as two versions changes no bill, and neither
      a flat fee nor a started package is due twice.
    Every sharing is at 18 places with the remainder on the largest charge, ties by key order.
    """
    found: list[tuple[Draft, Decimal]] = []
    for run in side.groups(drafts):
        counted: list[Draft] = []
        for version, mine in side.versions(run):
            scope = version.row.scope
            for entity in dict.fromkeys(draft.entity(scope) for draft in mine):
                here = [draft for draft in mine if draft.entity(scope) == entity]
                before = [draft for draft in counted if draft.entity(scope) == entity]
                match version.row.mode:
                    case "per_unit":
                        price = version.tiers[0].unit_price
                        found += [(draft, to_cost(draft.pricing_quantity * price)) for draft in here]
                    case "graduated":
                        found += _graduated(version, here, before)
                    case _:
                        found += _volume(version, here, before, [d for d in run if d.entity(scope) == entity])
            counted += mine
    return found


def _quantity(drafts: Iterable[Draft]) -> Decimal:
    return total([draft.pricing_quantity for draft in drafts])


def _graduated(version: PriceVersion, here: Sequence[Draft], before: Sequence[Draft]) -> list[tuple[Draft, Decimal]]:
    """Time-ordered: each day pays what it adds. Where nothing was counted before, not even zero, the start is 0."""
    count = _quantity(before)
    paid = version.cost(count) if before else ZERO
    found: list[tuple[Draft, Decimal]] = []
    for moment in sorted({draft.moment for draft in here}):
        now = [draft for draft in here if draft.moment == moment]
        count += _quantity(now)
        due = version.cost(count)
        found += _shared(due - paid, now)
        paid = due
    return found


def _volume(
    version: PriceVersion, here: Sequence[Draft], before: Sequence[Draft], month: Sequence[Draft]
) -> list[tuple[Draft, Decimal]]:
    """Its part of the whole month at this version's prices. Of a month of zeros only the first version is due."""
    quantity = _quantity(month)
    whole = version.cost(quantity)
    if quantity == 0:
        return _shared(ZERO if before else whole, here)
    return _shared(half_even(whole * _quantity(here) / quantity, COST_PLACES), here)


def _shared(amount: Decimal, drafts: Sequence[Draft]) -> list[tuple[Draft, Decimal]]:
    weights = [draft.pricing_quantity for draft in drafts]
    return list(zip(drafts, shares(amount, weights, COST_PLACES), strict=True))


# Caps and minimums ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """What a cap takes back (below 0) or a minimum adds, on the charge it is anchored to."""

    kind: str
    anchor: Draft
    amount: Decimal
    """In the payer's currency."""


@exactly
def differences(drafts: Sequence[Draft], side: Side) -> list[Difference]:
    """What caps and minimums change on one side, per resource and month.

    They count over a run of versions as tiers do, so that a price change inside the month brings no second cap:
    a version's charges cost at most its cap less what the run's earlier versions came to (and never less than 0).
    The minimum is the one of the run's last version with charges, against what the run came to; it is due where
    anything was metered, and a quantity of 0 is no usage. Both are computed in the price's currency. A cap takes back
    the same part of each charge, so it is converted at the rate those came to; a minimum is converted at the rate of
    the charge it is anchored to: the resource's last one under that version.
    """
    found: list[Difference] = []
    for run in side.groups(drafts):
        for entity in dict.fromkeys(draft.entity("resource") for draft in run):
            mine = [draft for draft in run if draft.entity("resource") == entity]
            found += _differences_of_resource(side.versions(mine), side)
    return found


def _differences_of_resource(versions: list[tuple[PriceVersion, list[Draft]]], side: Side) -> list[Difference]:
    found: list[Difference] = []
    net = ZERO
    for version, mine in versions:
        cost = total([side.cost(draft) for draft in mine])
        allowed = cost if version.row.cap is None else min(cost, max(ZERO, version.row.cap - net))
        if allowed < cost:
            converted = total([_converted(side, draft, side.cost(draft)) for draft in mine])
            back = converted if allowed == 0 else to_cost(converted * (cost - allowed) / cost)
            found.append(Difference("cap", _last(mine), -back))
        net += allowed
    version, mine = versions[-1]
    used = any(draft.metered > 0 for _, drafts in versions for draft in drafts)
    if version.row.minimum is not None and used and net < version.row.minimum:
        anchor = _last(mine)
        found.append(Difference("minimum", anchor, _converted(side, anchor, version.row.minimum - net)))
    return found


def _converted(side: Side, draft: Draft, amount: Decimal) -> Decimal:
    quote = side.price(draft)
    assert quote is not None
    return quote.converted_cost(amount)


def _last(drafts: Sequence[Draft]) -> Draft:
    """The charge with the latest start; of several the last in key order (drafts are in key order)."""
    return max(enumerate(drafts), key=lambda item: (item[1].start, item[0]))[1]


def caps_and_minimums(world: World, drafts: Sequence[Draft]) -> list[Charge]:
    """Charge rows of kind cap and minimum: one per anchor and kind, with the difference of either side.

    A row repeats its anchor (account to tags, start, end, prices) without quantities and unit prices. Where only one
    side has a difference the other is 0; list_cost is null where the anchor has no public price.
    """
    amounts: dict[tuple[int, str], dict[str, Decimal]] = defaultdict(dict)
    anchors = {id(draft): draft for draft in drafts}
    for name, side in (("contracted", CONTRACTED), ("list", LISTED)):
        for difference in differences(drafts, side):
            amounts[id(difference.anchor), difference.kind][name] = difference.amount
    rows = []
    for (anchor_id, kind), sides in amounts.items():
        anchor = anchors[anchor_id]
        changed = {
            "charge_kind": kind,
            "usage_quantity": None,
            "usage_unit": None,
            "pricing_quantity": None,
            "pricing_unit": None,
            "list_unit_price": None,
            "contracted_unit_price": None,
            "list_cost": sides.get("list", ZERO) if anchor.list_price else None,
            "contracted_cost": sides.get("contracted", ZERO),
            "cost": sides.get("contracted", ZERO),
        }
        rows.append(Charge(**(vars(anchor.charge(world)) | changed)))
    return rows
