"""Credit notes by hand: a whole invoice, lines, an amount; and never more than is left, taxes included."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_rows import billed, document, line, together
from ratemill.errors import UsageError
from ratemill.invoicing.corrections import find_corrections
from ratemill.invoicing.credit_notes import Credit, credit_note, given_back_twice, left_of
from ratemill.tables.invoices import BILLING_TABLES

D = Decimal
ORIGINAL = "2026-09-acme-EUR"
DAY = date(2026, 11, 3)
FOUR_LINES = ("68.33", "68.33", "57.50", "85.00")  # RATING 5 #14: with 20 % tax 334.99


def invoice_of(*amounts, **values):
    """An issued invoice with a line for each amount."""
    lines = [line(amount, sku_id=f"sku-{number}") for number, amount in enumerate(amounts, 1)]
    return billed(document(ORIGINAL, *lines, number="2026-00001", **values))


def credited_in_turn(original, *wanted_in_turn):
    """The credit notes of each ``Credit``, one after the other."""
    notes = []
    for number, wanted in enumerate(wanted_in_turn, 1):
        before = together(billed(), *notes)
        note = credit_note(
            original, before, wanted, invoice_id=f"{ORIGINAL}-credit-{number}", number=f"CN-{number}", issue_date=DAY
        )
        for table, rows in note.frames():
            table.validate(rows)
        notes.append(note)
    return notes


def totals(note):
    return note.invoices.select("untaxed_amount", "tax_amount", "total_amount").row(0)


def credit(*lines, amount=None, reason="Outage"):
    return Credit(reason, tuple(lines), None if amount is None else D(amount))


def test_whole_invoice():
    original = invoice_of(*FOUR_LINES)
    (note,) = credited_in_turn(original, credit())
    assert totals(note) == (D("-279.16"), D("-55.83"), D("-334.99"))
    head = note.invoices.row(0, named=True)
    assert (head["document"], head["status"], head["number"], head["issue_date"], head["due_date"], head["origin"]) == (
        "credit_note", "issued", "CN-1", DAY, None, "hand",
    )  # fmt: skip
    assert (head["corrects_invoice_id"], head["period"], head["lines"]) == (ORIGINAL, "2026-09", 4)
    assert note.lines["line_number"].to_list() == [1, 2, 3, 4]
    assert note.lines["net_amount"].to_list() == [-D(amount) for amount in FOUR_LINES]
    assert note.lines["corrects_invoice_id"].unique().to_list() == [ORIGINAL]
    assert note.lines["description"].unique().to_list() == ["Outage"]


ORDERS = [(1, 2, 3, 4), (4, 3, 2, 1), (2, 4, 1, 3)]


@pytest.mark.parametrize("order", ORDERS)
def test_line_by_line_gives_back_exactly_the_invoice(order):
    """RATING 5 #14: each line's own tax would round to 13.67 + 13.67 + 11.50 + 17.00 = 55.84."""
    original = invoice_of(*FOUR_LINES)
    notes = credited_in_turn(original, *(credit(number) for number in order))
    assert sum(totals(note)[2] for note in notes) == D("-334.99")
    assert sum(totals(note)[1] for note in notes) == D("-55.83")
    assert left_of(original, together(*notes))["left"].to_list() == [D(0)] * 4


AMOUNTS = [  # (lines, amount, what each line is credited)
    ((), "10.00", {1: "2.45", 2: "2.45", 3: "2.06", 4: "3.04"}),  # 2.4477, 2.4477, 2.0597, 3.0448
    ((), "0.01", {4: "0.01"}),
    ((1, 2), "10.01", {1: "5.01", 2: "5.00"}),  # ties go to the smaller number
    ((3,), "57.50", {3: "57.50"}),
    ((), "279.16", {1: "68.33", 2: "68.33", 3: "57.50", 4: "85.00"}),
]


@pytest.mark.parametrize(("lines", "amount", "shares"), AMOUNTS)
def test_amount_is_spread_over_what_is_left(lines, amount, shares):
    (note,) = credited_in_turn(invoice_of(*FOUR_LINES), credit(*lines, amount=amount))
    assert dict(note.lines.select("line_number", "net_amount").iter_rows()) == {n: -D(a) for n, a in shares.items()}
    assert note.invoices["untaxed_amount"][0] == -D(amount)


