"""Templates of a workspace that are broken or hostile: each is stopped, named, and nothing is half-written.

Real files, run by the real command, in the real process; only the limits are smaller than usual, to save time.
"""

from __future__ import annotations

import os
import socket
import threading

import psutil
import pytest

from ratemill.steps import documents
from workspaces import make_workspace, tree

PAGE, PDF = "invoice/invoice.html.j2", "invoice/invoice.typ"
pytestmark = pytest.mark.slow

SMALL = documents.Limits(cpu_seconds=1.5, memory_bytes=700 << 20, characters=2_000_000)
IMPATIENT = documents.Limits(cpu_seconds=1.5, wall_seconds=0)


@pytest.fixture(scope="module")
def billed_workspace(tmp_path_factory):
    everything = {"output": {"html": True, "pdf": True}}
    shop = make_workspace(tmp_path_factory.mktemp("shop"), config=everything)
    assert shop.run().code == 0
    (shop.root / "secret.txt").write_text("the secret", encoding="utf-8")
    return shop


@pytest.fixture
def report_with(billed_workspace, monkeypatch):
    """``report_with({file: text})``: how ``ratemill report`` ends with these templates; it must leave out/ alone."""
    folder = billed_workspace.root / "templates"

    def report(files, limits=SMALL):
        monkeypatch.setattr(documents, "Limits", lambda: limits)
        before = tree(billed_workspace.root / "out", billed_workspace.root)
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        ended = billed_workspace.command("report", "--period", "2026-10")
        if ended.code != 0:
            assert tree(billed_workspace.root / "out", billed_workspace.root) == before
        assert not psutil.Process().children(recursive=True), "a process that makes documents lives on"
        return ended

    yield report
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


HOSTILE_PAGES = {
    "endless loops": (
        "\n{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        [f"{PAGE}:2", "stopped after 2 s of computing"],
    ),
    "an endless computation in one expression": ("{{ 10 ** (10 ** 9) }}", [PAGE, "stopped after 2 s of computing"]),
    "a macro that calls itself": ("{% macro f() %}{{ f() }}{% endmacro %}\n{{ f() }}", [f"{PAGE}:1", "recursion"]),
    "a template that includes itself": (f"\n\n{{% include '{PAGE}' %}}", [f"{PAGE}:3", "recursion"]),
    "a page without end": (
        "x\n{% for a in range(99999) %}{% for b in range(99999) %}aaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}{% endfor %}",
        [f"{PAGE}:2", "writes more than 2,", "characters"],
    ),
    "a text of a gigabyte": ("\n\n{{ 'x' * 10 ** 9 }}", [f"{PAGE}:3", "MB of memory"]),
    "a padded number": ("{{ '%2000000000d' | format(1) }}", [f"{PAGE}:1", "MB of memory"]),
    "a range bomb": ("\n{{ range(10 ** 9) | list }}", [f"{PAGE}:2", "Range too big"]),
    "the way to the interpreter": ("{{ ().__class__.__base__.__subclasses__() }}", [f"{PAGE}:1", "unsafe"]),
    "the way by a global": ("{{ cycler.__init__.__globals__.os.popen('id') }}", [f"{PAGE}:1", "unsafe"]),
    "the way by a filter": ("{{ invoice | attr('__class__') }}", [f"{PAGE}:1", "unsafe"]),
    "the way by a format": ("{{ '{0.__class__.__mro__}'.format(invoice) }}", [f"{PAGE}:1", "unsafe"]),
    "a file above": ("{% include '../secret.txt' %}", ["../secret.txt", "not found"]),
    "a file of the machine": ("{% include '/etc/passwd' %}", ["/etc/passwd", "not found"]),
    "an import from above": ("{% import '../../ratemill.toml' as t %}", ["../../ratemill.toml", "not found"]),
    "a changed invoice": ("{% set _ = invoice.__setattr__('number', '1') %}", [f"{PAGE}:1", "unsafe"]),
    "an unknown name": ("\n{{ invoice.totl }}", [f"{PAGE}:2", "totl"]),
}


@pytest.mark.parametrize(("source", "words"), HOSTILE_PAGES.values(), ids=HOSTILE_PAGES)
def test_a_hostile_page_is_stopped_and_named(report_with, source, words):
    ended = report_with({PAGE: source})
    assert ended.code == 2, ended
    message = ended.summary["error"]
    assert message.startswith("template ")
    assert "\n" not in message
    for word in words:
        assert word in message


