"""The Scaleway dialect as its own client sees it: the `scaleway` package against a running `ratemill serve`.

Two customers of tests/members.py: kestrel pays for falcon and merlin, marlin for dolphin. September is issued, with a
credit note by hand; October is a draft.
"""

from __future__ import annotations

import base64
import csv
import inspect
import io
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import httpx
import pytest
from scaleway import Client
from scaleway.account.v3 import AccountV3ProjectAPI
from scaleway.billing.v2 import BillingV2API, BillingV2ElectronicBillingAPI
from scaleway.billing.v2beta1 import BillingV2Beta1API, BillingV2Beta1FinOpsAPI
from scaleway.iam.v1alpha1 import IamV1Alpha1API
from scaleway.product_catalog.v2alpha1 import ProductCatalogV2Alpha1PublicCatalogAPI
from scaleway_core.api import ScalewayException

from api_server import new_key, serving_process
from members import make_customers
from ratemill.api.scaleway.ids import Ids
from ratemill.cli import run_command
from ratemill.errors import ExitCode
from workspaces import TinyWorkspace

pytestmark = pytest.mark.slow

IDS = Ids.of("Example Cloud")
KESTREL, FALCON, MARLIN = (IDS.organization(name) for name in ("kestrel", "falcon", "marlin"))
MONTHS = ("2026-09", "2026-10")
COUPON = {
    "coupon_id": "spring", "code": "SPRING-2026", "amount": "20", "currency": "EUR", "months": "3",
    "max_redemptions": "1", "note": "Spring voucher",
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    shop = make_customers(tmp_path_factory.mktemp("customers"))
    shop.write_book("coupons", [COUPON])
    for period in MONTHS:
        assert shop.run(period=period).code == ExitCode.DONE
    closed = shop.close(period="2026-09", waive=["usage.rejected"])
    assert closed.code == ExitCode.DONE, closed.stderr
    noted = shop.command("credit-note", "--invoice", "2026-00001", "--amount", "5", "--reason", "goodwill")
    assert noted.code == ExitCode.DONE, noted.stderr
    assert shop.run(period="2026-10").code == ExitCode.DONE
    return shop


@pytest.fixture(scope="module")
def server(shop):
    with serving_process(shop, "--rate-limit", "100000") as server:
        yield server


def client_of(server, key, organization=None):
    return Client(
        access_key=key["access_key"], secret_key=key["secret"], api_url=server.url, default_organization_id=organization
    )


@pytest.fixture(scope="module")
def kestrel(shop, server):
    """A manager of kestrel."""
    return client_of(server, new_key(shop, "--organization", "kestrel", "--role", "billing_manager"), KESTREL)


@pytest.fixture(scope="module")
def marlin(shop, server):
    """A reader of marlin."""
    return client_of(server, new_key(shop, "--organization", "marlin"), MARLIN)


def exact(money) -> Decimal:
    """Money of the client, proven to be well formed."""
    assert isinstance(money.units, int)
    assert abs(money.nanos) < 10**9
    assert money.units * money.nanos >= 0
    return money.units + Decimal(money.nanos).scaleb(-9)


def charges_of(client, **filters):
    """Every page of charges."""
    api, token, found = BillingV2Beta1FinOpsAPI(client), None, []
    while True:
        answer = api.list_charges(page_token=token, page_size=filters.pop("page_size", 100), **filters)
        found += answer.charges
        token = answer.next_page_token
        if token is None:
            return found


def refusal(call, *arguments, **named) -> tuple[int, dict]:
    """Status and body of what the client raises."""
    with pytest.raises(ScalewayException) as raised:
        call(*arguments, **named)
    return raised.value.status_code, json.loads(str(raised.value))


# ------------------------------------------------------------------------------------------------------- every method


def test_every_method_of_the_billing_clients_works(kestrel):  # noqa: PLR0915 - there are as many
    """None is forgotten: the methods are read off the classes."""
    beta, finops = BillingV2Beta1API(kestrel), BillingV2Beta1FinOpsAPI(kestrel)
    v2, electronic = BillingV2API(kestrel), BillingV2ElectronicBillingAPI(kestrel)
    called = Counter()

    def call(api, name, **arguments):
        called[type(api), name] += 1
        return getattr(api, name)(**arguments)

    assert call(beta, "list_consumptions", organization_id=KESTREL, billing_period="2026-10").consumptions
    assert call(beta, "list_consumptions_all", organization_id=KESTREL, billing_period="2026-10")
    assert call(beta, "list_taxes", billing_period="2026-10").taxes
    assert call(beta, "list_taxes_all", billing_period="2026-10")[0].rate == 0.2
    invoices = call(beta, "list_invoices").invoices
    assert call(beta, "list_invoices_all", page_size=1) == invoices
    assert call(beta, "get_invoice", invoice_id=invoices[0].id) == invoices[0]
    pdf = call(beta, "download_invoice", invoice_id=invoices[0].id)
    assert base64.b64decode(pdf.content).startswith(b"%PDF-")
    assert pdf.content_type == "application/pdf"
    table = call(beta, "export_invoices")
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(table.content).decode("utf-8-sig"))))
    assert [row["id"] for row in rows] == [invoice.id for invoice in invoices]
    assert "2026-00001" in {row["number"] for row in rows}
    assert call(beta, "list_discounts").discounts
    assert call(beta, "list_discounts_all")
    redeemed = call(beta, "redeem_coupon", code="SPRING-2026")
    assert (redeemed.value_remaining, redeemed.coupon.description) == (20.0, "Spring voucher")
    assert call(finops, "list_charges", start_date_after=datetime(2026, 10, 2, tzinfo=UTC)).charges

    budget = call(v2, "create_budget", consumption_limit=1000, enabled=True)
    assert (budget.organization_id, exact(budget.consumption_limit)) == (KESTREL, 1000)
    assert budget.consumption_limit.currency_code == "EUR"
    alert = call(v2, "create_budget_alert", budget_id=budget.id, threshold=80)
    told = call(
        v2, "create_budget_alert_notification", budget_alert_id=alert.id, email_addresses=["cfo@kestrel.example"]
    )
    changed = call(v2, "update_budget_alert_notification", budget_alert_notification_id=told.id,
                   webhook_urls=["https://hooks.kestrel.example/a"])  # fmt: skip
    assert (changed.type_, changed.recipients) == ("webhook", ["https://hooks.kestrel.example/a"])
    assert call(v2, "update_budget_alert", budget_alert_id=alert.id, threshold=90).threshold == 90
    assert call(v2, "update_budget", budget_id=budget.id, enabled=False).enabled is False
    whole = call(v2, "get_budget", budget_id=budget.id)
    assert [(a.threshold, [n.id for n in a.notifications]) for a in whole.alerts] == [(90, [told.id])]
    assert [one.id for one in call(v2, "list_budgets").budgets] == [budget.id]
    assert call(v2, "list_budgets_all", page_size=1) == [whole]
    call(v2, "delete_budget_alert_notification", budget_alert_notification_id=told.id)
    call(v2, "delete_budget_alert", budget_alert_id=alert.id)
    assert call(v2, "get_budget", budget_id=budget.id).alerts == []
    call(v2, "delete_budget", budget_id=budget.id)
    assert refusal(v2.get_budget, budget_id=budget.id)[0] == 404

    address = call(electronic, "create_electronic_address", value="0225:123456789")
    assert call(electronic, "get_electronic_address", electronic_address_id=address.id) == address
    end = datetime(2030, 1, 1, tzinfo=UTC)
    ended = call(electronic, "update_electronic_address", electronic_address_id=address.id, stops_at=end)
    assert (ended.value, ended.stops_at) == ("0225:123456789", end)
    assert call(electronic, "list_electronic_addresses").electronic_addresses == [ended]
    assert call(electronic, "list_electronic_addresses_all", page_size=1) == [ended]
    call(electronic, "delete_electronic_address", electronic_address_id=address.id)

    for api in (beta, finops, v2, electronic):
        methods = {name for name, _ in inspect.getmembers(type(api), inspect.isfunction) if not name.startswith("_")}
        assert methods == {name for cls, name in called if cls is type(api)}


