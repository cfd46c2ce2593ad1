"""What a run came to, for the terminal and for ``--json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.frames import collect
from ratemill.steps.publish import report_findings
from ratemill.tables.invoices import INVOICES

if TYPE_CHECKING:
    from decimal import Decimal

    from ratemill.findings import Finding
    from ratemill.period import BillingPeriod
    from ratemill.steps.check import Checked
    from ratemill.steps.context import Context


@dataclass(frozen=True)
class CurrencyTotal:
    """All invoices of a period in one currency."""

    currency: str
    invoices: int
    untaxed: Decimal
    tax: Decimal
    total: Decimal
    previous_untaxed: Decimal | None
    """Last month's untaxed sum; none where last month has no run."""


@dataclass(frozen=True)
class PeriodSummary:
    """One period's run."""

    period: str
    run_id: str
    nothing_to_do: bool
    """The run stood already, with all its files."""
    facts: dict[str, Any]
    totals: tuple[CurrencyTotal, ...]
    findings: tuple[Finding, ...]
    out: str
    published: str
    closed: dict[str, Any] | None
    """How it was closed (the row of CLOSED_PERIODS); none while it is open."""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``; amounts as decimals, which the printer turns into text."""
        return {
            "period": self.period,
            "run_id": self.run_id,
            "nothing_to_do": self.nothing_to_do,
            "rows": {name.removeprefix("rows_"): n for name, n in self.facts.items() if name.startswith("rows_")},
            "charges": self.facts["charges"],
            "totals": [vars(total) for total in self.totals],
            "findings": [finding.as_dict() for finding in self.findings],
            "out": self.out,
            "published": self.published,
            "closed": self.closed,
        }


def summarise(context: Context, checked: Checked, facts: dict[str, Any], *, nothing_to_do: bool) -> PeriodSummary:
    """The summary of the current run of a period."""
    workspace, period = context.workspace, checked.period
    return PeriodSummary(
        period=str(period),
        run_id=checked.run_id,
        nothing_to_do=nothing_to_do,
        facts=facts,
        totals=currency_totals(context, period),
        findings=(*context.warehouse.findings(checked.run_id), *report_findings(context)),
        out=workspace.relative(workspace.out(period)),
        published=workspace.relative(workspace.published_database),
        closed=context.warehouse.closed_period(period),
    )


def currency_totals(context: Context, billed: BillingPeriod) -> tuple[CurrencyTotal, ...]:
    """The sums of a period's invoices by currency, beside those of the month before."""
    period, previous = str(billed), str(billed.shift(-1))
    invoices = context.warehouse.table("billing", INVOICES, "origin = 'run' AND period IN ($now, $before)",
                                       {"now": period, "before": previous})  # fmt: skip
    sums = collect(
        invoices.lazy()
        .group_by("currency")
        .agg(
            (pl.col("period") == period).sum().alias("invoices"),
            pl.col("untaxed_amount").filter(pl.col("period") == period).sum().alias("untaxed"),
            pl.col("tax_amount").filter(pl.col("period") == period).sum().alias("tax"),
            pl.col("total_amount").filter(pl.col("period") == period).sum().alias("total"),
            pl.col("untaxed_amount").filter(pl.col("period") == previous).sum().alias("previous_untaxed"),
        )
        .sort("currency")
    )
    has_previous = invoices.filter(pl.col("period") == previous).height > 0
    return tuple(
        CurrencyTotal(**{**row, "previous_untaxed": row["previous_untaxed"] if has_previous else None})
        for row in sums.iter_rows(named=True)
    )
