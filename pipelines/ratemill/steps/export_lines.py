"""export lines: invoice lines with all ids and exact decimals, as one file for other systems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ratemill.errors import UsageError
from ratemill.io.line_files import write_table
from ratemill.money import minor_unit_decimals
from ratemill.steps.export import billed_with_credit_notes
from ratemill.tables.invoices import EXPORTED_LINES, INVOICE_LINES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ratemill.io.line_files import FileFormat
    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context


@dataclass(frozen=True)
class ExportedLines:
    """A file of lines, and what it adds up to."""

    file: Path
    rows: int
    totals: dict[str, str]
    """Currency → sum of the net amounts: the untaxed amounts of the invoices."""


def export_lines(
    context: Context, periods: Sequence[BillingPeriod], *, file_format: FileFormat, to: Path | None
) -> ExportedLines:
    """Write the lines of some periods, drafts or issued, with those of credit notes issued by hand in these months.

    Args:
        context: the workspace.
        periods: periods in order; each has invoices.
        file_format: of the file.
        to: the file; else ``exports/lines-<periods>.<format>`` in the workspace.

    Raises:
        UsageError: a period has no invoices, or ``to`` has the ending of another format.
    """
    span = str(periods[0]) if len(periods) == 1 else f"{periods[0]}..{periods[-1]}"
    target = to or context.workspace.root / "exports" / f"lines-{span}.{file_format}"
    if target.suffix != f".{file_format}" or target.is_dir():
        raise UsageError(f"--to: {target} is no name of a {file_format} file → name a file that ends in .{file_format}")
    with context.progress.step("export") as step:
        lines = pl.concat([EXPORTED_LINES.empty(), *(_lines(context, period) for period in periods)])
        write_table(target, EXPORTED_LINES, lines, file_format)
        step.done(f"{lines.height:,} lines")
    sums = lines.group_by("currency").agg(pl.col("net_amount").sum()).sort("currency")
    totals = {currency: f"{amount:.{minor_unit_decimals(currency)}f}" for currency, amount in sums.iter_rows()}
    return ExportedLines(target, lines.height, totals)


def _lines(context: Context, period: BillingPeriod) -> pl.DataFrame:
    if context.warehouse.current_run(period) is None:
        raise UsageError(f"{period} has no invoices to export → run: ratemill run --period {period}")
    billed = billed_with_credit_notes(context, period)
    of_invoices = [name for name in EXPORTED_LINES.names if name not in INVOICE_LINES.names]
    joined = billed.lines.join(billed.invoices.select("invoice_id", *of_invoices), on="invoice_id", validate="m:1")
    return joined.sort(*EXPORTED_LINES.key).pipe(EXPORTED_LINES.conform)
