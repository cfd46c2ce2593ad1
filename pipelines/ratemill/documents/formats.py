"""Numbers, dates and periods as people of a language write them (Unicode CLDR through Babel), exact to the digit.

Every function takes a BCP 47 ``language`` and falls back to English for one that CLDR does not know: a customer's
mistyped language must not stop an invoice run. No value passes through a float.
"""

from __future__ import annotations

import decimal
import re
import unicodedata
from decimal import Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_interval, format_skeleton
from babel.numbers import NumberPattern, format_decimal, parse_pattern

from ratemill.money import PRICE_DECIMALS, QUANTITY_DECIMALS, minor_unit_decimals

if TYPE_CHECKING:
    from datetime import date

DEFAULT_LANGUAGE = "en"

_EXACT = decimal.Context(prec=80, rounding=decimal.ROUND_HALF_EVEN, traps=[decimal.InvalidOperation, decimal.Inexact])
"""Wide enough for DECIMAL(38,18); a digit that would be lost raises instead."""
_WIDE = decimal.Context(prec=80, rounding=decimal.ROUND_HALF_UP)
_REMEMBERED = 4096
"""The same days, zeros and prices are on line after line; writing one takes longer than looking it up."""
_DIGITS_OF_A_PATTERN = re.compile(r"[#,0.]+")
_SIZE_OF_A_UNIT = re.compile(r"^[1-9][0-9]{3,17}(?= )")

REPLACEMENT = "\ufffd"
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_NONCHARACTERS = "\ufffe\uffff"  # no document in XML may have them
_NEVER_SHOWN = {"Cc", "Cs", "Co"}  # control, surrogate, private use: no reader can tell what they mean


@cache
def locale_of(language: str | None) -> Locale:
    """The CLDR locale of a BCP 47 tag (``de``, ``de-AT``, ``pt_BR``); English when there is none."""
    try:
        return Locale.parse((language or DEFAULT_LANGUAGE).replace("_", "-"), sep="-")
    except (UnknownLocaleError, ValueError, TypeError):
        return Locale.parse(DEFAULT_LANGUAGE)


def language_tag(language: str | None) -> str:
    """The BCP 47 tag of the locale that is really used, for ``lang=`` attributes: ``de-AT``."""
    return str(locale_of(language)).replace("_", "-")


def format_amount(value: Decimal, currency: str, language: str = DEFAULT_LANGUAGE) -> str:
    """Money with exactly the decimals of the currency's minor unit and no currency sign: ``1,234.50``.

    A value with more decimals than that (an exact cost, a rounding total) is rounded half-up for display only.
    """
    return _decimal(value, minor_unit_decimals(currency), minor_unit_decimals(currency), language, rounds=True)


def format_money(value: Decimal, currency: str, language: str = DEFAULT_LANGUAGE) -> str:
    """Money with its ISO 4217 code where the language puts it: ``EUR 1,234.50``, ``1.234,50 EUR``."""
    number = format_amount(value, currency, language)
    # The code never touches the digits: a no-break space, whatever the pattern has for a one-letter sign.
    return f"{currency}\u00a0{number}" if currency_comes_first(language) else f"{number}\u00a0{currency}"


def currency_comes_first(language: str = DEFAULT_LANGUAGE) -> bool:
    """Whether the language writes a currency before its amount."""
    pattern = locale_of(language).currency_formats["standard"].pattern
    return bool(pattern.strip("\u200e\u200f\u061c").startswith("¤"))


def format_quantity(value: Decimal, language: str = DEFAULT_LANGUAGE) -> str:
    """A quantity with all its digits and no trailing zeros: ``1,488``, ``0.000000125``."""
    return _decimal(value, 0, QUANTITY_DECIMALS, language)


def format_unit(unit: str, language: str = DEFAULT_LANGUAGE) -> str:
    """A unit as the book writes it, but for a number at its beginning: ``1,000,000 Tokens``."""
    return _SIZE_OF_A_UNIT.sub(lambda size: format_quantity(Decimal(size[0]), language), unit)


def format_unit_price(value: Decimal, currency: str, language: str = DEFAULT_LANGUAGE) -> str:
    """A unit price with all its significant decimals, at least those of the minor unit: ``0.0125``, ``3.50``."""
    return _decimal(value, minor_unit_decimals(currency), PRICE_DECIMALS, language)


