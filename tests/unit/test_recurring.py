"""Recurring fees and adjustments: whose they are, how much of a month, in which currency, taxed how."""

from datetime import timedelta

import pytest

from assembled import MEMBER, PAYER, assemble, column, day, usage
from ratemill.errors import ExitCode
from ratemill.period import BillingPeriod
from workspaces import make_workspace


def fee(amount="31", name="support", **more):
    return {"recurring_id": name, "account_id": PAYER, "description": "Support", "amount": amount} | more


def adjustment(amount, name="n1", **more):
    return {"adjustment_id": name, "account_id": PAYER, "period": "2026-10", "amount": amount, "reason": "Outage",
            "author": "Ada Lovelace"} | more  # fmt: skip


DAYS = [  # (zone, valid from, valid to, billed of 31 a month, first and last day, why)
    ("UTC", None, None, "31", "01-31", "every day"),
    ("UTC", day(1), day(1, month=11), "31", "01-31", "exactly the month"),
    ("UTC", day(30), None, "2", "30-31", "two days"),
    ("UTC", None, day(2), "1", "01-01", "the first day"),
    ("UTC", day(31, hour=13), None, None, None, "an afternoon is no day"),
    ("UTC", day(31, hour=12), None, "1", "31-31", "noon is"),
    ("UTC", day(1, month=11), None, None, None, "next month"),
    ("UTC", None, day(1), None, None, "last month"),
    ("America/New_York", day(30), day(31), "1", "30-30", "a day of UTC is the same day there"),
    ("America/New_York", day(30, zone="America/New_York"), None, "2", "30-31", "midnight there"),
    ("Asia/Kolkata", day(30), day(31), "1", "30-30", "and there"),
    ("Europe/Paris", day(25), day(26), "1", "25-25", "the clocks go back: 25 hours are a day"),
]  # fmt: skip


@pytest.mark.parametrize("case", DAYS)
def test_a_fee_is_billed_for_the_days_it_is_valid(case):
    zone, valid_from, valid_to, billed, stretch, why = case
    invoices = assemble([], zone=zone, recurring=[fee(valid_from=valid_from, valid_to=valid_to)])
    assert column(invoices.lines, "amount") == ([billed] if billed else []), why
    shown = [f"{first:%d}-{last:%d}" for first, last in invoices.lines.select("first_day", "last_day").rows()]
    assert shown == ([stretch] if billed else []), why


MONTHS = [(BillingPeriod(2026, 2), "28"), (BillingPeriod(2028, 2), "29"), (BillingPeriod(2026, 11), "30")]


@pytest.mark.parametrize(("period", "days"), MONTHS)
def test_a_month_has_its_own_number_of_days(period, days):
    row = fee("100", valid_from=period.start(), valid_to=period.start().replace(day=8))
    invoices = assemble([], period=period, recurring=[row])
    expected = {"28": "25", "29": "24.14", "30": "23.33"}
    assert column(invoices.lines, "amount") == [expected[days]]


ROUNDED = [  # (currency, amount, days, billed, why)
    ("EUR", "10", 7, "2.26", "2.258"), ("JPY", "1000", 7, "226", "225.8"), ("KWD", "10", 7, "2.258", "2.2581"),
    ("JPY", "31", 1, "1", "1"), ("EUR", "0.155", 1, "0.01", "0.005, an exact half"), ("JPY", "15", 1, "0", "0.48"),
    ("EUR", "99.99", 31, "99.99", "a whole month is the amount itself"),
]  # fmt: skip


@pytest.mark.parametrize(("currency", "amount", "days", "billed", "why"), ROUNDED)
def test_a_part_of_a_month_is_rounded_half_up(currency, amount, days, billed, why):
    invoices = assemble([], currency=currency, recurring=[fee(amount, valid_to=day(1) + timedelta(days=days))])
    assert column(invoices.lines, "amount") == [billed], why
    assert column(invoices.lines, "rounding") == ["0"], "a fee is what it is: nothing was metered that rounding changed"


def test_a_fee_of_an_account_is_on_its_payers_invoice():
    invoices = assemble([usage("10")], recurring=[fee(account_id=MEMBER, project_id="web")])
    line = invoices.lines.row(1, named=True)
    shown = ("account_id", "account_name", "project_id", "sku_id", "description", "source_id", "price_id")
    assert [line[name] for name in shown] == [MEMBER, "Acme Lab", "web", None, "Support", "support", None]
    assert invoices.invoices["billing_account_id"].to_list() == [PAYER]


