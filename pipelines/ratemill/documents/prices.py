"""Price pages: what everybody pays, and what one customer pays beside it, as HTML, JSON and CSV."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.documents.environment import make_environment, render
from ratemill.documents.filenames import safe_name
from ratemill.documents.formats import format_day, plain
from ratemill.documents.price_model import (
    PriceCategory,
    PriceLink,
    PriceOffer,
    PricePage,
    PriceProduct,
    PriceRate,
    PriceService,
    PriceStep,
    PriceVersion,
    PriceWindow,
)
from ratemill.documents.spreadsheet import spreadsheet_csv
from ratemill.insight import price_list
from ratemill.money import PRICE, QUANTITY
from ratemill.tables.book import PUBLIC_PRICE_LIST
from ratemill.tables.columns import TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    import jinja2

    from ratemill.book.model import Book
    from ratemill.config import Seller
    from ratemill.documents.guard import Guard
    from ratemill.insight.price_list import Offer, Terms, Version

FOLDER = "prices"
JSON_FORMAT = "ratemill-prices/1"
"""Grows a number when a name or meaning changes; new names may be added without."""
TEMPLATE = "pricing/prices.html.j2"

_LANGUAGE = "en"
_CONDITION_PREFIX = "attr."


@dataclass(frozen=True)
class PriceSource:
    """What price pages are made of."""

    book: Book
    seller: Seller
    at: datetime
    """Instant of which the prices are."""
    time_zone: str
    """IANA zone of the days of validity."""


@dataclass(frozen=True)
class PriceFile:
    """One file to make: a page, or bytes that stand already."""

    name: str
    page: PricePage | None = None
    data: bytes = b""

    @property
    def size(self) -> int:
        """Rows of the page: what the limits of templates grow with."""
        return 0 if self.page is None else self.page.product_count


@dataclass(frozen=True)
class PricePrinter:
    """Makes price files; it can be pickled, and templates are opened where the work is done."""

    templates: Path
    """The workspace's own; need not exist."""

    def open(self, guard: Guard) -> Callable[[PriceFile], Iterator[tuple[str, str, bytes]]]:
        """The function that makes a file: nothing it belongs to, name, and bytes.

        Raises:
            UsageError: a template of the workspace is wrong.
        """
        environment = make_environment(self.templates, guard)

        def make(file: PriceFile) -> Iterator[tuple[str, str, bytes]]:
            data = file.data if file.page is None else render_price_page(file.page, environment).encode()
            yield "", file.name, data

        return make


def render_price_page(page: PricePage, environment: jinja2.Environment) -> str:
    """Prices as an HTML page.

    Raises:
        UsageError: when a template of the user is wrong.
    """
    return render(environment, TEMPLATE, page=page, language=_LANGUAGE, direction="ltr")


def public_page(currency: str) -> str:
    """Name of the page of the public prices in a currency."""
    return f"public-{currency}.html"


def public_price_files(source: PriceSource) -> Iterator[PriceFile]:
    """The public prices: a page per currency; JSON and CSV of all of them."""
    currencies = price_list.public_currencies(source.book)
    offers = {code: price_list.public_offers(source.book, currency=code, at=source.at) for code in currencies}
    files = (PriceLink("CSV", "public.csv"), PriceLink("JSON", "public.json"))
    for currency in currencies:
        links = tuple(PriceLink(code, "" if code == currency else public_page(code)) for code in currencies)
        page = _page(source, offers[currency], currency=currency, currencies=links, files=files)
        yield PriceFile(public_page(currency), page)
    every = [offer for code in currencies for offer in offers[code]]
    yield PriceFile("public.json", data=_json(source, every, {"price_list": PUBLIC_PRICE_LIST}))
    yield PriceFile("public.csv", data=_csv(source, every))


