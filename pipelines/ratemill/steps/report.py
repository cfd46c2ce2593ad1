"""report: invoices and cost reports as files, in ``out/<period>``, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.documents.invoice_batch import InvoiceBatch, InvoiceFacts, InvoicePrinter
from ratemill.documents.model import Logo
from ratemill.documents.prices import FOLDER as PRICES_FOLDER
from ratemill.documents.prices import public_page
from ratemill.documents.report import ReportPrinter, report_jobs
from ratemill.documents.report_model import Document, RunFacts
from ratemill.documents.spreadsheet import spreadsheet_csv
from ratemill.documents.workbook import WORKBOOK_FILE, build_workbook
from ratemill.errors import DataRefusedError, UsageError
from ratemill.findings import Severity
from ratemill.insight.price_list import public_currencies
from ratemill.io.atomic import StagedFolder, make_private_folder
from ratemill.io.charge_store import ChargeStore
from ratemill.io.issued import IssuedStore
from ratemill.resources import sql
from ratemill.steps.documents import has_own_templates, made
from ratemill.steps.einvoices import with_einvoice
from ratemill.steps.prices import price_pages_of_period
from ratemill.steps.workbook import workbook_source
from ratemill.tables.charges import CHARGES
from ratemill.tables.invoices import INVOICES
from ratemill.tables.runs import DOCUMENTS

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator

    from ratemill.book.model import Book
    from ratemill.io.document_pool import File
    from ratemill.io.warehouse import Warehouse
    from ratemill.period import BillingPeriod
    from ratemill.steps.check import Checked
    from ratemill.steps.context import Context
    from ratemill.steps.rate import Rated
    from ratemill.tables.invoices import Billed

MANIFEST = "manifest.json"
_MOST_REJECTS = 100_000
_INVOICES_PER_BATCH = 16
_LINES_PER_BATCH = 500
"""Batches of invoices are small, so that the processes that make them end at about the same time."""
_SECONDS_PER_INVOICE = 0.03
_SECONDS_PER_LINE = 0.002
_SECONDS_PER_REPORT = 0.06
"""About how long one processor takes: what decides whether more processes are worth their start."""


def report(context: Context, checked: Checked, rated: Rated) -> int:
    """Write every document of the period, note the run as reported; returns how many files.

    The former documents stand until all are there. Documents that were issued are copied, never made again.

    Raises:
        DataRefusedError: a document that was issued is not there any more, or not as it was.
    """
    issued = issued_files(context, checked.period)
    previous = context.warehouse.current_run(checked.period.shift(-1))
    previous_run = previous["run_id"] if previous else None
    target = context.workspace.out(checked.period)
    with context.step("report", checked.period, rated.run_id, unit="files") as step:
        hashes: dict[str, str] = {}
        written = _files(context, checked, rated, issued=issued, previous_run=previous_run)
        with StagedFolder(target) as folder, closing(written):
            for name, data in written:
                path = folder / name
                make_private_folder(path.parent)
                path.write_bytes(data)
                path.chmod(0o600)
                hashes[name] = hashlib.sha256(data).hexdigest()
                step.advance()
            manifest = {
                "run_id": rated.run_id,
                "previous_run_id": previous_run,
                "files": hashes,
                "issued": issued or {},
                "credit_notes": _notes_issued(context, checked.period),
            }
            text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
            (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
        # Nothing that the folder decides: killed here, the next run finds the folder whole and leaves the row as it is.
        context.warehouse.advance_run(rated.run_id, "reported", context.now, json.dumps(rated.facts))
        step.done(f"{len(hashes):,} files in {context.workspace.relative(target)}")
    return len(hashes)


def require_invoiced(context: Context, checked: Checked) -> None:
    """Refuse to report on invoices that other inputs led to.

    Raises:
        UsageError: there is no run with exactly these inputs.
    """
    run = context.warehouse.current_run(checked.period)
    if run is None or run["run_id"] != checked.run_id:
        raise UsageError(
            f"{checked.period} has no invoices of these inputs (run {checked.run_id})"
            f" → run: ratemill invoice --period {checked.period}"
        )


def is_reported(context: Context, checked: Checked) -> bool:
    """Whether ``out/<period>`` shows this very run, all that was issued, and each credit note by hand of the month."""
    return not why_unreported(context, checked)


def why_unreported(context: Context, checked: Checked) -> str:
    """Why ``out/<period>`` does not show what :func:`is_reported` asks for; empty: it does."""
    folder = context.workspace.out(checked.period)
    place = context.workspace.relative(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"there are no documents in {place}"
    previous = context.warehouse.current_run(checked.period.shift(-1))
    expected = {
        "run_id": (checked.run_id, "another run"),
        "previous_run_id": (previous["run_id"] if previous else None, "another run of the month before"),
        "issued": (issued_files(context, checked.period) or {}, "other documents than were issued"),
        "credit_notes": (_notes_issued(context, checked.period), "not every credit note of the month"),
    }
    for name, (value, otherwise) in expected.items():
        if manifest.get(name) != value:
            return f"the documents in {place} show {otherwise}"
    missing = [name for name in manifest["files"] if not (folder / name).is_file()]
    return f"{len(missing):,} of the documents in {place} are missing" if missing else ""


def _notes_issued(context: Context, period: BillingPeriod) -> list[str]:
    """Credit notes by hand that were issued in the calendar month: the index of the month shows them."""
    return context.warehouse.credit_notes_by_hand(period).invoices["invoice_id"].to_list()


def issued_files(context: Context, period: BillingPeriod) -> dict[str, str] | None:
    """Name in ``out/<period>`` → SHA-256 of every document that was issued for a period; None while it is open."""
    if context.warehouse.closed_period(period) is None:
        return None
    folder = IssuedStore.file(period, "")
    documents = context.warehouse.table("ops", DOCUMENTS, "starts_with(file, $folder)", {"folder": folder})
    return {row["file"].removeprefix(folder): row["sha256"] for row in documents.sort("file").iter_rows(named=True)}


def invoice_files(
    context: Context, billed: Billed, *, book: Book, period: BillingPeriod
) -> Generator[File, None, None]:
    """invoice_id, name in ``out/<period>`` and bytes of each file of the invoices and credit notes in ``billed``.

    Close it when it is not read to its end (``contextlib.closing``): processes may be at work for it.
    """
    config = context.config
    einvoices = with_einvoice(config, billed, book)
    issued = set(billed.invoices.filter(status="issued")["invoice_id"])
    printer = InvoicePrinter(
        facts=invoice_facts(context, billed, book=book, period=period),
        templates=context.workspace.templates,
        html=config.output.html,
        pdf=config.output.pdf,
    )
    batches = invoice_batches(context, billed, book=book, einvoices=einvoices & issued)
    seconds = billed.invoices.height * _SECONDS_PER_INVOICE + billed.lines.height * _SECONDS_PER_LINE
    return made(context, printer, batches, seconds=seconds)


def invoice_batches(
    context: Context, billed: Billed, *, book: Book, einvoices: Collection[str]
) -> Iterator[InvoiceBatch]:
    """The invoices and credit notes in ``billed`` as processes take them; ``einvoices``: those that get one."""
    payers = book.accounts.filter(pl.col("account_id").is_in(billed.invoices["billing_account_id"].implode()))
    accounts = {row["account_id"]: row for row in payers.iter_rows(named=True)}
    # One invoice at a time where templates may have to be stopped: what it may use follows its size.
    most = 1 if has_own_templates(context) else _INVOICES_PER_BATCH
    for part in billed.batches(most_invoices=most, most_lines=_LINES_PER_BATCH):
        yield InvoiceBatch(
            billed=part,
            accounts={name: accounts[name] for name in part.invoices["billing_account_id"]},
            einvoices=frozenset(set(part.invoices["invoice_id"]).intersection(einvoices)),
        )


def invoice_facts(context: Context, billed: Billed, *, book: Book, period: BillingPeriod) -> InvoiceFacts:
    """What the invoices and credit notes in ``billed`` share."""
    return InvoiceFacts(
        seller=context.config.seller,
        period=period,
        time_zone=context.config.period.time_zone,
        logo=_logo(context),
        conditions=book.conditions_of_prices,
        originals=corrected_invoices(context.warehouse, billed),
    )


def _files(
    context: Context, checked: Checked, rated: Rated, *, issued: dict[str, str] | None, previous_run: str | None
) -> Generator[tuple[str, bytes], None, None]:
    warehouse, period = context.warehouse, checked.period
    billed = warehouse.billed(period)
    if issued is None:
        with closing(invoice_files(context, billed, book=checked.book, period=period)) as files:
            for _, name, data in files:
                yield name, data
    else:
        yield from _as_issued(context, period, issued)
    if context.config.output.html:
        with closing(_reports(context, checked, rated, billed, previous_run=previous_run)) as files:
            for _, name, data in files:
                yield name, data
    rejects = rejects_of_period(context, period, checked.files)
    if rejects.height:
        yield "rejects.csv", spreadsheet_csv(rejects)
    run = warehouse.current_run(period)
    if context.config.output.workbook and run is not None:
        shown = billed.together_with(warehouse.credit_notes_by_hand(period))
        source = workbook_source(context, period, run, book=checked.book, billed=shown, rejects=rejects)
        workbook = build_workbook(source)
        yield WORKBOOK_FILE, workbook.data
        yield from workbook.beside.items()
    if context.config.output.prices:
        with closing(price_pages_of_period(context, period, checked.book, billed)) as pages:
            yield from pages


def rejects_of_period(context: Context, period: BillingPeriod, files: pl.DataFrame) -> pl.DataFrame:
    """Rows of usage that are on no invoice because they break a rule, the first 100,000.

    ``files``: rows of USAGE_FILES that have to do with the period.
    """
    return context.warehouse.frame(
        sql("core/rejects_of_period"),
        {"files": files["file_id"].to_list(), "period": str(period), "most": _MOST_REJECTS},
    )


def _as_issued(context: Context, period: BillingPeriod, issued: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    for name, sha256 in issued.items():
        yield name, issued_document(context, IssuedStore.file(period, name), sha256)


def issued_document(context: Context, file: str, sha256: str) -> bytes:
    """The bytes of a document that was issued, by its path below ``state/issued``.

    Raises:
        DataRefusedError: it is not there any more, or not as it was.
    """
    try:
        data = IssuedStore(context.workspace.issued).read(file)
    except FileNotFoundError:
        data = None
    if data is None or hashlib.sha256(data).hexdigest() != sha256:
        place = context.workspace.relative(context.workspace.issued / file)
        what = "is gone" if data is None else "is not as it was issued"
        raise DataRefusedError(f"{place} {what} → bring the file back from a backup; it is never made anew")
    return data


def corrected_invoices(warehouse: Warehouse, billed: Billed) -> dict[str, dict[str, Any]]:
    """invoice_id → row of INVOICES, of every invoice that documents of ``billed`` correct."""
    corrected = {
        invoice_id
        for frame in (billed.invoices, billed.lines)
        for invoice_id in frame["corrects_invoice_id"].drop_nulls().unique()
    }
    if not corrected:
        return {}
    rows = warehouse.table("billing", INVOICES, "list_contains($ids, invoice_id)", {"ids": sorted(corrected)})
    return {row["invoice_id"]: row for row in rows.iter_rows(named=True)}


def _reports(
    context: Context,
    checked: Checked,
    rated: Rated,
    billed: Billed,
    *,
    previous_run: str | None,
) -> Generator[File, None, None]:
    store = ChargeStore(context.workspace.charges)
    book, period, facts = checked.book, checked.period, rated.facts
    by_hand = context.warehouse.credit_notes_by_hand(period)
    formats = [kind for kind in ("html", "pdf", "json", "csv") if kind != "pdf" or context.config.output.pdf]
    facts_of_reports, jobs = report_jobs(
        period=period,
        charges=store.all_charges(period, rated.run_id),
        previous_charges=(
            store.all_charges(period.shift(-1), previous_run) if previous_run else CHARGES.empty().lazy()
        ),
        billed=billed,
        accounts=book.accounts,
        projects=book.projects,
        skus=book.skus,
        granted=book.credits,
        drawn=context.warehouse.credits_drawn(period, and_by_it=True),
        seller=context.config.seller,
        run=RunFacts(
            run_id=rated.run_id,
            rows_in=facts["rows_in"],
            rows_accepted=facts["rows_billed"] + facts["rows_other_periods"],
            rows_rejected=facts["rows_rejected"],
            rows_duplicate=facts["rows_duplicate"],
            unpriced_records=facts["rows_unpriced"],
            findings=tuple(f for f in (*checked.findings, *rated.findings) if f.severity is not Severity.INFO),
        ),
        default_zone=context.config.period.time_zone,
        invoice_formats=formats,
        others=_other_files(context, book),
        originals=corrected_invoices(context.warehouse, billed.together_with(by_hand)),
        notes=by_hand.invoices,
    )
    printer = ReportPrinter(facts_of_reports, context.workspace.templates)
    return made(context, printer, jobs, seconds=billed.invoices.height * _SECONDS_PER_REPORT)


def _other_files(context: Context, book: Book) -> list[Document]:
    """Files of the period, besides invoices and reports, that people look for."""
    output = context.config.output
    found = [Document("Workbook", WORKBOOK_FILE)] if output.workbook else []
    currencies = public_currencies(book)
    if output.prices and currencies:
        found.append(Document("Prices", f"{PRICES_FOLDER}/{public_page(currencies[0])}"))
    return found


def _logo(context: Context) -> Logo | None:
    name = context.config.seller.logo
    if not name:
        return None
    try:
        return Logo.from_file(name, (context.workspace.root / name).read_bytes())
    except OSError as error:
        raise UsageError(f"[seller] logo = {name!r} cannot be read: {error.strerror}") from None
