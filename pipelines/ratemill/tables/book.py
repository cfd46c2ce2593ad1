"""The book: what a provider keeps in spreadsheets. One table per file ``book/<name>.csv``."""

from __future__ import annotations

from decimal import Decimal

import polars as pl

from ratemill.money import AMOUNT, PRICE, QUANTITY
from ratemill.tables.columns import INSTANT, TEXT, Column, Table

ZERO = Decimal(0)

SERVICE_CATEGORIES = (
    "AI and Machine Learning", "Analytics", "Business Applications", "Compute", "Databases", "Developer Tools",
    "Multicloud", "Identity", "Integration", "Internet of Things", "Management and Governance", "Media", "Migration",
    "Mobile", "Networking", "Security", "Storage", "Web", "Other",
)  # fmt: skip
"""FOCUS 1.4, ServiceCategory."""

VALID_FROM = Column("valid_from", INSTANT, "First instant at which the row applies (inclusive); a date is midnight in "
                    "the workspace's time zone; empty: since ever", nullable=True)  # fmt: skip
VALID_TO = Column("valid_to", INSTANT, "First instant at which the row no longer applies (exclusive); a date is "
                  "midnight in the workspace's time zone; empty: open", nullable=True)  # fmt: skip
CURRENCY = Column("currency", TEXT, "ISO 4217 code")

ACCOUNTS = Table(
    "accounts",
    "one customer account",
    (
        Column("account_id", TEXT, "The account, as usage names it"),
        Column("billing_account_id", TEXT, "The account that pays for it; empty: itself", nullable=True),
        Column("name", TEXT, "Name shown on reports"),
        Column("legal_name", TEXT, "Name on invoices; empty: the name", nullable=True),
        Column("address_line1", TEXT, "Street and number", nullable=True),
        Column("address_line2", TEXT, "Second address line", nullable=True),
        Column("postal_code", TEXT, "Postal code", nullable=True),
        Column("city", TEXT, "City", nullable=True),
        Column("state", TEXT, "State, province or region of the address; tax may depend on it", nullable=True),
        Column("country", TEXT, "ISO 3166 alpha-2 code of the country that taxes the account"),
        Column("tax_id", TEXT, "VAT or tax number", nullable=True),
        Column("tax_code", TEXT, "Row of taxes.csv to use; empty: found by country and state", nullable=True),
        CURRENCY.renamed("currency", "ISO 4217 code of its invoices"),
        Column("time_zone", TEXT, "IANA zone of its local month; empty: the workspace's", nullable=True),
        Column("language", TEXT, "Language of its documents (BCP 47); empty: en", nullable=True),
        Column("price_lists", TEXT, "Price lists to search, in order, separated by spaces; the public list comes last "
               "by itself", nullable=True),
        Column("payment_terms_days", pl.Int64, "Days from issue to due date; empty: the seller's", nullable=True,
               minimum=ZERO, maximum=Decimal(366)),
        Column("email", TEXT, "Where invoices go", nullable=True),
        Column("electronic_address", TEXT, "Where e-invoices go, as scheme:identifier of the code list EAS (0208:…, "
               "9930:…); empty: the e-mail address", nullable=True),
        Column("buyer_reference", TEXT, "What the customer wants its invoices to carry: a purchase order, a cost "
               "centre, a Leitweg-ID", nullable=True),
        VALID_FROM,
        VALID_TO,
    ),
    key=("account_id",),
)  # fmt: skip

PROJECTS = Table(
    "projects",
    "one project at one account for a time",
    (
        Column("project_id", TEXT, "The project, as usage names it"),
        Column("account_id", TEXT, "The account it belongs to"),
        Column("name", TEXT, "Name shown on invoices and reports"),
        Column("cost_center", TEXT, "The customer's cost centre", nullable=True),
        VALID_FROM,
        VALID_TO,
    ),
    key=("project_id", "valid_from"),
)

HOURS_IN_MONTH = "hours_in_month"