def test_quantity_is_told_only_where_a_line_is_credited_whole():
    original = billed(document(ORIGINAL, line("10.00", pricing_quantity="100", unit_price="0.1"), number="2026-00001"))
    part, rest = credited_in_turn(original, credit(amount="4.00"), credit())
    assert part.lines["pricing_quantity"].to_list() == rest.lines["pricing_quantity"].to_list() == [None]
    (whole,) = credited_in_turn(original, credit())
    assert whole.lines["pricing_quantity"].to_list() == [D(-100)]


def test_deductions_are_folded_in():
    original = billed(document(ORIGINAL, line("10.00", discount_amount="-1.00", credit_amount="-4.00")))
    (note,) = credited_in_turn(original, credit())
    row = note.lines.row(0, named=True)
    assert (row["amount"], row["net_amount"], row["discount_amount"]) == (D("-5.00"), D("-5.00"), D(0))
    assert totals(note) == (D("-5.00"), D("-1.00"), D("-6.00"))


def test_negative_lines_go_back_with_the_whole_and_carry_no_amount():
    sorry = line("-20.00", line_kind="adjustment", source_id="sorry", sku_id=None, description="Outage in May")
    original = billed(document(ORIGINAL, line("100.00"), sorry, number="2026-00001"))
    (note,) = credited_in_turn(original, credit(reason="Wrong customer"))
    assert note.lines["net_amount"].to_list() == [D("-100"), D("20")]
    assert note.lines["description"].to_list() == ["Wrong customer", "Outage in May: Wrong customer"]
    (part,) = credited_in_turn(original, credit(amount="80.00"))
    assert part.lines.select("line_number", "net_amount").rows() == [(1, D("-80"))]
    with pytest.raises(UsageError, match=r"81\.00 EUR is more than the 80\.00 EUR"):
        credited_in_turn(original, credit(amount="81.00"))


def test_each_tax_rate_gives_back_its_own():
    original = billed(document(ORIGINAL, line("10.03"), line("10.03", tax_code="low", tax_rate="5.5", sku_id="book")))
    first, second, third = credited_in_turn(original, credit(1, amount="0.03"), credit(2), credit())
    assert first.taxes.select("rate", "base_amount", "tax_amount").rows() == [(D(20), D("-0.03"), D("-0.01"))]
    assert second.taxes.select("rate", "tax_amount").rows() == [(D("5.5"), D("-0.55"))]
    assert third.taxes.select("rate", "tax_amount").rows() == [(D(20), D("-2.00"))]


REFUSED = [  # (credits, what the last one is told)
    ([credit(5)], "invoice 2026-00001 has no line 5: its lines are 1 to 4"),
    ([credit(amount="279.17")], "279.17 EUR is more than the 279.16 EUR, untaxed, that are left of invoice 2026-00001"),
    ([credit(), credit()], "nothing is left to credit of invoice 2026-00001; credited before on CN-1"),
    ([credit(1), credit(1, reason="Again")], "nothing is left to credit of the chosen lines of invoice 2026-00001"),
    ([credit(amount="200"), credit(amount="80")], "80.00 EUR is more than the 79.16 EUR, untaxed, that are left of"),
    ([credit(1, amount="68.34")], "68.34 EUR is more than the 68.33 EUR"),
    ([credit(amount="0")], "0 is no amount to credit"),
    ([credit(amount="-5")], "-5 is no amount to credit"),
    ([credit(amount="1.001")], "1.001 is no amount to credit: it must be above 0 and have at most 2 decimals, as EUR"),
]  # fmt: skip


@pytest.mark.parametrize(("credits_", "told"), REFUSED)
def test_never_more_than_is_left(credits_, told):
    with pytest.raises(UsageError) as refused:
        credited_in_turn(invoice_of(*FOUR_LINES), *credits_)
    assert told in str(refused.value)


# Corrections of runs take from what is left ------------------------------------------------------------------------


def correction(amount, number, invoice_id="2026-10-acme-EUR-credit-2026-09", **values):
    row = line(amount, sku_id=f"sku-{number}", line_kind="correction", corrects_period="2026-09",
               corrects_invoice_id=ORIGINAL)  # fmt: skip
    return billed(document(invoice_id, row, corrects_invoice_id=ORIGINAL, number="CN-9", **values))


