"""Of a usage line: what was metered, and what quantity that is. Rules: docs/how-we-bill.md, "Quantity"."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from ratemill.errors import InvariantError
from ratemill.insight.explain.arithmetic import Operand as Of
from ratemill.insight.explain.arithmetic import (
    Working,
    divided,
    measured,
    must_equal,
    part_of,
    shares,
    shown,
    total,
    work,
)
from ratemill.insight.explain.model import Cell, Column, Step, Table, largest_first
from ratemill.insight.explain.priced import NOTHING, Row, charge_name, clock, counted, resource_name
from ratemill.insight.explain.usage import added_up
from ratemill.money import QUANTITY_DECIMALS, ZERO
from ratemill.tables.book import HOURS_IN_MONTH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratemill.insight.explain.costing import Charge
    from ratemill.insight.explain.priced import Priced
    from ratemill.insight.explain.usage import Metered


# ------------------------------------------------------------------------------------------------------------- 1 usage


def usage_step(priced: Priced, chosen: Sequence[Charge], metered: Metered, *, most: int) -> Step:
    """Records, resources and files."""
    unit = priced.sku["usage_unit"]
    billed = total(charge.row["usage_quantity"] for charge in chosen)
    seen = metered.by_charge
    today = total(seen[charge.number]["quantity"] for charge in chosen if charge.number in seen)
    same = all(
        charge.number in seen and seen[charge.number]["quantity"] == charge.row["usage_quantity"] for charge in chosen
    )
    records = sum(seen[charge.number]["records"] for charge in chosen if charge.number in seen)
    says = []
    if same:
        says.append(f"{counted(records, 'record')} of usage, {shown(billed)} {unit} in all.")
    else:
        says.append(
            f"The usage of today is not what was billed: {shown(today)} {unit} in {counted(records, 'record')} today,"
            f" {shown(billed)} {unit} in the charges that were kept. The figures below are those of the charges."
        )
    if metered.more[0]:
        late = f"{counted(metered.more[0], 'record')} more, {shown(metered.more[1])} {unit}"
        says.append(f"Today there are {late}, that came after the run.")
    if metered.records is not None and metered.records.height:
        tables = [_record_table(priced, metered, unit, most=most, same=same)]
    else:
        tables = [_resource_table(priced, chosen, seen, unit, most=most, same=same)]
        if metered.parts.height:
            tables.append(_file_table(metered, {charge.number for charge in chosen}, unit, most=most, same=same))
    return Step("usage", "Usage", tuple(says), tuple(tables))


def _resource_table(
    priced: Priced, chosen: Sequence[Charge], seen: Mapping[int, Row], unit: str, *, most: int, same: bool
) -> Table:
    sums: dict[tuple[str | None, str | None], list[Any]] = {}
    for charge in chosen:
        row = charge.row
        usage = seen.get(charge.number)
        start, end = (usage["first_start"], usage["last_end"]) if same and usage else (row["charge_start"],
                                                                                       row["charge_end"])  # fmt: skip
        entry = sums.setdefault((row["resource_id"], row["resource_name"]), [ZERO, 0, start, end])
        entry[0] = total((entry[0], row["usage_quantity"]))
        entry[1] += usage["records"] if same and usage else 1
        entry[2], entry[3] = min(entry[2], start), max(entry[3], end)
    rows: list[tuple[Cell, ...]] = [
        (resource_name(resource, name), records, clock(priced.zone, start), clock(priced.zone, end), quantity)
        for (resource, name), (quantity, records, start, end) in sums.items()
    ]
    columns = (
        Column("Resource"), Column("Records" if same else "Charges", is_number=True, adds_up=True), Column("From"),
        Column("To"), Column(f"Metered, {unit}", is_number=True, adds_up=True),
    )  # fmt: skip
    return largest_first(columns, rows, most=most, by=4, thing="resources")


def _file_table(metered: Metered, numbers: set[int], unit: str, *, most: int, same: bool) -> Table:
    parts = added_up(metered.parts.filter(metered.parts["charge"].is_in(sorted(numbers))), ["file"])
    rows: list[tuple[Cell, ...]] = [
        (row["file"], row["records"], row["quantity"]) for row in parts.sort("file").iter_rows(named=True)
    ]
    columns = (
        Column("File"), Column("Records", is_number=True, adds_up=True),
        Column(f"Metered, {unit}", is_number=True, adds_up=True),
    )  # fmt: skip
    return largest_first(columns, rows, most=most, by=2, thing="files", key=lambda row: row[0],
                         title="" if same else "Files of today")  # fmt: skip


def _record_table(priced: Priced, metered: Metered, unit: str, *, most: int, same: bool) -> Table:
    if metered.records is None:
        raise InvariantError("no records to show")
    rows: list[tuple[Cell, ...]] = [
        (clock(priced.zone, row["usage_start"]), row["file"], f"{row['row_number']:,}", row["record_id"] or NOTHING,
         row["quantity"])
        for row in metered.records.sort("usage_start", "file", "row_number").iter_rows(named=True)
    ]  # fmt: skip
    columns = (
        Column("Hour"), Column("File"), Column("Row", is_number=True), Column("Record"),
        Column(f"Metered, {unit}", is_number=True, adds_up=True),
    )  # fmt: skip
    return largest_first(columns, rows, most=max(most, 24), by=4, thing="records", key=lambda _: 0,
                         title="" if same else "Records of today")  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- 2 quantity


def quantity_step(priced: Priced, chosen: Sequence[Charge], metered: Metered, *, most: int) -> Step:
    """Increments, aggregation, conversion of units."""
    sku = priced.sku
    if sku["aggregation"] != "sum":
        return _figure_quantity(priced, chosen, metered, most=most)
    increment = sku["record_increment"]
    divisor, divisor_text = _divisor(priced)
    usage = total(charge.row["usage_quantity"] for charge in chosen)
    priced_quantity = total(charge.quantity for charge in chosen)
    says: list[str] = []
    workings: list[Working] = []
    tables: list[Table] = []
    billable: Mapping[int, Decimal] | None = {charge.number: charge.row["usage_quantity"] for charge in chosen}
    if increment is not None:
        billable = _billable_today(chosen, metered)
        if billable is None:
            says.append(
                f"Each record was rounded up to a multiple of {shown(increment)} {sku['usage_unit']}. Its usage is no"
                " longer there as it was billed, so the quantities are those of the charges that were kept."
            )
        else:
            says.append(f"Each record is rounded up to a multiple of {shown(increment)} {sku['usage_unit']}.")
            tables.append(_increment_table(chosen, billable, sku["usage_unit"], most=most))
    counted = usage if billable is None else total(billable.values())
    if billable is not None:
        for charge in chosen:
            must_equal(f"the quantity of {charge.row['resource_id']} at {charge.row['charge_start']}",
                       divided(billable[charge.number], divisor, QUANTITY_DECIMALS), charge.quantity)  # fmt: skip
    if divisor == 1:
        if increment is None:
            says.append(f"Priced as metered: {measured(priced_quantity, priced.unit)}.")
        return Step("quantity", "Quantity", tuple(says), tuple(tables), tuple(workings))
    says += _unit_told(priced, divisor_text)
    whole = work("quotient", Of(counted, "used", sku["usage_unit"]), Of(divisor, unit=_per(priced)), name="quantity",
                 unit=priced.unit, places=QUANTITY_DECIMALS, rounding="half-even")  # fmt: skip
    if billable is not None and whole.result == priced_quantity:
        workings.append(whole)
    else:
        if len(chosen) > 1 and billable is not None:
            says.append("Each charge is divided for itself, half to even at 12 decimals; these are added up.")
        tables.append(_conversion_table(priced, chosen, billable, divisor, most=most))
    return Step("quantity", "Quantity", tuple(says), tuple(tables), tuple(workings))


def _divisor(priced: Priced) -> tuple[Decimal, str]:
    sku = priced.sku
    if sku["units_per_pricing_unit"] == HOURS_IN_MONTH:
        hours = Decimal(priced.period.hours(priced.zone))
        return hours, f"{shown(hours)} {sku['usage_unit']}: the hours of {priced.period} in {priced.zone}"
    divisor = Decimal(sku["units_per_pricing_unit"])
    return divisor, f"{shown(divisor)} {sku['usage_unit']}"


def _unit_told(priced: Priced, of_usage: str) -> list[str]:
    """What one unit of the price is, unless its name says it."""
    return [] if priced.unit_shown == of_usage else [f"One {priced.unit_shown} is {of_usage}."]


def _per(priced: Priced) -> str:
    return "hours of the month" if priced.sku["units_per_pricing_unit"] == HOURS_IN_MONTH else ""


def _billable_today(chosen: Sequence[Charge], metered: Metered) -> dict[int, Decimal] | None:
    """Charge → quantity with increments, where the usage of today is that of the charges."""
    seen = metered.by_charge
    found = {}
    for charge in chosen:
        usage = seen.get(charge.number)
        if usage is None or usage["quantity"] != charge.row["usage_quantity"]:
            return None
        found[charge.number] = usage["billable"]
    return found


def _increment_table(chosen: Sequence[Charge], billable: Mapping[int, Decimal], unit: str, *, most: int) -> Table:
    sums: dict[tuple[str | None, str | None], tuple[Decimal, Decimal]] = {}
    for charge in chosen:
        key = (charge.row["resource_id"], charge.row["resource_name"])
        used, rounded = sums.get(key, (ZERO, ZERO))
        sums[key] = (total((used, charge.row["usage_quantity"])), total((rounded, billable[charge.number])))
    rows: list[tuple[Cell, ...]] = [
        (resource_name(*key), used, total((rounded, -used)), rounded) for key, (used, rounded) in sums.items()
    ]
    columns = (
        Column("Resource"), Column(f"Metered, {unit}", is_number=True, adds_up=True),
        Column("Rounded up by", is_number=True, adds_up=True), Column("Counts", is_number=True, adds_up=True),
    )  # fmt: skip
    return largest_first(columns, rows, most=most, by=3, thing="resources")


def _conversion_table(
    priced: Priced, chosen: Sequence[Charge], billable: Mapping[int, Decimal] | None, divisor: Decimal, *, most: int
) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (charge_name(priced, charge), charge.row["usage_quantity"] if billable is None else billable[charge.number],
         f"÷ {shown(divisor)}", charge.quantity)
        for charge in chosen
    ]  # fmt: skip
    columns = (
        Column("Charge"), Column(f"Used, {priced.sku['usage_unit']}", is_number=True, adds_up=True), Column(""),
        Column(f"Priced, {priced.unit_shown}", is_number=True, adds_up=True),
    )  # fmt: skip
    return largest_first(columns, rows, most=most, by=3, thing="charges")


def _figure_quantity(priced: Priced, chosen: Sequence[Charge], metered: Metered, *, most: int) -> Step:
    """A month's figure of each resource: its peak, average or 95th percentile, shared over its charges."""
    sku = priced.sku
    hours = priced.period.hours(priced.zone)
    forgiven = hours - (95 * hours + 99) // 100
    rule = {
        "max": "The hour with the most counts for the month.",
        "mean": f"The month's sum, divided by its {hours:,} hours; hours without a record count 0.",
        "p95": f"Of the month's {hours:,} hours the {forgiven} highest are forgiven; the next one counts for the"
               " month. Hours without a record are 0.",
    }[sku["aggregation"]]  # fmt: skip
    says = [rule]
    divisor, divisor_text = _divisor(priced)
    if divisor != 1:
        says += _unit_told(priced, divisor_text)
    rows: list[tuple[Cell, ...]] = []
    missing = 0
    by_series: dict[tuple[Any, ...], list[Charge]] = {}
    for charge in priced.siblings:
        by_series.setdefault(_series(charge), []).append(charge)
    groups: dict[tuple[Any, ...], list[Charge]] = {}
    for charge in chosen:
        groups.setdefault(_series(charge), []).append(charge)
    shared = False
    for series, members in groups.items():
        used = metered.hours.get(members[0].number)
        part = total(charge.quantity for charge in members)
        name = resource_name(members[0].row["resource_id"], members[0].row["resource_name"])
        together = by_series[series]
        figure = _figure(priced, used, hours, forgiven, divisor) if used is not None else None
        if figure is None or not _shared_alike(together, figure[1], used, metered):
            missing += 1
            rows.append((name, NOTHING, None, None, part))
            continue
        shared = shared or part != figure[1]
        rows.append((name, figure[2], figure[0], figure[1], part))
    if missing:
        says.append(
            f"Of {counted(missing, 'resource')} the hours of then are no longer there; their quantity is the one of"
            " the charges that were kept."
        )
    if shared:
        says.append(
            "The figure is shared over the month's charges in proportion to what was metered; this line has the part"
            " of its own charges."
        )
    columns = (
        Column("Resource"), Column("Hour"), Column(f"Figure, {sku['usage_unit']}", is_number=True),
        Column(f"Figure, {priced.unit_shown}", is_number=True),
        Column(f"Priced here, {priced.unit_shown}", is_number=True, adds_up=True),
    )  # fmt: skip
    return Step("quantity", "Quantity", tuple(says),
                (largest_first(columns, rows, most=most, by=4, thing="resources"),))  # fmt: skip


