"""The benchmark of documents: one month of many small invoices, printed as a run and a close print them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pikepdf
import polars as pl

from ratemill.bench.measure import Measured, measure
from ratemill.documents.environment import make_environment
from ratemill.documents.pdf import InvoicePdf
from ratemill.frames import collect
from ratemill.period import BillingPeriod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ratemill.documents.guard import Guard
    from ratemill.documents.invoice_batch import InvoiceBatch, InvoiceFacts

PERIOD = BillingPeriod(2026, 10)
LINES = 20
_PROJECTS = 3
_LANGUAGES = ("en", "de", "fr")
_SERVICES = ("Compute", "Block Storage", "Databases", "Networking", "Object Storage")
_COUNTRY_OF_TAX = "FR"

_CONFIG = """
[seller]
name = "Bench Cloud"
legal_name = "Bench Cloud SAS"
address = ["1 rue de l'Exemple"]
city = "Nantes"
postal_code = "44000"
country = "FR"
tax_id = "FR48999000102"
email = "billing@bench.example"
bank = { name = "Example Bank", iban = "FR1420041010050500013M02606", bic = "ESTUFRPPXXX" }

[output]
workbook = false

[engine]
"""


@dataclass(frozen=True)
class PrintLine:
    """One way to print all invoices."""

    measured: Measured
    files: int
    pages: int
    """Pages of the PDFs."""
    bytes: int
    seconds: float
    """Of printing alone: without reading the invoices and starting."""


@dataclass(frozen=True)
class PrintReport:
    """Everything that was measured."""

    documents: int
    lines_each: int
    lines: tuple[PrintLine, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "documents": self.documents,
            "lines_each": self.lines_each,
            "steps": [
                vars(line.measured)
                | {
                    "files": line.files,
                    "pages": line.pages,
                    "bytes": line.bytes,
                    "printing_seconds": line.seconds,
                    "documents_per_second": self.documents / line.seconds,
                }
                for line in self.lines
            ],
        }


def run_document_bench(folder: Path, *, documents: int, threads: int | None, reuse: bool) -> PrintReport:
    """Draft ``documents`` invoices in ``folder`` and print them; see ``ratemill bench --documents``.

    Raises:
        TemporaryError: when a measured command fails.
    """
    workspace = folder / f"documents-{documents}"
    log = workspace / "bench.log"
    if not (reuse and (workspace / "state").is_dir()):
        shutil.rmtree(workspace, ignore_errors=True)
        write_workspace(workspace, documents=documents)
        where = ["--workspace", str(workspace), "--period", str(PERIOD)]
        for step in ("load", "rate", "invoice"):
            options = where if step != "load" else where[:2]
            measure(step, ["ratemill", step, *options, "--log-format", "json"], log=log)
    config = workspace / "ratemill.toml"
    engine = "" if threads is None else f"threads = {threads}\n"
    config.write_text(_CONFIG + engine, encoding="utf-8")
    kinds = {"pdf": "PDF alone", "all": "PDF with CII, HTML, JSON, CSV, UBL"}
    return PrintReport(
        documents=documents,
        lines_each=LINES,
        lines=tuple(_printed(workspace, kind, name, log=log) for kind, name in kinds.items()),
    )


def _printed(workspace: Path, kind: str, name: str, *, log: Path) -> PrintLine:
    target = workspace / f"printed-{kind}"
    shutil.rmtree(target, ignore_errors=True)
    measured = measure(name, ["ratemill.bench.printing", str(workspace), str(PERIOD), kind, str(target)], log=log)
    counts = json.loads((target / "counts.json").read_text(encoding="utf-8"))
    pages = sum(_pages(path) for path in target.rglob("*.pdf"))
    shutil.rmtree(target)
    return PrintLine(measured, pages=pages, **counts)


def _pages(path: Path) -> int:
    with pikepdf.open(path) as opened:
        return len(opened.pages)


@dataclass(frozen=True)
class PdfPrinter:
    """Makes nothing but the PDFs of batches, out of the shipped template."""

    facts: InvoiceFacts

    def open(self, guard: Guard) -> Callable[[InvoiceBatch], Iterator[tuple[str, str, bytes]]]:
        """The function that does it."""
        pdf = InvoicePdf(make_environment(None, guard))

        def make(batch: InvoiceBatch) -> Iterator[tuple[str, str, bytes]]:
            for document in batch.documents(self.facts):
                yield document.invoice_id, f"{document.invoice_id}.pdf", pdf.render(document)

        return make


def write_workspace(folder: Path, *, documents: int) -> None:
    """A workspace whose month comes to ``documents`` invoices of LINES lines each, in three languages."""
    for name in ("book", "usage"):
        (folder / name).mkdir(parents=True)
    (folder / "ratemill.toml").write_text(_CONFIG, encoding="utf-8")
    account = pl.int_range(documents, eager=True).alias("number").to_frame()
    number = pl.col("number")
    digits = number.cast(pl.String).str.zfill(6)
    account.select(
        account_id=pl.format("acc-{}", digits),
        name=pl.format("Customer {}", digits),
        legal_name=pl.format("Customer {} GmbH & Co. KG", digits),
        address_line1=pl.format("Beispielstraße {}", number % 97 + 1),
        postal_code=pl.format("{}", number % 80_000 + 10_000),
        city=pl.lit("Beispielstadt"),
        country=pl.lit(_COUNTRY_OF_TAX),
        currency=pl.lit("EUR"),
        language=pl.lit(pl.Series(_LANGUAGES)).gather(number % len(_LANGUAGES)),
        email=pl.format("billing@customer-{}.example", digits),
    ).write_csv(folder / "book" / "accounts.csv")
    skus = pl.DataFrame(
        {
            "sku_id": [f"sku-{each:02}" for each in range(LINES)],
            "service": [_SERVICES[each * len(_SERVICES) // LINES] for each in range(LINES)],
            "category": ["Compute"] * LINES,
            "name": [f"Standard product {each:02}, 4 vCPU, 16 GiB" for each in range(LINES)],
            "usage_unit": ["Hours"] * LINES,
            "pricing_unit": ["Hours"] * LINES,
        }
    )
    skus.write_csv(folder / "book" / "skus.csv")
    pl.DataFrame(
        {
            "price_id": [f"price-{each:02}" for each in range(LINES)],
            "sku_id": skus["sku_id"],
            "currency": ["EUR"] * LINES,
            "unit_price": [f"0.{each + 11}37" for each in range(LINES)],
        }
    ).write_csv(folder / "book" / "prices.csv")
    pl.DataFrame({"tax_code": ["fr"], "country": [_COUNTRY_OF_TAX], "rate": ["20"], "kind": ["standard"]}).write_csv(
        folder / "book" / "taxes.csv"
    )
    projects = account.join(pl.int_range(_PROJECTS, eager=True).alias("project").to_frame(), how="cross")
    projects.select(
        project_id=pl.format("{}-project-{}", digits, "project"),
        account_id=pl.format("acc-{}", digits),
        name=pl.format("Project {}", "project"),
    ).write_csv(folder / "book" / "projects.csv")
    middle = PERIOD.start("UTC") + timedelta(days=14)
    usage = account.lazy().join(skus.lazy().select("sku_id", which=pl.int_range(pl.len())), how="cross")
    collect(
        usage.select(
            account_id=pl.format("acc-{}", digits),
            project_id=pl.format("{}-project-{}", digits, pl.col("which") * _PROJECTS // LINES),
            resource_id=pl.format("res-{}-{}", digits, "which"),
            sku_id="sku_id",
            usage_start=pl.lit(middle),
            quantity=((number * 31 + pl.col("which") * 7) % 5000 + 1).cast(pl.Decimal(38, 12))
            + pl.lit(Decimal("0.25")),
            unit=pl.lit("Hours"),
        )
    ).write_parquet(folder / "usage" / "usage.parquet")
