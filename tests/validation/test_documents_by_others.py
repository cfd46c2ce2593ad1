"""Documents checked by validators of others: PDF/A-3a and PDF/UA-1 by veraPDF, pages by axe-core in a browser.

Each is skipped where its validator is not there. ``make documents-check`` fetches them and says where they are:
VERAPDF_CLASSPATH, the class path of veraPDF, and AXE_CORE, the file axe.min.js.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ratemill.documents.facturx import embedded
from workspaces import ADDRESSED, BOOK, PERIOD, hours, make_workspace, month_of_usage

pytestmark = pytest.mark.slow

CLASSPATH = os.environ.get("VERAPDF_CLASSPATH", "")
AXE = Path(os.environ.get("AXE_CORE", "axe.min.js"))
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")

PROJECTS = 100
SELLER = {"tax_id": "FR00123456789", "address": ["1 rue Haute"], "postal_code": "59000", "city": "Lille"}
BANK = {"name": "Example Bank", "iban": "FR1420041010050500013M02606", "bic": "EXMPFRPP"}


@pytest.fixture(scope="module")
def issued(tmp_path_factory):
    """A closed month: acme's invoice of 300 lines, globex' short one in German, and a credit note, e-invoices inside."""
    acme, globex = ADDRESSED
    projects = [
        {"project_id": f"team-{number:03}", "account_id": "acme", "name": f"Team {number:03}"}
        for number in range(PROJECTS)
    ]
    usage = [
        hours(sku=sku, resource=f"{sku}-{row['project_id']}", quantity=str(number + 1), project_id=row["project_id"])
        for number, row in enumerate(projects)
        for sku in ("vm", "disk", "egress")
    ]
    shop = make_workspace(
        tmp_path_factory.mktemp("shop"),
        usage=[month_of_usage(), *usage],
        book={"accounts": [acme, globex | {"language": "de"}], "projects": projects, "taxes": BOOK["taxes"]},
        config={
            "seller": SELLER | {"bank": BANK},
            "output": {"pdf": True, "html": True, "einvoice": "auto", "prices": True},
        },
    )
    assert shop.run().code == 0
    closed = shop.close()
    assert closed.code == 0, closed.stderr
    noted = shop.command(
        "credit-note",
        "--invoice",
        "2026-00002",
        "--amount",
        "1",
        "--reason",
        "Outage",
        "--as-of",
        "2026-11-03T06:00:00Z",
    )
    assert noted.code == 0, noted.stderr
    return shop.root / "out" / PERIOD


def kinds_of_pdf(folder):
    """What is to be checked: the long invoice, the short one, the credit note."""
    files = sorted((folder / "invoices").glob("*.pdf"))
    assert len(files) == 3
    assert all(embedded(file.read_bytes()) for file in files)
    return files


@pytest.mark.skipif(not (CLASSPATH and shutil.which("java")), reason="needs java and VERAPDF_CLASSPATH")
def test_pdfs_are_archivable_and_can_be_read_aloud(issued, tmp_path):
    damaged = tmp_path / "damaged.pdf"
    damaged.write_bytes(kinds_of_pdf(issued)[0].read_bytes().replace(b"pdfaid:part>3", b"pdfaid:part>1"))
    said = subprocess.run(
        ["java", "-cp", CLASSPATH, str(Path(__file__).with_name("VeraPdf.java")), "3a,ua1", *map(str, (*kinds_of_pdf(issued), damaged))],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    told = [line.split("\t") for line in said]
    verdicts = {(Path(file).name, flavour): verdict for verdict, flavour, file, _ in told if verdict != "broken"}
    assert verdicts.pop(("damaged.pdf", "3a")) == "invalid", "the validator looks"
    verdicts.pop(("damaged.pdf", "ua1"))
    broken = [line for line in said if line.startswith("broken") and "damaged.pdf" not in line]
    assert not broken
    assert len(verdicts) == 6
    assert set(verdicts.values()) == {"valid"}
    assert all(int(count) > 1000 for verdict, *_, count in told if verdict == "valid")


PAGES = {
    "the long invoice": "invoices/acme-EUR.html",
    "the short invoice": "invoices/globex-EUR.html",
    "an account's report": "reports/acme-EUR.html",
    "the provider's report": "reports/provider.html",
    "the index": "index.html",
    "the prices": "prices/public-EUR.html",
}
RUN_AXE = """
<script>{axe}</script>
<script>
axe.run(document, {{resultTypes: ["violations"]}}).then(found => {{
  const told = document.createElement("pre");
  told.id = "axe-told";
  told.textContent = JSON.stringify({{passed: found.passes.length, violations: found.violations.map(each =>
    ({{rule: each.id, impact: each.impact, help: each.help, nodes: each.nodes.slice(0, 3).map(node => node.html)}}))}});
  document.body.appendChild(told);
}});
</script>
"""


def axe(page: Path, folder: Path, *, dark: bool = False) -> dict:
    """What axe-core finds on a page in a headless browser."""
    # Pages forbid scripts, axe-core's included.
    source = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    copy = folder / f"{page.stem}.html"
    script = RUN_AXE.format(axe=AXE.read_text(encoding="utf-8").replace("</script>", "<\\/script>"))
    head, end, rest = source.rpartition("</body>")
    copy.write_text(f"{head}{script}{end}{rest}", encoding="utf-8")
    shown = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
         "--virtual-time-budget=60000", *(["--blink-settings=preferredColorScheme=0"] if dark else []),
         "--dump-dom", copy.as_uri()],
        capture_output=True, text=True, check=True, timeout=300,
    ).stdout  # fmt: skip
    _, found, told = shown.partition('<pre id="axe-told">')
    assert found, "axe-core did not come to its end"
    entities = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))
    text = told.partition("</pre>")[0]
    for entity, character in entities:
        text = text.replace(entity, character)
    return json.loads(text)


needs_browser = pytest.mark.skipif(not (BROWSER and AXE.is_file()), reason="needs chromium and AXE_CORE")


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES.values(), ids=PAGES)
def test_axe_finds_nothing_serious_on_pages(issued, tmp_path, name, dark):
    told = axe(issued / name, tmp_path, dark=dark)
    assert told["passed"] > 10
    assert [each for each in told["violations"] if each["impact"] in {"serious", "critical"}] == []


@needs_browser
def test_axe_does_find_what_is_wrong(tmp_path):
    page = tmp_path / "wrong.html"
    page.write_text(
        "<!doctype html><html><head><title>x</title></head><body><main><h1>x</h1><img src='x.png'>"
        "<p style='color: #ccc; background: #fff'>pale</p></main></body></html>",
        encoding="utf-8",
    )
    rules = {each["rule"] for each in axe(page, tmp_path / ".." / tmp_path.name)["violations"]}
    assert {"image-alt", "color-contrast", "html-has-lang"} <= rules
