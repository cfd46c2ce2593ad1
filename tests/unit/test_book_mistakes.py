"""One broken file per mistake: which line is named, and which words the message must contain.

Each folder of tests/broken/book holds only the broken file; the rest comes from the good book beside it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from ratemill.book.checks import check_book
from ratemill.io.book_files import read_book

if TYPE_CHECKING:
    from ratemill.findings import Finding

BROKEN = Path(__file__).parents[1] / "broken" / "book"


class Mistake(NamedTuple):
    """What a broken file must be told."""

    folder: str
    file: str
    line: int | None
    severity: str
    rule: str
    words: list[str]
    """Parts of the place, message or cure."""


MISTAKES = [
    Mistake(
        "unknown_column",
        "skus.csv",
        None,
        "error",
        "skus.unknown_column",
        ["'unit_per_pricing_unit'", "did you mean units_per_pricing_unit?"],
    ),
    Mistake(
        "unknown_column_in_capitals",
        "prices.csv",
        None,
        "error",
        "prices.unknown_column",
        ["'SKU_ID'", "did you mean sku_id?"],
    ),
    Mistake("missing_column", "prices.csv", None, "error", "prices.missing_column", ["currency is missing"]),
    Mistake("repeated_column", "taxes.csv", None, "error", "taxes.repeated_column", ["'country'", "twice"]),
    Mistake("column_without_name", "taxes.csv", None, "error", "taxes.unknown_column", ["a column has no name"]),
    Mistake(
        "attribute_name", "prices.csv", None, "error", "prices.unknown_column", ["'attr.disk type'", "attr.<name>"]
    ),
    Mistake("empty_file", "accounts.csv", None, "error", "accounts.empty", ["empty", "account_id,billing_account_id"]),
    Mistake("no_rows", "skus.csv", None, "error", "skus.no_rows", ["no rows"]),
    Mistake("ragged_row", "accounts.csv", 5, "error", "accounts.cells", ["18 cells", "has 17", "quotation marks"]),
    Mistake("quote_never_closed", "taxes.csv", 3, "error", "taxes.quotes", ["never closed", "twice"]),
    Mistake("quotes_do_not_match", "skus.csv", 2, "error", "skus.quotes", ["do not match"]),
    Mistake("not_utf8", "accounts.csv", 4, "error", "accounts.encoding", ["0xf6", "CSV UTF-8"]),
    Mistake("utf16", "accounts.csv", None, "error", "accounts.encoding", ["UTF-16", "CSV UTF-8"]),
    Mistake(
        "control_character",
        "skus.csv",
        3,
        "error",
        "skus.service.control_character",
        ["'Block\\x07Storage'", "control character"],
    ),
    Mistake("empty_cell", "prices.csv", 3, "error", "prices.sku_id.required", ["sku_id is empty"]),
    Mistake("decimal_comma", "prices.csv", 4, "error", "prices.unit_price.format", ["'0,0081'", "decimal point"]),
    Mistake(
        "thousands_separator", "prices.csv", 11, "error", "prices.up_to.format", ["'1,000'", "thousands separators"]
    ),
    Mistake("currency_sign", "prices.csv", 4, "error", "prices.unit_price.format", ["'$0.0081'", "bare number"]),
    Mistake("exponent", "prices.csv", 4, "error", "prices.unit_price.exponent", ["'8.1E-03'", "rounded digits"]),
    Mistake("too_many_decimals", "prices.csv", 4, "error", "prices.unit_price.decimals", ["13 decimals", "at most 12"]),
    Mistake("too_many_digits", "prices.csv", 4, "error", "prices.unit_price.digits", ["27 digits", "at most 26"]),
    Mistake("negative_price", "prices.csv", 4, "error", "prices.unit_price.minimum", ["'-0.0081'", "at least 0"]),
    Mistake("package_of_nothing", "prices.csv", 13, "error", "prices.package_size.above", ["'0'", "above 0"]),
    Mistake("unknown_mode", "prices.csv", 11, "error", "prices.mode.one_of", ["'graduatd'", "did you mean graduated?"]),
    Mistake(
        "unknown_category", "skus.csv", 3, "error", "skus.category.one_of", ["'Storages'", "did you mean Storage?"]
    ),
    Mistake("tax_above_100", "taxes.csv", 5, "error", "taxes.rate.maximum", ["'887.5'", "at most 100"]),
    Mistake(
        "payment_terms",
        "accounts.csv",
        4,
        "error",
        "accounts.payment_terms_days.format",
        ["'14 days'", "a whole number"],
    ),
    Mistake(
        "date_of_a_spreadsheet", "prices.csv", 3, "error", "prices.valid_from.format", ["'08/10/2026'", "2026-10-31"]
    ),
    Mistake("no_such_day", "prices.csv", 3, "error", "prices.valid_from.format", ["'2026-02-30'", "no day"]),
    Mistake("time_without_offset", "prices.csv", 3, "error", "prices.valid_from.offset", ["time zone", "add Z"]),
    Mistake("fx_day", "fx_rates.csv", 3, "error", "fx_rates.date.format", ["'2 Oct 2026'", "YYYY-MM-DD"]),
    Mistake("repeated_account", "accounts.csv", 3, "error", "accounts.key", ["'acme'", "book/accounts.csv:2"]),
    Mistake("repeated_price_tier", "prices.csv", 12, "error", "prices.key", ["'egress-eur'", "book/prices.csv:11"]),
    Mistake("repeated_fx_rate", "fx_rates.csv", 3, "error", "fx_rates.key", ["2026-10-01", "book/fx_rates.csv:2"]),
    Mistake("price_of_unknown_sku", "prices.csv", 4, "error", "prices.sku_id", ["'vm-smal'", "'vm-usd'"]),
    Mistake("price_in_unknown_currency", "prices.csv", 4, "error", "prices.currency", ["'USX'", "ISO 4217"]),
    Mistake("price_in_unknown_window", "prices.csv", 5, "error", "prices.window", ["'nigth'"]),
    Mistake("unknown_payer", "accounts.csv", 3, "error", "accounts.billing_account_id", ["'acmee'", "no account"]),
    Mistake(
        "payer_chain",
        "accounts.csv",
        4,
        "error",
        "accounts.payer_chain",
        ["'acme-lab'", "'acme'", "book/accounts.csv:3"],
    ),
    Mistake(
        "payer_in_another_currency",
        "accounts.csv",
        3,
        "warning",
        "accounts.currency_of_payer",
        ["USD", "'acme'", "EUR"],
    ),
    Mistake("account_country", "accounts.csv", 4, "error", "accounts.country", ["'Germany'", "ISO 3166"]),
    Mistake("country_code_of_daily_use", "accounts.csv", 5, "error", "accounts.country", ["'UK'", "GB"]),
    Mistake("account_currency", "accounts.csv", 4, "error", "accounts.currency", ["'Euro'", "EUR"]),
    Mistake("account_language", "accounts.csv", 4, "error", "accounts.language", ["'german'", "BCP 47"]),
    Mistake("account_time_zone", "accounts.csv", 4, "error", "accounts.time_zone", ["'Berlin'", "IANA"]),
    Mistake("account_price_list", "accounts.csv", 2, "error", "accounts.price_lists", ["'platinum'", "no prices"]),
    Mistake(
        "account_without_prices_in_its_currency",
        "accounts.csv",
        5,
        "warning",
        "accounts.prices_in_currency",
        ["CAD", "public"],
    ),
    Mistake("account_tax_code", "accounts.csv", 4, "error", "accounts.tax_code", ["'de-reverse'"]),
    Mistake(
        "account_that_nothing_taxes",
        "accounts.csv",
        5,
        "error",
        "accounts.taxable",
        ["'initrode'", "country CA", "outside_scope"],
    ),
    Mistake(
        "account_that_two_taxes_fit",
        "accounts.csv",
        2,
        "error",
        "accounts.tax_ambiguous",
        ["'fr'", "book/taxes.csv:2", "'fr-new'", "book/taxes.csv:3"],
    ),
    Mistake("project_of_unknown_account", "projects.csv", 4, "error", "projects.account_id", ["'globx'", "'site'"]),
    Mistake(
        "project_at_two_accounts",
        "projects.csv",
        3,
        "error",
        "projects.overlap",
        ["'acme-lab'", "'acme'", "book/projects.csv:2", "valid_to is exclusive"],
    ),
    Mistake("sku_unit", "skus.csv", 3, "error", "skus.units_per_pricing_unit", ["'hours_in_moon'", "hours_in_month"]),
    Mistake("sku_unit_of_zero", "skus.csv", 4, "error", "skus.units_per_pricing_unit", ["'0.000'", "above 0"]),
    Mistake("sku_tax_category", "skus.csv", 4, "error", "skus.tax_category", ["'reduced'", "'egress'"]),
    Mistake("sku_without_price", "skus.csv", 4, "warning", "skus.price", ["'backup'", "unpriced"]),
    Mistake("window_days", "windows.csv", 2, "error", "windows.days", ["'Monday'", "mon tue"]),
    Mistake("window_time", "windows.csv", 2, "error", "windows.from_time", ["'0:00'", "HH:MM"]),
    Mistake("window_past_midnight", "windows.csv", 3, "error", "windows.empty", ["06:00", "22:00", "two rows"]),
    Mistake("validity_backwards", "prices.csv", 3, "error", "prices.validity", ["not after", "2026-10-07T22:00:00Z"]),
    Mistake("tax_validity_of_nothing", "taxes.csv", 2, "error", "taxes.validity", ["never apply"]),
    Mistake(
        "price_left_empty",
        "prices.csv",
        4,
        "error",
        "prices.price_given",
        ["'vm-usd'", "neither unit_price nor flat_fee", "write 0"],
    ),
    Mistake(
        "price_overlap",
        "prices.csv",
        3,
        "error",
        "prices.overlap",
        ["'vm-eur-1'", "'vm-eur-2'", "book/prices.csv:2", "list 'public'"],
    ),
    Mistake(
        "price_overlap_of_conditions",
        "prices.csv",
        9,
        "error",
        "prices.overlap",
        ["'disk-ssd'", "book/prices.csv:8", "one more condition"],
    ),
    Mistake(
        "price_gap",
        "prices.csv",
        3,
        "warning",
        "prices.gap",
        ["2026-10-06T22:00:00Z", "2026-10-07T22:00:00Z", "book/prices.csv:2"],
    ),
    Mistake(
        "two_currencies_in_one_price",
        "prices.csv",
        12,
        "error",
        "prices.tiers_agree.currency",
        ["currency USD", "EUR at book/prices.csv:11"],
    ),
    Mistake("two_modes_in_one_price", "prices.csv", 12, "error", "prices.tiers_agree.mode", ["volume", "graduated"]),
    Mistake("no_last_tier", "prices.csv", 13, "error", "prices.tiers.open", ["no last tier"]),
    Mistake(
        "tiers_of_a_per_unit_price",
        "prices.csv",
        4,
        "error",
        "prices.tiers.per_unit",
        ["ends at 100", "graduated or volume"],
    ),
    Mistake("cap_below_minimum", "prices.csv", 4, "error", "prices.cap_below_minimum", ["cap of 5", "minimum of 7.5"]),
    Mistake("boolean", "prices.csv", 8, "error", "prices.flat_at_zero.format", ["'ssd'", "true or false"]),
    Mistake(
        "flat_at_zero_without_fee", "prices.csv", 11, "warning", "prices.flat_at_zero", ["'egress-eur'", "no flat_fee"]
    ),
    Mistake("not_a_number", "prices.csv", 4, "error", "prices.unit_price.format", ["'NaN'", "decimal number"]),
    Mistake("negative_fee", "prices.csv", 13, "error", "prices.flat_fee.minimum", ["'-2'", "at least 0"]),
    Mistake("negative_cap", "prices.csv", 4, "error", "prices.cap.minimum", ["'-5'", "at least 0"]),
    Mistake("tier_up_to_zero", "prices.csv", 11, "error", "prices.up_to.above", ["'0'", "above 0"]),
    Mistake("tier_up_to_less_than_zero", "prices.csv", 12, "error", "prices.up_to.above", ["'-10'", "above 0"]),
    Mistake("two_last_tiers", "prices.csv", 13, "error", "prices.key", ["'egress-eur'", "book/prices.csv:12"]),
    Mistake("unknown_scope", "prices.csv", 11, "error", "prices.scope.one_of", ["'accounts'", "did you mean account?"]),
    Mistake("sku_increment_of_zero", "skus.csv", 4, "error", "skus.record_increment.above", ["'0'", "above 0"]),
    Mistake(
        "unknown_aggregation", "skus.csv", 4, "error", "skus.aggregation.one_of", ["'average'", "sum, max, mean, p95"]
    ),
    Mistake("fx_rate_of_zero", "fx_rates.csv", 3, "error", "fx_rates.rate.above", ["'0.00'", "above 0"]),
    Mistake(
        "flat_fee_of_a_per_unit_price",
        "prices.csv",
        4,
        "error",
        "prices.per_unit.flat_fee",
        ["'vm-usd'", "flat_fee 2.5", "use mode graduated"],
    ),
    Mistake(
        "package_of_a_per_unit_price",
        "prices.csv",
        4,
        "error",
        "prices.per_unit.package_size",
        ["'vm-usd'", "package_size 10", "use mode graduated"],
    ),
    Mistake(
        "flat_at_zero_of_a_per_unit_price",
        "prices.csv",
        4,
        "error",
        "prices.per_unit.flat_at_zero",
        ["'vm-usd'", "flat_at_zero true", "use mode graduated"],
    ),
    Mistake("reverse_charge_with_rate", "taxes.csv", 3, "error", "taxes.rate_of_kind", ["reverse_charge", "19 %"]),
    Mistake("reverse_charge_without_note", "taxes.csv", 3, "error", "taxes.note", ["'de-rc'", "no note"]),
    Mistake("standard_tax_of_zero", "taxes.csv", 2, "warning", "taxes.standard_at_zero", ["0 %"]),
    Mistake("tax_overlap", "taxes.csv", 3, "error", "taxes.overlap", ["'fr'", "book/taxes.csv:2"]),
    Mistake("fx_rate_to_itself", "fx_rates.csv", 3, "error", "fx_rates.same_currency", ["EUR to itself"]),
    Mistake("misspelt_table", "price.csv", None, "error", "book.unknown_file", ["did you mean prices?"]),
    Mistake(
        "unsupported_table", "discounts.csv", None, "error", "book.unknown_file", ["discounts is no table of the book"]
    ),
    Mistake("spreadsheet", "prices.xlsx", None, "error", "book.format", ["prices.csv", "CSV UTF-8"]),
]


def findings_of(folder: Path) -> list[Finding]:
    book, findings = read_book(folder, time_zone="Europe/Paris")
    return findings if book is None else [*findings, *check_book(book)]


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.folder for mistake in MISTAKES])
def test_mistake_is_found_where_it_is(tmp_path: Path, mistake: Mistake) -> None:
    folder = tmp_path / "book"
    shutil.copytree(BROKEN / "_good", folder)
    shutil.copytree(BROKEN / mistake.folder, folder, dirs_exist_ok=True)
    findings = findings_of(folder)
    found = [finding for finding in findings if finding.rule == mistake.rule]
    assert found, [str(finding) for finding in findings]
    finding = found[0]
    assert (finding.file, finding.row, finding.severity) == (f"book/{mistake.file}", mistake.line, mistake.severity)
    assert finding.cure
    for word in mistake.words:
        assert word in str(finding)


def test_good_book_has_no_findings(tmp_path: Path) -> None:
    shutil.copytree(BROKEN / "_good", tmp_path / "book")
    assert findings_of(tmp_path / "book") == []


def test_each_mistake_has_a_folder_and_each_folder_a_line() -> None:
    folders = {path.name for path in BROKEN.iterdir() if path.name != "_good"}
    assert folders == {mistake.folder for mistake in MISTAKES}


def test_a_mistake_breaks_nothing_but_what_it_is_about(tmp_path: Path) -> None:
    """A wrong cell is one finding: not also an empty cell, a repeated key or a missing reference."""
    for mistake in ("decimal_comma", "no_such_day", "empty_cell", "unknown_mode", "missing_column", "not_utf8"):
        folder = tmp_path / mistake / "book"
        shutil.copytree(BROKEN / "_good", folder)
        shutil.copytree(BROKEN / mistake, folder, dirs_exist_ok=True)
        assert len(findings_of(folder)) == 1, mistake
