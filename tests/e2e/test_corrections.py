"""After the close: whatever happens to a closed month, the customer has in the end been billed what is right.

September is closed; then something changes; October bills the difference. What both months then come to is compared
with a workspace that knew everything from the start.
"""

from __future__ import annotations

import re
import shutil
from decimal import Decimal

import duckdb
import polars as pl
import pytest

from ratemill.errors import ExitCode
from ratemill.steps import credit as credit_step
from workspaces import BOOK, hours, make_workspace

pytestmark = pytest.mark.slow

D = Decimal
SEPTEMBER, OCTOBER, NOVEMBER = "2026-09", "2026-10", "2026-11"
CLOSING = {SEPTEMBER: "2026-10-03T06:00:00Z", OCTOBER: "2026-11-03T06:00:00Z", NOVEMBER: "2026-12-03T06:00:00Z"}
ACCOUNTS = [
    row | {"address_line1": "1 High Street", "city": "Anytown"}
    for row in (*BOOK["accounts"], BOOK["accounts"][0] | {"account_id": "acme-lab", "name": "Acme Lab"})
]
PROJECTS = [{"project_id": "web", "account_id": "acme", "name": "Web", "valid_from": "", "valid_to": ""}]
TIERS = [
    {"price_id": "egress-eur", "sku_id": "egress", "mode": "volume", "up_to": "700", "unit_price": "0.05"},
    {"price_id": "egress-eur", "sku_id": "egress", "mode": "volume", "up_to": "", "unit_price": "0.03"},
]
PRICES = [
    *(row for row in BOOK["prices"] if row["sku_id"] != "egress"),
    *({"price_list": "public", "currency": "EUR"} | row for row in TIERS),
]
DISCOUNTS = [{"discount_id": "web", "account_id": "acme", "percent": "10", "sku_ids": "vm", "note": "Partner"}]
SETUP = {"accounts": ACCOUNTS, "projects": PROJECTS, "prices": PRICES, "discounts": DISCOUNTS}


def month(first, count):
    """A month of acme's web servers and traffic, and of globex's disk."""
    return pl.concat(
        [
            hours(first=first, count=count, project_id="web"),
            hours(sku="egress", resource="nic-1", first=first, count=count).with_columns(
                project_id=pl.lit(None, dtype=pl.String)
            ),
            hours("globex", "disk", resource="disk-1", quantity="1000", first=first, count=count).with_columns(
                project_id=pl.lit(None, dtype=pl.String)
            ),
        ]
    )


USAGE = {
    "2026-09.parquet": month("2026-09-01T00:00:00Z", 690),
    "2026-10.parquet": month("2026-10-01T00:00:00Z", 744),
}


@pytest.fixture(scope="module")
def closed_september(tmp_path_factory):
    """A workspace whose September is closed; tests work on copies."""
    folder = tmp_path_factory.mktemp("closed") / "shop"
    shop = make_workspace(folder, usage=USAGE, book=SETUP)
    close(shop, SEPTEMBER)
    return shop


@pytest.fixture
def shop(closed_september, tmp_path):
    shutil.copytree(closed_september.root, tmp_path / "shop")
    return type(closed_september)(tmp_path / "shop")


def done(ended):
    assert ended.code == ExitCode.DONE, ended.stderr
    return ended


def run(shop, period=OCTOBER, clock=None):
    return done(shop.command("run", "--period", period, "--as-of", clock or CLOSING[period]))


def close(shop, period, clock=None):
    run(shop, period, clock)
    words = ("close", "--period", period, "--as-of", clock or CLOSING[period])
    ended = shop.command(*words)
    if ended.code != ExitCode.DONE:
        points = [finding["rule"].removeprefix("close.") for finding in ended.findings]
        done(shop.command(*words, *(f"--waive={point}=seen" for point in points)))


def published(shop, query):
    with duckdb.connect(str(shop.root / "published" / "billing.duckdb"), read_only=True) as connection:
        return connection.execute(query).fetchall()


def billed(shop):
    """Untaxed sum of all documents of each account that used something, per payer."""
    return published(
        shop,
        "SELECT billing_account_id, account_id, sku_id, sum(net_amount) FROM invoice_lines JOIN invoices"
        " USING (invoice_id) GROUP BY ALL HAVING sum(net_amount) <> 0 ORDER BY ALL",
    )


def corrections(shop):
    return published(
        shop,
        "SELECT invoices.invoice_id, document, lines.account_id, sku_id, description, net_amount,"
        " lines.corrects_invoice_id FROM invoice_lines AS lines JOIN invoices USING (invoice_id)"
        " WHERE line_kind = 'correction' ORDER BY invoices.invoice_id, line_number",
    )


