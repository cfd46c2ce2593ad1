"""Every line of every world can be explained, and the explanation comes to the line.

An explanation is computed in plain decimals from charges and book alone, by none of the code that billed them, and
raises where a figure is not the one that stands. So this is a third road to a bill, beside the engine and the reference.
"""

from __future__ import annotations

import os
import secrets
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, seed, settings

from engine import RATED_KINDS, bill, make_book
from ratemill.insight.explain.deductions import in_scope
from ratemill.insight.explain.document import Document, document_steps, line_steps, shortfall_steps
from ratemill.insight.explain.gather import covered_by, price_line, zone_of
from ratemill.insight.explain.model import Explanation
from ratemill.insight.explain.usage import Metered
from ratemill.insight.explain.usage_line import derivation
from ratemill.period import BillingPeriod
from ratemill.tables.invoices import Billed
from strategies import neighbours, side_by_side

NO_USAGE = Metered(
    pl.DataFrame(
        schema={
            "charge": pl.Int64,
            "file": pl.String,
            "records": pl.Int64,
            "quantity": pl.Decimal(38, 12),
            "billable": pl.Decimal(38, 12),
            "first_start": pl.Datetime("us", "UTC"),
            "last_end": pl.Datetime("us", "UTC"),
        }
    )
)
"""A world's warehouse is empty again by now, as if its files had been redelivered: the charges that were kept count."""
FIRST_SEED = 0 if os.environ.get("CI") else secrets.randbelow(10**9)


def prove(steps, line):
    """Every working of some steps recomputed, every table added up."""
    Explanation("line", "", "", "", "", True, line["amount"], "", 2, "", tuple(steps)).prove()


def explain_everything(world):
    """Explain every document and line of a world; how many lines there were."""
    billed, book, period = bill(world), make_book(world.book), BillingPeriod.parse(world.period)
    charges = billed.charges.filter(pl.col("charge_kind").is_in(RATED_KINDS)).lazy()
    frames = Billed(
        billed.invoices, billed.lines, billed.deductions, billed.tax_lines, billed.credits, billed.commitments
    )
    explained = 0
    for one in frames.each():
        head = one.invoices.row(0, named=True)
        zone = zone_of(book, head["billing_account_id"], world.time_zone)
        document = Document.of(
            one,
            book,
            tax_point=period.end(zone) - timedelta(microseconds=1),
            zone=zone,
            covered=covered_by(charges, one, book, period),
        )
        prove(document_steps(document, most=3, ask="{line}"), {"amount": head["total_amount"]})
        for line in document.lines:
            prove(line_steps(document, line), line)
            if line["line_kind"] == "usage":
                prove(of_usage(world, charges, line, head=head, book=book, period=period), line)
            if line["line_kind"] == "commitment":
                row = book.commitments.filter(commitment_id=line["source_id"]).row(0, named=True)
                counted = [each for each in document.lines if each["line_kind"] == "usage" and in_scope(row, each)]
                prove(shortfall_steps(document, line, row, counted, most=3, ask="{line}"), line)
            explained += 1
    return explained


def of_usage(world, charges, line, *, head, book, period):
    """The derivation of a usage line, and of its first charge alone."""
    priced = price_line(
        charges,
        line,
        payer=head["billing_account_id"],
        currency=head["currency"],
        book=book,
        period=period,
        default_zone=world.time_zone,
        hourly=world.detail == "hour",
    )
    steps = derivation(priced, priced.mine, NO_USAGE, most=3)
    assert steps[-1].workings[-1].result == line["cost"]
    first = derivation(priced, priced.mine[:1], NO_USAGE, most=3)
    if not priced.limits:
        assert first[-1].workings[-1].result == priced.mine[0].row["cost"]
    return [*steps, *first]


def ask_about(count, first_seed):
    """Explain at least so many worlds, up to six at a time."""
    asked = lines = 0

    def examples(number):
        @seed(number)
        @settings(max_examples=10, database=None)
        @given(neighbours("everything", most=6) | neighbours("deals", most=6))
        def ask(some):
            nonlocal asked, lines
            asked += len(some)
            lines += explain_everything(side_by_side(some))

        ask()

    number = first_seed
    while asked < count:
        try:
            examples(number)
        except BaseException as error:
            error.add_note(f"seed {number}")
            raise
        number += 1
    assert lines > count, "nothing was explained"


@pytest.mark.slow
def test_every_line_of_thirty_worlds():
    ask_about(30, FIRST_SEED)


@pytest.mark.slow
def test_every_line_of_many_worlds():
    ask_about(int(os.environ.get("WORLDS", "2000")) // 4, FIRST_SEED + 10**9)
