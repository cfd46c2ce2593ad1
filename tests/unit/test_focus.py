"""FOCUS from a small ledger: what each kind of charge becomes, and that nothing is lost on the way."""

import dataclasses
import json
from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest

from assembled import MEMBER, OCTOBER, PAYER, assemble, column, day, make_book, plain, usage
from ratemill.errors import InvariantError
from ratemill.insight.focus import FocusDatasets, FocusLedger
from ratemill.insight.focus.usage import cut_between_lines
from ratemill.invoicing.credit_notes import Credit, credit_note
from ratemill.tables.charges import CHARGES
from ratemill.tables.focus import BILLING_PERIOD, CONTRACT_COMMITMENT, COST_AND_USAGE, FOCUS_VERSIONS, INVOICE_DETAIL
from ratemill.tables.invoices import Billed

DRAFTED, OPENED = datetime(2026, 11, 2, 6, tzinfo=UTC), datetime(2026, 11, 1, 3, tzinfo=UTC)
COMMITMENT = {"commitment_id": "plan", "account_id": PAYER, "amount": "900", "discount_percent": "10",
              "currency": "EUR", "note": "Plan 900"}  # fmt: skip


def priced(quantity, price, listed=None, sku="vm", **more):
    """Usage at a price per unit, and at a public price."""
    listed = price if listed is None else listed
    cost, list_cost = Decimal(quantity) * Decimal(price), Decimal(quantity) * Decimal(listed)
    return usage(
        str(cost), sku,
        **{
            "pricing_quantity": Decimal(quantity), "usage_quantity": Decimal(quantity), "usage_unit": "h",
            "contracted_unit_price": Decimal(price), "list_unit_price": Decimal(listed), "list_cost": list_cost,
            "list_price_id": "price-1", **more,
        },
    )  # fmt: skip


class Exported:
    """The datasets of a month."""

    def __init__(self, charges, *, closed=False, notes=None, parts=1, **tables):
        corrections = tables.pop("corrections", None)
        documents = tables.pop("documents", False)
        book = make_book(**tables)
        self.invoices = assemble(charges, book=book, corrections=corrections, documents=documents)
        frames = [rows for _, rows in self.invoices.frames()]
        if notes is not None:
            frames = [pl.concat([rows, more]) for rows, (_, more) in zip(frames, notes.frames(), strict=True)]
        self.billed = Billed.of(frames)
        self.ledger = FocusLedger(
            billed=self.billed, run_id="run", book=book, period=OCTOBER, time_zone="UTC", provider="Example Cloud",
            payment_terms_days=30, opened_at=OPENED, recorded_at=DRAFTED, closed=closed,
            numbers={"2026-08-acme-EUR": "2026-00007"},
        )  # fmt: skip
        frame = pl.DataFrame(charges, schema=CHARGES.polars_schema)
        datasets = FocusDatasets(self.ledger)
        cut = [frame.filter(pl.col("sku_id").hash() % parts == part).lazy() for part in range(parts)]
        self.rows = pl.concat(datasets.cost_and_usage(cut))
        self.others = datasets.others()
        for version in FOCUS_VERSIONS:
            table = COST_AND_USAGE[version]
            table.validate(table.conform(self.rows))
        for name, table in (("invoice_detail", INVOICE_DETAIL), ("billing_period", BILLING_PERIOD),
                            ("contract_commitment", CONTRACT_COMMITMENT)):  # fmt: skip
            table.validate(self.others[name])
        self.assert_laws()

    def assert_laws(self):
        """What holds for every export, whatever is in it."""
        due = dict(self.billed.invoices.select("invoice_id", "due_amount").iter_rows())
        assert {name: total for name, total in self.sums("x_LedgerInvoiceId").items() if total} == {
            name: amount for name, amount in due.items() if amount
        }
        for row in self.rows.iter_rows(named=True):
            for cost, price in (("ListCost", "ListUnitPrice"), ("ContractedCost", "ContractedUnitPrice")):
                if row[price] is not None:
                    assert row[cost] == row[price] * row["PricingQuantity"], row
            if row["ChargeCategory"] in {"Usage", "Purchase"} and row["ChargeClass"] is None:
                assert None not in [row[name] for name in ("SkuId", "SkuPriceId", "ListUnitPrice", "PricingUnit")], row
            of_commitment = row["CommitmentDiscountId"] is not None
            assert (row["CommitmentDiscountStatus"] is not None) == (of_commitment and row["ChargeCategory"] == "Usage")
            assert (row["PricingCategory"] == "Committed") == (row["CommitmentDiscountStatus"] is not None), row
            assert (row["PricingUnit"] is None) == (row["PricingQuantity"] is None), row
            assert row["InvoiceId"], row
            if row["ChargeCategory"] in {"Tax", "Credit"}:
                assert row["BilledCost"] == row["EffectiveCost"], row
                assert {row[name] for name in ("SkuPriceId", "PricingQuantity", "PricingCategory")} == {None}, row
        commitments = self.rows.filter(pl.col("CommitmentDiscountId").is_not_null())
        used = commitments.filter(pl.col("ChargeCategory") == "Usage")
        paid = commitments.filter(pl.col("ChargeCategory") == "Purchase")
        assert used["EffectiveCost"].sum() == paid["BilledCost"].sum()
        assert set(used["BilledCost"]) | set(paid["EffectiveCost"]) <= {Decimal(0)}
        details = self.others["invoice_detail"]
        assert sorted(self.rows["InvoiceDetailId"].unique()) == details["InvoiceDetailId"].sort().to_list()
        assert details["BilledCost"].sum() == self.rows["BilledCost"].sum()

    def sums(self, key, value="BilledCost"):
        return dict(self.rows.group_by(key).agg(pl.col(value).sum()).iter_rows())

    def of(self, kind, *names):
        """Rows of a kind, in order; the values of ``names`` as people write them."""
        rows = self.rows.filter(pl.col("x_ChargeKind") == kind)
        if not names:
            return rows.to_dicts()
        return list(zip(*(column(rows, name) for name in names), strict=True))