# What may happen --------------------------------------------------------------------------------------------------


def late_file(shop):
    shop.write_usage("late.parquet", hours(sku="egress", resource="nic-2", first="2026-09-10T00:00:00Z", count=12))


def less_usage_redelivered(shop):
    shop.write_usage("2026-09.parquet", month("2026-09-01T00:00:00Z", 600))


def price_rises(shop):
    shop.write_book("prices", [row | {"unit_price": "0.12"} if row["sku_id"] == "vm" else row for row in PRICES])


def price_falls(shop):
    shop.write_book("prices", [row | {"unit_price": "0.09"} if row["sku_id"] == "vm" else row for row in PRICES])


def other_price_version(shop):
    shop.write_book("prices", [row | {"price_id": "vm-2", "unit_price": "0.08"} if row["sku_id"] == "vm" else row for row in PRICES])  # fmt: skip


def project_moved_mid_month(shop):
    shop.write_book(
        "projects",
        [
            PROJECTS[0] | {"valid_to": "2026-09-16"},
            PROJECTS[0] | {"account_id": "acme-lab", "valid_from": "2026-09-16"},
        ],
    )


def other_payer(shop):
    shop.write_book(
        "accounts",
        [row | {"billing_account_id": "acme-lab" if row["account_id"] == "acme" else ""} for row in ACCOUNTS],
    )


def discount_entered_late(shop):
    shop.write_book("discounts", [*DISCOUNTS, DISCOUNTS[0] | {"discount_id": "more", "sku_ids": "egress", "percent": "50"}])  # fmt: skip


def adjustment_entered_late(shop):
    shop.write_book("adjustments", [{"adjustment_id": "sorry", "account_id": "globex", "period": SEPTEMBER,
                                     "amount": "-7.50", "reason": "Outage", "author": "Ann"}])  # fmt: skip


def several_at_once(shop):
    late_file(shop)
    price_rises(shop)
    project_moved_mid_month(shop)
    adjustment_entered_late(shop)


CHANGES = [late_file, less_usage_redelivered, price_rises, other_price_version, project_moved_mid_month, other_payer,
           discount_entered_late, adjustment_entered_late, several_at_once]  # fmt: skip


DOCUMENTS = [less_usage_redelivered, other_payer, several_at_once]
BY_POLICY = [
    *((change, "next_invoice") for change in CHANGES),
    *((change, "credit_note") for change in DOCUMENTS),
]


@pytest.mark.parametrize(("change", "policy"), BY_POLICY)
def test_customers_are_billed_what_is_right(shop, tmp_path, change, policy):
    config = {"policy": {"corrections": policy}}
    shop.write_config(config)
    issued = published(shop, "SELECT * FROM invoice_lines ORDER BY ALL")
    change(shop)
    first = run(shop)

    from_scratch = make_workspace(tmp_path / "scratch", usage=USAGE, book=SETUP, config=config)
    change(from_scratch)
    for period in (SEPTEMBER, OCTOBER):
        run(from_scratch, period)
    assert billed(shop) == billed(from_scratch)

    # What was issued stays, and each correction names it.
    assert set(issued) <= set(published(shop, "SELECT * FROM invoice_lines ORDER BY ALL"))
    found = corrections(shop)
    assert found
    for invoice_id, document, _, _, description, amount, corrected in found:
        assert corrected is None or corrected.startswith(f"{SEPTEMBER}-")
        assert description.startswith(f"Correction of {SEPTEMBER}")
        if policy == "credit_note":
            assert (document == "credit_note") == (amount < 0) == ("-credit-" in invoice_id)
    told = first.finding("corrections.billed")
    assert told["message"].startswith(f"{SEPTEMBER} is corrected: {len(found)} line")

    # Again: nothing to do, the same documents.
    before = shop.documents()
    (again,) = run(shop).summary["periods"]
    assert again["nothing_to_do"]
    assert shop.documents() == before

    # Once October is closed, November has nothing left to correct, and does not even look.
    close(shop, OCTOBER)
    shop.write_usage("2026-11.parquet", month("2026-11-01T00:00:00Z", 720))
    run(shop, NOVEMBER)
    assert corrections(shop) == found
    assert published(shop, f"SELECT inputs->'corrections' FROM runs WHERE period = '{NOVEMBER}'") == [("{}",)]


