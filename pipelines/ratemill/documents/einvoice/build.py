"""The document that people read → the same in the terms of EN 16931: every amount is taken over, none is made."""

from __future__ import annotations

import decimal
import re
import string
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING

from ratemill.documents import formats
from ratemill.documents.einvoice.model import (
    CREDIT_NOTE_TYPE,
    INVOICE_TYPE,
    Address,
    AllowanceCharge,
    Contact,
    CreditTransfer,
    EInvoice,
    Line,
    Party,
    Preceding,
    Totals,
    VatBreakdown,
    VatCategory,
)
from ratemill.documents.einvoice.units import PIECE, unit_code
from ratemill.errors import InvariantError
from ratemill.identifiers import EMAIL, ElectronicAddress, is_vat_number
from ratemill.money import ZERO, minor_unit_decimals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ratemill.documents import model
    from ratemill.documents.labels import Wording

EN_16931 = "urn:cen.eu:en16931:2017"
PEPPOL_BIS_3 = f"{EN_16931}#compliant#urn:fdc:peppol.eu:2017:poacc:billing:3.0"
PEPPOL_PROFILE = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"

_EXACT = decimal.Context(prec=80, traps=[decimal.InvalidOperation, decimal.Inexact])
_OUTSIDE_SCOPE = "O"
_CATEGORIES = {
    "standard": "S",
    "zero": "Z",
    "exempt": "E",
    "reverse_charge": "AE",
    "outside_scope": _OUTSIDE_SCOPE,
}
_REASON_CODES = {"AE": "VATEX-EU-AE", "O": "VATEX-EU-O"}
_WITHOUT_REASON = ("S", "Z")
"""Rules BR-S-10 and BR-Z-10: no reason where there is tax, or a rate of 0."""
_ALLOWANCE_CODES = {"discount": "95", "commitment": "102", "credit": "100"}
"""UNTDID 5189: discount; fixed long term; special rebate."""
_CREDIT_TRANSFER, _SEPA_CREDIT_TRANSFER = "30", "58"
"""UNTDID 4461."""
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_SLACK = Decimal("0.02")
"""How far quantity × price may be from a line's amount (Peppol, rule R120)."""
_ONE = Decimal(1)
_OTHER_COUNTRY_CODES = {"XK": "1A"}
"""Kosovo has no ISO code; EN 16931 calls it otherwise than everybody else."""


def build_einvoice(document: model.InvoiceDocument, words: Wording) -> EInvoice:
    """The e-invoice of an issued document that :func:`ratemill.invoicing.einvoices.obstacles` lets through.

    Args:
        document: with number and date of issue.
        words: of the invoice, in the customer's language.

    Raises:
        InvariantError: it is a draft, or its parts do not add up to its totals.
    """
    if document.issue_date is None or not document.number:
        raise InvariantError(f"invoice {document.invoice_id} is a draft; only issued documents are e-invoices")
    money = _Money(document.currency)
    kinds = {(tax.code, tax.category, tax.rate): tax.kind for tax in document.taxes}
    categories = {
        line.number: _category(kinds[line.tax_code, line.tax_category, line.tax_rate], line.tax_rate)
        for line in document.lines()
    }
    has_vat = all(category.code != _OUTSIDE_SCOPE for category in categories.values())
    allowances = tuple(_allowances(document.deductions, categories, money))
    seller, buyer = _seller(document.seller, has_vat=has_vat), _buyer(document.customer, has_vat=has_vat)
    in_peppol = seller.electronic_address is not None and buyer.electronic_address is not None
    built = EInvoice(
        customization=PEPPOL_BIS_3 if in_peppol else EN_16931,
        profile=PEPPOL_PROFILE if in_peppol else "",
        number=_text(document.number),
        issue_date=document.issue_date,
        type_code=CREDIT_NOTE_TYPE if document.is_credit_note else INVOICE_TYPE,
        currency=document.currency,
        due_date=document.payment.due_date,
        buyer_reference=_text(document.customer.reference) or _text(document.customer.account_id),
        contract=_text(document.commitments[0].commitment_id) if len(document.commitments) == 1 else "",
        payment_terms=_payment_terms(document, words),
        note=" ".join(_text(note) for note in document.notes),
        preceding=tuple(_preceding(document)),
        seller=seller,
        buyer=buyer,
        delivered=document.period_last_day,
        period=(document.period_first_day, document.period_last_day),
        payment=_payment(document),
        allowances=allowances,
        totals=_totals(document.totals, allowances, money),
        taxes=tuple(_taxes(document.taxes, money)),
        lines=tuple(_line(line, categories[line.number], document, words, money) for line in document.lines()),
    )
    _check_sums(built)
    return built