# ---------------------------------------------------------------------------------------------------------------- usage


def test_usage_keeps_every_digit_and_rounding_is_a_row_of_its_own():
    export = Exported([priced("3.123456789012", "0.123456789012", "0.2")])
    ((list_cost, contracted, billed),) = export.of("usage", "ListCost", "ContractedCost", "BilledCost")
    assert list_cost == "0.6246913578024"
    assert contracted == "0.385611945789153483936144"  # 24 decimals: the whole product
    assert billed == "0.385611945789153484"  # what the ledger charges
    ((category, rounded, left),) = export.of("rounding", "ChargeCategory", "BilledCost", "ContractedCost")
    assert (category, rounded) == ("Adjustment", "0.004388054210846516")
    # What the ledger's 18 decimals have more than the product is added, so that sums are the ledger's.
    assert left == "0.000000000000000000063856"


def test_a_line_that_needs_no_rounding_has_no_row_of_it():
    assert Exported([priced("2", "0.25")]).of("rounding") == []


AVERAGES = [  # (quantity, cost, list cost, unit price, list unit price, left of the list cost, why)
    ("3", "10", "10", "3.333333333333", "3.333333333333", "0.000000000001", "a fee and tiers: their average"),
    ("4", "10", "12", "2.5", "3", None, "an average that is exact"),
    ("0", "5", "5", "0", "0", "5", "a fee without use is no price of a unit"),
    ("2", "10", None, "5", "5", None, "no public price: the one that applied"),
]


@pytest.mark.parametrize("case", AVERAGES)
def test_several_prices_in_one_charge_are_shown_as_their_average(case):
    quantity, cost, list_cost, price, list_price, left, why = case
    listed = None if list_cost is None else "price-1"
    charge = usage(cost, pricing_quantity=Decimal(quantity), list_price_id=listed,
                   list_cost=None if list_cost is None else Decimal(list_cost))  # fmt: skip
    export = Exported([charge])
    assert export.of("usage", "ContractedUnitPrice", "ListUnitPrice") == [(price, list_price)], why
    assert export.of("rounding", "ListCost") == ([] if left is None else [(left,)]), why
    assert plain(export.rows.filter(pl.col("x_ChargeKind") != "tax")["ListCost"].sum()) == (list_cost or cost), why