def account_price_files(source: PriceSource, terms: Terms) -> Iterator[PriceFile]:
    """One account's prices, beside the public ones where they are its own: a page, JSON, CSV."""
    offers = price_list.account_offers(source.book, terms, at=source.at)
    stem = f"{safe_name(terms.account_id)}-{terms.currency}"
    names = dict(source.book.accounts.select("account_id", "name").iter_rows())
    page = _page(
        source,
        offers,
        currency=terms.currency,
        customer=names[terms.account_id],
        account_id=terms.account_id,
        files=(PriceLink("CSV", f"{stem}.csv"), PriceLink("JSON", f"{stem}.json")),
    )
    yield PriceFile(f"{stem}.html", page)
    about = {"account_id": terms.account_id, "currency": terms.currency, "price_lists": terms.price_lists.split()}
    yield PriceFile(f"{stem}.json", data=_json(source, offers, about))
    yield PriceFile(f"{stem}.csv", data=_csv(source, offers, compare=True))


# ------------------------------------------------------------------------------------------------------------- pages


def _page(
    source: PriceSource,
    offers: Sequence[Offer],
    *,
    currency: str,
    customer: str = "",
    account_id: str = "",
    currencies: tuple[PriceLink, ...] = (),
    files: tuple[PriceLink, ...] = (),
) -> PricePage:
    day = source.at.astimezone(ZoneInfo(source.time_zone)).date()
    categories = _categories(source, offers, compare=bool(customer))
    products = [product for category in categories for service in category.services for product in service.products]
    savings = [
        (step.saving_percent, step, product.name)
        for product in products
        for offer in product.offers
        for step in offer.steps
        if step.saving_percent is not None and step.saving_percent > 0
    ]
    _, best_step, best_product = max(savings, key=lambda one: one[0], default=(None, None, ""))
    rates = {
        offer.current.currency: offer.exchange_rate
        for offer in offers
        if offer.current is not None and offer.exchange_rate is not None
    }
    whose = f"Prices of {customer}" if customer else f"Prices in {currency}"
    return PricePage(
        title=f"{whose} · {format_day(day)} · {source.seller.name}",
        seller=source.seller.name,
        website=source.seller.website,
        email=source.seller.email,
        customer=customer,
        account_id=account_id,
        currency=currency,
        day=day,
        time_zone=source.time_zone,
        product_count=len(products),
        contract_count=sum(offer.is_contract for product in products for offer in product.offers),
        best_saving=best_step,
        best_product=best_product,
        coming=tuple((product, offer) for product in products for offer in product.offers if offer.later),
        currencies=currencies,
        files=files,
        windows=_windows(source.book, offers),
        rates=tuple(PriceRate(code, rate) for code, rate in sorted(rates.items())),
        categories=categories,
    )


def _categories(source: PriceSource, offers: Sequence[Offer], *, compare: bool) -> tuple[PriceCategory, ...]:
    """The offers by category and service, all in the order of the book's SKUs."""
    of_sku: dict[str, list[Offer]] = {}
    for offer in offers:
        of_sku.setdefault(offer.sku_id, []).append(offer)
    tree: dict[str, dict[str, list[PriceProduct]]] = {}
    for sku in source.book.skus.iter_rows(named=True):
        if sku["sku_id"] in of_sku:
            product = _product(source, sku, of_sku[sku["sku_id"]], compare=compare)
            tree.setdefault(sku["category"], {}).setdefault(sku["service"], []).append(product)
    return tuple(
        PriceCategory(
            name=category,
            anchor=f"category-{number}",
            services=tuple(
                _service(service, f"service-{number}-{place}", products)
                for place, (service, products) in enumerate(services.items(), start=1)
            ),
        )
        for number, (category, services) in enumerate(tree.items(), start=1)
    )


def _service(name: str, anchor: str, products: Sequence[PriceProduct]) -> PriceService:
    offers = [offer for product in products for offer in product.offers]
    return PriceService(
        name=name,
        anchor=anchor,
        has_tiers=any(len(offer.steps) > 1 for offer in offers),
        has_conditions=any(offer.region or offer.conditions for offer in offers),
        has_contract=any(offer.is_contract for offer in offers),
        products=tuple(products),
    )