def test_projects_and_members_can_be_read(kestrel):
    account, iam = AccountV3ProjectAPI(kestrel), IamV1Alpha1API(kestrel)
    projects = account.list_projects_all(order_by="name_asc")
    assert [one.name for one in projects] == [
        "Garnet Works",
        "Quartz Works",
        "Topaz Works",
        "default",
        "default",
        "default",
    ]
    assert {one.organization_id for one in projects} == {KESTREL}
    assert [one.id for one in account.list_projects(name="Garnet Works").projects] == [projects[0].id]
    assert account.list_projects(project_ids=[projects[1].id]).total_count == 1
    assert account.get_project(project_id=projects[0].id) == projects[0]
    assert account.wait_for_project(project_id=projects[0].id).status == "active"

    users = {one.id: one.email for one in iam.list_users_all()}
    keys = {one.id: one.name for one in iam.list_applications_all()}
    assert sorted(users.values()) == ["boss@kestrel.example", "cfo@kestrel.example", "dev@falcon.example"]
    assert iam.get_user(user_id=next(iter(users))).email in users.values()
    granted = {}
    for policy in iam.list_policies_all():
        who = users.get(policy.user_id) or keys[policy.application_id]
        for rule in iam.list_rules_all(policy_id=policy.id):
            scope = rule.organization_id or sorted(rule.project_ids)
            granted[who] = (rule.permission_set_names, scope)
    assert granted["cfo@kestrel.example"] == (["BillingManager"], KESTREL)
    quartz = sorted(IDS.project(account, "quartz") for account in ("kestrel", "falcon"))
    assert granted["dev@falcon.example"] == (["BillingReadOnly"], sorted([FALCON, IDS.project("falcon", "quartz")]))
    assert granted["topaz-now"] == (["BillingReadOnly"], [IDS.project("kestrel", "topaz")])
    assert [one.name for one in iam.list_permission_sets_all()] == ["BillingManager", "BillingReadOnly"]
    assert iam.list_groups_all() == []
    assert iam.get_organization(organization_id=KESTREL).name == "Kestrel Group"
    assert iam.get_api_key(access_key=kestrel.access_key).access_key == kestrel.access_key
    assert quartz