def test_caps_and_minimums_are_adjustments_without_quantity():
    cap = usage("-2", charge_kind="cap", pricing_quantity=None, pricing_unit=None, list_cost=Decimal(-3))
    export = Exported([priced("5", "2", "3"), cap])
    assert export.of("cap", "ChargeCategory", "BilledCost", "ListCost", "SkuPriceId", "PricingQuantity") == [
        ("Adjustment", "-2", "-3", None, None)
    ]
    assert [row["ChargeDescription"] for row in export.of("cap")] == ["Monthly cap: Machine"]


def test_a_price_converted_from_another_currency_names_both():
    charge = priced("2", "1.08", pricing_currency="USD", exchange_rate=Decimal("0.9"))
    (row,) = Exported([charge]).of("usage")
    assert (row["BillingCurrency"], row["PricingCurrency"], plain(row["x_ExchangeRate"])) == ("EUR", "USD", "0.9")


def test_price_ids_are_those_of_the_public_list_and_details_say_the_conditions():
    prices = [
        {"price_id": "price-1", "sku_id": "vm", "currency": "EUR", "unit_price": "2", "mode": "graduated",
         "window": "peak"},
        {"price_id": "price-2", "price_list": "plan", "sku_id": "vm", "currency": "EUR", "unit_price": "1"},
    ]  # fmt: skip
    (row,) = Exported([priced("1", "1", "2", price_id="price-2")], prices=prices).of("usage")
    assert (row["SkuPriceId"], row["x_PriceId"]) == ("price-1", "price-2")
    assert json.loads(row["SkuPriceDetails"]) == {"x_PriceMode": "graduated", "x_Window": "peak"}


# ------------------------------------------------------------------------------------------------------------ discounts


def test_discounts_are_inside_of_what_they_reduce():
    export = Exported([priced("60", "1"), priced("40", "1", resource_id="two")],
                      discounts=[{"discount_id": "d", "percent": "10"}])  # fmt: skip
    assert export.of("usage", "BilledCost", "EffectiveCost", "ContractedCost", "x_DiscountCost") == [
        ("54", "54", "60", "-6"), ("36", "36", "40", "-4"),
    ]  # fmt: skip
    assert export.of("discount") == []


def test_a_discount_for_a_part_of_the_month_is_shared_by_that_part():
    export = Exported([priced("60", "1"), priced("40", "1", day=20)],
                      discounts=[{"discount_id": "d", "percent": "10", "valid_from": day(15)}])  # fmt: skip
    assert export.of("usage", "x_DiscountCost") == [("0",), ("-4",)]


# ---------------------------------------------------------------------------------------------------------- commitments


def test_a_commitment_is_used_in_time_order_and_the_rest_is_billed_as_usual():
    # RATING: lines 5.95 and 895.35, commitment 900 with 10 % off. What lies above 900 is billed as usual.
    export = Exported([priced("5.95", "1", "2", "disk"), priced("800", "1", day=3), priced("95.35", "1", day=9)],
                      commitments=[COMMITMENT])  # fmt: skip
    rows = export.of("usage", "SkuId", "PricingQuantity", "CommitmentDiscountStatus", "CommitmentDiscountQuantity")
    assert sorted(rows, key=str) == [
        ("disk", "5.95", "Used", "5.95"), ("vm", "1.3", None, None), ("vm", "800", "Used", "800"),
        ("vm", "94.05", "Used", "94.05"),
    ]  # fmt: skip
    billed = export.rows.filter(pl.col("x_ChargeKind") == "usage", pl.col("CommitmentDiscountId").is_null())
    assert column(billed, "PricingCategory") == ["Standard"]
    paid = export.of("commitment", "ChargeCategory", "x_InvoiceLineNumber", "CommitmentDiscountQuantity", "SkuId")
    assert paid == [("Purchase", 1, "5.95", "plan"), ("Purchase", 2, "894.05", "plan")]
    assert plain(export.rows.filter(pl.col("ChargeCategory") != "Tax")["BilledCost"].sum()) == "811.3"


