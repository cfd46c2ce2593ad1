"""What the pages of ``ratemill serve`` show, as values: made from rows of sql/api, handed to templates/api."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any, get_args
from zoneinfo import ZoneInfo

from ratemill.api.v1.consumption import Dimension
from ratemill.money import rounded_amount
from ratemill.period import BillingPeriod

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date, datetime

    from markupsafe import Markup

    from ratemill.api.access import Principal
    from ratemill.api.snapshots import Snapshot

MOST_SERIES = 5
"""Services with a colour of their own; the others share one."""
MOST_MONTHS = 12
MOST_INVOICES = 500
MOST_PRICES = 5_000
ZERO = Decimal(0)
_NO_PROJECT, _NO_SERVICE, _OTHERS, _ROUNDING = "Without a project", "Fees and other charges", "Others", "Rounding"


@dataclass(frozen=True)
class Frame:
    """What every page has."""

    seller: str
    here: str
    """costs, invoices or prices."""
    key_name: str
    customers: tuple[tuple[str, str], ...]
    """Id and name of each organization that the key sees anything of."""
    customer: str
    """The chosen one; empty: all of them."""
    sees_invoices: bool

    @property
    def whose(self) -> str:
        """Whose figures are shown: a page that is printed or passed on has to say so."""
        if self.customer or len(self.customers) == 1:
            return dict(self.customers)[self.customer or self.customers[0][0]]
        return f"{len(self.customers)} customers"


@dataclass(frozen=True)
class Legend:
    """A colour of the chart."""

    series: int
    name: str
    cost: Decimal


@dataclass(frozen=True)
class Row:
    """A service of a project."""

    service: str
    gross: Decimal
    deductions: Decimal
    untaxed: Decimal


@dataclass(frozen=True)
class Group:
    """A project with its services."""

    name: str
    account: str
    rows: tuple[Row, ...]
    untaxed: Decimal


@dataclass(frozen=True)
class Month:
    """A month, to choose and compare."""

    period: str
    first_day: date
    untaxed: Decimal
    is_chosen: bool


@dataclass(frozen=True)
class Section:
    """Costs of a month in one currency."""

    currency: str
    gross: Decimal
    discounts: Decimal
    credits: Decimal
    untaxed: Decimal
    groups: tuple[Group, ...]
    rounding: Decimal
    """What the rows, each rounded to show it, lack of the sum."""
    months: tuple[Month, ...]
    chart: Markup | None
    legend: tuple[Legend, ...]


@dataclass(frozen=True)
class Costs:
    """The page of costs."""

    period: str
    month: date
    periods: tuple[tuple[str, date], ...]
    """All that can be chosen, the newest first."""
    is_closed: bool
    updated_at: datetime | None
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Bill:
    """An invoice in the list."""

    invoice_id: str
    number: str
    """Empty: a draft."""
    document: str
    customer: str
    month: date
    issue_date: date | None
    due_date: date | None
    currency: str
    untaxed: Decimal
    tax: Decimal
    total: Decimal
    due: Decimal
    has_pdf: bool


@dataclass(frozen=True)
class Offer:
    """A price in the list."""

    sku_id: str
    name: str
    unit: str
    region: str
    price_list: str
    tiers: tuple[tuple[Decimal | None, Decimal, Decimal], ...]
    """Up to which quantity, price of a unit, flat fee."""
    mode: str
    first_day: date | None
    last_day: date | None
    conditions: tuple[str, ...]


@dataclass(frozen=True)
class PriceList:
    """Prices of today in one currency."""

    currency: str
    day: date
    services: tuple[tuple[str, tuple[Offer, ...]], ...]


def frame_of(snapshot: Snapshot, principal: Principal, *, seller: str, here: str, customer: str) -> Frame:
    """What every page has, for a key."""
    names = {row["account_id"]: row["name"] for row in snapshot.rows("api/v1/account_names")}
    return Frame(
        seller=seller,
        here=here,
        key_name=principal.name,
        customers=tuple((one, names.get(one) or one) for one in principal.organizations),
        customer=customer,
        sees_invoices=principal.sees_all,
    )


# ---------------------------------------------------------------------------------------------------------------- costs


def costs_of(snapshot: Snapshot, frame: Frame, period: str, *, time_zone: str) -> Costs:
    """Costs of a month."""
    known = {row["period"]: row for row in snapshot.rows("api/periods")}
    months = sorted(known)
    first = [month for month in months if month <= period][-MOST_MONTHS:][:1] or [period]
    filters = {"organization_id": frame.customer or None, "time_zone": time_zone}

    def asked(first_period: str, *by: Dimension) -> list[dict[str, Any]]:
        return _consumption(snapshot, {**filters, "first_period": first_period, "last_period": period}, by)

    wholes, by_month = asked(period), _by_currency(asked(first[0], "period"))
    by_day, by_service = (
        _by_currency(asked(period, "day", "service")),
        _by_currency(asked(period, "project", "service")),
    )
    projects = {row["project_id"]: row for row in snapshot.rows("api/v1/projects", _everything())}
    names = {row["account_id"]: row["name"] for row in snapshot.rows("api/v1/account_names")}
    month = BillingPeriod.parse(period)
    return Costs(
        period=period,
        month=month.first_day,
        periods=tuple((one, BillingPeriod.parse(one).first_day) for one in reversed(months)),
        is_closed=bool(known[period]["is_closed"]) if period in known else False,
        updated_at=known[period]["updated_at"] if period in known else None,
        sections=tuple(
            _section(
                row,
                _Parts(by_month[row["currency"]], by_day[row["currency"]], by_service[row["currency"]]),
                month,
                _Names(projects, names),
            )
            for row in wholes
        ),
    )


@dataclass(frozen=True)
class _Parts:
    """Rows of consumption of one currency."""

    by_month: list[dict[str, Any]]
    by_day: list[dict[str, Any]]
    by_service: list[dict[str, Any]]


@dataclass(frozen=True)
class _Names:
    """What projects and accounts are called."""

    projects: dict[str, dict[str, Any]]
    accounts: dict[str, str]


def _consumption(snapshot: Snapshot, asked: dict[str, Any], by: Sequence[Dimension]) -> list[dict[str, Any]]:
    filters = ("account_id", "project_id", "service", "category", "sku_id", "region", "resource_id", "tag")
    return snapshot.rows(
        "api/v1/consumption",
        {
            **dict.fromkeys(filters),
            **{f"by_{name}": name in by for name in get_args(Dimension)},
            **asked,
            "limit": None,
            "offset": 0,
        },
    )


def _by_currency(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["currency"], []).append(row)
    return found


def _everything() -> dict[str, Any]:
    return {"organization_id": None, "account_id": None, "project_id": None, "limit": None, "offset": 0}


def _section(whole: dict[str, Any], parts: _Parts, month: BillingPeriod, names: _Names) -> Section:
    currency = whole["currency"]
    groups = tuple(
        _group(project_id, list(rows), currency, names)
        for project_id, rows in groupby(_sorted(parts.by_service), key=lambda row: row["project_id"])
    )
    shown = sum((group.untaxed for group in groups), ZERO)
    chart, legend = _chart(parts.by_day, currency, month)
    return Section(
        currency=currency,
        **{name: rounded_amount(whole[name], currency) for name in ("gross", "discounts", "credits", "untaxed")},
        groups=groups,
        rounding=rounded_amount(whole["untaxed"], currency) - shown,
        months=tuple(
            Month(row["period"], BillingPeriod.parse(row["period"]).first_day, rounded_amount(row["untaxed"], currency),
                  is_chosen=row["period"] == str(month))
            for row in parts.by_month
        ),
        chart=chart,
        legend=legend,
    )  # fmt: skip


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By project, the costliest first, what has no project at the end; then by cost."""
    sums: dict[str | None, Decimal] = {}
    for row in rows:
        sums[row["project_id"]] = sums.get(row["project_id"], ZERO) + row["untaxed"]
    return sorted(
        rows,
        key=lambda row: (
            row["project_id"] is None, -sums[row["project_id"]], row["project_id"] or "", -row["untaxed"],
            row["service"] or "",
        ),
    )  # fmt: skip