SKUS = Table(
    "skus",
    "one thing that is metered and sold",
    (
        Column("sku_id", TEXT, "The SKU, as usage names it"),
        Column("service", TEXT, "Service it belongs to, as customers know it"),
        Column("category", TEXT, "FOCUS service category", one_of=SERVICE_CATEGORIES),
        Column("name", TEXT, "What an invoice line calls it"),
        Column("usage_unit", TEXT, "Unit the meter counts"),
        Column("pricing_unit", TEXT, "Unit the price is for"),
        Column("units_per_pricing_unit", TEXT, "Usage units in one pricing unit: a number above 0, or hours_in_month "
               "(the real hours of the account's local month)", default="1"),
        Column("aggregation", TEXT, "How hours add up to what is priced", default="sum",
               one_of=("sum", "max", "mean", "p95")),
        Column("record_increment", QUANTITY, "Each record's quantity is rounded up to a multiple of this",
               nullable=True, above=ZERO),
        Column("tax_category", TEXT, "Category of taxes.csv; empty: standard", default="standard"),
    ),
    key=("sku_id",),
)  # fmt: skip

PUBLIC_PRICE_LIST = "public"

PRICES = Table(
    "prices",
    "one tier of one price version",
    (
        Column("price_id", TEXT, "The price version; its tiers share it"),
        Column("price_list", TEXT, "The list it is on; public is everybody's", default=PUBLIC_PRICE_LIST),
        Column("sku_id", TEXT, "The SKU it prices"),
        CURRENCY,
        VALID_FROM,
        VALID_TO,
        Column("region", TEXT, "Region it is for; empty: any", nullable=True),
        Column("window", TEXT, "Time window of windows.csv it is for; empty: any hour", nullable=True),
        Column("mode", TEXT, "How tiers work", default="per_unit", one_of=("per_unit", "graduated", "volume")),
        Column("up_to", QUANTITY, "Last quantity of the tier (inclusive); empty on the last tier", nullable=True,
               unit="pricing unit", above=ZERO),
        Column("unit_price", PRICE, "Price of one pricing unit (or package)", default="0", minimum=ZERO),
        Column("flat_fee", PRICE, "Due when the tier is entered", default="0", minimum=ZERO),
        Column("package_size", QUANTITY, "Sold in whole packages of this many pricing units", nullable=True,
               above=ZERO),
        Column("scope", TEXT, "What tiers count over, each month", default="account",
               one_of=("account", "project", "resource")),
        Column("cap", PRICE, "Never more than this per resource and month", nullable=True, minimum=ZERO),
        Column("minimum", PRICE, "Never less than this per resource and month with usage", nullable=True,
               minimum=ZERO),
        Column("flat_at_zero", pl.Boolean, "Whether the first tier's flat fee is due without usage",
               default="false"),
        Column("tier_reset", pl.Boolean, "Whether this version starts its count of tiers anew", default="false"),
    ),
    key=("price_id", "up_to"),
    open_prefix="attr.",
)  # fmt: skip

WINDOWS = Table(
    "windows",
    "one stretch of the week that belongs to a time window",
    (
        Column("window", TEXT, "Name of the window, for example peak"),
        Column("days", TEXT, "Days of the week, separated by spaces: mon tue wed thu fri sat sun"),
        Column("from_time", TEXT, "Local time it starts, HH:MM (inclusive)"),
        Column("to_time", TEXT, "Local time it ends, HH:MM (exclusive); 24:00 is midnight"),
    ),
    key=("window", "days", "from_time"),
)

TAX_KINDS = ("standard", "zero", "exempt", "reverse_charge", "outside_scope")

TAXES = Table(
    "taxes",
    "one tax rate of one code and category for a time",
    (
        Column("tax_code", TEXT, "The code; accounts may name it"),
        Column("country", TEXT, "ISO 3166 alpha-2 code of the customers it is for"),
        Column("region", TEXT, "State of the customers it is for; empty: any", nullable=True),
        Column("category", TEXT, "Tax category of the SKUs it is for", default="standard"),
        Column("rate", PRICE, "Rate in percent: 20 is 20 %", unit="%", minimum=ZERO, maximum=Decimal(100)),
        Column("kind", TEXT, "What kind of supply it is", default="standard", one_of=TAX_KINDS),
        Column("note", TEXT, "Sentence the invoice must carry", nullable=True),
        VALID_FROM,
        VALID_TO,
    ),
    key=("tax_code", "category", "region", "valid_from"),
)