def test_what_proves_wrong_is_put_back(shop):
    """A price that was corrected by mistake: October bills more, November gives it back."""
    price_rises(shop)
    close(shop, OCTOBER)
    shop.write_book("prices", PRICES)
    shop.write_usage("2026-11.parquet", month("2026-11-01T00:00:00Z", 720))
    run(shop, NOVEMBER)
    september = [row for row in corrections(shop) if f"of {SEPTEMBER}" in row[4]]
    assert [amount for *_, amount, _ in september] == [D("12.42"), D("-12.42")]  # 690 h × 0.02, less 10 %
    (october,) = [row for row in corrections(shop) if f"of {OCTOBER}" in row[4]]
    assert october[5] == D("-13.39")  # 744 × 0.02 = 14.88, less 10 %, on lines rounded each for itself


def test_two_open_months_never_bill_the_same_correction(shop):
    shop.write_usage("2026-11.parquet", month("2026-11-01T00:00:00Z", 720))
    late_file(shop)
    ended = done(shop.command("run", "--period", NOVEMBER, "--as-of", CLOSING[NOVEMBER]))
    assert ended.finding("corrections.billed")
    assert {row[0] for row in corrections(shop)} == {"2026-11-acme-EUR"}
    # Now October gets drafts: it is the earlier one. November's are made anew in the same command.
    ended = done(shop.command("run", "--period", OCTOBER, "--as-of", CLOSING[NOVEMBER]))
    assert [period["period"] for period in ended.summary["periods"]] == [OCTOBER, NOVEMBER]
    assert {row[0] for row in corrections(shop)} == {"2026-10-acme-EUR"}
    before = shop.documents()
    both = done(shop.command("run", "--period", f"{OCTOBER}..{NOVEMBER}", "--as-of", CLOSING[NOVEMBER]))
    assert [period["nothing_to_do"] for period in both.summary["periods"]] == [True, True]
    assert shop.documents() == before


def test_month_without_usage_of_its_own_carries_corrections(shop):
    (shop.root / "usage" / "2026-10.parquet").unlink()
    shop.write_usage("2026-10.parquet", month("2026-09-02T00:00:00Z", 24).with_columns(resource_id=pl.lit("late")))
    run(shop)
    assert {row[0] for row in published(shop, "SELECT line_kind FROM invoice_lines JOIN invoices USING (invoice_id)"
                                              f" WHERE period = '{OCTOBER}'")} == {"correction"}  # fmt: skip


def test_changes_that_touch_no_closed_month_cost_nothing(shop):
    """A new customer, new contact data, next month's price: September is not rated again."""
    rates = sorted((shop.root / "state" / "charges" / f"period={SEPTEMBER}").iterdir())
    shop.write_usage("2026-10.parquet", month("2026-10-01T00:00:00Z", 700))
    shop.write_book("accounts", [*(row | {"email": "bills@example.com"} for row in ACCOUNTS),
                                 ACCOUNTS[0] | {"account_id": "newcomer", "name": "Newcomer"}])  # fmt: skip
    vm, *others = PRICES
    vm_next = vm | {"price_id": "vm-next", "valid_from": "2026-12-01"}
    shop.write_book("prices", [vm | {"valid_to": "2026-12-01"}, vm_next, *others])
    shop.write_book("projects", [*PROJECTS, PROJECTS[0] | {"project_id": "app", "name": "App"}])
    ended = run(shop)
    assert not [finding for finding in ended.findings if finding["rule"].startswith("corrections.")]
    assert sorted((shop.root / "state" / "charges" / f"period={SEPTEMBER}").iterdir()) == rates


def test_customer_gone_from_the_book_stops_the_run(shop):
    late_file(shop)
    shop.write_book("accounts", [row for row in ACCOUNTS if row["account_id"] != "globex"])
    shop.write_config({"policy": {"max_rejected_share": "1"}})
    ended = shop.command("run", "--period", OCTOBER, "--as-of", CLOSING[OCTOBER])
    assert ended.code == ExitCode.DATA_REFUSED
    assert "globex is no longer in the book" in ended.stderr
    assert "put its row back into book/accounts" in ended.stderr


def test_closed_month_itself_is_not_run_again(shop):
    late_file(shop)
    before = shop.documents()
    ended = shop.command("run", "--period", SEPTEMBER, "--as-of", CLOSING[OCTOBER])
    assert ended.code == ExitCode.LOCKED
    assert f"run: ratemill run --period {OCTOBER}" in ended.stderr
    assert shop.documents() == before
    run(shop)
    close(shop, OCTOBER)
    done(shop.command("run", "--period", SEPTEMBER, "--as-of", CLOSING[OCTOBER]))  # billed by now