def _group(project_id: str | None, rows: list[dict[str, Any]], currency: str, names: _Names) -> Group:
    shown = tuple(
        Row(
            row["service"] or _NO_SERVICE,
            rounded_amount(row["gross"], currency),
            rounded_amount(row["discounts"] + row["credits"], currency),
            rounded_amount(row["untaxed"], currency),
        )
        for row in rows
    )
    project = names.projects.get(project_id or "", {})
    account = project.get("account_id", "")
    return Group(
        name=(project.get("name") or project_id or _NO_PROJECT),
        account=names.accounts.get(account) or account,
        rows=shown,
        untaxed=sum((row.untaxed for row in shown), ZERO),
    )


def _chart(
    by_day: list[dict[str, Any]], currency: str, month: BillingPeriod
) -> tuple[Markup | None, tuple[Legend, ...]]:
    """Bars of the days of the month, by service, before discounts and credits; none where nothing was used."""
    from ratemill.documents.charts import SERIES_COLOURS, stacked_days  # noqa: PLC0415 - takes half a second

    first, count = month.first_day, month.days
    sums: dict[str, list[Decimal]] = {}
    for row in by_day:
        if row["service"] is not None and row["gross"] and (row["day"] or "").startswith(str(month)):
            sums.setdefault(row["service"], [ZERO] * count)[int(row["day"][8:]) - 1] += row["gross"]
    if not sums:
        return None, ()
    largest = sorted(sums, key=lambda name: (-sum(sums[name], ZERO), name))
    series = [sums[name] for name in largest[:MOST_SERIES]]
    legend = [
        Legend(number, name, rounded_amount(sum(sums[name], ZERO), currency))
        for number, name in enumerate(largest[:MOST_SERIES], start=1)
    ]
    rest = [sums[name] for name in largest[MOST_SERIES:]]
    if rest:
        series.append([sum(day, ZERO) for day in zip(*rest, strict=True)])
        total = rounded_amount(sum(series[-1], ZERO), currency)
        legend.append(Legend(len(SERIES_COLOURS), _OTHERS, total))
    description = f"Costs in {currency} on each day of {first:%B %Y} by service, before discounts and credits"
    return stacked_days(series, unit=currency, month=f"{first:%B %Y}", description=description), tuple(legend)


