"""Identifiers of countries and parties: VAT numbers, e-mail addresses, and electronic ones as ``0208:0123456789``."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from babel import Locale

SCHEMES = frozenset({
    "0002", "0007", "0009", "0037", "0060", "0088", "0096", "0097", "0106", "0130", "0135", "0142", "0147",
    "0151", "0154", "0158", "0170", "0177", "0183", "0184", "0188", "0190", "0191", "0192", "0193", "0194",
    "0195", "0196", "0198", "0199", "0200", "0201", "0202", "0203", "0204", "0205", "0208", "0209", "0210",
    "0211", "0212", "0213", "0215", "0216", "0217", "0218", "0219", "0220", "0221", "0225", "0230", "0235",
    "0240", "0242", "0244", "0245", "0246", "0248", "9910", "9913", "9914", "9915", "9918", "9919", "9920",
    "9922", "9923", "9924", "9925", "9926", "9927", "9928", "9929", "9930", "9931", "9932", "9933", "9934",
    "9935", "9936", "9937", "9938", "9939", "9940", "9941", "9942", "9943", "9944", "9945", "9946", "9947",
    "9948", "9949", "9950", "9951", "9952", "9953", "9957", "9959", "AN", "AQ", "AS", "AU", "EM",
})  # fmt: skip
"""Code list EAS of the European Commission, as of March 2026: what BT-34 and BT-49 may be of."""

EMAIL = "EM"
"""The scheme of e-mail addresses."""

_NO_COUNTRY = {"EU", "EZ", "UN", "QO", "XA", "XB", "ZZ", "AC", "CP", "CQ", "DG", "EA", "IC", "TA"}
"""Two-letter codes of the CLDR that are groups of countries, tests, or parts of a country (IC, the Canary Islands)."""
_OTHER_VAT_PREFIXES = ("EL", "XI", "1A")  # Greece, Northern Ireland and Kosovo, as VAT numbers begin
_NO_VAT_PREFIX = "XK"
_MAILBOX = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\[\]\\]+\.[^\s@<>,;:\"()\[\]\\.]+")
_URL = re.compile(r"https?://[^\s/@]+(/\S*)?")
_PHONE_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_FORM = re.compile(r"(?P<scheme>[0-9A-Z]{2,4}):(?P<identifier>\S+)")


@cache
def is_country(code: str) -> bool:
    """Whether ``code`` is an ISO 3166 alpha-2 code known to the Unicode CLDR."""
    return len(code) == 2 and code.isalpha() and code in _territories() and code not in _NO_COUNTRY  # noqa: PLR2004


@cache
def _territories() -> frozenset[str]:
    return frozenset(Locale("en").territories)


def is_vat_number(text: str) -> bool:
    """Whether a tax number, without spaces, begins as VAT numbers do: with the country (EN 16931, BR-CO-09)."""
    prefix = text[:2]
    known = prefix in _OTHER_VAT_PREFIXES or (is_country(prefix) and prefix != _NO_VAT_PREFIX)
    return known and len(text) > len(prefix)


def is_mailbox(text: str) -> bool:
    """Whether a text can be written into the header of an e-mail as one address."""
    return _MAILBOX.fullmatch(text) is not None


def is_url(text: str) -> bool:
    """Whether a text is a URL of the web, without user and password."""
    return _URL.fullmatch(text) is not None


def is_phone_number(text: str) -> bool:
    """Whether a text is a phone number as E.164 writes it, such as +33612345678."""
    return _PHONE_NUMBER.fullmatch(text) is not None


class ElectronicAddress(NamedTuple):
    """Where an e-invoice goes to, or comes from."""

    scheme: str
    """Code of the list EAS."""
    identifier: str

    @classmethod
    def parse(cls, text: str) -> ElectronicAddress:
        """The address that is written as ``scheme:identifier``.

        Raises:
            ValueError: it is none, with a sentence that says how to write it.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text!r} is no electronic address; write it as scheme:identifier, such as 9930:DE123456789"
            )
        if found["scheme"] not in SCHEMES:
            raise ValueError(f"{text!r}: {found['scheme']} is no scheme of electronic addresses (code list EAS)")
        return cls(found["scheme"], found["identifier"])
