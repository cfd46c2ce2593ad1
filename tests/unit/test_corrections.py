"""Corrections of closed periods, line by line: what was billed, what it should have been, and what is still to bill."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ledger_rows import billed, document, line
from oracles.cases import RAW
from ratemill.findings import Severity
from ratemill.invoicing.corrections import correction_findings, find_corrections, names_gone
from ratemill.tables.invoices import CORRECTIONS, Billed
from reference.tiers import Tier, graduated, volume

D = Decimal
SEPTEMBER = "2026-09-acme-EUR"
NOTHING = billed()


def corrected(correct, was):
    """Differences of September; each proven to keep the contract."""
    return CORRECTIONS.validate(find_corrections(correct, was, period="2026-09"))


def september(*lines, **values):
    return billed(document(SEPTEMBER, *lines, **values))


def only(frame):
    assert frame.height == 1, frame
    return frame.row(0, named=True)


def test_what_was_billed_rightly_needs_nothing():
    month = september(line("10.00", pricing_quantity="100", unit_price="0.1"))
    assert corrected(month, month).height == 0


# What late usage costs --------------------------------------------------------------------------------------------

CASES = {case["id"]: case for case in RAW}


def volume_example():
    """RATING 5 #13: ≤15 @10, ∞ @5; 15 are billed, and with one more all fall into the cheaper tier."""
    tiers = [Tier(up_to=D(15), unit_price=D(10)), Tier(unit_price=D(5))]
    return ("15", volume(tiers, D(15))), ("16", volume(tiers, D(16))), "-70"


def late_case():
    """OM-late-unit: 2 more of the first period."""
    given, unit = CASES["OM-late-unit"]["input"], D(CASES["OM-late-unit"]["params"]["unit"])
    was, now = given["p1_billed"], given["p1_now"]
    return (was, D(was) * unit), (now, D(now) * unit), "20"


def blocks_case():
    """KB-inc: 401 units are 5 blocks of 100, and 1 is billed."""
    case = CASES["KB-inc"]
    size, price = D(case["params"]["size"]), D(case["params"]["price"])
    quantity = case["input"]["qty"]
    now = graduated([Tier(unit_price=price, package_size=size)], D(quantity))
    return ("100", D(case["params"]["already_billed"]) * price), (quantity, now), case["expected"]


@pytest.mark.parametrize("example", [volume_example, late_case, blocks_case])
def test_late_usage(example):
    (quantity, amount), (quantity_now, amount_now), difference = example()
    was = september(line(str(amount), pricing_quantity=quantity))
    row = only(corrected(september(line(str(amount_now), pricing_quantity=quantity_now)), was))
    assert row["amount"] == D(difference)
    assert (row["billed_amount"], row["correct_amount"]) == (amount, amount_now)
    more = D(quantity_now) - D(quantity)
    assert row["pricing_quantity"] == more
    assert row["corrects_invoice_id"] == SEPTEMBER
    assert row["description"] == f"Correction of 2026-09: {more} h more"


# In words ---------------------------------------------------------------------------------------------------------

PLAIN = {"pricing_quantity": "100", "unit_price": "0.1"}
WORDS = [  # (billed, correct, what the correction says)
    (line("10.00", **PLAIN), line("11.20", pricing_quantity="112", unit_price="0.1"), "12 h more"),
    (line("10.00", **PLAIN), line("8.80", pricing_quantity="88", unit_price="0.1"), "12 h less"),
    (line("10.00", **PLAIN), line("12.00", pricing_quantity="100", unit_price="0.12"), "price 0.12 instead of 0.1"),
    (line("10.00", **PLAIN), line("13.20", pricing_quantity="110", unit_price="0.12"),
     "10 h more, price 0.12 instead of 0.1"),
    (line("10.00", **PLAIN), line("10.00", **PLAIN, discount_amount="-1.00"), "discounts changed"),
    (line("10.00", **PLAIN), line("12.00", pricing_quantity="100"), "12.00 instead of 10.00"),
]  # fmt: skip


@pytest.mark.parametrize(("was", "correct", "says"), WORDS)
def test_description_says_what_changed(was, correct, says):
    row = only(corrected(september(correct), september(was)))
    assert row["description"] == f"Correction of 2026-09: {says}"


def described(correct, was):
    rows = corrected(correct, was)
    return {
        row["amount"]: row["description"].removeprefix("Correction of 2026-09: ") for row in rows.iter_rows(named=True)
    }