FX_RATES = Table(
    "fx_rates",
    "one exchange rate of one day",
    (
        Column("date", pl.Date, "Day of the rate"),
        Column("base", TEXT, "Currency that is worth one"),
        Column("quote", TEXT, "Currency the rate is in"),
        Column("rate", PRICE, "Quote units per base unit", above=ZERO),
        Column("source", TEXT, "Who published it"),
    ),
    key=("date", "base", "quote"),
)

SCOPE = (
    Column("category", TEXT, "FOCUS service category it is for; empty: any", nullable=True, one_of=SERVICE_CATEGORIES),
    Column("service", TEXT, "Service it is for; empty: any", nullable=True),
    Column("sku_ids", TEXT, "SKUs it is for, separated by spaces; empty: any", nullable=True),
    Column("project_id", TEXT, "Project it is for; empty: any", nullable=True),
    Column("region", TEXT, "Region it is for; empty: any", nullable=True),
    Column("excludes", TEXT, "SKUs it leaves out, separated by spaces", nullable=True),
)  # fmt: skip
"""Columns that say which invoice lines a discount, commitment or credit is for; all that are given must hold."""

DISCOUNTS = Table(
    "discounts",
    "one discount for a time",
    (
        Column("discount_id", TEXT, "The discount"),
        Column("account_id", TEXT, "Account whose usage it is for, or that pays for it; empty: every account",
               nullable=True),
        Column("percent", PRICE, "Percent off; either this or an amount", nullable=True, unit="%", above=ZERO,
               maximum=Decimal(100)),
        Column("amount", AMOUNT, "Amount off each invoice of a month; either this or a percent", nullable=True,
               unit="currency", above=ZERO),
        Column("currency", TEXT, "ISO 4217 code of the amount; empty with a percent", nullable=True),
        *SCOPE,
        Column("mode", TEXT, "What a percent is of: compound: what earlier discounts left; additive: the undiscounted "
               "amount; no difference to amounts", default="compound", one_of=("compound", "additive")),
        Column("priority", pl.Int64, "Smaller numbers come first; percents always before amounts", default="100"),
        VALID_FROM,
        VALID_TO,
        Column("note", TEXT, "What invoices call it"),
    ),
    key=("discount_id",),
)  # fmt: skip

COMMITMENTS = Table(
    "commitments",
    "one promise to spend an amount each month",
    (
        Column("commitment_id", TEXT, "The commitment"),
        Column("account_id", TEXT, "Account that pays"),
        Column("amount", AMOUNT, "Amount committed to each month", unit="currency", above=ZERO),
        Column("discount_percent", PRICE, "Percent of the committed amount that is taken off", default="0", unit="%",
               minimum=ZERO, maximum=Decimal(100)),
        CURRENCY,
        *SCOPE,
        VALID_FROM,
        VALID_TO,
        Column("note", TEXT, "What invoices call it"),
    ),
    key=("commitment_id",),
)  # fmt: skip

CREDITS = Table(
    "credits",
    "one balance that invoices draw on",
    (
        Column("credit_id", TEXT, "The credit"),
        Column("account_id", TEXT, "Account that pays"),
        Column("amount", AMOUNT, "Amount granted", unit="currency", above=ZERO),
        CURRENCY,
        Column("kind", TEXT, "promotional: lowers the amount that is taxed; prepaid: pays the taxed total",
               one_of=("promotional", "prepaid")),
        *SCOPE,
        Column("granted_on", INSTANT, "First instant it can be used (inclusive); a date is midnight in the workspace's "
               "time zone"),
        Column("expires_on", INSTANT, "First instant it can no longer be used; empty: never expires", nullable=True),
        Column("note", TEXT, "What invoices call it"),
    ),
    key=("credit_id",),
)  # fmt: skip

