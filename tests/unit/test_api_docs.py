"""docs/api.md: every request in it is made, and answered as the page says.

A block of ``sh`` with one ``curl`` is followed by a block of ``json`` with its answer. ``…`` stands for a text that
differs each time (a snapshot, a cursor, an id of a request), and as the last member of a list or object for more of it.
"""

from __future__ import annotations

import json
import re
import shlex
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from api import serving
from ratemill.errors import ExitCode
from workspaces import ADDRESSED, BOOK, hours, make_workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi.testclient import TestClient

    from workspaces import TinyWorkspace

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
HOST = "https://billing.example.com"
EXAMPLES = re.findall(
    r"^```sh\n(curl .*?)^```\n+```json\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)


def make_shop(folder: Path) -> TinyWorkspace:
    """The page's provider; its customer acme has a project, a discount, a commitment and a credit; one month, issued."""
    project = {"project_id": "web", "account_id": "acme", "name": "Web shop", "cost_center": "4711"}
    shop = make_workspace(
        folder,
        usage=[
            hours(count=744, project_id="web", resource_name="shop-1"),
            hours(sku="egress", resource="nic-1", count=744),
        ],
        book={
            "accounts": [row | {"price_lists": "acme"} if row["account_id"] == "acme" else row for row in ADDRESSED],
            "projects": [project],
            "prices": [
                *BOOK["prices"],
                {"price_id": "egress-acme", "price_list": "acme", "sku_id": "egress", "currency": "EUR",
                 "unit_price": "0.04"},
                {"price_id": "vm-big", "price_list": "public", "sku_id": "vm", "currency": "EUR", "unit_price": "0.30",
                 "attr.size": "big"},
            ],
            "discounts": [{"discount_id": "autumn", "percent": "5", "service": "Compute", "note": "Autumn offer"}],
            "credits": [{"credit_id": "welcome", "account_id": "acme", "amount": "50", "currency": "EUR",
                         "kind": "promotional", "granted_on": "2026-01-01", "note": "Welcome"}],
            "commitments": [{"commitment_id": "acme-2026", "account_id": "acme", "amount": "100", "currency": "EUR",
                             "discount_percent": "0", "note": "100 a month"}],
        },
    )  # fmt: skip
    assert shop.run().code == ExitCode.DONE
    closed = shop.close()
    assert closed.code == ExitCode.DONE, closed.stderr
    return shop


BUDGET = {
    "budget_id": "5b0f6a52-27d5-4f8e-9a53-0c3c2a5d8e11", "account_id": "acme", "amount": 75, "currency": "EUR",
    "is_enabled": 1, "valid_from": "2026-10-01T00:00:00+00:00",
}  # fmt: skip
ALERT = {"alert_id": "f0a9c0de-93bb-4d1f-8a3c-5d2b7f4e6a90", "budget_id": BUDGET["budget_id"], "threshold": 80}
_CHANGED = dict.fromkeys(("created_at", "updated_at", "changed_by"), "")


@contextmanager
def client_of(shop: TinyWorkspace) -> Iterator[TestClient]:
    """A client of acme, with a budget of 75 a month and an alert at 80 percent of it."""
    with serving(shop) as api:
        if not api.core.store.rows("SELECT budget_id FROM budgets"):
            api.core.store.insert("budgets", [BUDGET | _CHANGED])
            api.core.store.insert("budget_alerts", [ALERT | _CHANGED])
        yield api.client(organization="acme")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with client_of(make_shop(tmp_path_factory.mktemp("shop"))) as client:
        yield client


def request_of(command: str) -> tuple[str, str, dict[str, str], str | None]:
    """Method, path, headers and body of a ``curl``."""
    words = shlex.split(command.replace("\\\n", " "))
    method, url, headers, body = "GET", "", {}, None
    rest = iter(words[1:])
    for word in rest:
        match word:
            case "-H" | "--header":
                name, _, value = next(rest).partition(": ")
                if not value.startswith("Bearer $"):
                    headers[name] = value
            case "-d" | "--data":
                method, body = "POST", next(rest)
            case "-s" | "-i":
                pass
            case _:
                url = word
    assert url.startswith(HOST), command
    return method, url.removeprefix(HOST), headers, body


def told(content: Any, page: Any) -> Any:
    """``content`` as the page tells it: what it leaves out is left out."""
    match page:
        case "…":
            return "…"
        case dict() if page.keys() <= content.keys() | {"…"}:
            shown = page.keys() - {"…"} if "…" in page else content.keys()
            return {name: told(content[name], page.get(name)) for name in content if name in shown} | (
                {"…": page["…"]} if "…" in page else {}
            )
        case list() if isinstance(content, list) and page and page[-1] == "…":
            assert len(content) >= len(page), "nothing is left out"
            return [*map(told, content, page[:-1]), "…"]
        case list() if isinstance(content, list) and len(content) == len(page):
            return [*map(told, content, page)]
    return content


@pytest.mark.parametrize(
    ("command", "answer"), EXAMPLES, ids=[command.split(HOST)[1].split()[0] for command, _ in EXAMPLES]
)
def test_an_example_is_answered_as_the_page_says(client, command, answer):
    method, path, headers, body = request_of(command)
    found = client.request(method, path, headers=headers, content=body).json()
    page = json.loads(answer)
    assert told(found, page) == page


def test_conditions_that_a_book_adds_to_prices_are_told_and_quoted(client):
    prices = client.get("/v1/prices?sku_id=vm").json()["items"]
    assert {price["price_id"]: price["attributes"] for price in prices} == {"vm-eur": {}, "vm-big": {"size": "big"}}
    items = [{"sku_id": "vm", "quantity": "10", "attributes": attributes} for attributes in ({}, {"size": "big"})]
    quote = client.post("/v1/quotes", json={"account_id": "acme", "items": items}).json()
    assert [item["cost"]["amount"] for item in quote["items"]] == ["1.00", "3.00"]


def test_every_resource_has_an_example(client):
    paths = {request_of(command)[1].partition("?")[0] for command, _ in EXAMPLES}
    documented = {re.sub(r"\{[^}]+\}", "[^?]+", path) for path in client.get("/openapi.json").json()["paths"]}
    shown = {pattern for pattern in documented for path in paths if re.fullmatch(pattern, path)}
    assert {path for path in documented if path.startswith("/v1/")} - shown == {
        "/v1/invoices/[^?]+/documents/[^?]+"  # a file
    }
