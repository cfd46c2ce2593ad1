"""What customers write through the API is billed and told: coupons become credits, budgets are looked at and sent."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from api import serving
from ratemill.api.scaleway.ids import Ids
from ratemill.errors import ExitCode
from receivers import HookServer, MailServer
from workspaces import ADDRESSED, TinyWorkspace, hours, make_workspace, month_of_usage

pytestmark = pytest.mark.slow

OCTOBER = datetime(2026, 10, 12, 9, tzinfo=UTC)
ACME, GLOBEX = (Ids.of("Example Cloud").organization(name) for name in ("acme", "globex"))
COUPONS = [
    {"coupon_id": "spring", "code": "SPRING-2026", "amount": "10", "currency": "EUR", "months": "1",
     "max_redemptions": "1", "note": "Spring voucher"},
    {"coupon_id": "globex-only", "code": "FOR-GLOBEX", "amount": "10", "currency": "EUR", "account_id": "globex",
     "note": "Thanks"},
    {"coupon_id": "late", "code": "TOO-LATE-NOW", "amount": "10", "currency": "EUR", "valid_to": "2026-10-01",
     "note": "Summer"},
]  # fmt: skip


@pytest.fixture(scope="module")
def october(tmp_path_factory):
    """A shop whose October is run: acme 74.40 of machines, globex 74.40 of disks (both untaxed)."""
    shop = make_workspace(tmp_path_factory.mktemp("october"), usage=month_of_usage(),
                          book={"accounts": ADDRESSED, "coupons": COUPONS})  # fmt: skip
    assert shop.run().code == ExitCode.DONE
    return shop


@pytest.fixture
def shop(october, tmp_path):
    shutil.copytree(october.root, tmp_path / "shop")
    return TinyWorkspace(tmp_path / "shop")


def redeem(client, code, organization=ACME):
    return client.post("/billing/v2beta1/redeem-coupon", params={"code": code, "organization_id": organization})


def test_a_redeemed_coupon_lowers_the_next_draft_once(shop):
    with serving(shop) as api:
        api.now = OCTOBER
        acme, globex = (api.client(organization=name, role="billing_manager") for name in ("acme", "globex"))
        reader = api.client(organization="acme")
        assert redeem(reader, "SPRING-2026").status_code == 403
        discount = redeem(acme, "SPRING-2026").json()
        assert (discount["mode"], discount["value"], discount["value_used"]) == ("discount_mode_splittable", 10.0, 0.0)
        assert discount["stop_date"] == "2026-10-31T23:59:59.999999Z"
        listed = acme.get("/billing/v2beta1/discounts").json()["discounts"]
        assert listed == [discount]  # before any run has seen it
        again = redeem(acme, "SPRING-2026")
        assert (again.status_code, again.json()["precondition"]) == (412, "coupon_is_unused")
        gone = redeem(globex, "SPRING-2026", GLOBEX)
        assert (gone.status_code, gone.json()["precondition"]) == (412, "coupon_is_left")
        assert redeem(acme, "FOR-GLOBEX").status_code == 404  # as if there were none
        assert redeem(acme, "TOO-LATE-NOW").json()["precondition"] == "coupon_is_valid"

        before = shop.invoice("acme")
        first = shop.run()
        assert first.code == ExitCode.DONE, first.stderr
        invoice = shop.invoice("acme")
        assert [Decimal(one["totals"]["untaxed"]) for one in (before, invoice)] == [Decimal("74.40"), Decimal("64.40")]
        once_more = shop.run()
        assert once_more.summary["periods"][0]["run_id"] == first.summary["periods"][0]["run_id"]  # nothing to do
        (used,) = acme.get("/billing/v2beta1/discounts").json()["discounts"]
        assert (used["id"], used["value_used"], used["value_remaining"]) == (discount["id"], 10.0, 0.0)
        assert used["coupon"] == {"description": "Spring voucher"}

        # The book forgets the coupon; what was granted stays.
        shop.write_book("coupons", None)
        assert shop.run().summary["periods"][0]["run_id"] == first.summary["periods"][0]["run_id"]
    closed = shop.close()
    assert closed.code == ExitCode.DONE, closed.stderr
    assert shop.command("verify", "--period", "2026-10").code == ExitCode.DONE


def test_nobody_finds_a_coupon_by_trying(shop):
    """Codes are made up by people: whoever may try as many as other requests finds one."""
    with serving(shop) as api:
        api.now = OCTOBER
        acme, globex = (api.client(organization=name, role="billing_manager") for name in ("acme", "globex"))
        tried = [redeem(acme, f"SPRING-{2000 + number}") for number in range(22)]
        assert [answer.status_code for answer in tried] == [404] * 20 + [429] * 2
        assert int(tried[-1].headers["retry-after"]) > 60
        assert redeem(acme, "SPRING-2026").status_code == 429
        assert redeem(globex, "SPRING-2026", GLOBEX).status_code == 200


def test_a_budget_made_through_the_api_is_told_by_mail_and_webhook(shop):
    with MailServer() as mail, HookServer() as hooks:
        shop.write_config({
            "notify": {
                "sender": "billing@cloud.example", "customers_webhooks": "any",
                "smtp": {"host": "127.0.0.1", "port": mail.port, "security": "none", "timeout_seconds": 5},
            }
        })  # fmt: skip
        with serving(shop) as api:
            api.now = OCTOBER
            acme = api.client(organization="acme", role="billing_manager")
            budget = acme.post("/billing/v2/budgets", json={"consumption_limit": 100, "enabled": True, "organizationId": ACME}).json()  # fmt: skip
            for threshold, told in (
                (80, {"email_addresses": ["cfo@acme.example"]}), (85, {"webhook_urls": [hooks.url]}),
                (90, {"email_addresses": ["never@acme.example"]}),
            ):  # fmt: skip
                alert = acme.post(
                    "/billing/v2/budget-alerts", json={"budget_id": budget["id"], "threshold": threshold}
                ).json()
                made = acme.post(
                    "/billing/v2/budget-alert-notifications", json={"budget_alert_id": alert["id"], **told}
                )
                assert made.status_code == 200, made.text
        sent = shop.command("alerts", "--as-of", "2026-11-02T06:00:00Z")
        assert sent.code == ExitCode.DONE, sent.stderr
        # 74.40 and 20 % tax are 89.28: 80 % and 85 % of 100 are reached, 90 % is not.
        assert mail.recipients == ["cfo@acme.example"]
        assert "89.2% used" in mail.subjects[0]
        (call,) = hooks.received
        assert (call.json["threshold"], call.json["invoice_start_date"]) == (85, "2026-10-01T00:00:00Z")
        assert (call.json["event"], call.json["data"]["amount"]) == ("budget", "89.28")
        assert "ratemill-signature" not in call.headers  # there is no secret that both sides know
        assert shop.command("alerts", "--as-of", "2026-11-02T07:00:00Z").summary["messages"] == []


def test_webhooks_of_customers_reach_no_private_network(shop):
    with HookServer() as hooks, serving(shop) as api:
        api.now = OCTOBER
        acme = api.client(organization="acme", role="billing_manager")
        budget = acme.post("/billing/v2/budgets", json={"consumption_limit": 10, "enabled": True, "organization_id": ACME}).json()  # fmt: skip
        alert = acme.post("/billing/v2/budget-alerts", json={"budget_id": budget["id"], "threshold": 10}).json()
        url = hooks.url.replace("http://127.0.0.1", "https://localhost")
        made = acme.post("/billing/v2/budget-alert-notifications", json={"budget_alert_id": alert["id"], "webhook_urls": [url]})  # fmt: skip
        assert made.status_code == 200
        ended = shop.command("alerts", "--as-of", "2026-11-02T06:00:00Z")
        assert ended.code == ExitCode.DATA_REFUSED
        assert "private network" in ended.stdout
        assert hooks.received == []


def test_an_electronic_address_is_that_of_the_months_end(shop):
    with serving(shop) as api:
        api.now = OCTOBER
        acme = api.client(organization="acme", role="billing_manager")
        for body in (
            {"value": "0225:new", "starts_at": "2026-10-31T00:00:00Z"},
            {"value": "0225:next", "starts_at": "2026-11-02"},
        ):
            made = acme.post("/billing/v2/electronic-address", json={**body, "organization_id": ACME})
            assert made.status_code == 200, made.text
        wrong = acme.post("/billing/v2/electronic-address", json={"value": "nowhere", "organization_id": ACME})
        assert (wrong.status_code, wrong.json()["details"][0]["argument_name"]) == (400, "value")
    assert shop.run().code == ExitCode.DONE
    assert shop.invoice("acme")["customer"]["electronic_address"] == "0225:new"


def test_a_page_token_is_of_one_published_state(shop):
    """Pages of two states would not fit together, so the client is told to begin again."""
    with serving(shop) as api:
        acme = api.client(organization="acme")
        query = {"organization_id": ACME, "start_date_after": "2026-10-01", "page_size": "10"}
        first = acme.get("/billing/v2beta1/charges", params=query).json()
        following = {**query, "page_token": first["next_page_token"]}
        second = acme.get("/billing/v2beta1/charges", params=following).json()
        starts = [one["start_date"] for page in (first, second) for one in page["charges"]]
        assert starts == sorted(set(starts))
        shop.write_usage("more.parquet", hours(resource="vm-2", count=70))
        assert shop.run().code == ExitCode.DONE
        refused = acme.get("/billing/v2beta1/charges", params=following)
        assert refused.status_code == 400
        assert "begin with the first page" in refused.json()["details"][0]["help_message"]
