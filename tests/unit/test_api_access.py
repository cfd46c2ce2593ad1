"""Nothing leaves the API that the key may not see: the relations of sql/api/seen, and that nothing goes past them."""

from __future__ import annotations

import re
from itertools import product

import pytest

from api import serving
from ratemill.api import snapshots
from ratemill.api.access import ScopeParameters
from ratemill.api.snapshots import SEEN, composed, seen_relations
from ratemill.book.model import Book
from ratemill.insight.access import RULES, Grant, Ledger, Scope, Seen, visible
from ratemill.io.published import PublishedTables
from ratemill.resources import shipped
from ratemill.steps.export_member import TABLES
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.invoices import INVOICE_LINES, INVOICES

QUERIES = sorted(
    path.relative_to(shipped("sql")).with_suffix("").as_posix()
    for path in (shipped("sql") / "api").rglob("*.sql")
    if not {"seen", "store"} & set(path.parts)
)
NOT_OF_A_TABLE = {"line_charges", "own_accounts", "periods", "terms", "time_zones"}
"""Relations that are no published table: parts of one, or facts that say nothing about a customer."""
SCOPES = {
    "an organization": [Grant("billing_reader", "kestrel")],
    "two organizations": [Grant("billing_reader", "kestrel"), Grant("billing_reader", "marlin")],
    "one without projects": [Grant("billing_reader", "osprey")],
    "an account": [Grant("billing_reader", "kestrel", account_id="falcon")],
    "the account that pays": [Grant("billing_reader", "kestrel", account_id="kestrel")],
    "a project that moved within": [Grant("billing_reader", "kestrel", project_id="quartz")],
    "a project that came": [Grant("billing_reader", "kestrel", project_id="topaz")],
    "a project that went": [Grant("billing_reader", "marlin", project_id="topaz")],
    "an account and a project": [
        Grant("billing_reader", "kestrel", account_id="merlin"), Grant("billing_reader", "kestrel", project_id="quartz"),
    ],
    "somebody unheard of": [Grant("billing_reader", "nobody")],
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(billed_customers):
    return billed_customers


@pytest.fixture(scope="module")
def api(shop):
    with serving(shop) as api:
        yield api


@pytest.fixture(scope="module")
def published(shop):
    with PublishedTables.open(shop.root / "published/billing.duckdb", memory=500_000_000) as tables:
        yield {name: tables.frame(TABLES[name]) for name in {*seen_relations()} - NOT_OF_A_TABLE}


@pytest.fixture(scope="module")
def ledger(published, shop):
    with PublishedTables.open(shop.root / "published/billing.duckdb", memory=500_000_000) as tables:
        book = Book.of(**{table.name: tables.frame(table) for table in BOOK_TABLES})
    return Ledger(published[INVOICES.name], published[INVOICE_LINES.name], book)


def rows_of(api, scope, relation, columns):
    """What the relation gives to a key of that scope: its rows as texts, sorted."""
    with api.core.snapshots.current(scope) as snapshot:
        text, names = composed_relation(relation)
        rows = snapshot._run(text, {name: list(vars(snapshot._scope)[name]) for name in names})
    return sorted(repr([row[name] for name in columns]) for row in rows)


def composed_relation(relation):
    """A relation as a statement by itself."""
    needed: dict[str, str] = {}
    text = f"SELECT * FROM {SEEN}{relation}"
    snapshots._collect(text, needed)
    ctes = ", ".join(f"{SEEN}{name} AS ({body})" for name, body in needed.items())
    whole = f"WITH {ctes} {text}"
    return whole, sorted(set(re.findall(r"\$([a-z]\w*)", whole)))


@pytest.mark.parametrize(
    ("scope", "relation"), list(product(SCOPES, sorted({*seen_relations()} - NOT_OF_A_TABLE))), ids=str
)
def test_a_relation_has_the_rows_that_the_rules_of_members_let_through(api, published, ledger, scope, relation):
    """Two roads: SQL on the database for the API, Polars on frames for the exports of members."""
    grants = Scope("a key", tuple(sorted(SCOPES[scope])))
    rule = RULES[relation]
    expected = visible(relation, published[relation], Seen(grants, ledger))
    columns = [name for name in expected.columns if name not in rule.hides]

    found = rows_of(api, grants, relation, columns)

    assert found == sorted(repr([row[name] for name in columns]) for row in expected.iter_rows(named=True))


def test_every_relation_shows_something_to_somebody(api):
    """Else the comparison above would compare nothing with nothing."""
    for relation in seen_relations():
        assert any(
            rows_of(api, Scope("a key", tuple(sorted(grants))), relation, []) for grants in SCOPES.values()
        ) or relation in {"documents", "fx_rates", "windows"}, relation


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_reads_relations_that_are_filtered_by_the_key(api, query):
    """No query names a published table: it would have no catalogue to find it in, and is refused before that."""
    text, names = composed(query)
    own = re.sub(r"--.*", "", (shipped("sql") / f"{query}.sql").read_text(encoding="utf-8"))
    read = set(re.findall(rf"\b(?:FROM|JOIN)\s+{SEEN}(\w+)", own))
    assert read, "it reads nothing that is seen"
    assert read <= {*seen_relations()}
    assert {"payers", "whole"} & {*names}
    with api.core.snapshots.current(Scope("a key", (Grant("billing_reader", "kestrel"),))) as snapshot:
        tables = snapshot._state.connection.cursor().execute("SHOW TABLES").fetchall()
    assert tables == [], "what is not qualified by `published.` finds no table"
    assert "published." in text


def test_a_query_that_names_the_published_tables_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ratemill.api.snapshots.sql", lambda _name: "-- all of it\nSELECT * FROM published.charges")
    with pytest.raises(ValueError, match="must read relations named seen_"):
        composed.__wrapped__("api/v1/everything")


def test_the_database_of_the_api_reaches_no_file(api):
    scope = Scope("a key", (Grant("billing_reader", "kestrel"),))
    with api.core.snapshots.current(scope) as snapshot:
        cursor = snapshot._state.connection.cursor()
        for statement in ("SELECT * FROM read_csv('/etc/passwd')", "ATTACH '/tmp/x.duckdb'", "SET threads = 1"):
            with pytest.raises(Exception, match=r"disabled|locked|cannot"):
                cursor.execute(statement)


@pytest.mark.parametrize(
    "grants",
    [
        [Grant("billing_reader", account_id="falcon")],
        [Grant("billing_reader", "kestrel"), Grant("billing_reader", "kestrel", account_id="falcon")],
        [
            Grant("billing_reader", "kestrel", account_id="falcon"),
            Grant("billing_reader", "marlin", project_id="topaz"),
        ],
        [Grant("billing_reader", "kestrel", account_id="falcon", project_id="quartz")],
    ],
    ids=["no organization", "the whole and a part", "parts of two", "a project within an account"],
)
def test_grants_that_no_key_has_are_refused(grants):
    with pytest.raises(ValueError, match="grant"):
        ScopeParameters.of(Scope("a key", tuple(sorted(grants))))


def test_words_of_another_customer_are_in_no_answer(api):
    """Each name in this world says whose it is: kestrel's key never sees marlin's, and the other way round."""
    words = {"kestrel": ("marlin", "dolphin", "basalt", "osprey"), "marlin": ("kestrel", "falcon", "merlin", "quartz")}
    for organization, foreign in words.items():
        client = api.client(organization=organization, role="billing_manager")
        for path in (
            "/v1/organizations", "/v1/accounts", "/v1/projects", "/v1/consumption?group_by=account&group_by=project",
            "/v1/consumption?group_by=resource&group_by=kind", "/v1/consumption?group_by=tag&tag=owner",
            "/v1/charges?page_size=1000", "/v1/invoices", "/v1/prices", "/v1/skus", "/v1/discounts", "/v1/commitments",
            "/v1/credits", "/v1/budgets", f"/v1/invoices/2026-10-{organization}-EUR",
        ):  # fmt: skip
            answer = client.get(path)
            assert answer.status_code == 200, (path, answer.text)
            assert organization in answer.text or "budgets" in path or "skus" in path or answer.json()["items"] == [], (
                path
            )
            assert [word for word in foreign if word in answer.text] == [], path


def test_what_is_somebody_elses_is_as_if_it_were_not_there(api):
    kestrel = api.client(organization="kestrel")
    for path in ("/v1/invoices/{}", "/v1/invoices/{}/lines", "/v1/invoices/{}/lines/1/explanation",
                 "/v1/invoices/{}/documents/xlsx"):  # fmt: skip
        others, nobodys = (kestrel.get(path.format(f"2026-10-{name}-EUR")) for name in ("marlin", "nobody"))
        assert (others.status_code, nobodys.status_code) == (404, 404), path
        assert _without_names(others, "marlin") == _without_names(nobodys, "nobody")
    foreign, absent = (kestrel.get("/v1/charges", params={"account_id": name}).json() for name in ("marlin", "nobody"))
    assert foreign == absent
    assert foreign["items"] == []
    quote = {"items": [{"sku_id": "vm", "quantity": "1"}]}
    answers = [kestrel.post("/v1/quotes", json={"account_id": name, **quote}) for name in ("marlin", "nobody")]
    assert [answer.status_code for answer in answers] == [404, 404]


def _without_names(answer, name):
    return {key: value.replace(name, "") for key, value in answer.json().items() if isinstance(value, str)} | {
        "request_id": ""
    }


def test_a_project_that_moved_shows_each_organization_its_own_part(api):
    """topaz was marlin's until 15 October, and is kestrel's since."""
    for organization, first, last in (("marlin", "2026-10-01", "2026-10-14"), ("kestrel", "2026-10-15", "2026-10-31")):
        client = api.client(organization=organization, project="topaz")
        charges = client.get("/v1/charges?page_size=1000&kind=usage").json()["items"]
        days = sorted(charge["start"][:10] for charge in charges)
        assert (days[0], days[-1]) == (first, last)
        assert {charge["project_id"] for charge in charges} == {"topaz"}
        assert client.get("/v1/invoices").json()["items"] == [], "invoices are the organization's"
        lines = client.get(f"/v1/invoices/2026-10-{organization}-EUR/lines").json()["items"]
        assert {line["project_id"] for line in lines} == {"topaz"}
