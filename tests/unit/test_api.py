"""The Billing API as its clients see it: answers, pages, errors, headers, limits, keys."""

from __future__ import annotations

import json
import re
import threading
from datetime import timedelta
from decimal import Decimal
from urllib.parse import parse_qsl

import pytest

from api import NOON, serving
from members import make_customers
from ratemill.api import accesses
from ratemill.api.store import Store
from ratemill.errors import ExitCode
from workspaces import PERIOD, run_here

INVOICE = f"{PERIOD}-kestrel-EUR"


@pytest.fixture(scope="module")
def shop(closed_customers):
    return closed_customers


@pytest.fixture(scope="module")
def api(shop):
    with serving(shop) as api:
        yield api


@pytest.fixture(scope="module")
def kestrel(api):
    return api.client(organization="kestrel")


def got(client, path, **parameters):
    """The content of an answer that must be one."""
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def problem(answer, status):
    """A problem as RFC 9457 has it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert content["status"] == status
    assert content["type"].startswith("urn:ratemill:problem:")
    assert content["request_id"] == answer.headers["x-request-id"]
    return content


def amounts(items, name="untaxed"):
    return sum(Decimal(item[name]["amount"]) for item in items)


def everything(client, path, **parameters):
    """All pages of a list."""
    items, cursor = [], None
    path, _, query = path.partition("?")
    while True:
        page = got(client, path, **dict(parse_qsl(query)), **parameters, **({"cursor": cursor} if cursor else {}))
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items


# Answers -------------------------------------------------------------------------------------------------------------


def test_consumption_charges_and_invoices_say_the_same_amount(kestrel):
    """One ledger: however it is added up, to the last digit."""
    invoice = got(kestrel, f"/v1/invoices/{INVOICE}")
    untaxed = Decimal(invoice["untaxed"]["amount"])
    assert untaxed > 0
    for by in ("period", "account", "project", "service", "category", "sku", "region", "resource", "kind", "day"):
        consumed = got(kestrel, "/v1/consumption", group_by=by, page_size=1000)
        assert amounts(consumed["items"]) == untaxed, by
        assert amounts(consumed["totals"]) == untaxed
    assert amounts(got(kestrel, "/v1/consumption", group_by="tag", tag="owner")["items"]) == untaxed
    assert amounts(everything(kestrel, "/v1/charges", page_size=500), "cost") == untaxed
    assert amounts(everything(kestrel, f"/v1/invoices/{INVOICE}/lines", page_size=3), "net") == untaxed
    assert amounts(invoice["taxes"], "base") == untaxed
    assert untaxed + Decimal(invoice["tax"]["amount"]) == Decimal(invoice["total"]["amount"])


def test_consumption_is_filtered_and_grouped(kestrel):
    by_day = got(kestrel, "/v1/consumption", group_by=["account", "day"], account_id="merlin", page_size=1000)
    assert {item["account_id"] for item in by_day["items"]} == {"merlin"}
    assert [item["day"] for item in by_day["items"]] == sorted({item["day"] for item in by_day["items"]})
    one = got(kestrel, "/v1/consumption", group_by="sku", sku_id="vm", project_id="garnet")["items"]
    assert [(item["sku_id"], item["quantity"], item["unit"]) for item in one] == [("vm", "744", "Hours")]
    wrong = problem(kestrel.get("/v1/consumption?group_by=tag"), 422)
    assert wrong["errors"] == [
        {
            "in": "query",
            "name": "tag",
            "reason": "invalid",
            "detail": "names the key for group_by=tag; give both or none",
        }
    ]
    assert "before first_period" in problem(
        kestrel.get("/v1/consumption?first_period=2026-10&last_period=2026-09"), 422
    )["detail"]  # fmt: skip


def test_ranges_of_charges_side_by_side_are_the_whole(kestrel):
    """No charge is cut, and each is in the range that it starts in."""
    middle = "2026-10-17T00:00:00Z"
    before = everything(kestrel, "/v1/charges", starts_before=middle, page_size=100)
    after = everything(kestrel, "/v1/charges", starts_from=middle, page_size=100)
    whole = everything(kestrel, "/v1/charges", page_size=1000)
    assert before + after == whole
    assert everything(kestrel, "/v1/charges", sort="-start", page_size=77) == whole[::-1]
    assert min(len(before), len(after)) > 10
    assert all(charge["start"] < middle for charge in before)


def test_a_line_is_explained_down_to_resources_and_tiers(kestrel):
    lines = everything(kestrel, f"/v1/invoices/{INVOICE}/lines")
    for line in lines:
        explained = got(kestrel, f"/v1/invoices/{INVOICE}/lines/{line['line_number']}/explanation")
        assert explained["line"] == line
        assert explained["adds_up"] is True, explained
        assert sum(Decimal(step["amount"]["amount"]) for step in explained["steps"]) == Decimal(line["net"]["amount"])
    usage = next(line for line in lines if line["kind"] == "usage" and line["account_id"] == "falcon")
    explained = got(kestrel, f"/v1/invoices/{INVOICE}/lines/{usage['line_number']}/explanation")
    assert [price["price_id"] for price in explained["prices"]] == ["price-falcon"]
    assert explained["prices"][0]["tiers"][0]["unit_price"] == {"amount": "0.027", "currency": "EUR"}
    assert explained["resources"]
    assert "ratemill explain" in explained["not_here"]


def test_an_invoice_is_found_by_its_number_and_its_files_are_those_that_were_issued(api, shop, kestrel):
    invoice = got(kestrel, f"/v1/invoices/{INVOICE}")
    assert got(kestrel, f"/v1/invoices/{invoice['number']}") == invoice
    assert invoice["documents"] == ["csv", "json"]
    for ending, media in (("csv", "text/csv; charset=utf-8"), ("json", "application/json")):
        answer = kestrel.get(f"/v1/invoices/{invoice['number']}/documents/{ending}")
        assert answer.headers["content-type"] == media
        assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{invoice['number']}.{ending}"
        issued = shop.root / f"state/issued/period={PERIOD}/invoices/kestrel-EUR.{ending}"
        assert answer.content == issued.read_bytes()
    workbook = kestrel.get(f"/v1/invoices/{INVOICE}/documents/xlsx")
    assert workbook.content.startswith(b"PK")
    problem(kestrel.get(f"/v1/invoices/{INVOICE}/documents/pdf"), 404)
    problem(kestrel.get(f"/v1/invoices/{INVOICE}/documents/exe"), 422)


def test_a_file_that_is_not_as_it_was_issued_is_given_to_nobody(api, shop):
    marlin = api.client(organization="marlin")
    file = shop.root / f"state/issued/period={PERIOD}/invoices/marlin-EUR.csv"
    before = file.read_bytes()
    file.write_bytes(before + b"more")
    try:
        answer = marlin.get(f"/v1/invoices/{PERIOD}-marlin-EUR/documents/csv")
        assert problem(answer, 500)["type"] == "urn:ratemill:problem:document-damaged"
    finally:
        file.write_bytes(before)


def test_prices_are_told_with_tiers_and_lists(kestrel):
    prices = everything(kestrel, "/v1/prices", sku_id="vm")
    assert {price["price_list"] for price in prices} >= {"public", "list-kestrel", "list-falcon"}
    assert got(kestrel, "/v1/prices", sku_id="vm", price_list="list-marlin")["items"] == []
    assert got(kestrel, "/v1/prices", at="1999-01-01T00:00:00Z")["items"], "these hold since ever"
    assert [sku["sku_id"] for sku in everything(kestrel, "/v1/skus")] == ["disk", "egress", "vm"]


def test_deals_say_how_far_they_are_used(kestrel):
    (commitment,) = everything(kestrel, "/v1/commitments")
    assert (commitment["commitment_id"], commitment["amount"]["amount"]) == ("promise-kestrel", "400.00")
    assert [month["period"] for month in commitment["months"]] == [PERIOD]
    (credit,) = everything(kestrel, "/v1/credits")
    assert Decimal(credit["used"]["amount"]) + Decimal(credit["left"]["amount"]) == Decimal(credit["granted"]["amount"])
    discounts = {one["discount_id"]: one for one in everything(kestrel, "/v1/discounts")}
    assert discounts.keys() == {"autumn", "deal-falcon", "deal-kestrel"}
    taken = sum(Decimal(one["amount"]) for discount in discounts.values() for one in discount["taken_off"])
    assert taken == Decimal(got(kestrel, f"/v1/invoices/{INVOICE}")["discounts"]["amount"])


def test_a_quote_is_what_usage_would_cost_by_ones_own_prices(kestrel):
    asked = {"account_id": "falcon", "at": "2026-10-20T00:00:00Z", "items": [{"sku_id": "vm", "quantity": "744"}]}
    quote = kestrel.post("/v1/quotes", json=asked).json()
    assert quote["items"][0]["price_id"] == "price-falcon"
    assert quote["total"] == {"amount": "20.088", "currency": "EUR"}  # 744 × 0.027
    assert quote["items"][0]["list_cost"]["amount"] == "74.40"  # 744 × 0.10 for everybody else
    assert (quote["is_complete"], quote["period"]) == (True, PERIOD)
    unknown = {**asked, "items": [{"sku_id": "unheard-of", "quantity": "1"}]}
    assert problem(kestrel.post("/v1/quotes", json=unknown), 422)["errors"][0]["name"] == "items.0.sku_id"
    many = {**asked, "items": [{"sku_id": "vm", "quantity": "1"}] * 101}
    problem(kestrel.post("/v1/quotes", json=many), 422)


def test_a_key_of_a_part_sees_lines_and_charges_but_no_invoice(api):
    falcon = api.client(organization="kestrel", account="falcon")
    assert got(falcon, "/v1/invoices")["items"] == []
    problem(falcon.get(f"/v1/invoices/{INVOICE}"), 404)
    lines = everything(falcon, f"/v1/invoices/{INVOICE}/lines")
    assert {line["account_id"] for line in lines} == {"falcon"}
    assert amounts(everything(falcon, "/v1/charges", page_size=1000), "cost") == amounts(lines, "net")
    organization = got(falcon, "/v1/organizations")["items"][0]
    assert (organization["organization_id"], organization["name"], organization["sees_all"]) == ("kestrel", None, False)


# Pages ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/charges", "/v1/projects", "/v1/prices", "/v1/consumption?group_by=day"])
def test_pages_of_any_size_are_the_whole_list(kestrel, path):
    whole = everything(kestrel, path, page_size=1000)
    assert len(whole) > 1
    assert everything(kestrel, path, page_size=max(1, len(whole) // 3)) == whole


def test_a_cursor_is_for_its_list_its_filters_and_its_key(api, kestrel):
    cursor = got(kestrel, "/v1/charges", page_size=1)["next_cursor"]
    for client, path, parameters in (
        (kestrel, "/v1/projects", {}),
        (kestrel, "/v1/charges", {"account_id": "falcon"}),
        (api.client(organization="marlin"), "/v1/charges", {}),
    ):
        answer = client.get(path, params={**parameters, "cursor": cursor})
        assert problem(answer, 422)["errors"][0]["name"] == "cursor"
    for made_up in ("x", "A" * 40, cursor[:-2], cursor + "é"):
        problem(kestrel.get("/v1/charges", params={"cursor": made_up}), 422)


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name", "words"),
    [
        ("/v1/invoices?colour=red", "colour", "is not known"),
        ("/v1/invoices?page_size=1001", "page_size", "less than or equal to 1000"),
        ("/v1/invoices?sort=secret", "sort", "'period'"),
        ("/v1/charges?period=2026-13", "period", "is not a billing period"),
        ("/v1/charges?starts_from=2026-10-01T00:00:00", "starts_from", "timezone"),
        ("/v1/consumption?group_by=colour", "group_by.0", "'period'"),
    ],
)
def test_a_wrong_parameter_is_named(kestrel, path, name, words):
    (error,) = problem(kestrel.get(path), 422)["errors"]
    assert error["name"] == name
    assert words in error["detail"]


def test_what_is_not_there_is_told(kestrel):
    assert "there is nothing at /v1/nothing" in problem(kestrel.get("/v1/nothing"), 404)["detail"]
    assert problem(kestrel.put("/v1/invoices"), 405)["type"] == "urn:ratemill:problem:method-not-allowed"
    missing = problem(kestrel.get("/v1/invoices/2026-10-acme-EUR"), 404)
    assert (missing["resource"], missing["resource_id"]) == ("invoice", "2026-10-acme-EUR")
    assert "is no JSON" in problem(
        kestrel.post("/v1/quotes", content="{", headers={"Content-Type": "application/json"}), 422
    )["detail"]  # fmt: skip


def test_urls_and_bodies_have_limits(kestrel):
    problem(kestrel.get("/v1/invoices?organization_id=" + "x" * 9000), 414)
    problem(kestrel.post("/v1/quotes", content=b" " * 70_000), 413)
    chunks = (b" " * 10_000 for _ in range(10))  # no length is told beforehand
    problem(kestrel.post("/v1/quotes", content=chunks, headers={"Content-Type": "application/json"}), 413)


def test_an_error_of_ours_says_nothing_but_its_id(api, kestrel, monkeypatch):
    monkeypatch.setattr(api.core.snapshots, "current", lambda _scope: 1 / 0)
    answer = kestrel.get("/v1/invoices")
    assert re.fullmatch(r"an error of ours; tell us the request id \w+", problem(answer, 500)["detail"])
    assert "division" not in answer.text


# Headers -------------------------------------------------------------------------------------------------------------


def test_every_answer_has_its_security_headers(kestrel):
    for answer in (kestrel.get("/v1/invoices"), kestrel.get("/v1/nothing"), kestrel.get("/healthz")):
        headers = answer.headers
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert headers["strict-transport-security"].startswith("max-age=")
        assert "server" not in headers
    echoed = kestrel.get("/healthz", headers={"X-Request-Id": "from-you-1"}).headers["x-request-id"]
    made = kestrel.get("/healthz", headers={"X-Request-Id": "<script>"}).headers["x-request-id"]
    assert echoed == "from-you-1"
    assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_what_a_client_has_already_is_not_sent_again(kestrel):
    first = kestrel.get("/v1/invoices")
    again = kestrel.get("/v1/invoices", headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert kestrel.get("/v1/invoices?page_size=1", headers={"If-None-Match": '"other"'}).status_code == 200
    assert kestrel.get("/v1/invoices/nope", headers={"If-None-Match": "*"}).status_code == 404


# Keys ----------------------------------------------------------------------------------------------------------------


def test_a_key_is_needed(api):
    nobody = api.client_of(None)
    answer = nobody.get("/v1/invoices")
    assert problem(answer, 401)["reason"] == "missing"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert nobody.get(path).status_code == 200


def test_a_secret_is_sent_in_either_header(api):
    secret = api.key(organization="kestrel").secret
    for headers in ({"X-Auth-Token": secret}, {"Authorization": f"bearer {secret.upper()}"}):
        assert api.client_of(None).get("/v1/invoices", headers=headers).status_code == 200


def test_wrong_expired_and_revoked_keys_are_refused(api):
    wrong = api.client_of("6f2fca7e-4a0a-4d3c-9c5a-6a0ba3a6e9b5")
    assert problem(wrong.get("/v1/invoices"), 401)["reason"] == "invalid"
    key = api.key(organization="kestrel", lifetime=timedelta(days=1))
    client, noon = api.client_of(key.secret), api.now
    assert client.get("/v1/invoices").status_code == 200
    api.now = noon + timedelta(days=2)
    assert problem(client.get("/v1/invoices"), 401)["reason"] == "expired"
    api.now = noon


def test_a_key_that_is_revoked_by_another_process_ends_within_a_second(api, shop):
    key = api.key(organization="kestrel")
    client = api.client_of(key.secret)
    assert client.get("/v1/invoices").status_code == 200
    ended = run_here(["keys", "revoke", key.key.access_key, "-w", str(shop.root), "--json"])
    assert ended.summary["state"] == "revoked"
    threading.Event().wait(1.05)
    assert problem(client.get("/v1/invoices"), 401)["reason"] == "revoked"


def test_rate_limits_are_told_with_when_to_come_again(shop):
    with serving(shop, requests_per_minute=3, failures_per_minute=2) as api:
        client = api.client(organization="kestrel")
        assert [client.get("/v1/organizations").status_code for _ in range(4)] == [200, 200, 200, 429]
        answer = client.get("/v1/organizations")
        assert "asked more than 3 times within a minute" in problem(answer, 429)["detail"]
        assert 1 <= int(answer.headers["retry-after"]) <= 61
        wrong = api.client_of("wrong")
        assert [wrong.get("/v1/organizations").status_code for _ in range(3)] == [401, 401, 429]
        known = api.client(organization="marlin")
        assert known.get("/v1/organizations").status_code == 429, "nobody from this address may try another key now"


def test_accesses_are_kept_with_who_what_and_how_it_ended(shop):
    with serving(shop) as api:
        key = api.key(organization="kestrel")
        api.client_of(key.secret).get("/v1/invoices?organization_id=kestrel")
        api.client_of("wrong").get("/v1/charges")
        api.client_of(key.secret).get("/healthz")
    rows = api.core.store.rows("SELECT * FROM accesses ORDER BY rowid DESC LIMIT 2")
    assert [(row["access_key"], row["method"], row["path"], row["status"]) for row in reversed(rows)] == [
        (key.key.access_key, "GET", "/v1/invoices", 200),
        (None, "GET", "/v1/charges", 401),
    ]
    used = api.core.store.rows("SELECT last_used_at FROM keys WHERE access_key = :it", {"it": key.key.access_key})
    assert used[0]["last_used_at"].startswith("2026-11-03T12:00")


def test_a_path_can_forge_no_line_of_the_log(api, caplog):
    caplog.set_level("INFO", "ratemill")
    api.client_of(None).get("/v1/%0A2026-11-03T12:00:00Z%20all%20is%20well%1B[2J")
    noted = [record.path for record in caplog.records if record.getMessage() == "answered"]
    assert noted == ["/v1/%0A2026-11-03T12:00:00Z%20all%20is%20well%1B%5B2J"]


def test_strangers_push_no_access_of_a_key_out_of_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr(accesses, "_KEPT_STRANGERS", 3)
    store = Store(tmp_path / "api.sqlite")
    log = accesses.AccessLog(store, now=lambda: NOON)
    log.start()
    for access_key in ("SCWKESTREL", *[None] * 50):
        log.note(accesses.Access(NOON.isoformat(), "r", access_key, "127.0.0.1", "GET", "/v1/charges", 200, 1))
    log.stop()
    kept = store.rows("SELECT access_key FROM accesses ORDER BY rowid")
    store.close()
    assert [row["access_key"] for row in kept] == ["SCWKESTREL", None, None, None]


def test_a_client_makes_no_labels_of_metrics(api):
    for number in range(5):
        api.client_of(None).request(f"WORD{number}", "/v1/invoices")
    assert b"WORD" not in api.core.metrics.text()
    assert b'method="other"' in api.core.metrics.text()


def test_no_secret_is_kept_or_logged(api, shop, caplog):
    key = api.key(organization="kestrel")
    api.client_of(key.secret).get("/v1/invoices")
    assert key.secret not in caplog.text
    stored = b"".join(path.read_bytes() for path in (shop.root / "state").glob("api.sqlite*"))
    assert key.key.access_key.encode() in stored
    assert key.secret.encode() not in stored


def test_keys_are_made_listed_and_refused_for_what_is_not_there(shop):
    made = run_here(["keys", "create", "-w", str(shop.root), "--name", "ERP", "--organization", "kestrel",
                     "--project", "quartz", "--expires", "90", "--json"])  # fmt: skip
    assert re.fullmatch(r"SCW[A-Z0-9]{17}", made.summary["access_key"])
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", made.summary["secret"])
    listed = run_here(["keys", "list", "-w", str(shop.root), "--json"]).summary["keys"]
    mine = next(key for key in listed if key["access_key"] == made.summary["access_key"])
    assert (mine["name"], mine["state"], "secret" in mine) == ("ERP", "active", False)
    assert mine["grants"] == [{"role": "billing_reader", "organization_id": "kestrel", "project_id": "quartz"}]
    for options, words in (
        (["--organization", "kestrl"], "did you mean kestrel?"),
        (["--organization", "falcon"], "is not an account that pays"),
        (["--organization", "kestrel", "--account", "marlin"], "is not an account that kestrel pays for"),
        (
            ["--organization", "kestrel", "--organization", "marlin", "--project", "quartz"],
            "are parts of one organization",
        ),
    ):
        ended = run_here(["keys", "create", "-w", str(shop.root), "--name", "x", *options])
        assert ended.code == ExitCode.USAGE
        assert words in ended.stderr
    assert "there is no key 'SCWX'" in run_here(["keys", "revoke", "SCWX", "-w", str(shop.root)]).stderr


# The description -----------------------------------------------------------------------------------------------------


def test_the_description_is_complete_and_fetches_nothing(api):
    document = api.client_of(None).get("/openapi.json").json()
    own = {path: item for path, item in document["paths"].items() if path.startswith("/v1/")}
    assert len(own) >= 15
    for path, item in own.items():
        for method, operation in item.items():
            assert operation["description"], path
            assert "200" in operation["responses"]
            codes = {"401", "429", "503"} | ({"404"} if "{" in path else set())
            assert codes <= operation["responses"].keys(), (method, path)
    assert document["components"]["securitySchemes"].keys() == {"bearer", "token"}
    assert "http://" not in json.dumps(document)
    for path in ("/docs", "/redoc"):
        assert api.client_of(None).get(path).status_code == 404


def test_a_server_without_bills_says_so(tmp_path):
    shop = make_customers(tmp_path, months=1, documents=False)
    with serving(shop) as api:
        client = api.client(organization="kestrel")
        for path in ("/v1/invoices", "/readyz"):
            answer = client.get(path)
            assert problem(answer, 503)["type"] == "urn:ratemill:problem:not-published"
            assert answer.headers["retry-after"] == "60"
        assert client.get("/healthz").status_code == 200
