"""One broken file per mistake: which line is named, and which words the message must contain.

Each folder of tests/broken/book holds only the broken file; the rest comes from the good book beside it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from ratemill.book.checks import check_book
from ratemill.book.deals import DEALS
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
    Mistake(
        "discount_of_unknown_account", "discounts.csv", 2, "error", "discounts.account_id", ["'compute-10'", "'acmee'"]
    ),
    Mistake(
        "discount_of_unknown_sku", "discounts.csv", 4, "error", "discounts.sku_ids", ["'disc'", "separated by spaces"]
    ),
    Mistake("discount_of_unknown_service", "discounts.csv", 2, "error", "discounts.service", ["'compute'", "capitals"]),
    Mistake(
        "discount_of_unknown_category",
        "discounts.csv",
        2,
        "error",
        "discounts.category.one_of",
        ["'Computing'", "did you mean Compute?"],
    ),
    Mistake("discount_of_unknown_project", "discounts.csv", 2, "error", "discounts.project_id", ["'rovr'"]),
    Mistake(
        "discount_of_another_accounts_project",
        "discounts.csv",
        3,
        "warning",
        "discounts.project_of_account",
        ["'rover'", "'globex'", "never take anything off"],
    ),
    Mistake(
        "discount_without_percent_or_amount",
        "discounts.csv",
        2,
        "error",
        "discounts.percent_or_amount",
        ["neither percent nor amount"],
    ),
    Mistake(
        "discount_with_percent_and_amount",
        "discounts.csv",
        3,
        "error",
        "discounts.percent_or_amount",
        ["percent 10", "amount 25", "two discounts"],
    ),
    Mistake(
        "discount_amount_without_currency",
        "discounts.csv",
        3,
        "error",
        "discounts.currency_of_amount",
        ["amount 25", "no currency"],
    ),
    Mistake(
        "discount_percent_with_currency",
        "discounts.csv",
        2,
        "error",
        "discounts.currency_of_percent",
        ["currency EUR", "every currency"],
    ),
    Mistake("discount_in_unknown_currency", "discounts.csv", 3, "error", "discounts.currency", ["'Euro'", "ISO 4217"]),
    Mistake(
        "discount_in_another_currency",
        "discounts.csv",
        3,
        "error",
        "discounts.currency_of_payer",
        ["USD", "'globex'", "EUR", "never apply"],
    ),
    Mistake(
        "discount_in_a_currency_of_nobody",
        "discounts.csv",
        3,
        "error",
        "discounts.currency_of_payer",
        ["JPY", "no account"],
    ),
    Mistake(
        "discount_of_half_a_cent",
        "discounts.csv",
        3,
        "error",
        "discounts.amount_decimals",
        ["25.005", "EUR has 2 decimals"],
    ),
    Mistake("discount_of_nothing", "discounts.csv", 3, "error", "discounts.amount.above", ["'0'", "above 0"]),
    Mistake("discount_above_100", "discounts.csv", 2, "error", "discounts.percent.maximum", ["'110'", "at most 100"]),
    Mistake(
        "discount_of_unknown_mode",
        "discounts.csv",
        4,
        "error",
        "discounts.mode.one_of",
        ["'added'", "compound, additive"],
    ),
    Mistake(
        "discount_priority", "discounts.csv", 4, "error", "discounts.priority.format", ["'first'", "a whole number"]
    ),
    Mistake("discount_without_note", "discounts.csv", 2, "error", "discounts.note.required", ["What invoices call it"]),
    Mistake("discount_sku_twice", "discounts.csv", 4, "error", "discounts.sku_ids_twice", ["'disk'"]),
    Mistake("discount_excludes_twice", "discounts.csv", 2, "error", "discounts.excludes_twice", ["'egress'"]),
    Mistake(
        "discount_of_what_it_excludes",
        "discounts.csv",
        4,
        "error",
        "discounts.included_and_excluded",
        ["'disk'", "sku_ids"],
    ),
    Mistake(
        "discount_that_fits_nothing",
        "discounts.csv",
        4,
        "warning",
        "discounts.matches_nothing",
        ["'autumn'", "all columns"],
    ),
    Mistake("discount_validity_backwards", "discounts.csv", 3, "error", "discounts.validity", ["never apply"]),
    Mistake("commitment_of_unknown_account", "commitments.csv", 4, "error", "commitments.account_id", ["'initrod'"]),
    Mistake(
        "commitment_of_paid_account",
        "commitments.csv",
        2,
        "error",
        "commitments.account_pays",
        ["'acme-lab'", "'acme' pays for it"],
    ),
    Mistake(
        "commitment_in_another_currency",
        "commitments.csv",
        4,
        "error",
        "commitments.currency_of_payer",
        ["EUR", "'initrode'", "USD"],
    ),
    Mistake(
        "commitment_without_currency",
        "commitments.csv",
        4,
        "error",
        "commitments.currency.required",
        ["currency is empty"],
    ),
    Mistake("commitment_of_half_a_cent", "commitments.csv", 2, "error", "commitments.amount_decimals", ["1000.001"]),
    Mistake(
        "commitment_overlap",
        "commitments.csv",
        3,
        "error",
        "commitments.overlap",
        ["'acme-2026'", "'acme-2027'", "book/commitments.csv:2", "same usage"],
    ),
    Mistake("commitment_excludes_unknown_sku", "commitments.csv", 4, "error", "commitments.excludes", ["'disc'"]),
    Mistake(
        "commitment_that_nothing_counts_towards",
        "commitments.csv",
        3,
        "warning",
        "commitments.matches_nothing",
        ["'acme-2027'", "whole amount"],
    ),
    Mistake("commitment_validity_backwards", "commitments.csv", 3, "error", "commitments.validity", ["never apply"]),
    Mistake(
        "commitment_discount_above_100",
        "commitments.csv",
        2,
        "error",
        "commitments.discount_percent.maximum",
        ["'500'", "at most 100"],
    ),
    Mistake("credit_of_unknown_account", "credits.csv", 2, "error", "credits.account_id", ["'globx'"]),
    Mistake(
        "credit_of_paid_account",
        "credits.csv",
        2,
        "error",
        "credits.account_pays",
        ["'acme-lab'", "'acme' pays for it"],
    ),
    Mistake(
        "credit_in_another_currency",
        "credits.csv",
        3,
        "error",
        "credits.currency_of_payer",
        ["EUR", "USD", "never be used"],
    ),
    Mistake("credit_of_half_a_cent", "credits.csv", 2, "error", "credits.amount_decimals", ["99.999"]),
    Mistake("credit_below_zero", "credits.csv", 2, "error", "credits.amount.above", ["'-100'", "above 0"]),
    Mistake(
        "credit_of_unknown_kind",
        "credits.csv",
        2,
        "error",
        "credits.kind.one_of",
        ["'promotion'", "did you mean promotional?"],
    ),
    Mistake("credit_of_unknown_project", "credits.csv", 2, "error", "credits.project_id", ["'sitee'"]),
    Mistake(
        "credit_that_fits_nothing",
        "credits.csv",
        2,
        "warning",
        "credits.matches_nothing",
        ["'welcome'", "never be used"],
    ),
    Mistake(
        "credit_expires_before_it_is_granted",
        "credits.csv",
        2,
        "error",
        "credits.validity",
        ["2026-09-30T22:00:00Z", "never be used"],
    ),
    Mistake(
        "credit_that_sees_no_month_end",
        "credits.csv",
        2,
        "warning",
        "credits.never_at_a_month_end",
        ["2026-10-30T23:00:00Z", "Europe/Berlin", "first day of the next"],
    ),
    Mistake(
        "credit_prepaid_for_a_service",
        "credits.csv",
        3,
        "error",
        "credits.scope_of_prepaid",
        ["'prepaid-1'", "service 'Compute'", "promotional"],
    ),
    Mistake(
        "recurring_of_unknown_account",
        "recurring.csv",
        3,
        "error",
        "recurring.account_id",
        ["recurring fee 'port'", "'globx'"],
    ),
    Mistake("recurring_of_unknown_project", "recurring.csv", 3, "error", "recurring.project_id", ["'sitee'"]),
    Mistake("recurring_of_unknown_sku", "recurring.csv", 3, "error", "recurring.sku_id", ["'egres'"]),
    Mistake(
        "recurring_without_name",
        "recurring.csv",
        2,
        "error",
        "recurring.description",
        ["'support'", "neither sku_id nor description"],
    ),
    Mistake(
        "recurring_in_another_currency",
        "recurring.csv",
        2,
        "warning",
        "recurring.currency_of_payer",
        ["USD", "EUR", "invoice of its own"],
    ),
    Mistake("recurring_in_unknown_currency", "recurring.csv", 2, "error", "recurring.currency", ["'EURO'"]),
    Mistake("recurring_of_half_a_cent", "recurring.csv", 3, "error", "recurring.amount_decimals", ["10.005"]),
    Mistake("recurring_below_zero", "recurring.csv", 2, "error", "recurring.amount.minimum", ["'-99'", "at least 0"]),
    Mistake("recurring_validity_backwards", "recurring.csv", 2, "error", "recurring.validity", ["never apply"]),
    Mistake("adjustment_of_unknown_account", "adjustments.csv", 2, "error", "adjustments.account_id", ["'acme-labs'"]),
    Mistake("adjustment_of_unknown_project", "adjustments.csv", 2, "error", "adjustments.project_id", ["'rovers'"]),
    Mistake("adjustment_of_unknown_sku", "adjustments.csv", 2, "error", "adjustments.sku_id", ["'vm'"]),
    Mistake("adjustment_of_no_month", "adjustments.csv", 2, "error", "adjustments.period", ["'2026-13'", "2026-10"]),
    Mistake(
        "adjustment_of_half_a_cent",
        "adjustments.csv",
        3,
        "error",
        "adjustments.amount_decimals",
        ["150.005", "USD has 2 decimals"],
    ),
    Mistake(
        "adjustment_of_five_decimals",
        "adjustments.csv",
        2,
        "error",
        "adjustments.amount.decimals",
        ["5 decimals", "at most 4"],
    ),
    Mistake(
        "adjustment_in_another_currency",
        "adjustments.csv",
        3,
        "warning",
        "adjustments.currency_of_payer",
        ["EUR", "'initrode'"],
    ),
    Mistake(
        "adjustment_without_reason", "adjustments.csv", 2, "error", "adjustments.reason.required", ["reason is empty"]
    ),
    Mistake(
        "adjustment_without_author", "adjustments.csv", 3, "error", "adjustments.author.required", ["author is empty"]
    ),
    Mistake(
        "adjustment_sent_twice",
        "adjustments.csv",
        3,
        "error",
        "adjustments.key",
        ["'double-vm'", "book/adjustments.csv:2"],
    ),
    Mistake(
        "member_of_everything",
        "members.csv",
        2,
        "error",
        "members.scope_given",
        ["'cfo@acme.example'", "nothing is not everything"],
    ),
    Mistake(
        "member_of_unknown_organization",
        "members.csv",
        2,
        "error",
        "members.organization_id",
        ["'acmee'", "no account"],
    ),
    Mistake(
        "member_of_organization_that_pays_nothing",
        "members.csv",
        3,
        "error",
        "members.organization_pays",
        ["'acme-lab'", "'acme' pays for it", "write it in account_id"],
    ),
    Mistake("member_of_unknown_account", "members.csv", 3, "error", "members.account_id", ["'acme-labs'"]),
    Mistake(
        "member_of_another_organizations_account",
        "members.csv",
        3,
        "error",
        "members.account_of_organization",
        ["'acme-lab'", "'globex'", "'acme' pays for it", "would see nothing"],
    ),
    Mistake("member_of_unknown_project", "members.csv", 4, "error", "members.project_id", ["'rovr'"]),
    Mistake(
        "member_of_another_accounts_project",
        "members.csv",
        5,
        "warning",
        "members.project_of_account",
        ["'rover'", "never belongs to 'globex'"],
    ),
    Mistake(
        "member_of_project_of_two",
        "members.csv",
        7,
        "error",
        "members.project_of_several",
        ["'site'", "'globex' and 'initrode'", "organization_id"],
    ),
    Mistake(
        "member_of_project_in_no_list",
        "members.csv",
        4,
        "error",
        "members.project_of_several",
        ["'rover'", "lists no projects", "book/projects.csv"],
    ),
    Mistake(
        "member_of_unknown_role",
        "members.csv",
        2,
        "error",
        "members.role.one_of",
        ["'billing_admin'", "billing_reader, billing_manager"],
    ),
    Mistake(
        "member_without_principal", "members.csv", 2, "error", "members.principal.required", ["principal is empty"]
    ),
    Mistake("members_in_one_cell", "members.csv", 2, "error", "members.principal", ["one e-mail address"]),
    Mistake("members_by_pattern", "members.csv", 2, "error", "members.principal", ["'*@acme.example'", "no patterns"]),
    Mistake(
        "member_in_capitals",
        "members.csv",
        8,
        "error",
        "members.principal_in_capitals",
        ["'CFO@acme.example'", "'cfo@acme.example'", "book/members.csv:2"],
    ),
    Mistake(
        "member_with_two_roles",
        "members.csv",
        8,
        "error",
        "members.overlap",
        ["billing_reader of organization 'acme'", "billing_manager", "book/members.csv:2", "valid_to is exclusive"],
    ),
    Mistake(
        "member_sent_twice", "members.csv", 8, "error", "members.key", ["'cfo@acme.example'", "book/members.csv:2"]
    ),
    Mistake(
        "member_of_what_the_member_has",
        "members.csv",
        8,
        "warning",
        "members.adds_nothing",
        ["account 'acme-lab'", "organization 'acme'", "book/members.csv:2", "takes nothing away"],
    ),
    Mistake("member_validity_backwards", "members.csv", 5, "error", "members.validity", ["never apply"]),
    Mistake(
        "budget_of_unknown_account",
        "budgets.csv",
        3,
        "error",
        "budgets.account_id",
        ["budget 'rover-ci'", "'acmee'"],
    ),
    Mistake(
        "budget_of_unknown_service",
        "budgets.csv",
        3,
        "error",
        "budgets.service",
        ["'Computing'", "capitals"],
    ),
    Mistake(
        "budget_of_unknown_sku",
        "budgets.csv",
        3,
        "error",
        "budgets.sku_ids",
        ["'vm-smal'"],
    ),
    Mistake(
        "budget_of_unknown_project",
        "budgets.csv",
        3,
        "error",
        "budgets.project_id",
        ["'rovr'"],
    ),
    Mistake(
        "budget_that_nothing_fits",
        "budgets.csv",
        3,
        "warning",
        "budgets.matches_nothing",
        ["no SKU fits", "nothing would ever count towards it"],
    ),
    Mistake(
        "budget_in_another_currency",
        "budgets.csv",
        3,
        "warning",
        "budgets.currency_of_payer",
        ["in USD", "'acme' is invoiced in EUR", "nothing would count"],
    ),
    Mistake(
        "budget_of_half_a_cent",
        "budgets.csv",
        3,
        "error",
        "budgets.amount_decimals",
        ["250.005", "EUR has 2 decimals"],
    ),
    Mistake(
        "budget_of_unknown_currency",
        "budgets.csv",
        3,
        "error",
        "budgets.currency",
        ["'EURO'", "ISO 4217"],
    ),
    Mistake(
        "budget_of_nothing",
        "budgets.csv",
        3,
        "error",
        "budgets.amount.above",
        ["above 0"],
    ),
    Mistake(
        "budget_by_the_week",
        "budgets.csv",
        3,
        "error",
        "budgets.period.one_of",
        ["'week'", "month, quarter, year"],
    ),
    Mistake(
        "budget_threshold_in_words",
        "budgets.csv",
        3,
        "error",
        "budgets.thresholds",
        ["'half'", "50% 80% 100% 1500"],
    ),
    Mistake(
        "budget_threshold_of_zero",
        "budgets.csv",
        3,
        "error",
        "budgets.thresholds",
        ["'0%'", "above 0"],
    ),
    Mistake(
        "budget_threshold_twice",
        "budgets.csv",
        3,
        "error",
        "budgets.thresholds",
        ["'50%' twice"],
    ),
    Mistake(
        "budget_tag_without_key",
        "budgets.csv",
        3,
        "error",
        "budgets.tag_key",
        ["'ci'", "of which tag"],
    ),
    Mistake(
        "budget_of_condition_ahead",
        "budgets.csv",
        3,
        "error",
        "budgets.forecast_of_condition",
        ["basis forecast", "basis actual"],
    ),
    Mistake(
        "budget_that_never_applies",
        "budgets.csv",
        3,
        "error",
        "budgets.validity",
        ["would never apply"],
    ),
    Mistake(
        "subscription_to_unknown_event",
        "subscriptions.csv",
        3,
        "error",
        "subscriptions.events",
        ["'budgets'", "close_blocked"],
    ),
    Mistake(
        "subscription_of_unknown_account",
        "subscriptions.csv",
        3,
        "error",
        "subscriptions.account_id",
        ["'acmee'"],
    ),
    Mistake(
        "subscription_to_unknown_budget",
        "subscriptions.csv",
        3,
        "error",
        "subscriptions.budget_id",
        ["'acme-al'"],
    ),
    Mistake(
        "subscription_to_budget_without_event",
        "subscriptions.csv",
        3,
        "error",
        "subscriptions.budget_without_event",
        ["its events have no budget"],
    ),
    Mistake(
        "subscription_that_is_never_told",
        "subscriptions.csv",
        3,
        "error",
        "subscriptions.never",
        ["run_failed is about whole periods"],
    ),
    Mistake(
        "subscription_without_address",
        "subscriptions.csv",
        3,
        "error",
        "subscriptions.address",
        ["no address", "[notify]"],
    ),
    Mistake(
        "subscription_to_two_addresses",
        "subscriptions.csv",
        3,
        "error",
        "subscriptions.email",
        ["no e-mail address", "a row each"],
    ),
    Mistake(
        "subscription_of_unknown_member",
        "subscriptions.csv",
        3,
        "error",
        "subscriptions.principal",
        ["'boss@acme.example'", "members"],
    ),
    Mistake(
        "subscription_with_odd_quiet_hours",
        "subscriptions.csv",
        3,
        "error",
        "subscriptions.quiet",
        ["'22-7'", "22:00-07:00"],
    ),
    Mistake(
        "subscription_in_unknown_language",
        "subscriptions.csv",
        3,
        "error",
        "subscriptions.language",
        ["'french'", "BCP 47"],
    ),
    Mistake(
        "subscription_by_unknown_channel",
        "subscriptions.csv",
        3,
        "error",
        "subscriptions.channel.one_of",
        ["'fax'", "email, webhook, chat"],
    ),
    Mistake(
        "subscription_given_twice",
        "subscriptions.csv",
        3,
        "error",
        "subscriptions.key",
        ["'finance'", "book/subscriptions.csv:2"],
    ),
    Mistake(
        "subscription_to_unknown_threshold",
        "subscriptions.csv",
        3,
        "error",
        "subscriptions.threshold",
        ["'90%'", "budget 'acme-all' has 50% 80% 100%"],
    ),
    Mistake(
        "subscription_to_threshold_of_no_budget",
        "subscriptions.csv",
        3,
        "error",
        "subscriptions.threshold",
        ["'80%'", "no budget_id says of which budget"],
    ),
    Mistake(
        "coupon_of_account_that_is_paid_for",
        "coupons.csv",
        3,
        "error",
        "coupons.account_id",
        ["coupon 'globex-thanks'", "'acme-lab'", "gets no invoices"],
    ),
    Mistake("coupon_in_another_currency", "coupons.csv", 3, "error", "coupons.amount", ["'globex'", "USD", "EUR"]),
    Mistake("coupon_of_half_a_cent", "coupons.csv", 2, "error", "coupons.amount", ["20.005", "EUR has 2 decimals"]),
    Mistake("coupon_of_nothing", "coupons.csv", 2, "error", "coupons.amount.above", ["'0'", "above 0"]),
    Mistake(
        "coupon_with_a_short_code",
        "coupons.csv",
        2,
        "error",
        "coupons.code",
        ["coupon 'spring'", "at least 8 characters"],
    ),
    Mistake(
        "coupon_code_of_another",
        "coupons.csv",
        3,
        "error",
        "coupons.code_twice",
        ["coupon 'globex-thanks'", "coupon 'spring'", "book/coupons.csv:2"],
    ),
    Mistake(
        "coupon_that_nobody_can_redeem",
        "coupons.csv",
        2,
        "error",
        "coupons.max_redemptions.minimum",
        ["'0'", "at least 1"],
    ),
    Mistake("misspelt_table", "price.csv", None, "error", "book.unknown_file", ["did you mean prices?"]),
    Mistake(
        "unsupported_table", "vouchers.csv", None, "error", "book.unknown_file", ["vouchers is no table of the book"]
    ),
    Mistake("spreadsheet", "prices.xlsx", None, "error", "book.format", ["prices.csv", "CSV UTF-8"]),
]


def findings_of(folder: Path) -> list[Finding]:
    book, findings = read_book(folder, time_zone="Europe/Paris")
    return findings if book is None else [*findings, *check_book(book, time_zone="Europe/Paris")]


@pytest.mark.slow
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
    assert len(findings) == 1 or mistake.file.removesuffix(".csv") not in (*DEALS, "budgets", "subscriptions"), (
        "one mistake is told once"
    )
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