def test_other_price_version_takes_back_and_bills():
    was, correct = line("10.00", price_id="old", **PLAIN), line("9.00", price_id="new", **PLAIN)
    assert described(september(correct), september(was)) == {
        D("-10.00"): "taken back, as another price applies",
        D("9.00"): "billed, as this price applies",
    }


def test_moved_project_is_given_back_and_billed_to_the_other_account():
    was, correct = (line("10.00", account_id=account, project_id="web", **PLAIN) for account in ("acme", "acme-2"))
    assert described(september(correct), september(was)) == {
        D("-10.00"): "taken back, as the project belongs to another account",
        D("10.00"): "not billed before, as the project belongs to this account",
    }


def test_former_payer_gets_it_back_and_the_new_one_is_billed():
    month = line("10.00", **PLAIN)
    rows = corrected(billed(document("2026-09-globex-EUR", month)), september(month))
    assert rows.select("billing_account_id", "amount", "corrects_invoice_id").rows() == [
        ("acme", D("-10"), SEPTEMBER),
        ("globex", D("10"), None),  # it had no invoice of that month
    ]
    assert described(billed(document("2026-09-globex-EUR", month)), september(month)) == {
        D("-10"): "taken back, as another account pays for it",
        D("10"): "not billed before, as this account pays for it",
    }
    assert "globex" not in rows.filter(billing_account_id="acme")["description"][0]


def test_wrong_tax_is_given_back_with_its_tax_and_billed_with_the_right_one():
    was = line("10.00", **PLAIN)
    correct = line("10.00", **PLAIN, tax_code="export", tax_rate="0", tax_kind="reverse_charge", tax_note="Art. 196")
    rows = corrected(september(correct), september(was))
    assert rows.select("tax_code", "tax_kind", "tax_rate", "tax_note", "amount").rows() == [
        ("export", "reverse_charge", D(0), "Art. 196", D("10")),
        ("fr", "standard", D(20), None, D("-10")),
    ]
    assert described(september(correct), september(was)) == {
        D("-10"): "taxed at 20 %, which was wrong",
        D("10"): "taxed at 0 %, as it should be",
    }


def test_new_line_beside_old_ones_was_just_not_billed():
    old, new = line("10.00", **PLAIN), line("3.00", price_id="night", pricing_quantity="60")
    assert described(september(old, new), september(old)) == {D("3.00"): "not billed before"}


def test_line_that_is_gone_is_given_back():
    rows = corrected(NOTHING, september(line("10.00", **PLAIN)))
    row = only(rows)
    assert (row["amount"], row["pricing_quantity"], row["tax_rate"]) == (D("-10"), D("-100"), D(20))
    assert row["description"] == "Correction of 2026-09: taken back"


@pytest.mark.parametrize(
    ("kind", "source", "words"),
    [("recurring", "support", "Support plan"), ("adjustment", "sorry", "Outage"), ("commitment", "deal", "Minimum")],
)
def test_lines_without_a_sku_keep_their_name(kind, source, words):
    values = {"line_kind": kind, "source_id": source, "description": words, "sku_id": None, "price_id": None}
    row = only(corrected(september(line("50.00", **values)), september(line("40.00", **values))))
    assert row["description"] == f"Correction of 2026-09, {words}: 50.00 instead of 40.00"
    assert (row["corrected_kind"], row["source_id"], row["pricing_quantity"]) == (kind, source, None)
    # An adjustment that was entered for a closed month.
    late_one = only(corrected(september(line("50.00", **values)), NOTHING))
    assert late_one["description"] == f"Correction of 2026-09, {words}: not billed before"


# Corrections of corrections ---------------------------------------------------------------------------------------


def carried(amount, quantity=None, invoice_id="2026-10-acme-EUR", **values):
    """An issued invoice of October with usage of its own, and a correction of September."""
    correction = line(amount, line_kind="correction", corrects_period="2026-09", corrects_invoice_id=SEPTEMBER,
                      pricing_quantity=quantity, description="Correction of 2026-09: something", **values)  # fmt: skip
    return document(invoice_id, line("99.00", **PLAIN), correction)


def test_what_was_corrected_is_not_corrected_again():
    was = billed(document(SEPTEMBER, line("10.00", **PLAIN)), carried("1.20", "12"))
    correct = september(line("11.20", pricing_quantity="112", unit_price="0.1"))
    assert corrected(correct, was).height == 0