class _Money:
    """Amounts of a currency, with exactly its decimals."""

    def __init__(self, currency: str) -> None:
        self._unit = _ONE.scaleb(-minor_unit_decimals(currency))

    def __call__(self, value: Decimal) -> Decimal:
        amount = value.quantize(self._unit, context=_EXACT)
        return abs(amount) if amount.is_zero() else amount


def _text(text: str) -> str:
    """As it may stand in XML: no control characters, and no white space around it."""
    return formats.clean_text(text).strip()


def _sum(values: Iterable[Decimal]) -> Decimal:
    with decimal.localcontext(_EXACT):
        return sum(values, ZERO)


def _filled(label: str, **values: str) -> str:
    return string.Template(label).substitute(**values)


# ---------------------------------------------------------------------------------------------------- parties


def _seller(seller: model.SellerParty, *, has_vat: bool) -> Party:
    number = "".join(_text(seller.tax_id).split())
    registration = _text(seller.registration)
    contact = Contact(_text(seller.trade_name), _text(seller.phone), _text(seller.email))
    return Party(
        name=_text(seller.name),
        trade_name=_text(seller.trade_name) if seller.trade_name != seller.name else "",
        # Rule BR-CO-26: with neither register entry nor VAT number, the tax number has to tell who it is.
        identifier=number if not registration and not (has_vat and is_vat_number(number)) else "",
        registration=registration,
        # Rule BR-O-02: outside the scope of VAT, nobody has a VAT number.
        vat_number=number if has_vat and is_vat_number(number) else "",
        tax_number=number if has_vat and not is_vat_number(number) else "",
        electronic_address=_electronic_address(seller.electronic_address, seller.email),
        address=_address(seller.address, seller.country),
        contact=contact if contact.phone or contact.email else None,
    )


def _buyer(customer: model.CustomerParty, *, has_vat: bool) -> Party:
    number = "".join(_text(customer.tax_id).split())
    in_vat = has_vat and is_vat_number(number)
    return Party(
        name=_text(customer.name),
        trade_name="",
        identifier=_text(customer.account_id),
        registration="" if in_vat else number,
        vat_number=number if in_vat else "",
        tax_number="",
        electronic_address=_electronic_address(customer.electronic_address, customer.email),
        address=_address(customer.address, customer.country),
        contact=None,
    )


def _electronic_address(written: str, email: str) -> ElectronicAddress | None:
    if written:
        return ElectronicAddress.parse(written)
    mailbox = _text(email)
    return ElectronicAddress(EMAIL, mailbox) if mailbox else None


def _address(address: model.PostalAddress, country: str) -> Address:
    first, second, *rest = [*(text for line in address.street if (text := _text(line))), "", ""]
    return Address(
        line_1=first,
        line_2=second,
        line_3=", ".join(text for text in rest if text),
        city=_text(address.city),
        postal_code=_text(address.postal_code),
        subdivision=_text(address.state),
        country=_OTHER_COUNTRY_CODES.get(country, country),
    )


def _preceding(document: model.InvoiceDocument) -> Iterable[Preceding]:
    """Every invoice that the document or a line of it corrects and whose number is known, each once."""
    originals = dict.fromkeys((document.corrects, *(line.corrects for line in document.lines())))
    for original in originals:
        if original is not None and original.number:
            yield Preceding(_text(original.number), original.issue_date)