def test_public_prices_are_the_catalogue(kestrel):
    api = ProductCatalogV2Alpha1PublicCatalogAPI(kestrel)
    products = api.list_public_catalog_products_all(page_size=2)
    assert {(one.sku, exact(one.price.retail_price)) for one in products} == {
        ("vm", Decimal("0.10")), ("disk", Decimal("0.0744")), ("egress", Decimal("0.05")),
    }  # fmt: skip
    assert {one.unit_of_measure.unit for one in products if one.sku == "vm"} == {"hour"}


# ------------------------------------------------------------------------------------------------------- the same sums


@pytest.mark.parametrize("month", MONTHS)
def test_charges_consumptions_and_invoices_are_the_same_to_the_last_digit(kestrel, month):
    beta = BillingV2Beta1API(kestrel)
    consumed = beta.list_consumptions_all(organization_id=KESTREL, billing_period=month)
    (invoice,) = [
        one for one in beta.list_invoices_all() if f"{one.billing_period:%Y-%m}" == month and one.type_ == "periodic"
    ]
    charges = charges_of(kestrel, invoice_ids=[invoice.id])
    by_charges, by_consumption = Counter(), Counter()
    for one in charges:
        by_charges[one.project_id, one.sku] += exact(one.price)
    for one in consumed:
        by_consumption[one.project_id, one.sku] += exact(one.value)
    assert len(charges) > len(consumed) > 5
    assert +by_charges == +by_consumption
    assert sum(by_charges.values()) == sum(by_consumption.values()) == exact(invoice.total_undiscount)

    answer = beta.list_consumptions(organization_id=KESTREL, billing_period=month, page=99, page_size=100)
    assert answer.consumptions == []
    taken_off = Decimal(str(answer.total_discount_untaxed_value))  # right on every page, also past the end
    assert taken_off == -exact(invoice.total_discount) > 0
    assert exact(invoice.total_undiscount) + exact(invoice.total_discount) == exact(invoice.total_untaxed)
    assert exact(invoice.total_untaxed) + exact(invoice.total_tax) == exact(invoice.total_taxed)
    taxes = beta.list_taxes_all(billing_period=month)
    assert sum(Decimal(str(one.total_tax_value)) for one in taxes) == exact(invoice.total_tax)