def test_what_is_not_used_of_a_commitment_is_a_row_of_its_own():
    export = Exported([priced("500", "1")], commitments=[COMMITMENT])
    names = (
        "ChargeCategory",
        "CommitmentDiscountStatus",
        "BilledCost",
        "EffectiveCost",
        "ListCost",
        "ConsumedQuantity",
    )
    # 90 are taken off 500 and 400: 50 and 40.
    assert sorted(export.of("commitment", *names), key=str) == [
        ("Purchase", None, "360", "0", "400", None), ("Purchase", None, "450", "0", "500", None),
        ("Usage", "Unused", "0", "360", "400", None),
    ]  # fmt: skip
    assert export.of("usage", "BilledCost", "EffectiveCost", "CommitmentDiscountStatus") == [("0", "450", "Used")]
    used_and_not = export.rows.filter(pl.col("ChargeCategory") == "Usage")["CommitmentDiscountQuantity"].sum()
    assert plain(used_and_not) == "900"


def test_what_counts_is_the_rounded_line_so_that_used_and_unused_are_the_commitment():
    export = Exported([priced("0.004", "1"), priced("0.0055", "1", resource_id="two")], commitments=[COMMITMENT])
    quantities = export.rows.filter(pl.col("ChargeCategory") == "Usage")["CommitmentDiscountQuantity"]
    assert plain(quantities.sum()) == "900"  # 0.0095 is billed as 0.01


def test_contract_commitments_and_what_was_applied_to_them():
    scoped = COMMITMENT | {"service": "Machines", "excludes": "gpu", "valid_from": day(1), "valid_to": day(1, month=12)}
    export = Exported([priced("500", "1"), priced("7", "1", sku="disk")], commitments=[scoped])
    (row,) = export.others["contract_commitment"].to_dicts()
    assert (row["ContractCommitmentId"], plain(row["ContractCommitmentCost"]), row["ContractCommitmentDurationType"]) == (
        "plan", "900", "2 Months",
    )  # fmt: skip
    assert plain(row["ContractCommitmentDiscountPercentage"]) == "0.1"
    assert json.loads(row["ContractCommitmentApplicability"]) == {
        "InclusionOperator": "And",
        "Inclusions": [{"Dimension": "BillingAccountId", "Operator": "In", "Values": [PAYER]},
                       {"Dimension": "ServiceName", "Operator": "In", "Values": ["Machines"]}],
        "ExclusionOperator": "Or",
        "Exclusions": [{"Dimension": "SkuId", "Operator": "In", "Values": ["gpu"]}],
    }  # fmt: skip
    applied = [json.loads(text) for text in export.rows["ContractApplied"].drop_nulls()]
    costs = [one["ContractCommitmentAppliedCost"] for element in applied for one in element["Elements"]]
    assert costs == [500, 400]
    assert [row["ContractApplied"] for row in export.of("usage") if row["SkuId"] == "disk"] == [None]


# ------------------------------------------------------------------------------------------------- fees, credits, taxes


def test_fees_are_purchases_of_one_unit():
    fees = [{"recurring_id": "support", "account_id": PAYER, "description": "Support", "amount": "31",
             "valid_from": day(17)},
            {"recurring_id": "port", "account_id": MEMBER, "sku_id": "disk", "amount": "10"}]  # fmt: skip
    export = Exported([], recurring=fees, discounts=[{"discount_id": "d", "percent": "10", "sku_ids": "disk"}])
    names = ("SkuId", "SkuPriceId", "ServiceName", "PricingQuantity", "ListUnitPrice", "BilledCost", "ChargeFrequency")
    assert sorted(export.of("recurring", *names)) == [
        ("disk", "port", "Disks", "1", "10", "9", "Recurring"),
        ("support", "support", "Fees", "1", "15", "15", "Recurring"),
    ]
    assert {row["ChargePeriodStart"].day for row in export.of("recurring")} == {1, 17}