HOSTILE_PDFS = {
    "a loop without end": ("#let n = 0\n#while n >= 0 { n += 1 }", [f"{PDF}:2", "infinite"]),
    "loops in loops": (
        "#for a in range(99999) { for b in range(99999) { let c = a * b } }",
        [PDF, "stopped after 2 s of computing"],
    ),
    "a function that calls itself": ("#let f(n) = f(n + 1)\n#f(0)", [PDF, "maximum function call depth exceeded"]),
    "a text of 40 gigabytes": ('#let x = "x" * 40000000000\n#x.len()', [PDF, "MB of memory"]),
    "pages without end": ("#for a in range(1000000) [a #pagebreak()]", [PDF, "MB of memory"]),
    "a file above": ('#read("../../secret.txt")', [f"{PDF}:1"]),
    "a file of the machine": ('#read("/etc/passwd")', [f"{PDF}:1", "not found"]),
    "a picture of the machine": ('#image("/../../../../etc/passwd")', [f"{PDF}:1"]),
    "a package of the network": ('#import "@preview/tablex:0.0.9": *', [PDF, "network"]),
    "a package whose name is hidden": ('#let p = "@pre" + "view/tablex:0.0.9"\n#import p: *', [PDF, "network"]),
}


@pytest.mark.parametrize(("source", "words"), HOSTILE_PDFS.values(), ids=HOSTILE_PDFS)
def test_a_hostile_pdf_template_is_stopped_and_named(report_with, source, words):
    ended = report_with({PDF: source})
    assert ended.code == 2, ended
    message = ended.summary["error"]
    assert message.startswith("template ")
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_package_that_a_part_of_the_pdf_template_wants_is_refused(report_with):
    part = "invoice/part.typ"
    ended = report_with({PDF: '#import "part.typ": *', part: '#import "@preview/tablex:0.0.9": *'})
    assert ended.code == 2
    assert f"template {part}: it imports a typst package" in ended.summary["error"]


def test_nothing_is_fetched_whatever_proxy_the_user_has(report_with, monkeypatch):
    """A proxy would see the request; the process that renders is not told of it."""
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                seen.append(connection.recv(1000))
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.getsockname()[1]}")
        ended = report_with({PDF: '#let p = "@pre" + "view/tablex:0.0.9"\n#import p: *'})
    assert ended.code == 2
    assert not seen


def test_a_link_out_of_the_templates_folder_is_refused(report_with, billed_workspace):
    folder = billed_workspace.root / "templates"
    folder.mkdir(exist_ok=True)
    (folder / "look.txt").symlink_to("../secret.txt")
    ended = report_with({PAGE: "{% include 'look.txt' %}"})
    assert ended.code == 2
    assert "template look.txt is a link that leads out of the templates folder" in ended.summary["error"]


def test_a_file_that_has_no_end_does_not_stop_the_run_for_ever(report_with, billed_workspace):
    (billed_workspace.root / "templates" / "invoice").mkdir(parents=True)
    os.mkfifo(billed_workspace.root / "templates" / "invoice" / "pipe.txt")
    ended = report_with({PDF: '#read("/invoice/pipe.txt")'}, limits=IMPATIENT)
    assert ended.code == 2
    assert f"template {PDF}: it was stopped after 16 s of waiting" in ended.summary["error"]


def test_a_style_sheet_is_a_template_too(report_with):
    ended = report_with(
        {"shared/style.css": "\n\n{% for a in range(9999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"}
    )
    assert ended.code == 2
    assert "template shared/style.css:3: it was stopped" in ended.summary["error"]


def test_reports_are_limited_as_invoices_are(report_with):
    ended = report_with(
        {"report/index.html.j2": "\n{% for a in range(9999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"}
    )
    assert ended.code == 2
    assert "template report/index.html.j2:2: it was stopped" in ended.summary["error"]


def test_harmless_templates_make_the_same_files_under_limits(report_with, billed_workspace):
    before = tree(billed_workspace.root / "out", billed_workspace.root)
    ended = report_with({PAGE: f'{{% extends "shipped/{PAGE}" %}}'})
    assert ended.code == 0, ended
    assert tree(billed_workspace.root / "out", billed_workspace.root) == before