def test_the_demo_agrees_too(tmp_path):
    """Discounts, commitments, caps, five currencies, projects that move: each customer's three views are one ledger."""
    folder = tmp_path / "demo"
    made = ["init", str(folder), "--sample", "demo", "--resources", "60", "--months", "1", "--until", "2026-10"]
    assert run_command(made) == ExitCode.DONE
    assert run_command(["run", "-w", str(folder), "--period", "2026-10", "--quiet"]) == ExitCode.DONE
    shop, ids = TinyWorkspace(folder), Ids.of("Nordwind Cloud")
    customers = ["acc-lumen", "acc-hana", "acc-mueller", "acc-omega", "acc-cascade", "acc-marjan"]
    options = [word for name in customers for word in ("--organization", name)]
    with serving_process(shop, "--rate-limit", "100000") as server:
        client = client_of(server, new_key(shop, *options))
        beta = BillingV2Beta1API(client)
        invoices = {one.organization_id: one for one in beta.list_invoices_all()}
        assert len(invoices) == len(customers)
        for name in customers:
            organization = ids.organization(name)
            invoice = invoices[organization]
            consumed = beta.list_consumptions_all(organization_id=organization, billing_period="2026-10")
            charged = charges_of(client, organization_id=organization, invoice_ids=[invoice.id])
            assert (
                sum(exact(one.price) for one in charged)
                == sum(exact(one.value) for one in consumed)
                == exact(invoice.total_undiscount)
                > 0
            ), name


# ------------------------------------------------------------------------------------------------------------ invoices


def test_invoices_look_as_its_clients_expect(kestrel):
    beta = BillingV2Beta1API(kestrel)
    issued, note, draft = (
        beta.list_invoices(invoice_type="periodic", billing_period_start_before=datetime(2026, 10, 1, tzinfo=UTC)).invoices[0],
        beta.list_invoices(invoice_type="credit_note").invoices[0],
        beta.list_invoices(billing_period_start_after=datetime(2026, 10, 1, tzinfo=UTC)).invoices[0],
    )  # fmt: skip
    assert (issued.state, issued.number, issued.seller_name) == ("issued", 202600001, "Example Cloud")
    assert issued.start_date == datetime(2026, 9, 1, tzinfo=UTC)
    assert issued.stop_date == datetime(2026, 9, 30, 23, 59, 59, 999999, tzinfo=UTC)
    assert issued.billing_period == datetime(2026, 9, 1, tzinfo=UTC)
    assert f"{issued.due_date:%H:%M:%S.%f}" == "23:59:59.999999"
    assert issued.due_date > issued.issued_date
    assert (note.type_, note.number, exact(note.total_taxed) < 0) == ("credit_note", 202600001, True)
    assert (draft.state, draft.number, draft.issued_date, draft.due_date) == ("stopped", 0, None, None)
    assert (draft.organization_id, draft.organization_name) == (KESTREL, "Kestrel Group")
    for uuid in (issued.id, issued.organization_id):
        assert UUID(uuid).version == 5


def test_invoices_come_in_every_order_and_in_pages(kestrel):
    beta = BillingV2Beta1API(kestrel)
    keys = {
        "invoice_number": lambda one: one.number,
        "start_date": lambda one: one.start_date,
        "issued_date": lambda one: one.issued_date or datetime.min.replace(tzinfo=UTC),
        "due_date": lambda one: one.due_date or datetime.min.replace(tzinfo=UTC),
        "total_untaxed": lambda one: exact(one.total_untaxed),
        "total_taxed": lambda one: exact(one.total_taxed),
        "invoice_type": lambda one: one.type_,
    }
    for name, key in keys.items():
        for way in ("asc", "desc"):
            found = list(map(key, beta.list_invoices_all(order_by=f"{name}_{way}", page_size=2)))
            assert found == sorted(found, reverse=way == "desc"), (name, way)
            assert len(found) == 3
    assert beta.list_invoices(page=4, page_size=2).invoices == []
    assert beta.list_invoices(page=4, page_size=2).total_count == 3