def test_second_correction_bills_the_rest_only():
    was = billed(document(SEPTEMBER, line("10.00", **PLAIN)), carried("1.20", "12"))
    row = only(corrected(september(line("11.50", pricing_quantity="115", unit_price="0.1")), was))
    assert (row["billed_amount"], row["amount"], row["pricing_quantity"]) == (D("11.20"), D("0.30"), D(3))
    assert row["description"] == "Correction of 2026-09: 3 h more"


def test_correction_that_proved_wrong_is_taken_back():
    was = billed(document(SEPTEMBER, line("10.00", **PLAIN)), carried("1.20", "12"))
    row = only(corrected(september(line("10.00", **PLAIN)), was))
    assert (row["amount"], row["pricing_quantity"]) == (D("-1.20"), D(-12))


def test_corrected_price_is_not_told_by_the_first_price():
    was = billed(document(SEPTEMBER, line("10.00", **PLAIN)), carried("2.00"))  # to 0.12
    row = only(corrected(september(line("15.00", pricing_quantity="100", unit_price="0.15")), was))
    assert row["description"] == "Correction of 2026-09: 15.00 instead of 12.00"


def test_lines_of_other_months_on_the_same_invoice_do_not_count():
    """October's invoice corrects August and September; September looks at its own lines only."""
    august = line("5.00", line_kind="correction", corrects_period="2026-08")
    was = billed(document(SEPTEMBER, line("10.00", **PLAIN), august), carried("1.20", "12"))
    assert corrected(september(line("11.20", pricing_quantity="112", unit_price="0.1")), was).height == 0


def test_discounts_and_commitments_count_and_credits_do_not():
    was = september(line("10.00", discount_amount="-1.00", commitment_amount="-2.00", credit_amount="-7.00"))
    correct = september(line("10.00", discount_amount="-1.00", commitment_amount="-2.00"))
    assert corrected(correct, was).height == 0


# What nobody can bill ---------------------------------------------------------------------------------------------


def test_payer_that_is_gone_from_the_book_is_an_error():
    rows = corrected(september(line("11.00", **PLAIN)), september(line("10.00", **PLAIN)))
    (finding,) = names_gone(rows, ["globex"], ["vm"])
    assert finding.severity is Severity.ERROR
    assert (finding.rule, finding.value, finding.file) == ("corrections.account_gone", "acme", "book/accounts.csv")
    assert "what was billed for 2026-09 differs from what it should be by +1.00 EUR" in finding.message


def test_sku_that_is_gone_from_the_book_is_an_error():
    """Else all its usage would be given back, because a row was tidied away."""
    rows = corrected(NOTHING, september(line("10.00", **PLAIN)))
    (finding,) = names_gone(rows, ["acme"], [])
    assert (finding.rule, finding.value) == ("corrections.sku_gone", "vm")
    assert names_gone(rows, ["acme"], ["vm"]) == []


def test_one_finding_per_period_says_how_much_and_where():
    rows = corrected(
        september(line("11.00", **PLAIN), line("5.00", sku_id="ip", **PLAIN)), september(line("10.00", **PLAIN))
    )
    lines = billed(carried("1.00"), carried("5.00", invoice_id="2026-10-acme-EUR-debit-2026-09")).lines
    (told, nothing) = correction_findings(rows, lines, ["2026-09", "2026-08"][::-1])[::-1]
    assert told.message == (
        "2026-09 is corrected: 2 lines, +6.00 EUR, on 2026-10-acme-EUR, 2026-10-acme-EUR-debit-2026-09"
    )
    assert told.severity is nothing.severity is Severity.INFO
    assert nothing.message.startswith("2026-08 was rated again")


def test_without_rows_there_is_the_same_table():
    empty = find_corrections(Billed.empty(), Billed.empty(), period="2026-09")
    assert empty.schema == CORRECTIONS.polars_schema


def test_order_of_rows_makes_no_difference():
    lines = [line(f"{number}.00", sku_id=f"sku-{number}", **PLAIN) for number in range(1, 6)]
    correct, was = september(*lines), september(*[row | {"amount": D(1)} for row in lines])
    shuffled = Billed(*(frame.reverse() for _, frame in was.frames()))
    assert corrected(correct, was).equals(corrected(correct, shuffled))
    assert corrected(correct, was)["amount"].sum() == sum(range(1, 6)) - 5
