"""The pages of ``ratemill serve`` as people see them: a real server, a real browser, no script of the page's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from api_server import serving_process
from browser import CHROMIUM, Browser
from members import make_customers
from ratemill.errors import ExitCode
from workspaces import run_here

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="needs chromium")]

AXE = Path(os.environ.get("AXE_CORE", "axe.min.js"))
SHOTS = os.environ.get("PAGE_SHOTS")
"""A folder for pictures to look at; without one they are made and thrown away."""
LOOKS = {
    "light": {},
    "dark": {"scheme": "dark"},
    "narrow": {"width": 390},
    "print": {"media": "print"},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """October of three customers, closed, with PDFs."""
    shop = make_customers(tmp_path_factory.mktemp("customers"), months=1)
    assert shop.run().code == ExitCode.DONE
    assert shop.close_whatever_is_open().code == ExitCode.DONE
    return shop


@pytest.fixture(scope="module")
def server(shop):
    with serving_process(shop) as server:
        yield server


@pytest.fixture(scope="module")
def browser(shop, server):
    """Signed in, by the form."""
    made = run_here(
        ["keys", "create", "-w", str(shop.root), "--name", "Kestrel's CFO", "--organization", "kestrel", "--json"]
    )
    with Browser() as browser:
        browser.open(f"{server.url}/")
        assert "Sign in" in browser.run("document.body.innerText")
        browser.run(f"document.querySelector('#key').value = {made.summary['secret']!r}")
        browser.submit("form")
        assert "October 2026" in browser.run("document.querySelector('h1').innerText")
        yield browser


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("page", ["", "invoices", "prices"])
def test_pages_look_as_they_should(server, browser, tmp_path, page, look):
    """Nothing is refused by the policy, nothing sticks out sideways, and the style is there."""
    browser.emulate(**LOOKS[look])
    browser.console.clear()
    browser.open(f"{server.url}/{page}")
    folder = Path(SHOTS) if SHOTS else tmp_path
    browser.screenshot(folder / f"{page or 'costs'}-{look}.png")
    assert browser.console == []
    assert browser.run("getComputedStyle(document.querySelector('h1')).fontWeight") == "600"
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    dark = browser.run("getComputedStyle(document.querySelector('.sheet')).backgroundColor") == "rgb(23, 32, 41)"
    assert dark == (look == "dark")
    assert browser.run("document.scripts.length") == 0


def test_a_price_list_on_paper_is_the_whole_of_it(server, browser):
    visible = "[...document.querySelectorAll('details table')].map(table => table.checkVisibility())"
    browser.emulate()
    browser.open(f"{server.url}/prices")
    assert False in browser.run(visible), "on a screen, services are opened one by one"
    browser.emulate(media="print")
    assert set(browser.run(visible)) == {True}


def test_the_cookie_is_out_of_reach_of_scripts(browser):
    assert browser.run("document.cookie") == ""
    (cookie,) = browser.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")


def test_an_invoice_is_a_click_away(server, browser, tmp_path):
    browser.emulate()
    browser.open(f"{server.url}/invoices")
    assert browser.download("a[aria-label$=PDF]", tmp_path).read_bytes().startswith(b"%PDF-")


@pytest.mark.skipif(not AXE.is_file(), reason="needs AXE_CORE")
@pytest.mark.parametrize("look", ["light", "dark", "narrow"])
@pytest.mark.parametrize("page", ["", "invoices", "prices"])
def test_pages_are_accessible(server, browser, page, look):
    browser.emulate(**LOOKS[look])
    browser.open(f"{server.url}/{page}")
    browser.run(AXE.read_text(encoding="utf-8") + ";0")
    violations = browser.run(
        "axe.run().then(found => found.violations.map(one => one.id + ': ' + one.nodes.map(node => node.html).join(' ')))"
    )
    assert violations == []