# -------------------------------------------------------------------------------------------- consumptions and charges


def test_consumptions_are_filtered(kestrel):
    beta = BillingV2Beta1API(kestrel)
    october = {"billing_period": "2026-10"}
    everything = beta.list_consumptions_all(organization_id=KESTREL, **october)
    compute = beta.list_consumptions(organization_id=KESTREL, category_name="Compute", **october)
    assert 0 < len(compute.consumptions) < len(everything)
    assert {one.category_name for one in compute.consumptions} == {"Compute"}
    assert compute.total_discount_untaxed_value == 0  # it can't be told apart by category
    project = IDS.project("falcon", "quartz")
    of_project = beta.list_consumptions_all(project_id=project, **october)
    assert {(one.project_id, one.project_name, one.consumer_id) for one in of_project} == {
        (project, "Quartz Works", FALCON)
    }
    of_account = beta.list_consumptions_all(organization_id=FALCON, **october)  # one that kestrel pays for
    assert {one.consumer_id for one in of_account} == {FALCON}
    names = [
        one.category_name
        for one in beta.list_consumptions_all(organization_id=KESTREL, order_by="category_name_desc", **october)
    ]
    assert names == sorted(names, reverse=True)
    pages = beta.list_consumptions_all(organization_id=KESTREL, page_size=2, **october)
    assert [(one.project_id, one.sku, one.product_name) for one in pages] == [
        (one.project_id, one.sku, one.product_name) for one in everything
    ]
    assert all(isinstance(one.billed_quantity, str) for one in everything)
    assert beta.list_consumptions(organization_id=KESTREL, billing_period="2020-01").consumptions == []


def test_charges_are_filtered_and_paged_both_ways(kestrel):
    everything = charges_of(kestrel, start_date_after=datetime(2026, 9, 1, tzinfo=UTC), page_size=37)
    rows = [(one.start_date, one.resource_id, one.sku, exact(one.price)) for one in everything]
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    back = charges_of(
        kestrel, start_date_after=datetime(2026, 9, 1, tzinfo=UTC), order_by="start_date_desc", page_size=41
    )
    assert [(one.start_date, one.resource_id, one.sku, exact(one.price)) for one in reversed(back)] == rows
    project = IDS.project("merlin", "garnet")
    window = {"start_date_after": datetime(2026, 10, 1, tzinfo=UTC), "end_date_before": datetime(2026, 10, 31, 23, 59, 59, 999999, tzinfo=UTC)}  # fmt: skip
    machine = charges_of(kestrel, project_ids=[project], resource_ids=["vm-merlin-garnet"], skus=["vm"], **window)
    assert len(machine) == 31
    assert {(one.resource_name, one.project_id) for one in machine} == {("name-merlin-garnet", project)}
    assert charges_of(kestrel, resource_names=["name-merlin-garnet"], **window) == machine
    assert machine[0].end_date == datetime(2026, 10, 1, 23, 59, 59, 999999, tzinfo=UTC)
    assert charges_of(kestrel, resource_ids=["vm-marlin"], **window) == []


def test_a_window_clamps_charges_or_leaves_them_out(kestrel):
    """A day at noon: with clamping two halves of two days; windows side by side add up to the days."""
    of = {"resource_ids": ["vm-merlin-garnet"], "skus": ["vm"]}
    noons = [datetime(2026, 10, day, 12, tzinfo=UTC) for day in (3, 4, 5)]
    assert charges_of(kestrel, start_date_after=noons[0], end_date_before=noons[1], **of) == []
    halves = [
        charges_of(kestrel, start_date_after=start, end_date_before=end, clamp_to_time_range=True, **of)
        for start, end in ((datetime(2026, 10, 3, tzinfo=UTC), noons[0]), (noons[0], noons[1]), (noons[1], datetime(2026, 10, 5, tzinfo=UTC)))
    ]  # fmt: skip
    assert [len(half) for half in halves] == [1, 2, 1]
    assert (halves[1][0].start_date, halves[1][1].end_date) == (
        noons[0],
        datetime(2026, 10, 4, 11, 59, 59, 999999, tzinfo=UTC),
    )
    days = charges_of(kestrel, start_date_after=datetime(2026, 10, 3, tzinfo=UTC), end_date_before=datetime(2026, 10, 5, tzinfo=UTC), **of)  # fmt: skip
    assert len(days) == 2
    assert sum(exact(one.price) for half in halves for one in half) == sum(exact(one.price) for one in days)