def test_adjustments_are_adjustments():
    note = {"adjustment_id": "n1", "account_id": PAYER, "period": "2026-10", "amount": "-5", "reason": "Outage",
            "author": "Ada Lovelace"}  # fmt: skip
    export = Exported([priced("20", "1")], adjustments=[note])
    assert export.of("adjustment", "ChargeCategory", "BilledCost", "ListCost", "ChargeDescription", "x_SourceId") == [
        ("Adjustment", "-5", "-5", "Outage", "n1")
    ]


def test_credits_before_and_after_tax():
    credit = {"credit_id": "gift", "account_id": PAYER, "amount": "30", "currency": "EUR", "kind": "promotional",
              "granted_on": day(1, month=1), "note": "Welcome"}  # fmt: skip
    export = Exported([priced("60", "1"), priced("40", "1", sku="disk")],
                      credits=[credit, credit | {"credit_id": "wallet", "kind": "prepaid", "amount": "50"}])  # fmt: skip
    names = ("ChargeCategory", "BilledCost", "EffectiveCost", "ListCost", "x_SourceId", "ChargeDescription")
    assert export.of("credit", *names) == [
        ("Credit", "-12", "-12", "-12", "gift", "Welcome: Disk"),
        ("Credit", "-18", "-18", "-18", "gift", "Welcome: Machine"),
    ]
    assert export.of("prepaid", *names[:3], "SubAccountId") == [("Credit", "-50", "-50", None)]
    assert plain(export.rows["BilledCost"].sum()) == "34"  # 70 and 14 tax, less 50


def test_taxes_are_rows_whose_list_cost_is_the_tax_on_list_costs():
    export = Exported([priced("10", "1", "2"), priced("10", "1", sku="book")])
    assert export.of(
        "tax", "ChargeCategory", "BilledCost", "ListCost", "SkuId", "SubAccountId", "ChargeDescription"
    ) == [
        ("Tax", "0.55", "0.55", None, None, "Tax fr, reduced, 5.5 %"),
        ("Tax", "2", "4", None, None, "Tax fr, standard, 20 %"),
    ]


def test_a_rate_of_zero_is_no_row():
    taxes = [{"tax_code": "rc", "country": "FR", "rate": "0", "kind": "reverse_charge", "note": "Reverse charge"}]
    assert Exported([priced("10", "1")], taxes=taxes).of("tax") == []


# ---------------------------------------------------------------------------------------------------------- corrections


def correction(amount, **more):
    return {
        "billing_account_id": PAYER, "currency": "EUR", "corrects_period": "2026-08",
        "corrects_invoice_id": "2026-08-acme-EUR", "corrected_kind": "usage", "account_id": PAYER, "sku_id": "vm",
        "price_id": "price-1", "description": "late usage", "first_day": date(2026, 8, 3),
        "last_day": date(2026, 8, 9), "billed_amount": Decimal(10), "correct_amount": Decimal(10) + Decimal(amount),
        "amount": Decimal(amount), "tax_code": "fr", "tax_category": "standard", "tax_kind": "standard",
        "tax_rate": Decimal(20), **more,
    }  # fmt: skip


def test_corrections_are_new_rows_of_this_period_about_the_days_they_correct():
    fee = {"recurring_id": "support", "account_id": PAYER, "description": "Support", "amount": "31"}
    export = Exported(
        [priced("10", "1")], recurring=[fee],
        corrections=[correction("-7"), correction("3", price_id=None, sku_id=None, source_id="support")],
    )  # fmt: skip
    rows = export.of("correction")
    assert [(row["ChargeCategory"], row["ChargeClass"], plain(row["BilledCost"])) for row in rows] == [
        ("Purchase", "Correction", "3"), ("Usage", "Correction", "-7"),
    ]  # fmt: skip
    assert {(row["ChargePeriodStart"], row["ChargePeriodEnd"]) for row in rows} == {(day(3, 8), day(10, 8))}
    assert {(row["BillingPeriodStart"], row["x_CorrectsPeriod"]) for row in rows} == {(day(1), "2026-08")}
    assert {row["ChargeClass"] for row in export.of("usage")} == {None}
    details = export.others["invoice_detail"].filter(pl.col("x_InvoiceLineNumber").is_in([3, 4]))
    assert set(details["ReferenceInvoiceId"]) == {"2026-00007"}