def _product(source: PriceSource, sku: dict[str, Any], offers: Sequence[Offer], *, compare: bool) -> PriceProduct:
    shown = tuple(_offer(source, offer, compare=compare) for offer in offers)
    return PriceProduct(
        sku_id=sku["sku_id"],
        name=sku["name"],
        unit=sku["pricing_unit"],
        usage_unit=sku["usage_unit"],
        units_per_unit=sku["units_per_pricing_unit"],
        aggregation=sku["aggregation"],
        increment=sku["record_increment"],
        row_count=sum(max(len(offer.steps), 1) for offer in shown),
        offers=shown,
    )


def _offer(source: PriceSource, offer: Offer, *, compare: bool) -> PriceOffer:
    followers = [*reversed(offer.earlier), *([offer.current] if offer.current else []), *offer.later]
    before = {one.price_id: former for former, one in pairwise(followers)}
    versions = {one.price_id: _version(source, one, before.get(one.price_id)) for one in followers}
    conditions = dict(offer.conditions)
    priced = offer.current or offer.later[0]
    return PriceOffer(
        region=conditions.pop("region", ""),
        conditions=tuple(conditions.values()),
        is_contract=offer.is_contract and compare,
        currency=priced.currency,
        current=None if offer.current is None else versions[offer.current.price_id],
        public=_version(source, offer.public, None) if compare and offer.public is not None else None,
        steps=tuple(_step(step, compare=compare and offer.is_contract) for step in offer.steps),
        later=tuple(versions[one.price_id] for one in offer.later),
        earlier=tuple(versions[one.price_id] for one in offer.earlier),
    )


def _step(step: price_list.Step, *, compare: bool) -> PriceStep:
    return PriceStep(
        above=step.above,
        up_to=step.up_to,
        unit_price=step.unit_price,
        flat_fee=step.flat_fee,
        package_size=step.package_size,
        public_price=step.public_unit_price if compare else None,
        saving=step.saving if compare else None,
        saving_percent=step.saving_percent if compare else None,
    )


def _version(source: PriceSource, version: Version, before: Version | None) -> PriceVersion:
    zone = ZoneInfo(source.time_zone)
    start = None if version.valid_from is None else version.valid_from.astimezone(zone)
    end = None if version.valid_to is None else version.valid_to.astimezone(zone)
    ends_at_midnight = end is not None and _time(end) == ""
    return PriceVersion(
        price_id=version.price_id,
        first_day=None if start is None else start.date(),
        first_time="" if start is None else _time(start),
        last_day=None if end is None else end.date() - timedelta(days=1 if ends_at_midnight else 0),
        last_time="" if end is None else _time(end),
        mode=version.mode,
        scope=version.scope,
        cap=version.cap,
        minimum=version.minimum,
        change_percent=None if before is None else price_list.change_percent(version, before),
        steps=tuple(_step(step, compare=False) for step in price_list.steps(version)),
    )


def _time(local: datetime) -> str:
    text = f"{local:%H:%M}"
    return "" if text == "00:00" else text


def _windows(book: Book, offers: Sequence[Offer]) -> tuple[PriceWindow, ...]:
    named = sorted({value for offer in offers for name, value in offer.conditions if name == "window"})
    hours = book.windows.with_columns(text=pl.format("{} {}-{}", "days", "from_time", "to_time"))
    return tuple(PriceWindow(name, tuple(hours.filter(pl.col("window") == name)["text"])) for name in named)


# ---------------------------------------------------------------------------------------------------------- machines


def _json(source: PriceSource, offers: Iterable[Offer], about: dict[str, Any]) -> bytes:
    """The offers as UTF-8 JSON, names sorted, decimals as text, instants in UTC."""
    skus = {row["sku_id"]: row for row in source.book.skus.iter_rows(named=True)}
    content = {
        "format": JSON_FORMAT,
        "seller": source.seller.name,
        "at": source.at.isoformat().replace("+00:00", "Z"),
        **about,
        "offers": [_as_json(offer, skus.get(offer.sku_id, {})) for offer in offers],
    }
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, indent=2, allow_nan=False, default=_machine)
    return (text + "\n").encode()


