"""The audit log: each act is chained to the one before, and every way to break the chain is found and named."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import polars as pl
import pytest

from ratemill.audit import FIRST, Act, broken_links, chained, content_by, rows_sha256, totals_by_currency
from ratemill.tables.invoices import BILLING_TABLES, INVOICE_LINES, INVOICES, Billed
from ratemill.tables.runs import EVENTS

START = datetime(2026, 11, 2, 6, 0, 0, 123456, tzinfo=UTC)


def log(*acts: Act) -> pl.DataFrame:
    """Rows of EVENTS, as the warehouse appends them."""
    rows: list[dict] = []
    for number, act in enumerate(acts, start=1):
        rows.append(chained(act, sequence=number, previous_sha256=rows[-1]["sha256"] if rows else FIRST))
    return pl.DataFrame(rows, schema=EVENTS.polars_schema)


def four() -> pl.DataFrame:
    return log(
        Act("loaded", "ann", START, details={"files": {"usage/a.parquet": "ab"}}),
        Act("drafted", "ann", START + timedelta(minutes=1), "2026-10", "2026-10-1", {"after": {"EUR": "3.60"}}),
        Act("closed", "bo", START + timedelta(days=1), "2026-10", "2026-10-1", {"numbers": ["2026-00001"]}),
        Act("credited", "bo", START + timedelta(days=2), "2026-10", "CN-1", {"reason": "goodwill, 5 €"}),
    )


def test_whole_chain_is_whole():
    assert broken_links(four()) == []
    assert broken_links(EVENTS.empty()) == []


def test_chain_starts_with_zeros_and_each_act_names_the_one_before():
    events = four()
    assert events["previous_sha256"].to_list() == ["0" * 64, *events["sha256"][:-1]]
    assert events["sha256"].str.len_chars().unique().to_list() == [64]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("actor", "mallory"),
        ("act", "loaded"),
        ("at", START + timedelta(days=1, microseconds=1)),
        ("period", "2026-09"),
        ("period", None),
        ("subject", "2026-10-2"),
        ("details", '{"numbers": ["2026-00002"]}'),
    ],
)
def test_changed_content_is_named(column, value):
    changed = four().with_columns(
        pl.when(sequence=3).then(pl.lit(value, dtype=EVENTS[column].dtype)).otherwise(column).alias(column)
    )
    (told,) = broken_links(changed)
    assert told.startswith("act 3 (")
    assert "its content was changed" in told


def test_act_that_was_left_out_is_named():
    assert broken_links(four().filter(pl.col("sequence") != 2)) == [
        "act 3 (closed): act 2 should come before it; acts are missing"
    ]
    assert broken_links(four().filter(pl.col("sequence") != 1)) == [
        "act 2 (drafted): act 1 should come before it; acts are missing"
    ]


def test_acts_that_were_renumbered_to_hide_a_gap_are_named():
    events = four().filter(pl.col("sequence") != 2).with_columns(sequence=pl.int_range(1, 4, dtype=pl.Int64))
    assert broken_links(events) == [
        "act 2 (closed): it does not follow the act before it; one of them was exchanged",
        "act 2 (closed): its content was changed; its hash is another one",
        "act 3 (credited): its content was changed; its hash is another one",
    ]


def test_act_that_was_exchanged_for_a_well_formed_one_is_named_by_its_successor():
    """Whoever changes an act and computes its hash anew has to do so for all that follow."""
    first = four().row(0, named=True)
    forged = chained(
        Act("drafted", "ann", START, "2026-10", "2026-10-1", {"after": {"EUR": "1.00"}}),
        sequence=2,
        previous_sha256=first["sha256"],
    )
    events = pl.concat([four().filter(pl.col("sequence") != 2), pl.DataFrame([forged], schema=EVENTS.polars_schema)])
    assert broken_links(events) == ["act 3 (closed): it does not follow the act before it; one of them was exchanged"]


def test_act_that_was_doubled_is_named():
    events = pl.concat([four(), four().filter(pl.col("sequence") == 4)])
    assert broken_links(events) == ["act 4 (credited): it is there twice"]


def test_tail_that_was_cut_off_leaves_a_whole_chain_and_another_last_hash():
    """That is why ``verify --expect`` takes a hash that was kept elsewhere."""
    cut = four().head(3)
    assert broken_links(cut) == []
    assert four()["sha256"][-1] not in cut["sha256"].to_list()


def test_order_of_rows_and_zone_of_the_clock_play_no_part():
    assert broken_links(four().reverse()) == []
    elsewhere = START.astimezone(timezone(timedelta(hours=5, minutes=45)))
    one, other = (chained(Act("loaded", "ann", at), sequence=1, previous_sha256=FIRST) for at in (START, elsewhere))
    assert one["sha256"] == other["sha256"]


# ---------------------------------------------------------------------------------------------------- hashes of rows


def line(invoice_id: str = "i1", line_number: int = 1, **values) -> dict:
    row = dict.fromkeys(INVOICE_LINES.names) | {"invoice_id": invoice_id, "line_number": line_number}
    return row | {"line_kind": "usage", "account_id": "acme", "amount": Decimal("1.5")} | values


def lines(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=INVOICE_LINES.polars_schema)


def test_each_invoice_has_a_hash_of_its_rows_in_any_order():
    two = lines(line(), line(line_number=2), line("i2"))
    hashes = content_by(two, INVOICE_LINES, "invoice_id")
    assert [*hashes] == ["i1", "i2"]
    assert hashes == content_by(two.reverse(), INVOICE_LINES, "invoice_id")
    assert hashes["i2"] == content_by(lines(line("i2")), INVOICE_LINES, "invoice_id")["i2"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"amount": Decimal("1.5")}, {"amount": Decimal("1.5001")}),
        ({"region": None}, {"region": ""}),
        ({"region": None}, {"region": "-"}),
        ({"region": "a", "price_id": None}, {"region": None, "price_id": "a"}),
        ({"region": "eu", "price_id": "x"}, {"region": "eu 1:x", "price_id": None}),
        ({"region": "1:a 1:b"}, {"region": "1:a\n1:b"}),
        ({"account_name": "Café"}, {"account_name": "Cafe\u0301"}),
        ({"first_day": date(2026, 10, 1)}, {"first_day": date(2026, 10, 2)}),
    ],
)
def test_any_other_value_is_another_hash(before, after):
    one, other = (content_by(lines(line(**values)), INVOICE_LINES, "invoice_id") for values in (before, after))
    assert one != other


def test_same_value_is_the_same_hash_however_it_is_written():
    one, other = (
        content_by(lines(line(amount=Decimal(text))), INVOICE_LINES, "invoice_id") for text in ("1.5", "1.5000")
    )
    assert one == other


def test_rows_of_a_document_are_hashed_table_by_table():
    billed = Billed.of(
        [
            pl.DataFrame([dict.fromkeys(INVOICES.names) | {"invoice_id": "i1"}], schema=INVOICES.polars_schema),
            lines(line()),
            *(table.empty() for table in BILLING_TABLES[2:]),
        ]
    )
    hashes = rows_sha256(billed)
    assert {invoice: [*tables] for invoice, tables in hashes.items()} == {"i1": ["invoices", "invoice_lines"]}
    assert rows_sha256(Billed.empty()) == {}


def test_totals_of_acts_are_texts_by_currency():
    def invoice(invoice_id: str, currency: str, untaxed: str, tax: str) -> dict:
        total = Decimal(untaxed) + Decimal(tax)
        amounts = {"untaxed_amount": Decimal(untaxed), "tax_amount": Decimal(tax), "total_amount": total}
        return dict.fromkeys(INVOICES.names) | {
            "invoice_id": invoice_id, "currency": currency, **amounts, "due_amount": total
        }  # fmt: skip

    rows = [invoice("a", "EUR", "3.60", "0.72"), invoice("b", "EUR", "-1.10", "-0.22"), invoice("c", "JPY", "5", "0")]
    assert totals_by_currency(pl.DataFrame(rows, schema=INVOICES.polars_schema)) == {
        "EUR": {"documents": 2, "untaxed": "2.5000", "tax": "0.5000", "total": "3.0000", "due": "3.0000"},
        "JPY": {"documents": 1, "untaxed": "5.0000", "tax": "0.0000", "total": "5.0000", "due": "5.0000"},
    }
    assert totals_by_currency(INVOICES.empty()) == {}