# -------------------------------------------------------------------------------------------------------------- refusals


def test_refusals_are_the_clients_exceptions(server, kestrel, marlin):
    beta, v2 = BillingV2Beta1API(kestrel), BillingV2API(kestrel)
    stranger = Client(access_key="SCW" + "A" * 17, secret_key=str(UUID(int=1)), api_url=server.url)
    status, body = refusal(BillingV2Beta1API(stranger).list_invoices)
    assert (status, body["type"], body["reason"]) == (401, "denied_authentication", "not_found")
    nobody = "00000000-0000-4000-8000-000000000000"
    for organization in (MARLIN, nobody):  # one cannot be told from the other
        status, body = refusal(beta.list_invoices, organization_id=organization)
        assert (status, body) == (403, {
            "type": "permissions_denied", "message": "insufficient permissions",
            "details": [{"resource": "billing", "action": "read"}],
        })  # fmt: skip
    of_marlin = BillingV2Beta1API(marlin).list_invoices().invoices[0].id
    for uuid in (of_marlin, nobody):
        status, body = refusal(beta.get_invoice, invoice_id=uuid)
        assert (status, body) == (404, {
            "type": "not_found", "message": "resource is not found", "resource": "invoice", "resource_id": uuid,
        })  # fmt: skip
    status, body = refusal(beta.list_invoices, order_by="colour_asc", page_size=100_000)
    assert (status, body["type"], body["message"]) == (400, "invalid_arguments", "invalid argument(s)")
    assert {detail["argument_name"]: detail["reason"] for detail in body["details"]} == {
        "order_by": "constraint", "page_size": "constraint",
    }  # fmt: skip
    status, body = refusal(BillingV2Beta1FinOpsAPI(kestrel).list_charges, page_token="bm9uZQ")  # noqa: S106
    assert (status, body["details"][0]["argument_name"]) == (400, "page_token")
    status, body = refusal(v2.create_budget, consumption_limit=0, enabled=True)
    assert (status, body["details"][0]["argument_name"]) == (400, "consumption_limit")
    status, body = refusal(BillingV2API(marlin).create_budget, consumption_limit=10, enabled=True)  # a reader
    assert (status, body["type"], body["details"][0]["action"]) == (403, "permissions_denied", "write")
    status, body = refusal(beta.redeem_coupon, code="NO-SUCH-CODE")
    assert (status, body["resource"]) == (404, "coupon")


def test_sms_and_insecure_webhooks_are_refused_with_the_reason(kestrel):
    v2 = BillingV2API(kestrel)
    budget = v2.create_budget(consumption_limit=50, enabled=True)
    alert = v2.create_budget_alert(budget_id=budget.id, threshold=100)
    for recipients, words in (
        ({"sms_phone_numbers": ["+33612345678"]}, "no SMS are sent here"),
        ({"webhook_urls": ["http://hooks.kestrel.example/"]}, "https://"),
        ({"email_addresses": ["nobody"]}, "e-mail address"),
    ):
        status, body = refusal(v2.create_budget_alert_notification, budget_alert_id=alert.id, **recipients)
        assert status == 400
        assert words in body["details"][0]["help_message"]
    for _ in range(9):
        v2.create_budget_alert(budget_id=budget.id, threshold=50)
    status, body = refusal(v2.create_budget_alert, budget_id=budget.id, threshold=50)
    assert (status, body["type"], body["details"][0]["quota"]) == (403, "quotas_exceeded", 10)
    v2.delete_budget(budget_id=budget.id)


# ---------------------------------------------------------------------------------------------------------- two tenants


