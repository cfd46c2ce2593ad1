"""Every check of the book, in one list. Each takes the book and returns what is wrong with it.

The values of single cells, keys and columns are checked when the files are read, against each table's contract; here
is what only the whole book can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.book.accounts import (
    billing_accounts_exist,
    countries_are_known,
    currencies_are_known,
    electronic_addresses_are_known,
    languages_are_known,
    payers_decide,
    payers_have_prices_in_their_currency,
    payers_pay_for_themselves,
    price_lists_exist,
    project_accounts_exist,
    projects_are_at_one_account,
    time_zones_are_known,
)
from ratemill.book.budgets import (
    budget_accounts_exist,
    budget_amounts_fit_their_currency,
    budget_currencies_are_invoiced,
    budget_tags_have_a_key,
    budgets_of_conditions_are_actual,
    subscribed_budgets_exist,
    subscribed_events_are_known,
    subscribed_members_exist,
    subscribed_thresholds_exist,
    subscription_cells_can_be_read,
    subscriptions_can_happen,
    subscriptions_have_an_address,
    thresholds_can_be_read,
)
from ratemill.book.coupons import (
    coupon_accounts_pay,
    coupon_amounts_can_be_invoiced,
    coupon_codes_can_be_typed,
    coupon_codes_differ,
)
from ratemill.book.deals import (
    accounts_of_deals_exist,
    accounts_of_deals_pay,
    adjustment_periods_are_months,
    amounts_fit_their_currency,
    credits_reach_an_invoice,
    credits_run_forward,
    currencies_of_deals_are_invoiced,
    discounts_are_one_of_percent_and_amount,
    fee_skus_exist,
    prepaid_credits_have_no_scope,
    recurring_fees_have_a_name,
)
from ratemill.book.members import (
    accounts_of_members_are_of_their_organization,
    accounts_of_members_exist,
    members_are_said_once,
    members_see_something_named,
    narrower_rows_add_something,
    organizations_of_members_pay,
    principals_are_names,
    principals_are_written_alike,
    projects_of_members_are_of_one_organization,
    projects_of_members_exist,
    projects_of_members_fit,
)
from ratemill.book.prices import (
    cap_is_not_below_minimum,
    flat_at_zero_has_a_fee,
    per_unit_prices_are_plain,
    price_is_given,
    price_windows_exist,
    prices_do_not_overlap,
    prices_leave_no_hole,
    tiers_agree,
    tiers_are_whole,
)
from ratemill.book.rows import findings_for, instant
from ratemill.book.scopes import (
    commitments_do_not_overlap,
    commitments_share_no_month,
    projects_exist,
    scoped_skus_are_named_once,
    scoped_skus_exist,
    scopes_match_something,
    services_exist,
)
from ratemill.book.skus import price_skus_exist, skus_have_a_price, units_can_be_converted
from ratemill.book.taxes import (
    account_tax_codes_exist,
    payers_find_a_tax,
    payers_find_only_one_tax,
    sku_tax_categories_exist,
    tax_rates_do_not_overlap,
    tax_rates_fit_their_kind,
    untaxed_kinds_have_a_note,
)
from ratemill.book.windows import window_days_are_known, window_times_are_known
from ratemill.findings import Finding, capped
from ratemill.tables.book import EVERY_BOOK_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratemill.book.model import Book


def validities_run_forward(book: Book) -> list[Finding]:
    """A row that applies from an instant to another applies at least at the first: ``valid_from < valid_to``."""
    found: list[Finding] = []
    for table in EVERY_BOOK_TABLE:
        if book.filled([table.name]) and {"valid_from", "valid_to"} <= set(table.names):
            found += findings_for(
                book.frame(table.name).filter(pl.col("valid_from") >= pl.col("valid_to")),
                rule=f"{table.name}.validity",
                message=lambda row: (
                    f"the row would end at {instant(row['valid_to'], empty='open')}, which is not after "
                    f"its start at {instant(row['valid_from'], empty='ever')}, so it would never apply"
                ),
                cure="valid_to is the first instant or day at which the row no longer applies; empty is open",
                column="valid_to",
            )
    return found


def rates_are_between_two_currencies(book: Book) -> list[Finding]:
    """An exchange rate is between two currencies."""
    return findings_for(
        book.fx_rates.filter(pl.col("base") == pl.col("quote")),
        rule="fx_rates.same_currency",
        message=lambda row: f"the rate is from {row['base']} to itself",
        cure="mend base or quote, or remove the row",
        column="quote",
    )


CHECKS: tuple[Callable[[Book], list[Finding]], ...] = (
    # accounts and projects
    billing_accounts_exist,
    payers_pay_for_themselves,
    payers_decide,
    countries_are_known,
    currencies_are_known,
    electronic_addresses_are_known,
    languages_are_known,
    time_zones_are_known,
    price_lists_exist,
    payers_have_prices_in_their_currency,
    project_accounts_exist,
    projects_are_at_one_account,
    # SKUs and windows
    units_can_be_converted,
    skus_have_a_price,
    window_days_are_known,
    window_times_are_known,
    # prices
    price_skus_exist,
    price_windows_exist,
    price_is_given,
    tiers_agree,
    tiers_are_whole,
    per_unit_prices_are_plain,
    flat_at_zero_has_a_fee,
    cap_is_not_below_minimum,
    prices_do_not_overlap,
    prices_leave_no_hole,
    # taxes
    account_tax_codes_exist,
    sku_tax_categories_exist,
    tax_rates_fit_their_kind,
    untaxed_kinds_have_a_note,
    tax_rates_do_not_overlap,
    payers_find_a_tax,
    payers_find_only_one_tax,
    # discounts, commitments, credits, fees, adjustments
    accounts_of_deals_exist,
    accounts_of_deals_pay,
    services_exist,
    scoped_skus_exist,
    scoped_skus_are_named_once,
    projects_exist,
    scopes_match_something,
    fee_skus_exist,
    currencies_of_deals_are_invoiced,
    amounts_fit_their_currency,
    # every table
    budget_accounts_exist,
    validities_run_forward,
    rates_are_between_two_currencies,
)


CHECKS_OF: Mapping[str, tuple[Callable[[Book], list[Finding]], ...]] = {
    "discounts": (discounts_are_one_of_percent_and_amount,),
    "commitments": (commitments_do_not_overlap,),
    "credits": (credits_run_forward, prepaid_credits_have_no_scope),
    "recurring": (recurring_fees_have_a_name,),
    "adjustments": (adjustment_periods_are_months,),
    "budgets": (
        budget_currencies_are_invoiced,
        budget_amounts_fit_their_currency,
        budget_tags_have_a_key,
        budgets_of_conditions_are_actual,
        thresholds_can_be_read,
    ),
    "subscriptions": (
        subscribed_events_are_known,
        subscribed_budgets_exist,
        subscribed_thresholds_exist,
        subscribed_members_exist,
        subscriptions_can_happen,
        subscriptions_have_an_address,
        subscription_cells_can_be_read,
    ),
    "coupons": (
        coupon_accounts_pay,
        coupon_amounts_can_be_invoiced,
        coupon_codes_can_be_typed,
        coupon_codes_differ,
    ),
    "members": (
        principals_are_names,
        principals_are_written_alike,
        members_see_something_named,
        organizations_of_members_pay,
        accounts_of_members_exist,
        accounts_of_members_are_of_their_organization,
        projects_of_members_exist,
        projects_of_members_are_of_one_organization,
        projects_of_members_fit,
        members_are_said_once,
        narrower_rows_add_something,
    ),
}
"""Checks that look at the rows of one table that most books do without: nothing is asked where it has none."""


ZONED_CHECKS_OF: Mapping[str, tuple[Callable[..., list[Finding]], ...]] = {
    "commitments": (commitments_share_no_month,),
    "credits": (credits_reach_an_invoice,),
}
"""Such checks about local months: they take the workspace's ``time_zone``, for accounts that name none."""


def check_book(book: Book, *, time_zone: str = "UTC") -> list[Finding]:
    """Everything wrong with the book, at most 20 findings per rule and file (see :func:`ratemill.findings.capped`).

    ``time_zone`` is the workspace's, for accounts that name none.
    """
    found = [finding for check in CHECKS for finding in check(book)]
    for table in book.filled(CHECKS_OF):
        for check in CHECKS_OF[table]:
            found += check(book)
    for table in book.filled(ZONED_CHECKS_OF):
        for zoned in ZONED_CHECKS_OF[table]:
            found += zoned(book, time_zone=time_zone)
    return capped(found)
