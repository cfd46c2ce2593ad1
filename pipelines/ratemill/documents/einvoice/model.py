"""An invoice or credit note in the terms of EN 16931-1; the docstrings name its business terms (BT) and groups (BG).

Amounts are quantised to the decimals of the currency, and all text is clean: templates only write them down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date
    from decimal import Decimal

    from ratemill.identifiers import ElectronicAddress

INVOICE_TYPE, CREDIT_NOTE_TYPE = "380", "381"


@dataclass(frozen=True)
class Address:
    """BG-5, BG-8. Empty texts: not given."""

    line_1: str
    """BT-35, BT-50."""
    line_2: str
    """BT-36, BT-51."""
    line_3: str
    """BT-162, BT-163."""
    city: str
    """BT-37, BT-52."""
    postal_code: str
    """BT-38, BT-53."""
    subdivision: str
    """BT-39, BT-54."""
    country: str
    """BT-40, BT-55."""


@dataclass(frozen=True)
class Contact:
    """BG-6."""

    name: str
    """BT-41."""
    phone: str
    """BT-42."""
    email: str
    """BT-43."""


@dataclass(frozen=True)
class Party:
    """BG-4, BG-7. Empty texts: not given."""

    name: str
    """BT-27, BT-44."""
    trade_name: str
    """BT-28, BT-45."""
    identifier: str
    """BT-29, BT-46."""
    registration: str
    """BT-30, BT-47."""
    vat_number: str
    """BT-31, BT-48."""
    tax_number: str
    """BT-32; sellers only."""
    electronic_address: ElectronicAddress | None
    """BT-34, BT-49."""
    address: Address
    contact: Contact | None


@dataclass(frozen=True)
class Preceding:
    """BG-3: an invoice that this one corrects."""

    number: str
    """BT-25."""
    issue_date: date | None
    """BT-26."""


@dataclass(frozen=True)
class CreditTransfer:
    """BG-16, BG-17."""

    means: str
    """BT-81."""
    reference: str
    """BT-83."""
    iban: str
    """BT-84."""
    holder: str
    """BT-85."""
    bic: str
    """BT-86."""


@dataclass(frozen=True)
class VatCategory:
    """What a line, an allowance or a sum is taxed as."""

    code: str
    """BT-151, BT-95, BT-102, BT-118: S, Z, E, AE or O."""
    rate: Decimal | None
    """BT-152, BT-96, BT-103, BT-119: percent; none of what is outside the scope of VAT."""


@dataclass(frozen=True)
class AllowanceCharge:
    """BG-20, or BG-21 where it is a charge."""

    is_charge: bool
    amount: Decimal
    """BT-92, BT-99; positive."""
    reason: str
    """BT-97, BT-104."""
    reason_code: str
    """BT-98; empty on charges."""
    vat: VatCategory


@dataclass(frozen=True)
class VatBreakdown:
    """BG-23."""

    vat: VatCategory
    base: Decimal
    """BT-116."""
    tax: Decimal
    """BT-117."""
    reason: str
    """BT-120; empty: none."""
    reason_code: str
    """BT-121; empty: none."""


@dataclass(frozen=True)
class Totals:
    """BG-22."""

    lines: Decimal
    """BT-106."""
    allowances: Decimal
    """BT-107."""
    charges: Decimal
    """BT-108."""
    untaxed: Decimal
    """BT-109."""
    tax: Decimal
    """BT-110."""
    total: Decimal
    """BT-112."""
    paid: Decimal
    """BT-113."""
    rounding: Decimal
    """BT-114."""
    due: Decimal
    """BT-115."""


@dataclass(frozen=True)
class Line:
    """BG-25."""

    identifier: str
    """BT-126."""
    note: str
    """BT-127; empty: none."""
    quantity: Decimal
    """BT-129; negative where the line gives back."""
    unit: str
    """BT-130: code of UN/ECE Recommendations 20 and 21."""
    net: Decimal
    """BT-131."""
    period: tuple[date, date] | None
    """BG-26."""
    price: Decimal
    """BT-146, never negative: of ``price_base`` units."""
    price_base: Decimal | None
    """BT-149; none: one unit."""
    vat: VatCategory
    name: str
    """BT-153."""
    description: str
    """BT-154; empty: none."""
    item: str
    """BT-155, the seller's id of the item; empty: none."""
    attributes: tuple[tuple[str, str], ...]
    """BG-32: names and values."""


@dataclass(frozen=True)
class EInvoice:
    """A whole invoice or credit note."""

    customization: str
    """BT-24 of the UBL form; the CII form is always plain EN 16931."""
    profile: str
    """BT-23 of the UBL form; empty: none."""
    number: str
    """BT-1."""
    issue_date: date
    """BT-2."""
    type_code: str
    """BT-3: 380 invoice, 381 credit note."""
    currency: str
    """BT-5."""
    due_date: date | None
    """BT-9."""
    buyer_reference: str
    """BT-10."""
    contract: str
    """BT-12; empty: none."""
    payment_terms: str
    """BT-20."""
    note: str
    """BT-22; empty: none."""
    preceding: tuple[Preceding, ...]
    """BG-3."""
    seller: Party
    buyer: Party
    delivered: date
    """BT-72."""
    period: tuple[date, date]
    """BG-14."""
    payment: CreditTransfer | None
    allowances: tuple[AllowanceCharge, ...]
    """BG-20 and BG-21."""
    totals: Totals
    taxes: tuple[VatBreakdown, ...]
    """BG-23."""
    lines: tuple[Line, ...]
    """BG-25."""

    @property
    def is_credit_note(self) -> bool:
        """Whether amounts are what is given back."""
        return self.type_code == CREDIT_NOTE_TYPE
