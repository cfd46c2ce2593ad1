"""The real server: bills are published while it answers, keys come and go, and it stops without leaving anybody
without an answer."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from decimal import Decimal

import httpx
import pytest

from api_server import new_key, serving_process
from ratemill.errors import ExitCode
from workspaces import BOOK, PERIOD, make_workspace, run_here, run_process

pytestmark = pytest.mark.slow

INVOICE = f"/v1/invoices/{PERIOD}-acme-EUR"
PUBLISHES = 10


@pytest.fixture
def shop(tmp_path):
    shop = make_workspace(tmp_path / "shop")
    assert shop.run().code == ExitCode.DONE
    return shop


def untaxed(items):
    return sum(Decimal(item["untaxed"]["amount"]) for item in items)


def test_ten_publishes_while_it_answers(shop):
    """Each answer is of one state, and all answers of one state say the same; none fails, none is of a mixture."""
    secret = new_key(shop, "--organization", "acme")["secret"]
    seen: dict[str, set[tuple[str, Decimal]]] = defaultdict(set)
    tags: dict[tuple[str, str], bytes] = {}
    failures: list[object] = []
    asked = [0]
    with serving_process(shop, "--rate-limit", "1000000") as server:
        done = threading.Event()

        def ask():
            with server.client(secret) as client:
                while not done.is_set():
                    try:
                        check(client)
                        asked[0] += 1
                    except Exception as error:  # noqa: BLE001 - of a thread; told below
                        failures.append(error)
                        return

        def check(client):
            consumed = client.get("/v1/consumption", params={"group_by": ["day", "sku"]})
            content = consumed.json()
            assert untaxed(content["items"]) == untaxed(content["totals"]), "of one answer"
            invoice = client.get(INVOICE)
            whole = invoice.json()
            lines = sum(Decimal(line["net"]["amount"]) for line in whole["line_items"]["items"])
            assert lines == Decimal(whole["untaxed"]["amount"]), "of one answer"
            explained = client.get(f"{INVOICE}/lines/1/explanation").json()
            assert explained["adds_up"], "of one answer"
            seen[content["snapshot"]].add(("acme", untaxed(content["totals"])))
            seen[whole["snapshot"]].add(("acme", Decimal(whole["untaxed"]["amount"])))
            for answer in (consumed, invoice):
                key = (str(answer.url), answer.headers["etag"])
                assert tags.setdefault(key, answer.content) == answer.content

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(PUBLISHES):
            shop.write_book("prices", [row | {"unit_price": f"0.{number + 11}"} for row in BOOK["prices"]])
            ended = shop.run()
            assert ended.code == ExitCode.DONE, ended.stderr
        time.sleep(0.5)
        done.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert asked[0] > PUBLISHES
        with server.client(secret) as client:
            last = client.get(INVOICE).json()
        # 24 hours of a machine and 24 GiB, both at the last price
        assert last["untaxed"]["amount"] == "9.60"
        assert server.stop() == ExitCode.DONE
    assert len(seen) > PUBLISHES // 2, "several states were seen"
    assert {len(amounts) for amounts in seen.values()} == {1}, seen


def test_sigterm_lets_requests_finish(shop):
    secret = new_key(shop, "--organization", "acme")["secret"]
    with serving_process(shop) as server, server.client(secret) as client:
        assert client.get("/v1/invoices").status_code == 200
        answers: list[int] = []

        def body():
            yield b'{"account_id": "acme", "items": [{"sku_id": "vm", '
            threading.Timer(0.3, server.process.terminate).start()
            time.sleep(1)
            yield b'"quantity": "1"}]}'

        answer = client.post("/v1/quotes", content=body(), headers={"Content-Type": "application/json"})
        answers.append(answer.status_code)
        assert answer.json()["total"]["amount"] == "0.10"
        assert server.process.wait(20) == ExitCode.DONE
    assert answers == [200]
    assert server.log[-1]["message"].startswith("stopped; every request that had begun was answered")
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_keys_come_and_go_while_it_runs(shop):
    with serving_process(shop) as server:
        key = new_key(shop, "--organization", "acme")
        with server.client(key["secret"]) as client:
            assert client.get("/v1/invoices").status_code == 200
            assert run_here(["keys", "revoke", key["access_key"], "-w", str(shop.root)]).code == ExitCode.DONE
            time.sleep(1.1)
            assert client.get("/v1/invoices").json()["reason"] == "revoked"
        server.stop()
        accesses = [line for line in server.log if line.get("path") == "/v1/invoices"]
        assert [(line.get("access_key"), line["status"]) for line in accesses] == [
            (key["access_key"], 200),
            (None, 401),
        ]
        assert not [line for line in server.log if key["secret"] in str(line)]


def test_several_processes_share_a_port(shop):
    key = new_key(shop, "--organization", "acme")
    with serving_process(shop, "--workers", "2") as server:
        for _ in range(50):
            with server.client(key["secret"]) as client:
                assert client.get("/v1/invoices").json()["items"][0]["untaxed"]["amount"] == "3.60"
        assert server.stop() == ExitCode.DONE


def test_figures_are_for_this_machine(shop):
    with serving_process(shop) as server, server.client("none") as client:
        client.get("/v1/invoices")
        figures = client.get("/metrics")
        assert 'ratemill_api_requests_total{method="GET",route="/v1/invoices",status="401"} 1.0' in figures.text
        assert client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 404


def test_addresses_of_others_count_only_from_a_trusted_proxy(shop):
    for options, address in (((), "127.0.0.1"), (("--proxy-headers",), "192.0.2.7")):
        with serving_process(shop, *options) as server, server.client("none") as client:
            client.get("/v1/invoices", headers={"X-Forwarded-For": "192.0.2.7"})
            server.stop()
            assert [line["address"] for line in server.log if "address" in line] == [address]


def test_it_listens_to_nobody_else_unless_told_to(shop):
    ended = run_process(["serve", "-w", str(shop.root), "--host", "0.0.0.0", "--port", "0"])  # noqa: S104
    assert ended.code == ExitCode.USAGE
    assert "lets other machines in, without encryption → listen on 127.0.0.1" in ended.stderr
    with serving_process(shop) as server:
        port = server.url.rpartition(":")[2]
        ended = run_process(["serve", "-w", str(shop.root), "--port", port])
    assert ended.code == ExitCode.USAGE
    assert f"127.0.0.1:{port} can't be listened on: address already in use" in ended.stderr