@pytest.mark.parametrize("policy", ["next_invoice", "credit_note"])
def test_a_month_closed_after_a_later_one_bills_what_that_one_did_not(tmp_path, policy):
    """Nothing came for October, and November was closed, with a correction of September. Then October comes after all,
    and machines were to be cheaper: October corrects September once more, at the same time of the clock."""
    credit = {"credit_id": "c1", "account_id": "globex", "amount": "500", "currency": "EUR", "kind": "prepaid",
              "granted_on": "2026-09-01", "note": "Prepaid"}  # fmt: skip
    usage = {"2026-09.parquet": USAGE["2026-09.parquet"], "2026-11.parquet": month("2026-11-01T00:00:00Z", 720)}
    shop = make_workspace(
        tmp_path / "shop", usage=usage, book=SETUP | {"credits": [credit]}, config={"policy": {"corrections": policy}}
    )
    close(shop, SEPTEMBER)
    late_file(shop)
    close(shop, NOVEMBER)
    price_falls(shop)
    shop.write_usage("2026-10.parquet", USAGE["2026-10.parquet"])
    close(shop, OCTOBER, clock=CLOSING[NOVEMBER])
    verified = shop.command("verify")
    assert verified.code == ExitCode.DONE, verified.summary["findings"]
    corrected = published(shop, "SELECT period, sku_id, sum(net_amount) FROM invoice_lines JOIN invoices USING"
                                " (invoice_id) WHERE corrects_period = '2026-09' GROUP BY ALL ORDER BY ALL")  # fmt: skip
    assert corrected == [
        (OCTOBER, "vm", D("-6.21")),  # 690 h, 0.01 less an hour, 10 % discount
        (NOVEMBER, "egress", D("-13.44")),  # 702 at 0.03 is 21.06 in place of 690 at 0.05, which is 34.50
    ]
    for period in (SEPTEMBER, OCTOBER, NOVEMBER):
        again = shop.command("run", "--period", period, "--as-of", CLOSING[NOVEMBER])
        assert again.code == (ExitCode.LOCKED if period == NOVEMBER else ExitCode.DONE), (period, again.stderr)


# Credit notes by hand ---------------------------------------------------------------------------------------------


def credit(shop, *options, code=ExitCode.DONE, invoice="2026-00001"):
    ended = shop.command(
        "credit-note", "--invoice", invoice, "--reason", "Outage", "--by", "Ann", "--as-of", CLOSING[OCTOBER], *options
    )
    assert ended.code == code, ended.stderr
    return ended


def test_credit_note_is_issued_once(shop):
    before = published(shop, "SELECT * FROM invoices ORDER BY ALL")
    ended = credit(shop, "--amount", "10.00").summary
    note = ended["credit_note"]
    assert (note["number"], note["untaxed_amount"], note["corrects_invoice_id"]) == (
        "CN-2026-00001", "-10.0000", "2026-09-acme-EUR",
    )  # fmt: skip
    assert not ended["nothing_to_do"]
    for name in ended["files"]:
        assert (shop.root / "out" / SEPTEMBER / name).is_file()
        assert (shop.root / "state" / "issued" / f"period={SEPTEMBER}" / name).is_file()
    after = published(shop, "SELECT * FROM invoices ORDER BY ALL")
    assert len(after) == len(before) + 1
    assert set(before) <= set(after)

    again = credit(shop, "--amount", "10.00").summary
    assert again["nothing_to_do"]
    assert again["credit_note"] == note
    assert published(shop, "SELECT * FROM invoices ORDER BY ALL") == after
    other = credit(shop, "--amount", "10.00", "--reference", "second outage").summary
    assert other["credit_note"]["number"] == "CN-2026-00002"
    wrong = credit(shop, "--amount", "11.00", "--reference", "second outage", code=ExitCode.USAGE)
    assert "was given before, to another credit" in wrong.stderr
    # The month it is about stays closed, and October's drafts are none of its business.
    (again,) = done(shop.command("run", "--period", SEPTEMBER, "--as-of", CLOSING[OCTOBER])).summary["periods"]
    assert again["nothing_to_do"]