def _series(charge: Charge) -> tuple[Any, ...]:
    return tuple(charge.row[name] for name in ("account_id", "project_id", "region", "resource_id", "tags"))


def _figure(
    priced: Priced, used: Mapping[int, Decimal], hours: int, forgiven: int, divisor: Decimal
) -> tuple[Decimal, Decimal, str]:
    """The month's figure in usage units and in pricing units, and which hour it is."""
    aggregation = priced.sku["aggregation"]
    if aggregation == "mean":
        raw, which = divided(total(used.values()), Decimal(hours), QUANTITY_DECIMALS), f"all {hours:,}"
    else:
        ordered = sorted(used.items(), key=lambda item: (-item[1], item[0]))
        place = forgiven if aggregation == "p95" else 0
        raw, which = ZERO, "one of none"
        if place < len(ordered):
            hour, raw = ordered[place]
            start = priced.period.start(priced.zone).timestamp() + hour * 3600
            when = clock(priced.zone, datetime.fromtimestamp(start, ZoneInfo("UTC")))
            which = when if place == 0 else f"{when}, number {place + 1}"
    return raw, divided(raw, divisor, QUANTITY_DECIMALS), which


def _shared_alike(
    together: Sequence[Charge], figure: Decimal, used: Mapping[int, Decimal] | None, metered: Metered
) -> bool:
    """Whether sharing the figure over all charges of a series gives each what it is stored with."""
    billable = _billable_today(together, metered)
    if billable is None or used is None:
        return False
    weights = [billable[charge.number] for charge in together]
    everything, billed = total(used.values()), total(weights)
    amount = part_of(figure, billed, everything, QUANTITY_DECIMALS) if everything else figure
    parts = shares(amount, weights, QUANTITY_DECIMALS)
    for charge, part in zip(together, parts, strict=True):
        must_equal(f"the quantity of {charge.row['resource_id']} at {charge.row['charge_start']}", part,
                   charge.quantity)  # fmt: skip
    return True
