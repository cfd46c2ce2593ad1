"""invoice: draft the invoices of a rated period."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from ratemill import __version__
from ratemill.errors import DataRefusedError
from ratemill.invoicing.assembly import Invoices, assemble_invoices
from ratemill.invoicing.invariants import assert_invoices_add_up
from ratemill.io.charge_store import ChargeStore
from ratemill.steps.check import refuse_closed
from ratemill.steps.correct import Corrected
from ratemill.steps.einvoices import einvoice_findings
from ratemill.steps.overflow import largest_charge, overflow_refused

if TYPE_CHECKING:
    import polars as pl

    from ratemill.steps.check import Checked
    from ratemill.steps.context import Context
    from ratemill.steps.rate import Rated


NOTHING_CORRECTED = Corrected()


def invoice(context: Context, checked: Checked, rated: Rated, corrected: Corrected = NOTHING_CORRECTED) -> Invoices:
    """Draft invoices; they replace the period's former drafts in one transaction that makes the run current.

    ``corrected``: what closed periods leave to this one to bill.

    Raises:
        LockedError: the period is closed.
        DataRefusedError: an account has no tax, or an amount overflows.
        InvariantError: the sums do not agree; nothing was written.
    """
    refuse_closed(context, checked.period)
    store = ChargeStore(context.workspace.charges)
    period, book = checked.period, checked.book
    with context.step("invoice", period, rated.run_id) as step:
        charges = store.usage_charges(period, rated.run_id)
        invoices = assembled(context, checked, charges, corrected.corrections)
        if invoices.findings:
            count = len(invoices.findings)
            raise DataRefusedError(
                f"{count:,} {'tax is' if count == 1 else 'taxes are'} missing; no invoice was drafted",
                findings=invoices.findings,
            )
        if rated.facts["charges"] or invoices.lines.height:
            assert_invoices_add_up(charges, invoices)
        store.add_invoiced(period, rated.run_id, invoices.charges)
        context.warehouse.store_invoices(
            invoices,
            book,
            _run_row(context, checked, rated),
            (
                *checked.findings,
                *rated.findings,
                *corrected.findings(invoices),
                *einvoice_findings(context.config, invoices, book),
            ),
            actor=context.actor,
        )
        step.done(
            f"{invoices.invoices.height:,} invoices of {invoices.lines.height:,} lines",
            rows=int(rated.facts["charges"]),
            written=invoices.lines.height,
        )
    return invoices


def assembled(context: Context, checked: Checked, charges: pl.LazyFrame, corrections: pl.DataFrame) -> Invoices:
    """The invoices of a period from its ``charges`` and ``corrections``; nothing is written.

    Raises:
        DataRefusedError: an amount overflows.
    """
    with overflow_refused("the sum of an invoice's charges", partial(largest_charge, charges)):
        return assemble_invoices(
            charges,
            book=checked.book,
            period=checked.period,
            time_zone=context.config.period.time_zone,
            run_id=checked.run_id,
            credits_drawn=context.warehouse.credits_drawn(checked.period),
            corrections=corrections,
            correction_documents=context.config.policy.corrections == "credit_note",
        )


def _run_row(context: Context, checked: Checked, rated: Rated) -> dict[str, object]:
    return {
        "run_id": rated.run_id,
        "period": str(checked.period),
        "input_key": checked.input_key,
        "inputs": json.dumps(checked.inputs, sort_keys=True),
        "book_sha256": checked.book.sha256,
        "code_version": __version__,
        "status": "invoiced",
        "is_current": True,
        "finished_at": context.now,
        "summary": None,
    }