RECURRING = Table(
    "recurring",
    "one fee that is due each month",
    (
        Column("recurring_id", TEXT, "The fee"),
        Column("account_id", TEXT, "Account it is for"),
        Column("project_id", TEXT, "Project it is for", nullable=True),
        Column("sku_id", TEXT, "SKU that gives it its name, service and tax category; empty: see description",
               nullable=True),
        Column("description", TEXT, "What invoices call it; empty: the SKU's name", nullable=True),
        Column("amount", AMOUNT, "Amount of a whole month", unit="currency", minimum=ZERO),
        Column("currency", TEXT, "ISO 4217 code; empty: the payer's", nullable=True),
        VALID_FROM,
        VALID_TO,
    ),
    key=("recurring_id",),
)  # fmt: skip

ADJUSTMENTS = Table(
    "adjustments",
    "one amount that a person adds or takes off by hand",
    (
        Column("adjustment_id", TEXT, "The adjustment"),
        Column("account_id", TEXT, "Account it is for"),
        Column("project_id", TEXT, "Project it is for", nullable=True),
        Column("sku_id", TEXT, "SKU it is for; gives the tax category", nullable=True),
        Column("period", TEXT, "Billing period, YYYY-MM"),
        Column("amount", AMOUNT, "Amount, negative to take off", unit="currency"),
        Column("currency", TEXT, "ISO 4217 code; empty: the payer's", nullable=True),
        Column("reason", TEXT, "Why; shown on the invoice"),
        Column("author", TEXT, "Who decided it"),
        Column("invoice_ref", TEXT, "Number of the invoice it is about", nullable=True),
    ),
    key=("adjustment_id",),
)  # fmt: skip

EVENT_KINDS = ("budget", "anomaly", "invoice", "run_failed", "close_blocked", "run_done")
"""What somebody can be told of; docs/alerts.md says when each happens."""

BUDGETS = Table(
    "budgets",
    "one budget for a time",
    (
        Column("budget_id", TEXT, "The budget"),
        Column("account_id", TEXT, "Account whose costs it is for, or that pays for them; empty: every account",
               nullable=True),
        *SCOPE,
        Column("tag_key", TEXT, "Tag that usage must have; empty: any", nullable=True),
        Column("tag_value", TEXT, "Value of that tag; empty: any", nullable=True),
        Column("where", TEXT, "A condition in SQL on the published charges, such as resource_id LIKE 'ci-%'; holds "
               "beside the other columns", nullable=True),
        Column("amount", AMOUNT, "What may be spent in its period", unit="currency", above=ZERO),
        CURRENCY.renamed("currency", "ISO 4217 code of the amount; costs in other currencies do not count"),
        Column("period", TEXT, "For how long the amount is meant", default="month", one_of=("month", "quarter",
               "year")),
        Column("thresholds", TEXT, "When to tell, separated by spaces: percents of the amount (80%) and amounts (500)",
               default="50% 80% 100%"),
        Column("basis", TEXT, "actual: what was spent so far; forecast: what the period is expected to end with",
               default="actual", one_of=("actual", "forecast")),
        Column("measure", TEXT, "gross: before discounts and credits; net: what is taxed; taxed: with tax",
               default="net", one_of=("gross", "net", "taxed")),
        VALID_FROM,
        VALID_TO,
        Column("note", TEXT, "What messages call it; empty: its id", nullable=True),
    ),
    key=("budget_id",),
)  # fmt: skip

