"""FOCUS datasets from the ledger: frames in, frames out (docs/exports.md says which column is filled from what)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.frames import collect
from ratemill.insight.focus.charges import charge_rows
from ratemill.insight.focus.details import (
    billing_periods,
    contract_commitments,
    detail_sums,
    invoice_details,
)
from ratemill.insight.focus.ledger import FocusLedger
from ratemill.insight.focus.usage import cut_between_lines, usage_rows
from ratemill.tables.charges import CHARGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["FocusDatasets", "FocusLedger"]

_ORDER = ("x_LedgerInvoiceId", "x_InvoiceLineNumber", "ChargePeriodStart", "x_ChargeKind", "InvoiceDetailId",
          "x_SourceId")  # fmt: skip


class FocusDatasets:
    """The datasets of a period. Cost and Usage is asked for first, part by part: the others add it up."""

    def __init__(self, ledger: FocusLedger) -> None:
        self.ledger = ledger
        self._sums: list[pl.DataFrame] = []
        self._finished = False

    def cost_and_usage(self, charges: Iterable[pl.LazyFrame]) -> Iterator[pl.DataFrame]:
        """Rows of ROWS, part by part: those of the usage charges, then those of everything else.

        Args:
            charges: what rating made, in parts that hold whole invoice lines (the files of a run do).

        Raises:
            polars.exceptions.ComputeError: an amount does not fit.
        """
        left = []
        for part in charges:
            for whole_lines in cut_between_lines(collect(part)):
                made = usage_rows(self.ledger, whole_lines)
                left.append(made.left)
                yield self._counted(made.rows)
        nothing = usage_rows(self.ledger, CHARGES.empty()).left
        yield self._counted(charge_rows(self.ledger, pl.concat([nothing, *left])).sort(*_ORDER, nulls_last=True))
        self._finished = True

    def _counted(self, rows: pl.DataFrame) -> pl.DataFrame:
        self._sums.append(detail_sums(rows))
        return rows

    def others(self) -> dict[str, pl.DataFrame]:
        """Name of the file → rows, of the other datasets. Only after all of Cost and Usage.

        Raises:
            InvariantError: Cost and Usage does not add up to the ledger.
        """
        if not self._finished:
            raise ValueError("Invoice Detail adds up Cost and Usage, which has not been read to its end")
        return {
            "invoice_detail": invoice_details(self.ledger, self._sums),
            "billing_period": billing_periods(self.ledger),
            "contract_commitment": contract_commitments(self.ledger),
        }
