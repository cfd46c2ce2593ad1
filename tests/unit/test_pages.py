"""The pages of ``ratemill serve``: signing in and out, what they show to whom, and what their policy lets them do."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from fastapi.testclient import TestClient

from api import serving
from ratemill.api.sessions import COOKIE
from workspaces import PERIOD


@pytest.fixture(scope="module")
def shop(closed_customers):
    """October of three customers, closed; nobody's invoices have a PDF here, but every one a JSON."""
    return closed_customers


@pytest.fixture(scope="module")
def api(shop):
    with serving(shop) as api:
        yield api


@pytest.fixture
def stranger(api):
    return TestClient(api.app, follow_redirects=False)


def signed_in(api, **given):
    """A browser whose user has signed in."""
    browser = TestClient(api.app, follow_redirects=False)
    answer = browser.post("/", data={"key": api.key(**given).secret})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return browser


def text_of(answer):
    """What a page says, without markup."""
    assert answer.status_code == 200, answer.text
    body = answer.text.partition("<body>")[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)).replace("\N{NO-BREAK SPACE}", " ")


# ------------------------------------------------------------------------------------------------------- coming and going


def test_a_stranger_sees_the_form_and_nothing_else(stranger):
    form = stranger.get("/")
    assert "The secret of your API key" in text_of(form)
    assert "kestrel" not in form.text.lower()
    for path in ("/invoices", "/prices", f"/invoices/{PERIOD}-kestrel-EUR/pdf"):
        answer = stranger.get(path)
        assert (answer.status_code, answer.headers["location"], answer.content) == (303, "/", b"")


def test_the_cookie_is_for_this_site_alone_and_says_nothing_of_the_key(api, stranger):
    key = api.key(organization="kestrel")
    answer = stranger.post("/", data={"key": f" {key.secret.upper()} "})
    cookie = answer.headers["set-cookie"]
    assert re.fullmatch(rf"{COOKIE}=[\w-]{{43}}; HttpOnly; Max-Age=28800; Path=/; SameSite=strict", cookie)
    assert key.secret not in cookie
    secure = TestClient(api.app, base_url="https://billing.example", follow_redirects=False)
    assert secure.post("/", data={"key": key.secret}).headers["set-cookie"].endswith("; Secure")
    kept = api.core.store.rows("SELECT * FROM sessions")
    assert stranger.cookies[COOKIE] not in str(kept)


@pytest.mark.parametrize("given", ["", "wrong", "00000000-0000-4000-8000-000000000000", "x" * 5_000])
def test_a_wrong_secret_is_told_on_the_form(api, given):
    api.core.limits._limiter.storage.reset()
    browser = TestClient(api.app, follow_redirects=False)
    answer = browser.post("/", data={"key": given})
    assert answer.status_code == 401
    assert "There is no such key" in answer.text
    assert "set-cookie" not in answer.headers


def test_who_tries_secrets_is_stopped(shop):
    with serving(shop, failures_per_minute=3) as api:
        browser = TestClient(api.app)
        codes = [browser.post("/", data={"key": f"wrong-{number}"}).status_code for number in range(5)]
    assert codes == [401, 401, 401, 429, 429]


def test_signing_in_counts_as_a_request_of_the_key(shop):
    with serving(shop, requests_per_minute=3) as api:
        secret = api.key(organization="kestrel").secret
        browser = TestClient(api.app, follow_redirects=False)
        answers = [browser.post("/", data={"key": secret}) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [303, 303, 303, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_signing_out_ends_the_session_wherever_its_cookie_is(api):
    browser = signed_in(api, organization="kestrel")
    token = browser.cookies[COOKIE]
    assert browser.post("/sign-out").headers["location"] == "/"
    thief = TestClient(api.app, cookies={COOKIE: token})
    assert "The secret of your API key" in thief.get("/").text


def test_a_session_ends_with_its_key_and_with_the_day(api):
    browser, key = TestClient(api.app, follow_redirects=False), api.key(organization="kestrel")
    browser.post("/", data={"key": key.secret})
    assert "Sign out" in browser.get("/").text
    api.core.keys._ring.revoke(key.key.access_key, now=api.now)
    assert "Sign out" not in browser.get("/").text

    browser, now = signed_in(api, organization="kestrel"), api.now
    api.now = now + timedelta(hours=8)
    assert "Sign out" not in browser.get("/").text
    api.now = now


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}]
)
@pytest.mark.parametrize("path", ["/", "/sign-out"])
def test_no_other_site_signs_anybody_in_or_out(api, path, headers):
    browser = signed_in(api, organization="kestrel")
    answer = browser.post(path, data={"key": api.key(organization="marlin").secret}, headers=headers)
    assert answer.status_code == 403
    assert "This form was sent from another site" in answer.text
    assert "Kestrel Group" in browser.get("/").text