SUBSCRIPTIONS = Table(
    "subscriptions",
    "who is told of what, where",
    (
        Column("subscription_id", TEXT, "The subscription"),
        Column("events", TEXT, "What to tell, separated by spaces: " + " ".join(EVENT_KINDS) + ", or all",
               default="budget anomaly invoice run_failed close_blocked"),
        Column("account_id", TEXT, "Only what is about this account, or about one that it pays for; empty: anything",
               nullable=True),
        Column("budget_id", TEXT, "Of budgets, only this one; empty: any", nullable=True),
        Column("threshold", TEXT, "Of this budget, only this threshold, as the budget has it; empty: any",
               nullable=True),
        Column("channel", TEXT, "How to tell", default="email", one_of=("email", "webhook", "chat")),
        Column("address", TEXT, "An e-mail address; or the name of a webhook or chat in [notify] of ratemill.toml; "
               "empty: the e-mail address of the principal", nullable=True),
        Column("principal", TEXT, "Member of members.csv whom it is for: only told what the member may see",
               nullable=True),
        Column("language", TEXT, "Language of e-mails (BCP 47); empty: that of [notify]", nullable=True),
        Column("quiet", TEXT, "Local hours in which nothing is sent, 22:00-07:00; off: none; empty: those of [notify]",
               nullable=True),
        Column("digest", TEXT, "daily: everything of a day in one e-mail; off: at once; empty: as [notify] says",
               nullable=True, one_of=("daily", "off")),
        VALID_FROM,
        VALID_TO,
    ),
    key=("subscription_id",),
)  # fmt: skip

COUPONS = Table(
    "coupons",
    "one coupon that customers redeem for a credit",
    (
        Column("coupon_id", TEXT, "The coupon; no secret"),
        Column("code", TEXT, "What a customer types to redeem it: the code itself, or sha256: and the SHA-256 of it in "
               "hex, so that nobody reads it here", max_length=200),
        Column("amount", AMOUNT, "What it grants", unit="currency", above=ZERO),
        CURRENCY.renamed("currency", "ISO 4217 code of the amount; only who is invoiced in it can redeem it"),
        Column("months", pl.Int64, "Months whose invoices can use it, that of the redemption included; empty: until it "
               "is used up", nullable=True, minimum=Decimal(1), maximum=Decimal(120)),
        Column("max_redemptions", pl.Int64, "How many customers can redeem it, each once", default="1",
               minimum=Decimal(1)),
        Column("account_id", TEXT, "Account that pays, and alone can redeem it; empty: any", nullable=True),
        VALID_FROM,
        VALID_TO,
        Column("note", TEXT, "What invoices call the credit"),
    ),
    key=("coupon_id",),
)  # fmt: skip

MEMBER_ROLES = ("billing_reader", "billing_manager")
"""The lower one first."""

MEMBERS = Table(
    "members",
    "one person or key that may see a part of what is billed, for a time",
    (
        Column("principal", TEXT, "Who: an e-mail address, or the name of a key", max_length=254),
        Column("role", TEXT, "billing_reader: sees what is billed; billing_manager: budgets and alerts as well",
               one_of=MEMBER_ROLES),
        Column("organization_id", TEXT, "Account that pays: all that it pays for, and its invoices", nullable=True),
        Column("account_id", TEXT, "One account: what it used, and its lines of the invoice", nullable=True),
        Column("project_id", TEXT, "One project: what it used, and its lines of the invoice; of the three, at least "
               "one is given, and all that are given must hold", nullable=True),
        VALID_FROM,
        VALID_TO,
    ),
    key=("principal", "organization_id", "account_id", "project_id", "valid_from"),
)  # fmt: skip

BOOK_TABLES: tuple[Table, ...] = (
    ACCOUNTS, PROJECTS, SKUS, PRICES, WINDOWS, DISCOUNTS, COMMITMENTS, CREDITS, RECURRING, ADJUSTMENTS, TAXES, FX_RATES,
)  # fmt: skip
"""What is billed with: their content identifies a run."""
TABLES_THAT_RATE_NOTHING: tuple[Table, ...] = (MEMBERS, BUDGETS, SUBSCRIPTIONS, COUPONS)
"""Who sees it, who is told, and what may be redeemed: read and checked with the book, and no part of what identifies a
run (a coupon that was redeemed is a credit, which is). They apply as they are now; no version of them is kept, and they
are not published."""
REQUIRED_BOOK_TABLES = ("accounts", "skus", "prices", "taxes")
"""Tables that must have a file; the others may be left out."""
EVERY_BOOK_TABLE = (*BOOK_TABLES, *TABLES_THAT_RATE_NOTHING)
"""Every table that has a file in the book."""