# ------------------------------------------------------------------------------------------------- invoices and prices


def bills_of(snapshot: Snapshot, frame: Frame) -> tuple[Bill, ...]:
    """Invoices and credit notes, the newest first."""
    names = dict(frame.customers)
    pdfs = {row["invoice_id"] for row in snapshot.rows("api/pages/pdfs")}
    asked = dict.fromkeys(("first_period", "last_period", "document", "status", "issued_from", "issued_until"))
    found = snapshot.rows(
        "api/v1/invoices",
        {**asked, "organization_id": frame.customer or None, "sort": "-period", "limit": MOST_INVOICES, "offset": 0},
    )
    return tuple(
        Bill(
            invoice_id=row["invoice_id"],
            number=row["number"] or "",
            document={"invoice": "Invoice", "credit_note": "Credit note"}[row["document"]],
            customer=names.get(row["billing_account_id"], row["billing_account_id"]),
            month=BillingPeriod.parse(row["period"]).first_day,
            issue_date=row["issue_date"],
            due_date=row["due_date"],
            currency=row["currency"],
            untaxed=row["untaxed_amount"],
            tax=row["tax_amount"],
            total=row["total_amount"],
            due=row["due_amount"],
            has_pdf=row["invoice_id"] in pdfs,
        )
        for row in found
    )


def prices_of(snapshot: Snapshot, *, now: datetime, currencies: Iterable[str], time_zone: str) -> tuple[PriceList, ...]:
    """Prices that hold now, by currency and service: the public ones, and those of one's own contract."""
    skus = {
        row["sku_id"]: row
        for row in snapshot.rows(
            "api/v1/skus", {"service": None, "category": None, "sku_id": None, "limit": None, "offset": 0}
        )
    }
    filters = dict.fromkeys(("sku_id", "price_list", "region", "price_ids"))
    zone = ZoneInfo(time_zone)
    lists = []
    for currency in sorted(currencies):
        rows = snapshot.rows(
            "api/v1/prices", {**filters, "currency": currency, "at": now, "limit": MOST_PRICES, "offset": 0}
        )
        offers: dict[str, list[Offer]] = {}
        for row in rows:
            sku = skus.get(row["version"]["sku_id"])
            if sku is not None:
                offers.setdefault(sku["service"], []).append(_offer(row, sku, zone))
        lists.append(
            PriceList(
                currency, now.astimezone(zone).date(), tuple((name, tuple(offers[name])) for name in sorted(offers))
            )
        )
    return tuple(one for one in lists if one.services)


def _offer(row: dict[str, Any], sku: dict[str, Any], zone: ZoneInfo) -> Offer:
    version = row["version"]
    starts, ends = version["valid_from"], version["valid_to"]
    conditions = [f"{name.removeprefix('attr.')} {value}" for name, value in version.items()
                  if name.startswith("attr.") and value is not None]  # fmt: skip
    return Offer(
        sku_id=sku["sku_id"],
        name=sku["name"],
        unit=sku["pricing_unit"],
        region=version["region"] or "",
        price_list=version["price_list"],
        tiers=tuple((tier["up_to"], tier["unit_price"], tier["flat_fee"]) for tier in row["tiers"]),
        mode=version["mode"],
        first_day=starts.astimezone(zone).date() if starts else None,
        last_day=(ends.astimezone(zone) - timedelta(microseconds=1)).date() if ends else None,
        conditions=tuple([version["window"]] if version["window"] else []) + tuple(conditions),
    )