def _as_json(offer: Offer, sku: dict[str, Any]) -> dict[str, Any]:
    price = offer.current or offer.later[0]
    return {
        "sku_id": offer.sku_id,
        **{key: sku.get(name) for key, name in (("name", "name"), ("service", "service"), ("category", "category"),
                                                ("unit", "pricing_unit"))},
        "currency": price.currency,
        "exchange_rate": offer.exchange_rate,
        "conditions": dict(offer.conditions),
        "current": _version_as_json(offer.current),
        "public": _version_as_json(offer.public) if offer.is_contract else None,
        "steps": [
            {**{name: getattr(step, name) for name in step.__dataclass_fields__},
             "saving": step.saving, "saving_percent": step.saving_percent}
            for step in offer.steps
        ],
        "later": [_version_as_json(one) for one in offer.later],
        "earlier": [_version_as_json(one) for one in offer.earlier],
    }  # fmt: skip


def _version_as_json(version: Version | None) -> dict[str, Any] | None:
    if version is None:
        return None
    content = {name: getattr(version, name) for name in version.__dataclass_fields__}
    content["conditions"] = dict(version.conditions)
    content["tiers"] = [{name: getattr(tier, name) for name in tier.__dataclass_fields__} for tier in version.tiers]
    return content


def _machine(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else plain(value)


_CSV: dict[str, Any] = {
    **dict.fromkeys(("category", "service", "sku_id", "name", "unit", "currency", "region", "window", "attributes",
                     "status", "price_id", "price_list", "valid_from", "valid_to", "mode", "scope"), TEXT),
    "above": QUANTITY, "up_to": QUANTITY, "unit_price": PRICE, "flat_fee": PRICE, "package_size": QUANTITY,
    "cap": PRICE, "minimum": PRICE,
}  # fmt: skip
_COMPARED: dict[str, Any] = {
    "public_price_id": TEXT,
    "public_unit_price": PRICE,
    "saving": PRICE,
    "saving_percent": pl.Decimal(38, 1),
}


def _csv(source: PriceSource, offers: Iterable[Offer], *, compare: bool = False) -> bytes:
    """One row per span of quantity of each version, current ones first, for a spreadsheet."""
    skus = {row["sku_id"]: row for row in source.book.skus.iter_rows(named=True)}
    rows = [row for offer in offers for row in _csv_rows(offer, skus.get(offer.sku_id, {}), compare=compare)]
    schema = pl.Schema(_CSV | (_COMPARED if compare else {}))
    return spreadsheet_csv(pl.DataFrame(rows, schema=schema))


def _csv_rows(offer: Offer, sku: dict[str, Any], *, compare: bool) -> Iterator[dict[str, Any]]:
    conditions = dict(offer.conditions)
    shared = {
        "category": sku.get("category"), "service": sku.get("service"), "sku_id": offer.sku_id,
        "name": sku.get("name"), "unit": sku.get("pricing_unit"),
        "region": conditions.pop("region", None), "window": conditions.pop("window", None),
        "attributes": " ".join(f"{n.removeprefix(_CONDITION_PREFIX)}={v}" for n, v in conditions.items()) or None,
    }  # fmt: skip
    versions = [("current", offer.current), *(("upcoming", one) for one in offer.later),
                *(("past", one) for one in offer.earlier)]  # fmt: skip
    for status, version in versions:
        if version is None:
            continue
        steps = offer.steps if status == "current" else price_list.steps(version)
        for step in steps:
            row = shared | {
                "status": status, "price_id": version.price_id, "price_list": version.price_list,
                "currency": version.currency, "mode": version.mode, "scope": version.scope,
                "valid_from": _instant(version.valid_from), "valid_to": _instant(version.valid_to),
                "above": step.above, "up_to": step.up_to, "unit_price": step.unit_price, "flat_fee": step.flat_fee,
                "package_size": step.package_size, "cap": version.cap, "minimum": version.minimum,
            }  # fmt: skip
            if compare:
                row["public_price_id"] = offer.public.price_id if offer.public and status == "current" else None
                row["public_unit_price"] = step.public_unit_price
                row |= {"saving": step.saving, "saving_percent": step.saving_percent}
            yield row


def _instant(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat().replace("+00:00", "Z")