def test_one_customer_sees_nothing_of_the_other(kestrel, marlin):
    for client, own, other in ((kestrel, KESTREL, MARLIN), (marlin, MARLIN, KESTREL)):
        beta = BillingV2Beta1API(client)
        for month in MONTHS:
            rows = beta.list_consumptions_all(billing_period=month)  # whatever the key sees
            assert rows
            assert {one.consumer_id for one in rows} <= {
                IDS.organization(name)
                for name in (("kestrel", "falcon", "merlin") if own == KESTREL else ("marlin", "dolphin"))
            }
        assert {one.organization_id for one in beta.list_invoices_all()} == {own}
        assert {one.organization_id for one in beta.list_discounts_all()} == {own}
        assert {
            one.organization_id for one in charges_of(client, start_date_after=datetime(2026, 9, 1, tzinfo=UTC))
        } == {own}
        assert refusal(BillingV2Beta1FinOpsAPI(client).list_charges, organization_id=other)[0] == 403
        assert refusal(AccountV3ProjectAPI(client).list_projects, organization_id=other)[0] == 403
        assert refusal(IamV1Alpha1API(client).list_users, organization_id=other)[0] == 403
    budget = BillingV2API(kestrel).create_budget(consumption_limit=5, enabled=True)
    assert refusal(BillingV2API(marlin).get_budget, budget_id=budget.id)[0] == 404
    assert refusal(BillingV2API(marlin).delete_budget, budget_id=budget.id)[0] == 404
    BillingV2API(kestrel).delete_budget(budget_id=budget.id)


def test_a_key_for_one_project_sees_that_alone(shop, server):
    client = client_of(server, new_key(shop, "--organization", "kestrel", "--project", "quartz"), KESTREL)
    beta = BillingV2Beta1API(client)
    quartz = {IDS.project(account, "quartz") for account in ("kestrel", "falcon")}
    assert {one.project_id for one in beta.list_consumptions_all(billing_period="2026-10")} == quartz
    charges = charges_of(client, start_date_after=datetime(2026, 9, 1, tzinfo=UTC))
    assert {one.project_id for one in charges} == quartz
    assert refusal(beta.list_invoices)[0] == 403  # an invoice is of the whole organization
    assert refusal(beta.list_taxes)[0] == 403
    assert {one.id for one in AccountV3ProjectAPI(client).list_projects_all()} <= quartz


# ------------------------------------------------------------------------------------------------- what else comes in


def test_what_other_clients_and_people_send_is_understood(server, kestrel):
    """Camel case, blanks in instants, True, bodies of GET, unknown parameters: as curl and the other clients do."""
    headers = {"X-Auth-Token": kestrel.secret_key}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as plain:
        query = {
            "organizationId": KESTREL, "startDateAfter": "2026-10-03 12:00:00+00:00", "endDateBefore": "2026-10-04",
            "clampToTimeRange": "True", "resourceIds": "vm-merlin-garnet", "pageSize": "1", "someNewThing": "x",
        }  # fmt: skip
        answer = plain.request("GET", "/billing/v2beta1/charges", params=query, content=b"{}")
        assert answer.status_code == 200
        (charge,) = answer.json()["charges"]
        assert (charge["start_date"], charge["end_date"]) == ("2026-10-03T12:00:00Z", "2026-10-03T23:59:59.999999Z")
        assert {type(value) for name, value in charge["price"].items() if name != "currency_code"} == {int}
        listed = plain.get("/billing/v2beta1/invoices", params={"organization_id": KESTREL})
        assert "x-total-count" not in listed.headers
        assert listed.headers["x-frame-options"] == "DENY"
        assert listed.headers["content-type"] == "application/json"
        wrong = plain.get("/billing/v2beta1/nothing")
        assert (wrong.status_code, wrong.json()["type"]) == (404, "not_found")
        native = plain.get("/billing/v2beta1/consumptions", params={"organization_id": "kestrel"})
        assert (native.status_code, native.json()["details"][0]["reason"]) == (400, "format")
        body = plain.post("/billing/v2/budgets", content=b"[1]")
        assert (body.status_code, body.json()["details"][0]["argument_name"]) == (400, "body")
