"""invoice: draft the invoices of a rated period."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from ratemill import __version__
from ratemill.errors import DataRefusedError
from ratemill.frames import collect
from ratemill.invoicing.assembly import Invoices, assemble_invoices
from ratemill.invoicing.invariants import assert_invoices_add_up
from ratemill.io.charge_store import ChargeStore
from ratemill.steps.overflow import overflow_refused

if TYPE_CHECKING:
    import polars as pl

    from ratemill.steps.check import Checked
    from ratemill.steps.context import Context
    from ratemill.steps.rate import Rated


def invoice(context: Context, checked: Checked, rated: Rated) -> Invoices:
    """Draft invoices; they replace the period's former drafts in one transaction that makes the run current.

    Raises:
        DataRefusedError: an account has no tax, or an amount overflows.
        InvariantError: the sums do not agree; nothing was written.
    """
    store = ChargeStore(context.workspace.charges)
    period, book = checked.period, checked.book
    with context.progress.step("invoice") as step:
        charges = store.usage_charges(period, rated.run_id)
        with overflow_refused("the sum of an invoice's charges", partial(_largest_charge, charges)):
            invoices = assemble_invoices(
                charges,
                book=book,
                period=period,
                time_zone=context.config.period.time_zone,
                run_id=rated.run_id,
            )
        if invoices.findings:
            count = len(invoices.findings)
            raise DataRefusedError(
                f"{count:,} {'tax is' if count == 1 else 'taxes are'} missing; no invoice was drafted",
                findings=invoices.findings,
            )
        if rated.facts["charges"]:
            assert_invoices_add_up(charges, invoices)
        store.add_invoiced(period, rated.run_id, invoices.charges)
        context.warehouse.store_invoices(
            invoices,
            book,
            _run_row(context, checked, rated),
            (*checked.findings, *rated.findings),
        )
        step.done(f"{invoices.invoices.height:,} invoices of {invoices.lines.height:,} lines")
    return invoices


def _largest_charge(charges: pl.LazyFrame) -> str:
    largest = collect(charges.sort("cost", descending=True).head(1)).row(0, named=True)
    return (
        f"The largest charge is {largest['cost'].normalize():f} {largest['currency']} for SKU {largest['sku_id']} of"
        f" account {largest['account_id']}, resource {largest['resource_id'] or '(none)'}, from"
        f" {largest['charge_start']:%Y-%m-%d %H:%M} UTC"
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