@pytest.mark.parametrize("carrier", ["2026-10-acme-EUR-credit-2026-09", "2026-10-acme-EUR"])
def test_correction_downwards_takes_from_its_line(carrier):
    original = invoice_of("100.00", "50.00")
    before = correction("-30.00", 1, carrier)
    assert left_of(original, before)["left"].to_list() == [D("70"), D("50")]
    note = credit_note(original, before, credit(), invoice_id="x", number="CN-10", issue_date=DAY)
    assert totals(note) == (D("-120.00"), D("-24.00"), D("-144.00"))
    with pytest.raises(UsageError, match=r"70\.00 EUR.*that are left of the chosen lines.*CN-9"):
        credit_note(original, before, credit(1, amount="70.01"), invoice_id="x", number="CN-10", issue_date=DAY)


def test_correction_upwards_was_billed_elsewhere():
    original = invoice_of("100.00", "50.00")
    up = correction("30.00", 1, "2026-10-acme-EUR")
    assert left_of(original, up)["left"].to_list() == [D("100"), D("50")]
    # One that takes back the other leaves the line as it was.
    both = together(up, correction("-30.00", 1, "2026-11-acme-EUR"))
    assert left_of(original, both)["left"].to_list() == [D("100"), D("50")]


def test_pieces_beside_a_corrections_credit_note_give_back_the_tax_to_the_cent():
    original = invoice_of(*FOUR_LINES)
    run_note = correction("-0.07", 2)
    hand = credit_note(original, run_note, credit(), invoice_id="x", number="CN-10", issue_date=DAY)
    assert totals(run_note)[2] + totals(hand)[2] == D("-334.99")


@pytest.mark.parametrize(("by_hand", "down", "excess"), [("40.00", "-30.00", None), ("80.00", "-30.00", "10.00")])
def test_correction_after_a_credit_note_by_hand(by_hand, down, excess):
    """Together they may give back more than was billed: a person has to look."""
    original = invoice_of("100.00", "50.00")
    (note,) = credited_in_turn(original, credit(1, amount=by_hand))
    correct = billed(document(ORIGINAL, line(str(100 + D(down)), sku_id="sku-1"), line("50.00", sku_id="sku-2")))
    rows = find_corrections(correct, original, period="2026-09")
    finding = given_back_twice(rows, original, note)
    assert (finding is None) == (excess is None)
    if finding:
        assert f"give back {excess} EUR more than lines of invoice 2026-00001" in finding.message
        assert "(CN-1)" in finding.message
    assert given_back_twice(rows, original, billed()) is None


# Whatever the pieces ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=30)
@given(
    cents=st.lists(st.integers(1, 10_000), min_size=1, max_size=6),
    rate=st.decimals("0", "30", places=2),
    pieces=st.lists(st.integers(1, 5_000), max_size=5),
)
def test_any_pieces_add_up_to_the_invoice(cents, rate, pieces):
    """Amounts as far as they are left, then the rest: together the original, by line, tax and total."""
    lines = [line(str(D(c) / 100), sku_id=f"sku-{n}", tax_rate=rate) for n, c in enumerate(cents)]
    original = billed(document(ORIGINAL, *lines))
    left, wanted = sum(cents), []
    for piece in pieces:
        if piece < left:
            wanted.append(credit(amount=str(D(piece) / 100)))
            left -= piece
    notes = credited_in_turn(original, *wanted, credit())
    assert tuple(map(sum, zip(*map(totals, notes), strict=True))) == tuple(-amount for amount in totals(original))
    assert all(totals(note)[1] <= 0 for note in notes)
    by_line = (
        together(*notes)
        .lines.group_by("line_number")
        .agg(total=-pl.col("net_amount").sum())
        .sort("line_number")["total"]
        .to_list()
    )
    assert by_line == original.lines["net_amount"].to_list()


def test_currencies_without_cents():
    original = billed(document("2026-09-acme-JPY", line("100"), line("201", sku_id="ip")))
    note = credit_note(original, billed(), credit(amount="10"), invoice_id="x", number="CN-1", issue_date=DAY)
    assert note.lines["net_amount"].to_list() == [D(-3), D(-7)]
    with pytest.raises(UsageError, match="at most 0 decimals, as JPY has"):
        credit_note(original, billed(), credit(amount="9.5"), invoice_id="x", number="CN-1", issue_date=DAY)


def test_a_credit_note_is_a_document_like_any_other():
    (note,) = credited_in_turn(invoice_of("1.00"), credit())
    assert [table.name for table, _ in note.frames()] == [table.name for table in BILLING_TABLES]
