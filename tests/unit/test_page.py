"""The page that a run ends with on a terminal."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ratemill.cli.page import print_page
from ratemill.steps.load import Loaded
from ratemill.summary import CurrencyTotal, PeriodSummary

NOTHING = dict.fromkeys(
    ("rows_in", "rows_filtered", "rows_rejected", "rows_duplicate", "rows_other_periods", "rows_unpriced", "rows_billed",
     "charges", "files"), 0,
)  # fmt: skip


@pytest.mark.parametrize("columns", ["20", "80", "200"])
def test_no_amount_is_cut_short_however_narrow_the_terminal_is(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    amounts = ["123456789012345.67", "123456789012300.00", "45.67", "123456789012391.34"]
    untaxed, previous, tax, total = map(Decimal, amounts)
    totals = (CurrencyTotal("EUR", 1_000_000, untaxed, tax, total, previous),)
    summary = PeriodSummary(
        "2026-10", "2026-10-0", nothing_to_do=False, facts=NOTHING | {"rows_in": 10**12}, totals=totals, findings=(),
        out="out/2026-10", published="published/billing.duckdb", closed=None,
    )  # fmt: skip

    print_page([summary], Loaded(files=0, loaded=0, rows=0, findings=()))

    page = capsys.readouterr().out
    assert "1,000,000,000,000" in page
    (line,) = (line for line in page.splitlines() if line.startswith("EUR"))
    assert line.split() == ["EUR", "1,000,000", *(f"{amount:,}" for amount in (untaxed, previous)), "+0.0", "%",
                            *(f"{amount:,}" for amount in (tax, total))]  # fmt: skip
