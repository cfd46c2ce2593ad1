"""Two customers, each with a key: whatever either asks for, with whatever of the other's names, no answer tells of the
other.

In this world every name says whose it is (tests/members.py), so an answer is searched for words. What a client sends
itself comes back in answers (`instance`, `resource_id`, messages), so it is taken out of them before.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import serving
from members import make_customers
from ratemill.errors import ExitCode

pytestmark = pytest.mark.slow

WORDS = {
    "kestrel": ("kestrel", "falcon", "merlin", "quartz", "garnet"),
    "marlin": ("marlin", "dolphin", "basalt"),
    "osprey": ("osprey",),
}
"""topaz was marlin's first and is kestrel's now, so its name is known to both."""
KEYS = {
    "kestrel": {"organization": "kestrel", "role": "billing_manager"},
    "marlin": {"organization": "marlin", "role": "billing_manager"},
    "falcon": {"organization": "kestrel", "account": "falcon"},
    "quartz": {"organization": "kestrel", "project": "quartz"},
    "topaz": {"organization": "kestrel", "project": "topaz"},
}
FOREIGN = {
    "kestrel": (*WORDS["marlin"], *WORDS["osprey"]),
    "marlin": (*WORDS["kestrel"], *WORDS["osprey"]),
    "falcon": ("merlin", "garnet", *WORDS["marlin"], *WORDS["osprey"]),
    "quartz": ("merlin", "garnet", *WORDS["marlin"], *WORDS["osprey"]),
    "topaz": ("falcon", "merlin", "quartz", "garnet", "dolphin", "basalt", *WORDS["osprey"]),
}
"""Words that no answer to a key may hold. A project's organization is in the key itself."""


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    shop = make_customers(tmp_path_factory.mktemp("customers"), months=2, documents=False)
    for period in ("2026-09", "2026-10"):
        assert shop.run(period=period).code == ExitCode.DONE
    with serving(shop) as api:
        yield api


@pytest.fixture(scope="module")
def clients(api):
    return {name: api.client(**given_key) for name, given_key in KEYS.items()}


@pytest.fixture(scope="module")
def operations(api):
    """Every path of /v1 that is read, with its parameters and their schemas."""
    document = api.client_of(None).get("/openapi.json").json()
    found = [
        (path, [(one["in"], one["name"], one["schema"]) for one in item["get"].get("parameters", ())])
        for path, item in sorted(document["paths"].items())
        if "get" in item and path.startswith("/v1/")
    ]
    assert len(found) > 12
    return found


@pytest.fixture(scope="module")
def cursors(clients):
    """Cursors that others were given."""
    answers = [
        clients[name].get(path, params={"page_size": 1})
        for name in KEYS
        for path in ("/v1/charges", "/v1/projects", "/v1/invoices", "/v1/prices")
    ]
    return [answer.json()["next_cursor"] for answer in answers if answer.json()["next_cursor"]]


IDS = [word for words in WORDS.values() for word in words] + [
    "topaz", "vm-stranger", "nobody", "", "%", "' OR 1=1 --", "2026-10", "vm", "disk", "fr",
    *(f"2026-10-{payer}-EUR" for payer in WORDS), *(f"{kind}-{word}" for kind in ("list", "price", "deal", "tag", "vm")
                                                   for word in ("kestrel", "marlin", "osprey", "falcon")),
]  # fmt: skip


def value_of(schema: dict[str, Any], name: str) -> st.SearchStrategy[Any]:
    """Values of a parameter: what its schema allows, names of everybody, and nonsense."""
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    choices = [st.sampled_from(IDS)]
    for one in options:
        if "enum" in one:
            choices = [st.sampled_from(one["enum"])] * 9 + choices
        elif one.get("type") == "integer":
            choices = [st.integers(1, 1000)] * 9 + choices
        elif one.get("type") == "array":
            return st.lists(value_of(one["items"], name), min_size=1, max_size=4)
        elif one.get("format") == "date-time":
            choices = [st.sampled_from(["2026-10-01T00:00:00Z", "2026-10-15T00:00:00+02:00"])] * 3 + choices
        elif one.get("format") == "date":
            choices = [st.just("2026-10-15")] * 3 + choices
        elif "pattern" in one:
            choices = [st.sampled_from(["2026-09", "2026-10", "2026-11"])] * 3 + choices
    return st.one_of(choices)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_answer_tells_of_another_customer(clients, operations, cursors, data):
    name = data.draw(st.sampled_from(sorted(KEYS)), "key")
    path, parameters = data.draw(st.sampled_from(operations), "path")
    query, sent = [], []
    for where, parameter, schema in parameters:
        if where == "path":
            value = str(data.draw(value_of(schema, parameter), parameter))
            path = path.replace("{" + parameter + "}", quote(value or "x", safe=""))
            sent.append(value)
        elif data.draw(st.sampled_from([True, False, False]), f"gives {parameter}"):
            strategy = st.sampled_from(cursors) if parameter == "cursor" else value_of(schema, parameter)
            value = data.draw(strategy, parameter)
            query += [(parameter, str(one)) for one in (value if isinstance(value, list) else [value])]
            sent += [str(one) for one in (value if isinstance(value, list) else [value])]

    answer = clients[name].get(path, params=query)

    assert answer.status_code in (200, 404, 410, 422), answer.text
    if answer.headers["content-type"].startswith("application/vnd"):
        return
    assert found_in(answer.json(), FOREIGN[name], sent if answer.status_code != 200 else []) == []


def found_in(content: Any, words: tuple[str, ...], sent: list[str]) -> list[tuple[str, str]]:
    """Words in any text of an answer, names of members included; what was sent is taken out first."""
    text = json.dumps(content, ensure_ascii=False).lower()
    for one in sorted(sent, key=len, reverse=True):
        text = text.replace(json.dumps(one, ensure_ascii=False)[1:-1].lower(), "") if one else text
    return [(word, text[max(0, text.find(word) - 60) :][:140]) for word in words if word in text]


def test_the_search_finds_what_it_looks_for():
    assert found_in({"items": [{"a": "vm-Dolphin"}]}, FOREIGN["kestrel"], [])
    assert not found_in({"detail": "there is no invoice 'dolphin'"}, FOREIGN["kestrel"], ["dolphin"])