def test_a_fee_is_named_and_taxed_like_its_sku():
    invoices = assemble([], recurring=[fee(sku_id="book", description=None), fee(name="plain")])
    assert invoices.lines.select("sku_name", "service", "description", "tax_category").rows() == [
        (None, None, "Support", "standard"),
        ("Manual", "Print", None, "reduced"),
    ]
    assert column(invoices.taxes, "tax_amount") == ["1.71", "6.2"], "5.5 % of 31 and 20 % of 31"


def test_another_currency_is_another_invoice():
    rows = [fee(), fee("1000", "yen", currency="JPY")]
    invoices = assemble([usage("10")], recurring=rows, adjustments=[adjustment("-100", currency="JPY")])
    assert invoices.invoices.select("invoice_id", "lines").rows() == [
        ("2026-10-acme-EUR", 2),
        ("2026-10-acme-JPY", 2),
    ]
    assert column(invoices.invoices, "untaxed_amount") == ["41", "900"]


def test_a_fee_is_a_charge_of_the_days_it_is_valid():
    invoices = assemble([], zone="Europe/Paris", recurring=[fee(valid_from=day(30))])
    charge = invoices.charges.row(0, named=True)
    assert (charge["charge_kind"], charge["source_id"], charge["cost"], charge["list_cost"]) == (
        "recurring", "support", 2, 0
    )  # fmt: skip
    assert (charge["charge_start"], charge["charge_end"]) == (day(30), day(1, month=11, zone="Europe/Paris"))


def test_a_free_fee_is_shown():
    assert column(assemble([], recurring=[fee("0")]).lines, "amount") == ["0"]


ADJUSTMENTS = [  # (adjustments, amounts, document, total, why)
    ([adjustment("-5")], ["-5"], "invoice", "6", "10 - 5 and a fifth"),
    ([adjustment("5")], ["5"], "invoice", "18", "10 + 5 and a fifth"),
    ([adjustment("-25")], ["-25"], "credit_note", "-18", "more is given back than is to be paid"),
    ([adjustment("-10")], ["-10"], "invoice", "0", "nothing is to be paid"),
    ([adjustment("-5"), adjustment("-2", "n2", account_id=MEMBER)], ["-5", "-2"], "invoice", "3.6", "of both accounts"),
    ([adjustment("-5", period="2026-09")], [], "invoice", "12", "of another month"),
    ([adjustment("-4", sku_id="book")], ["-4"], "invoice", "7.78", "20 % of 10 less 5.5 % of 4, which is 0.22"),
]


@pytest.mark.parametrize(("rows", "amounts", "document", "total", "why"), ADJUSTMENTS)
def test_adjustments_are_added_as_they_are_written(rows, amounts, document, total, why):
    invoices = assemble([usage("10")], adjustments=rows)
    lines = invoices.lines.filter(invoices.lines["line_kind"] == "adjustment")
    assert column(lines, "amount") == amounts, why
    assert invoices.invoices["document"].to_list() == [document], why
    assert column(invoices.invoices, "total_amount") == [total], why


def test_an_adjustment_says_why():
    invoices = assemble([], adjustments=[adjustment("7", project_id="web", sku_id="disk")])
    line = invoices.lines.row(0, named=True)
    assert (line["description"], line["source_id"], line["project_id"], line["sku_name"]) == (
        "Outage", "n1", "web", "Disk"
    )  # fmt: skip
    assert (f"{line['first_day']}", f"{line['last_day']}") == ("2026-10-01", "2026-10-31")


# Whole runs ----------------------------------------------------------------------------------------------------------

FEES = {"recurring": [{"recurring_id": "support", "account_id": "acme", "description": "Support", "amount": "30"}]}


@pytest.mark.slow
@pytest.mark.parametrize(("period", "why"), [("2026-09", "files around it have none"), ("2026-08", "no file has any")])
def test_a_month_without_usage_is_billed_for_its_fees(period, why, tmp_path):
    shop = make_workspace(tmp_path, book=FEES)
    ended = shop.run(period=period)
    assert ended.code == ExitCode.DONE, why
    assert shop.invoice("acme", period)["totals"]["due"] == "36.00"
    assert not (tmp_path / "out" / period / "invoices" / "globex-EUR.json").exists()
    again = shop.run(period=period)
    assert again.summary["periods"][0]["nothing_to_do"]


def test_where_no_usage_file_was_ever_loaded_fees_are_not_billed_either(tmp_path):
    shop = make_workspace(tmp_path, book=FEES, config={"usage": {"files": ["usgae/*.parquet"]}})
    ended = shop.run()
    assert (ended.code, shop.written()) == (ExitCode.NOTHING_TO_BILL, {})