# --------------------------------------------------------------------------------------------------------- what they show


def test_costs_are_those_of_the_api_and_the_table_adds_up(api):
    browser, client = signed_in(api, organization="kestrel"), api.client(organization="kestrel")
    (total,) = client.get("/v1/consumption").json()["totals"]
    shown = browser.get("/").text
    cells = [Decimal(cell) for cell in re.findall(r'<tr class="service">.*?([-\d.]+)</td></tr>', shown)]
    rounding = re.search(r"Rounding of the rows</th>.*?([-\d.]+)</td>", shown)
    (whole,) = re.findall(r'<tr class="total"><th scope="row">Total before tax</th>.*?([-\d.]+)</td></tr>', shown)
    assert sum(cells) + Decimal(rounding[1] if rounding else 0) == Decimal(whole)
    assert Decimal(whole) == Decimal(total["untaxed"]["amount"]).quantize(Decimal("0.01"))
    assert f"EUR {whole}" in text_of(browser.get("/"))
    assert "<svg " in shown


def test_invoices_are_listed_with_their_numbers(api):
    shown = text_of(signed_in(api, organization="kestrel").get("/invoices"))
    assert re.search(r"Invoice 2026-\d{5} October 2026 .* EUR [\d.]+", shown)
    assert "marlin" not in shown.lower()


@pytest.mark.parametrize("path", ["/", "/invoices", "/prices"])
def test_a_page_says_whose_it_is(api, path):
    """It may be printed or passed on, without the line that says who is signed in."""
    (kicker,) = re.findall(r'<p class="kicker">(.*?)</p>', signed_in(api, organization="kestrel").get(path).text)
    assert "Kestrel Group" in kicker


def test_what_prepaid_credits_pay_is_not_to_be_paid_again(api):
    browser, client = signed_in(api, organization="marlin"), api.client(organization="marlin")
    (invoice,) = client.get("/v1/invoices").json()["items"]
    assert invoice["due"] != invoice["total"]
    assert f"to pay {invoice['due']['amount']}" in text_of(browser.get("/invoices"))


def test_prices_are_those_of_today(api):
    shown = text_of(signed_in(api, organization="kestrel").get("/prices"))
    assert "In EUR" in shown
    assert "VM, small vm Hours" in shown


def test_a_part_of_a_customer_sees_its_costs_and_no_invoices(api):
    browser = signed_in(api, project="garnet", organization="kestrel")
    assert "garnet" in text_of(browser.get("/")).lower()
    assert 'href="/invoices"' not in browser.get("/").text
    assert "no invoices yet that this key may see" in browser.get("/invoices").text


@pytest.mark.parametrize("path", ["/", "/invoices", "/prices", "/?customer=kestrel"])
def test_nobody_sees_anything_of_others(api, path):
    shown = signed_in(api, organization="kestrel").get(path).text.lower()
    assert [word for word in ("marlin", "dolphin", "osprey", "basalt") if word in shown] == []


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/?period=2026-13", 422, "period"),
        ("/?customer=marlin", 404, "There is no customer &#39;marlin&#39; that this key may see"),
        (f"/invoices/{PERIOD}-marlin-EUR/pdf", 404, "There is no invoice"),
        (f"/invoices/{PERIOD}-kestrel-EUR/pdf", 404, "There is no document"),
        ("/?period=1999-01", 200, "Nothing was billed in this month"),
    ],
)
def test_mistakes_are_told_on_a_page(api, path, status, words):
    answer = signed_in(api, organization="kestrel").get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert words in answer.text


# -------------------------------------------------------------------------------------------------------------- the policy


@pytest.mark.parametrize("path", ["/", "/invoices", "/prices", "/?period=2026-13"])
def test_a_page_may_use_its_own_style_sheet_and_nothing_else(api, path):
    answer = signed_in(api, organization="kestrel").get(path)
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert answer.headers["content-security-policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(
        r"<script|\sstyle=|\son[a-z]+=|javascript:|https?://",
        answer.text.partition("<body>")[2].replace("http://www.w3.org/", ""),
    )