def test_the_month_in_which_a_credit_note_is_issued_shows_it(tmp_path):
    """October is drafted while it goes on; then September's invoice is credited, and October is drafted once more."""
    shop = make_workspace(tmp_path / "shop", usage=USAGE, book=SETUP, config={"output": {"html": True}})
    close(shop, SEPTEMBER)
    clock = ("--as-of", "2026-10-20T06:00:00Z")

    def draft():
        (period,) = done(shop.command("run", "--period", OCTOBER, *clock)).summary["periods"]
        index = (shop.root / "out" / OCTOBER / "index.html").read_text(encoding="utf-8")
        return period["run_id"], period["nothing_to_do"], "CN-2026-00001" in index

    run_id, *_ = draft()
    assert draft() == (run_id, True, False)
    words = ("credit-note", "--invoice", "2026-00001", "--amount", "10.00", "--reason", "Outage", *clock)
    assert shop.command(*words).code == ExitCode.DONE
    assert draft() == (run_id, False, True), "the same drafts, shown anew"
    assert draft() == (run_id, True, True)
    index = (shop.root / "out" / OCTOBER / "index.html").read_text(encoding="utf-8")
    (link,) = {name for name in re.findall(r'href="([^"]+)"', index) if "credit-1.html" in name}
    assert (shop.root / "out" / OCTOBER / link).is_file(), link
    assert "CN-2026-00001" not in (shop.root / "out" / SEPTEMBER / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("stopped_at", "stands"),
    [("assert_gap_free", False), ("finish_closed", True)],  # inside the transaction, and right behind it
)
def test_credit_note_that_was_stopped_is_made_once(shop, monkeypatch, stopped_at, stands):
    def stop(*_):
        raise SystemExit(143)

    with monkeypatch.context() as patched:
        patched.setattr(credit_step, stopped_at, stop)
        shop.command("credit-note", "--invoice", "2026-00001", "--reason", "Outage", "--as-of", CLOSING[OCTOBER])
    again = credit(shop).summary
    assert again["nothing_to_do"] is stands
    assert again["credit_note"]["number"] == "CN-2026-00001"
    assert all((shop.root / "out" / SEPTEMBER / name).is_file() for name in again["files"])
    assert published(shop, "SELECT number FROM credit_notes") == [("CN-2026-00001",)]


def test_new_version_alone_corrects_nothing(shop, monkeypatch):
    monkeypatch.setattr("ratemill.steps.inputs.__version__", "99.0")
    assert not [f for f in run(shop).findings if f["rule"].startswith("corrections.")]
    assert published(shop, f"SELECT inputs->'corrections' FROM runs WHERE period = '{OCTOBER}'") == [("{}",)]


CANT = [
    (("--amount", "1000000"), "are left of invoice 2026-00001"),
    (("--line", "9"), "has no line 9"),
    (("--amount", "ten"), "--amount: 'ten' is no number"),
    (("--issue-date", "2026-09-01"), "numbers follow the days"),
    (("--issue-date", "2027-01-01"), "is after today"),
]


@pytest.mark.parametrize(("options", "told"), CANT)
def test_what_cannot_be_credited(shop, options, told):
    before = shop.documents()
    assert told in credit(shop, *options, code=ExitCode.USAGE).stderr
    assert shop.documents() == before


def test_only_issued_invoices_can_be_credited(shop):
    run(shop)
    assert "is a draft" in credit(shop, invoice="2026-10-acme-EUR", code=ExitCode.USAGE).stderr
    assert "did you mean 2026-00001?" in credit(shop, invoice="2026-0001", code=ExitCode.USAGE).stderr
    credit(shop)
    assert "only invoices can be credited" in credit(shop, invoice="CN-2026-00001", code=ExitCode.USAGE).stderr


def test_chain_is_readable_from_either_end(shop):
    late_file(shop)
    credit(shop, "--line", "1")
    close(shop, OCTOBER)
    chain = published(shop, "SELECT relation, number, untaxed_amount FROM document_chain"
                            " WHERE original_number = '2026-00001'")  # fmt: skip
    (original, *rest) = chain
    assert original[:2] == ("original", "2026-00001")
    assert sorted(rest) == sorted([
        ("credit note by hand", "CN-2026-00001", -published(shop, "SELECT net_amount FROM invoice_lines WHERE"
         " invoice_id = '2026-09-acme-EUR' AND line_number = 1")[0][0]),
        ("correction lines", "2026-00003", corrections(shop)[0][5]),
    ])  # fmt: skip
    (note,) = published(shop, "SELECT number, original_number, original_untaxed_amount + untaxed_amount"
                              " - left_untaxed_amount FROM credit_notes")  # fmt: skip
    assert note == ("CN-2026-00001", "2026-00001", 0)