def test_documents_of_corrections_are_corrections_as_a_whole():
    export = Exported([], corrections=[correction("-7"), correction("3", price_id="price-2")], documents=True)
    assert set(export.rows["ChargeClass"]) == {"Correction"}
    assert set(export.others["invoice_detail"]["ReferenceInvoiceId"]) == {"2026-00007"}
    assert {plain(total) for total in export.sums("InvoiceId").values()} == {"-8.4", "3.6"}


def test_credit_notes_by_hand_are_corrections_in_the_month_of_their_issue():
    original = Exported([priced("10", "1", "2")]).invoices
    issued = dataclasses.replace(
        original,
        invoices=original.invoices.with_columns(
            status=pl.lit("issued"), number=pl.lit("2026-00009"), invoice_id=pl.lit("2026-09-acme-EUR"),
            period=pl.lit("2026-09"),
        ),
        lines=original.lines.with_columns(invoice_id=pl.lit("2026-09-acme-EUR")),
        taxes=original.taxes.with_columns(invoice_id=pl.lit("2026-09-acme-EUR")),
    )  # fmt: skip
    note = credit_note(issued, Billed.empty(), Credit("Goodwill", amount=Decimal(4)), invoice_id="note",
                       number="CN-1", issue_date=date(2026, 10, 20))  # fmt: skip
    export = Exported([priced("10", "1", "2")], notes=note)
    rows = export.rows.filter(pl.col("InvoiceId") == "CN-1")
    assert sorted(rows.select("ChargeCategory", "ChargeClass").rows()) == [
        ("Tax", "Correction"),
        ("Usage", "Correction"),
    ]
    assert [plain(value) for value in rows["BilledCost"].sort()] == ["-4", "-0.8"]
    details = export.others["invoice_detail"].filter(pl.col("InvoiceId") == "CN-1")
    assert set(details.select("InvoiceIssueStatus", "InvoiceIssueDate").rows()) == {("Issued", day(20))}


# ------------------------------------------------------------------------------------------------ documents and periods


def test_drafts_are_open_and_issued_invoices_have_their_numbers():
    charges = [priced("10", "1")]
    draft = Exported(charges)
    names = ("InvoiceId", "InvoiceIssueStatus", "InvoiceIssueDate", "PaymentDueDate", "PaymentTerms")
    assert set(draft.others["invoice_detail"].select(names).rows()) == {
        ("2026-10-acme-EUR", "Open", None, None, "Net 30")
    }
    assert draft.others["billing_period"].select("BillingPeriodStatus", "BillingPeriodCreated").row(0) == (
        "Open",
        OPENED,
    )

    issued = draft.ledger.billed.invoices.with_columns(
        status=pl.lit("issued"), number=pl.lit("2026-00001"), issue_date=date(2026, 11, 3), due_date=date(2026, 12, 3)
    )
    ledger = dataclasses.replace(
        draft.ledger, closed=True, billed=dataclasses.replace(draft.billed, invoices=issued)
    )  # fmt: skip
    datasets = FocusDatasets(ledger)
    rows = pl.concat(datasets.cost_and_usage([pl.DataFrame(charges, schema=CHARGES.polars_schema).lazy()]))
    assert set(rows.select("InvoiceId", "x_LedgerInvoiceId").rows()) == {("2026-00001", "2026-10-acme-EUR")}
    assert rows["InvoiceDetailId"].to_list() == draft.rows["InvoiceDetailId"].to_list()  # the same before and after
    others = datasets.others()
    assert set(others["invoice_detail"].select(names).rows()) == {
        ("2026-00001", "Issued", day(3, 11), day(3, 12), "Net 30")
    }
    assert others["billing_period"]["BillingPeriodStatus"].to_list() == ["Closed"]


def test_days_of_a_payer_elsewhere_are_its_own():
    fee = {"recurring_id": "support", "account_id": PAYER, "description": "Support", "amount": "31"}
    export = Exported([], recurring=[fee], zone="Asia/Tokyo")
    (row,) = export.of("recurring")
    assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == (day(1, zone="Asia/Tokyo"), day(1, 11, "Asia/Tokyo"))
    assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == (day(1), day(1, 11))