# ---------------------------------------------------------------------------------------------------- payment


def _payment_terms(document: model.InvoiceDocument, words: Wording) -> str:
    payment, labels = document.payment, words.labels
    if document.is_credit_note:
        return labels["credited"]
    if not payment.is_owed:
        return labels["paid_by_credit"] if document.prepaid else labels["nothing_owed"]
    if payment.due_date is not None:
        return _filled(labels["payable_by"], date=formats.format_day(payment.due_date, words.language))
    if payment.terms_days == 0:
        return labels["payable_at_once"]
    return _filled(labels["payable_within"], days=str(payment.terms_days))


def _payment(document: model.InvoiceDocument) -> CreditTransfer | None:
    payment = document.payment
    iban = "".join(_text(payment.iban).split())
    if not payment.is_owed or not iban:
        return None
    is_sepa = document.currency == "EUR" and _IBAN.fullmatch(iban) is not None
    return CreditTransfer(
        means=_SEPA_CREDIT_TRANSFER if is_sepa else _CREDIT_TRANSFER,
        reference=_text(payment.reference),
        iban=iban,
        holder=_text(document.seller.name),
        bic="".join(_text(payment.bic).split()),
    )


# ---------------------------------------------------------------------------------------------------- taxes and sums


def _category(kind: str, rate: Decimal) -> VatCategory:
    code = _CATEGORIES[kind]
    if code == "S" and rate.is_zero():  # rule BR-S-05
        code = "Z"
    return VatCategory(code, None if code == _OUTSIDE_SCOPE else rate.normalize(_EXACT))


def _taxes(taxes: Sequence[model.TaxLine], money: _Money) -> Iterable[VatBreakdown]:
    """One for each category and rate: tax codes are ours, and the standard knows none."""
    same: defaultdict[VatCategory, list[model.TaxLine]] = defaultdict(list)
    for tax in taxes:
        same[_category(tax.kind, tax.rate)].append(tax)
    for vat, rows in same.items():
        notes = dict.fromkeys(text for row in rows if (text := _text(row.note)))
        yield VatBreakdown(
            vat=vat,
            base=money(_sum(row.base for row in rows)),
            tax=money(_sum(row.tax for row in rows)),
            reason="" if vat.code in _WITHOUT_REASON else " ".join(notes),
            reason_code=_REASON_CODES.get(vat.code, ""),
        )


def _allowances(
    deductions: Sequence[model.Deduction], categories: dict[int, VatCategory], money: _Money
) -> Iterable[AllowanceCharge]:
    """Each deduction, one part for each category and rate of the lines that it is taken off."""
    for deduction in deductions:
        parts: defaultdict[VatCategory, list[Decimal]] = defaultdict(list)
        for share in deduction.shares:
            parts[categories[share.line]].append(share.amount)
        for vat, shares in parts.items():
            amount = money(_sum(shares))
            if amount:  # on a credit note, what a discount takes off is not given back
                yield AllowanceCharge(
                    is_charge=amount > ZERO,
                    amount=abs(amount),
                    reason=_text(deduction.name) or deduction.source_id,
                    reason_code="" if amount > ZERO else _ALLOWANCE_CODES[deduction.kind],
                    vat=vat,
                )


def _totals(totals: model.Totals, allowances: Sequence[AllowanceCharge], money: _Money) -> Totals:
    with decimal.localcontext(_EXACT):
        return Totals(
            lines=money(totals.subtotal),
            allowances=money(_sum(each.amount for each in allowances if not each.is_charge)),
            charges=money(_sum(each.amount for each in allowances if each.is_charge)),
            untaxed=money(totals.untaxed),
            tax=money(totals.tax),
            total=money(totals.total),
            paid=money(-totals.prepaid),
            rounding=money(totals.due - totals.total - totals.prepaid),
            due=money(totals.due),
        )