def format_exact(value: Decimal, language: str = DEFAULT_LANGUAGE) -> str:
    """Any exact number with all its digits and no trailing zeros, for example a rounding total."""
    return _decimal(value, 0, 18, language)


def format_percent(value: Decimal, language: str = DEFAULT_LANGUAGE, *, decimals: int = 4) -> str:
    """A percentage given in percent (20 is 20 %), without trailing zeros, at most ``decimals`` of them: ``7.7%``."""
    pattern = locale_of(language).percent_formats[None].pattern
    number = _decimal(value, 0, decimals, language, rounds=True)
    return _DIGITS_OF_A_PATTERN.sub(lambda _: number, pattern.partition(";")[0])


@lru_cache(_REMEMBERED)
def format_day(value: date, language: str = DEFAULT_LANGUAGE) -> str:
    """A day that no reader can take for another: ``31 October 2026`` in the language's order and words."""
    return format_date(value, format="long", locale=locale_of(language))


def format_country(code: str, language: str = DEFAULT_LANGUAGE) -> str:
    """The country of an ISO 3166 alpha-2 code: ``Germany``; the code itself where CLDR has no name."""
    return str(locale_of(language).territories.get(code, code))


@lru_cache(_REMEMBERED)
def format_month(value: date, language: str = DEFAULT_LANGUAGE) -> str:
    """The month of a day: ``October 2026``."""
    return format_skeleton("yMMMM", value, locale=locale_of(language))


@lru_cache(_REMEMBERED)
def format_days(first: date, last: date, language: str = DEFAULT_LANGUAGE) -> str:
    """A stretch of days, as short as the language allows: ``Oct 1-15``; one day when both are the same."""
    locale = locale_of(language)
    if first == last:
        return format_skeleton("MMMd", first, locale=locale)
    return format_interval(first, last, "MMMd", locale=locale)


def clean_text(text: str) -> str:
    """Text that shows what it is: no control, private-use or lone surrogate character, no direction override.

    Names come from customers' usage. A right-to-left override could turn an amount around on paper, and PDF/A
    forbids the others. White space of any kind becomes a space.
    """
    if text.isascii() and text.isprintable():
        return text
    shown = []
    for character in text:
        if character in "\n\r\t\v\f\x85\u2028\u2029":
            shown.append(" ")
        elif character in _BIDI_CONTROLS:
            continue
        else:
            unreadable = character in _NONCHARACTERS or unicodedata.category(character) in _NEVER_SHOWN
            shown.append(REPLACEMENT if unreadable else character)
    return "".join(shown)


def plain(value: Decimal) -> str:
    """A decimal as machines read it: no exponent, no grouping, no trailing zeros, never ``-0``."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


@lru_cache(_REMEMBERED)
def _decimal(value: Decimal, least: int, most: int, language: str, *, rounds: bool = False) -> str:
    """``value`` with ``least`` to ``most`` decimals, grouped as the language does; a lost digit raises or rounds."""
    # Babel rounds in the thread's context, whose usual 28 digits are fewer than our decimals can have.
    with decimal.localcontext(_WIDE if rounds else _EXACT):
        number = value.quantize(Decimal(1).scaleb(-most)) if _decimals(value) > most else value
        shown = min(max(_decimals(number), least), most)
        if number.is_zero():
            number = abs(number)
        return format_decimal(number, format=_pattern(language, shown), locale=locale_of(language))


@cache
def _pattern(language: str, decimals: int) -> NumberPattern:
    """Numbers with so many decimals and the language's own grouping (hi: ``#,##,##0``)."""
    standard = str(locale_of(language).decimal_formats[None].pattern)
    integer = standard.partition(";")[0].partition(".")[0]
    return parse_pattern(integer + ("." + "0" * decimals if decimals else ""))


def _decimals(value: Decimal) -> int:
    """How many decimals a number needs, trailing zeros left out."""
    if not value.is_finite():
        raise ValueError(f"{value} is no number that can be shown")
    _, separator, fraction = plain(value).partition(".")
    return len(fraction) if separator else 0