EVERYTHING = {
    "discounts": [{"discount_id": "spring", "percent": "10"},
                  {"discount_id": "lab", "percent": "20", "account_id": MEMBER, "mode": "additive",
                   "valid_from": day(15)}],
    "recurring": [{"recurring_id": "support", "account_id": PAYER, "description": "Support", "amount": "31"}],
    "adjustments": [{"adjustment_id": "n1", "account_id": PAYER, "period": "2026-10", "amount": "-5",
                     "reason": "Outage", "author": "Ada Lovelace"}],
    "commitments": [COMMITMENT | {"amount": "120", "service": "Machines"},
                    COMMITMENT | {"commitment_id": "store", "service": "Disks", "amount": "50",
                                  "discount_percent": None}],
    "credits": [{"credit_id": name, "account_id": PAYER, "amount": "30", "currency": "EUR", "kind": kind,
                 "granted_on": day(1, month=1)} for name, kind in (("gift", "promotional"), ("wallet", "prepaid"))],
    "corrections": [correction("7"), correction("-2", price_id="price-2")],
}  # fmt: skip
SOME_USAGE = [
    priced("100.123456", "1", "1.1"), priced("77.7", "0.333333333333", day=2), usage("12.3456789", day=30),
    usage("-1.5", charge_kind="cap", day=30, pricing_quantity=None),
    priced("33.335", "1", sku="disk", account=MEMBER, day=20, project="web"), priced("12.5", "1", sku="book", region="eu"),
]  # fmt: skip


def test_everything_at_once_adds_up_in_one_part_or_many():
    whole, parts = Exported(SOME_USAGE, **EVERYTHING), Exported(SOME_USAGE, parts=3, **EVERYTHING)
    assert set(whole.rows["x_ChargeKind"]) == {
        "usage", "cap", "rounding", "recurring", "adjustment", "correction", "commitment", "credit", "tax", "prepaid",
    }  # fmt: skip
    assert whole.rows.sort(whole.rows.columns).equals(parts.rows.sort(parts.rows.columns))
    for name, rows in whole.others.items():
        assert rows.equals(parts.others[name])
    # Every line of the invoice is found in FOCUS, by its number.
    lines = {("2026-10-acme-EUR", row["line_number"]): row["net_amount"] for row in whole.billed.lines.to_dicts()}
    found = whole.others["invoice_detail"].filter(pl.col("x_InvoiceLineNumber").is_not_null())
    summed = found.group_by("x_LedgerInvoiceId", "x_InvoiceLineNumber").agg(pl.col("BilledCost").sum())
    assert {(invoice, line): amount for invoice, line, amount in summed.iter_rows()} == lines


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_charges_are_cut_between_lines(rows):
    charges = pl.DataFrame([*SOME_USAGE, priced("4", "1", resource_id="two")], schema=CHARGES.polars_schema)
    parts = list(cut_between_lines(charges, rows=rows))
    assert pl.concat(parts).sort(charges.columns).equals(charges.sort(charges.columns))
    lines = [set(part.select("account_id", "project_id", "sku_id", "region", "price_id").rows()) for part in parts]
    assert sum(map(len, lines)) == len(set.union(*lines)) == 3
    assert len(parts) == {1: 3, 2: 2, 3: 2, 100: 1}[rows]


def test_charges_that_are_not_the_ledgers_are_refused():
    export = Exported([priced("10", "1")])
    datasets = FocusDatasets(export.ledger)
    more = pl.DataFrame([priced("11", "1")], schema=CHARGES.polars_schema)
    list(datasets.cost_and_usage([more.lazy()]))
    with pytest.raises(InvariantError, match=r"BilledCost of a line is 11.* where the ledger has 10"):
        datasets.others()


def test_invoice_detail_is_asked_for_last():
    with pytest.raises(ValueError, match="has not been read to its end"):
        FocusDatasets(Exported([priced("10", "1")]).ledger).others()
