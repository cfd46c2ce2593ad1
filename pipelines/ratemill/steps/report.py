"""report: invoices and cost reports as files, in ``out/<period>``, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from ratemill.documents.environment import make_environment
from ratemill.documents.invoice import build_invoice
from ratemill.documents.invoice_files import render_invoice_files
from ratemill.documents.model import Logo
from ratemill.documents.pdf import InvoicePdf
from ratemill.documents.report import render_report_files
from ratemill.documents.report_model import RunFacts
from ratemill.documents.spreadsheet import spreadsheet_csv
from ratemill.errors import UsageError
from ratemill.findings import Severity
from ratemill.io.atomic import StagedFolder, make_private_folder
from ratemill.io.charge_store import ChargeStore
from ratemill.resources import sql
from ratemill.tables.charges import CHARGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import jinja2

    from ratemill.steps.check import Checked
    from ratemill.steps.context import Context
    from ratemill.steps.rate import Rated
    from ratemill.tables.invoices import Billed

MANIFEST = "manifest.json"
_MOST_REJECTS = 100_000


def report(context: Context, checked: Checked, rated: Rated) -> int:
    """Write every document of the period, note the run as reported; returns how many files.

    The former documents stand until all are there.
    """
    previous = context.warehouse.current_run(checked.period.shift(-1))
    previous_run = previous["run_id"] if previous else None
    target = context.workspace.out(checked.period)
    with context.progress.step("report", unit="files") as step:
        hashes: dict[str, str] = {}
        with StagedFolder(target) as folder:
            for name, data in _files(context, checked, rated, previous_run):
                path = folder / name
                make_private_folder(path.parent)
                path.write_bytes(data)
                path.chmod(0o600)
                hashes[name] = hashlib.sha256(data).hexdigest()
                step.advance()
            manifest = {"run_id": rated.run_id, "previous_run_id": previous_run, "files": hashes}
            text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
            (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
        count = len(hashes)
        summary = json.dumps(rated.facts | {"documents": count})
        context.warehouse.advance_run(rated.run_id, "reported", context.now, summary)
        step.done(f"{count:,} files in {context.workspace.relative(target)}")
    return count


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
    """Whether ``out/<period>`` holds the documents of this very run."""
    try:
        manifest = json.loads((context.workspace.out(checked.period) / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    previous = context.warehouse.current_run(checked.period.shift(-1))
    expected = (checked.run_id, previous["run_id"] if previous else None)
    if (manifest.get("run_id"), manifest.get("previous_run_id")) != expected:
        return False
    return all((context.workspace.out(checked.period) / name).is_file() for name in manifest["files"])


def _files(context: Context, checked: Checked, rated: Rated, previous_run: str | None) -> Iterator[tuple[str, bytes]]:
    warehouse, config, book, period = context.warehouse, context.config, checked.book, checked.period
    billed = warehouse.billed(period)
    environment = make_environment(context.workspace.templates)
    pdf = InvoicePdf(environment) if config.output.pdf else None
    logo = _logo(context)
    conditions = book.conditions_of_prices
    accounts = {row["account_id"]: row for row in book.accounts.iter_rows(named=True)}
    lines_of = billed.lines.partition_by("invoice_id", as_dict=True)
    taxes_of = billed.taxes.partition_by("invoice_id", as_dict=True)
    for invoice in billed.invoices.iter_rows(named=True):
        key = (invoice["invoice_id"],)
        document = build_invoice(
            invoice=invoice,
            lines=lines_of[key],
            taxes=taxes_of[key],
            account=accounts[invoice["billing_account_id"]],
            seller=config.seller,
            period=period,
            time_zone=config.period.time_zone,
            logo=logo,
            conditions=conditions,
        )
        yield from render_invoice_files(document, lines_of[key], environment, pdf, html=config.output.html)
    if config.output.html:
        yield from _reports(context, checked, rated, billed, previous_run=previous_run, environment=environment)
    rejects = warehouse.frame(
        sql("core/rejects_of_period"),
        {"files": checked.files["file_id"].to_list(), "period": str(period), "most": _MOST_REJECTS},
    )
    if rejects.height:
        yield "rejects.csv", spreadsheet_csv(rejects)


def _reports(
    context: Context,
    checked: Checked,
    rated: Rated,
    billed: Billed,
    *,
    previous_run: str | None,
    environment: jinja2.Environment,
) -> Iterator[tuple[str, bytes]]:
    store = ChargeStore(context.workspace.charges)
    book, period, facts = checked.book, checked.period, rated.facts
    formats = [kind for kind in ("html", "pdf", "json", "csv") if kind != "pdf" or context.config.output.pdf]
    yield from render_report_files(
        period=period,
        charges=store.all_charges(period, rated.run_id),
        previous_charges=(
            store.all_charges(period.shift(-1), previous_run) if previous_run else CHARGES.empty().lazy()
        ),
        invoices=billed.invoices,
        invoice_lines=billed.lines,
        tax_lines=billed.taxes,
        accounts=book.accounts,
        projects=book.projects,
        skus=book.skus,
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
        environment=environment,
        default_zone=context.config.period.time_zone,
        invoice_formats=formats,
    )


def _logo(context: Context) -> Logo | None:
    name = context.config.seller.logo
    if not name:
        return None
    try:
        return Logo.from_file(name, (context.workspace.root / name).read_bytes())
    except OSError as error:
        raise UsageError(f"[seller] logo = {name!r} cannot be read: {error.strerror}") from None