def _check_sums(built: EInvoice) -> None:
    """What the rules BR-CO-10 to BR-CO-16 and those of each VAT category will ask."""
    totals = built.totals
    with decimal.localcontext(_EXACT):
        checks = [
            ("lines (BT-106)", _sum(line.net for line in built.lines), totals.lines),
            ("untaxed amount (BT-109)", totals.lines - totals.allowances + totals.charges, totals.untaxed),
            ("tax (BT-110)", _sum(each.tax for each in built.taxes), totals.tax),
            ("total (BT-112)", totals.untaxed + totals.tax, totals.total),
            ("amount due (BT-115)", totals.total - totals.paid + totals.rounding, totals.due),
        ]
        for each in built.taxes:
            of_lines = _sum(line.net for line in built.lines if line.vat == each.vat)
            off = _sum(
                part.amount if part.is_charge else -part.amount for part in built.allowances if part.vat == each.vat
            )
            checks.append((f"taxable amount of {each.vat.code} {each.vat.rate} (BT-116)", of_lines + off, each.base))
    for name, found, stated in checks:
        if found != stated:
            raise InvariantError(
                f"e-invoice {built.number}: its parts give {name} {found}, the invoice says {stated}; none was written"
            )


# ---------------------------------------------------------------------------------------------------- lines


def _line(line: model.Line, vat: VatCategory, document: model.InvoiceDocument, words: Wording, money: _Money) -> Line:
    labels = words.labels
    quantity, unit, price, base = _priced(line)
    is_correction = line.kind == "correction"
    attributes = [
        (labels["account"], line.account_name if document.has_several_accounts else ""),
        (labels["project"], line.project_name),
        (labels["unit"], line.unit if unit == PIECE and quantity == line.quantity else ""),
    ]
    limits = (
        labels["cap_reached"] if line.cap is not None else "",
        labels["minimum_due"] if line.minimum is not None else "",
    )
    details = (line.remark, line.service, line.region, line.conditions, *limits)
    return Line(
        identifier=str(line.number),
        note=_corrected(line, words) if is_correction else "",
        quantity=quantity,
        unit=unit,
        net=money(line.amount),
        # The days of a correction are of another month than the invoice's, where Peppol (R110) wants every line's.
        period=None if is_correction else (line.first_day, line.last_day),
        price=price,
        price_base=base,
        vat=vat,
        name=_text(line.description)
        or _text(line.sku_id)
        or labels["corrections" if is_correction else f"lines_{line.kind}"],
        description=" · ".join(text for detail in details if (text := _text(detail))),
        item=_text(line.sku_id),
        attributes=tuple((name, text) for name, value in attributes if (text := _text(value))),
    )


def _priced(line: model.Line) -> tuple[Decimal, str, Decimal, Decimal | None]:
    """Quantity, unit, price and what the price is for: quantity × price ÷ base is the amount, and no price is negative.

    Where one price does not lead to the amount (tiers, caps, currencies without cents), the whole quantity is priced
    together: 895.35 for 1,488 hours. An amount for no quantity is one piece.
    """
    amount, quantity = line.amount, line.quantity
    if quantity is None or quantity.is_zero() or (amount and (amount < ZERO) != (quantity < ZERO)):
        return (-_ONE if amount < ZERO else _ONE), PIECE, _plain(abs(amount)), None
    unit = unit_code(line.unit)
    if line.unit_price is not None and line.unit_price >= ZERO:
        with decimal.localcontext(_EXACT):
            if abs(quantity * line.unit_price - amount) <= _SLACK:
                return quantity, unit, line.unit_price, None
    return quantity, unit, _plain(abs(amount)), abs(quantity) if amount else None


def _plain(value: Decimal) -> Decimal:
    return ZERO if value.is_zero() else value


def _corrected(line: model.Line, words: Wording) -> str:
    month = formats.format_month(line.first_day, words.language)
    if line.corrects is None:
        return month
    number = line.corrects.number or line.corrects.invoice_id
    return _text(_filled(words.labels["correction_of"], month=month, number=number))
