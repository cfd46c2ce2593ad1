"""export einvoice: the e-invoices of a closed period in one folder, checked if wanted.

What was issued is taken as it was issued. A document that was issued without an e-invoice gets one from its rows in the
ledger: they say the same, and never change.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill import __version__
from ratemill.documents.facturx import embedded
from ratemill.documents.filenames import safe_name
from ratemill.documents.invoice_batch import EInvoicePrinter
from ratemill.errors import DataRefusedError, UsageError
from ratemill.findings import Finding, Severity
from ratemill.io.atomic import StagedFolder
from ratemill.io.einvoice_check import EInvoiceCheck
from ratemill.io.einvoice_files import is_export, write_einvoice, write_manifest
from ratemill.io.issued import IssuedStore
from ratemill.steps.closed import issued_run
from ratemill.steps.documents import made
from ratemill.steps.einvoices import einvoice_obstacles
from ratemill.steps.report import invoice_batches, invoice_facts, issued_document
from ratemill.tables.invoices import BILLING_TABLES, Billed
from ratemill.tables.runs import DOCUMENTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ratemill.documents.invoice_batch import Syntax
    from ratemill.io.einvoice_check import Checked
    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context

_ENDING = {"ubl": ".xml", "cii": ".pdf"}
"""In which of the issued files the e-invoice is."""
_SECONDS_PER_EINVOICE = 0.01
"""About how long one processor takes: what decides whether more processes are worth their start."""


@dataclass(frozen=True)
class ExportedEInvoices:
    """An export as it lies on disk."""

    folder: Path
    manifest: dict[str, Any]
    advice: tuple[Finding, ...]
    """Rules that are broken and do not make a document invalid."""


def export_einvoices(
    context: Context, period: BillingPeriod, *, syntax: Syntax, to: Path | None, validate: bool
) -> ExportedEInvoices:
    """Write the e-invoices of a closed period into a folder of their own; a former export there is replaced as a whole.

    Args:
        context: the workspace.
        period: a closed period.
        syntax: ubl or cii.
        to: folder to make the export's folder in; else ``exports`` in the workspace.
        validate: whether to check each against its schema and the rules of EN 16931.

    Raises:
        UsageError: the period is open, something else is where the export goes, or the validators are not installed.
        DataRefusedError: an issued file is not there any more, or a document is not valid; nothing was exported.
        TemporaryError: the validators did not come to their end.
    """
    if context.warehouse.closed_period(period) is None:
        raise UsageError(
            f"{period} is not closed, and only issued documents are e-invoices → run: ratemill close --period {period}"
        )
    target = (to or context.workspace.root / "exports") / f"einvoice-{syntax}" / str(period)
    if target.exists() and not is_export(target):
        raise UsageError(f"{target} is there, and is no export of e-invoices → move it away, or name another with --to")
    billed = _issued(context, period)
    book = issued_run(context, period)[0].book
    obstacles = einvoice_obstacles(context.config, billed, book)
    numbers = dict(billed.invoices.select("invoice_id", "number").iter_rows())
    files: dict[str, dict[str, Any]] = {}
    broken: list[Finding] = []
    with context.progress.step("export") as step, StagedFolder(target) as folder, ExitStack() as stack:
        check = stack.enter_context(EInvoiceCheck()) if validate else None
        for invoice_id, data, as_issued in _einvoices(context, period, billed, syntax, without=set(obstacles)):
            name = f"{safe_name(numbers[invoice_id])}.xml"
            facts = {"number": numbers[invoice_id], "invoice_id": invoice_id, "as_issued": as_issued}
            files[name] = facts | write_einvoice(folder, name, data)
            if check is not None:
                result = check.check(folder / name)
                files[name]["rules"] = result.rules
                broken += _findings(name, result)
        fatal = [finding for finding in broken if finding.severity is Severity.ERROR]
        if fatal:
            raise DataRefusedError(
                f"{len({finding.file for finding in fatal}):,} of {len(files):,} e-invoices of {period} are not valid;"
                " nothing was exported",
                findings=fatal,
            )
        manifest = write_manifest(
            folder,
            syntax,
            {
                "period": str(period),
                "ratemill": __version__,
                "validated": validate,
                "without": {
                    invoice_id: obstacle.message
                    for invoice_id, obstacle in sorted(obstacles.items())
                    if invoice_id not in {facts["invoice_id"] for facts in files.values()}
                },
                "files": files,
            },
        )
        step.done(f"{len(files):,} e-invoices")
    return ExportedEInvoices(target, manifest, tuple(broken))


def _issued(context: Context, period: BillingPeriod) -> Billed:
    """Every document that was issued for a period, credit notes by hand too."""
    where = "invoice_id IN (SELECT invoice_id FROM billing.invoices WHERE period = $period AND status = 'issued')"
    return Billed.of(
        context.warehouse.table("billing", table, where, {"period": str(period)}) for table in BILLING_TABLES
    )


def _einvoices(
    context: Context, period: BillingPeriod, billed: Billed, syntax: Syntax, *, without: set[str]
) -> Iterator[tuple[str, bytes, bool]]:
    """invoice_id, XML, and whether it was issued so."""
    documents = context.warehouse.table(
        "ops", DOCUMENTS, "starts_with(file, $folder)", {"folder": IssuedStore.file(period, "")}
    ).filter(pl.col("file").str.ends_with(_ENDING[syntax]))
    found = set()
    for invoice_id, file, sha256 in (
        documents.sort("file").select("invoice_id", "file", "sha256").iter_rows()
    ):  # fmt: skip
        data = issued_document(context, file, sha256)
        einvoice = embedded(data) if syntax == "cii" else data
        if einvoice is not None:
            found.add(invoice_id)
            yield invoice_id, einvoice, True
    rest = set(billed.invoices["invoice_id"]) - found - without
    if not rest:
        return
    missing = Billed(*(frame.filter(pl.col("invoice_id").is_in(list(rest))) for _, frame in billed.frames()))
    book = issued_run(context, period)[0].book
    printer = EInvoicePrinter(
        facts=invoice_facts(context, missing, book=book, period=period),
        templates=context.workspace.templates,
        syntax=syntax,
    )
    batches = invoice_batches(context, missing, book=book, einvoices=rest)
    with closing(made(context, printer, batches, seconds=len(rest) * _SECONDS_PER_EINVOICE)) as files:
        for invoice_id, _, data in files:
            yield invoice_id, data, False


def _findings(name: str, result: Checked) -> list[Finding]:
    return [
        Finding(
            Severity.ERROR if each.is_fatal else Severity.WARNING,
            f"einvoice.{each.rule}",
            each.message,
            file=name,
            value=each.place or None,
        )
        for each in result.failed
    ]
