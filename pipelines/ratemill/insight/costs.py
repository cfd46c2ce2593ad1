"""Where the money went: charges of a month beside those of the month before, added up by anything.

Pure: frames in, small frames out, exact decimals. The order of work:

1. :func:`monthly_costs`, :func:`daily_costs` and :func:`tag_costs` each pass over the charges once, for all accounts
   together, and return a frame that is small enough to look at from every side.
2. :func:`cost_by`, :func:`totals` and :func:`movers` look at it: per billing account and currency, or (``within``) per
   currency for the whole provider. Currencies are never added up.
3. :func:`check_adds_up` proves that the numbers are those of the invoices.

Every charge counts, rounding too, so every breakdown adds up to the untaxed total to the last digit. What discounts,
discounts of commitments and promotional credits take off a service is netted inside it, with the cost before them
beside it; what is no use of this month (fees without a SKU, adjustments, shortfalls, corrections of earlier months) is
named for itself and distorts no service.
"""

from __future__ import annotations

import json
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import TYPE_CHECKING

import polars as pl

from ratemill.errors import InvariantError
from ratemill.frames import collect
from ratemill.money import COST, COST_DECIMALS, QUANTITY, ZERO
from ratemill.tables.columns import TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

BILL = ("billing_account_id", "currency")
"""One invoice and one account report."""
PROVIDER = ("currency",)
"""The seller's revenue."""

OTHER = "Other"
"""Service and category of a charge whose SKU is not in the book."""
FEES = "Recurring fees"
ADJUSTMENTS = "Adjustments"
SHORTFALLS = "Commitment shortfalls"
CORRECTIONS = "Corrections of earlier months"
CREDITS = "Credits on fees and adjustments"
"""Service, category and SKU name of what is for no SKU, or no use of this month."""

COMMITMENT_DISCOUNT = "commitment_discount"
"""Kind of the discounts of commitments, which charges call ``commitment``, like the shortfalls."""

_MONTHLY_KEY = (*BILL, "account_id", "project_id", "sku_id", "region", "pricing_unit")
_MEASURES = {
    "quantity": QUANTITY,
    "previous_quantity": QUANTITY,
    "cost": COST,
    "gross_cost": COST,
    "deductions": COST,
    "previous_cost": COST,
    "list_cost": COST,
    "listed_cost": COST,
    "unlisted_cost": COST,
    "charges": pl.Int64,
    "previous_charges": pl.Int64,
}
"""What :func:`monthly_costs` adds up.

- ``quantity``, ``previous_quantity``: in the pricing unit.
- ``cost``, ``previous_cost``: what was billed before tax, this month and last month.
- ``gross_cost``: this month before discounts and credits; ``deductions``: what they take off, negative. Their sum is
  ``cost``.
- ``list_cost``: cost at public prices of this month's usage that has one; ``listed_cost``: cost of the same usage at
  the prices that applied, before discounts. The difference is what the customer's prices save. ``unlisted_cost``: cost
  of this month's usage without a public price.
- ``charges``, ``previous_charges``: number of charges, rounding left out.
"""

NEW = "new"
GONE = "gone"
QUANTITY_CHANGED = "quantity"
PRICE_CHANGED = "price"
BOTH_CHANGED = "quantity and price"
UNCHANGED = "unchanged"
REASONS = (NEW, GONE, QUANTITY_CHANGED, PRICE_CHANGED, BOTH_CHANGED, UNCHANGED)

USED = "usage"
BESIDES = "other"
ROUNDED = "rounding"
"""Parts of a bill by tag."""

_MINOR_EFFECT = 20
"""An effect of less than one in this many parts of the other is not named as a reason."""


def monthly_costs(
    charges: pl.DataFrame | pl.LazyFrame,
    previous_charges: pl.DataFrame | pl.LazyFrame,
    *,
    skus: pl.DataFrame,
) -> pl.DataFrame:
    """Both months' charges added up by account, project, SKU and region.

    Columns: the keys ``billing_account_id, currency, account_id, project_id, sku_id, region, pricing_unit``, the SKU's
    ``service, category, sku_name``, and the measures described at ``_MEASURES``. Sorted by key and SKU name. What is no
    use of this month has no SKU, and its name in all three.
    """
    now = pl.col("is_current")
    counted = pl.col("charge_kind") != "rounding"
    both = pl.concat(
        [
            charges.lazy().select(*_CHARGE_COLUMNS, is_current=pl.lit(True)),
            previous_charges.lazy().select(*_CHARGE_COLUMNS, is_current=pl.lit(False)),
        ]
    ).pipe(_by_item)
    deducted = pl.col("charge_kind").is_in(_DEDUCTIONS)
    used = now & pl.col("charge_kind").is_in(_USE)
    listed = used & pl.col("list_cost").is_not_null()
    summed = both.group_by(*_MONTHLY_KEY, "item").agg(
        _sum("pricing_quantity", now, QUANTITY).alias("quantity"),
        _sum("pricing_quantity", ~now, QUANTITY).alias("previous_quantity"),
        _sum("cost", now, COST).alias("cost"),
        _sum("cost", now & ~deducted, COST).alias("gross_cost"),
        _sum("cost", now & deducted, COST).alias("deductions"),
        _sum("cost", ~now, COST).alias("previous_cost"),
        _sum("list_cost", listed, COST).alias("list_cost"),
        _sum("contracted_cost", listed, COST).alias("listed_cost"),
        _sum("cost", used & pl.col("list_cost").is_null(), COST).alias("unlisted_cost"),
        (now & counted).sum().cast(pl.Int64).alias("charges"),
        (~now & counted).sum().cast(pl.Int64).alias("previous_charges"),
    )
    named = summed.join(_sku_names(skus), on="sku_id", how="left", validate="m:1").with_columns(
        pl.coalesce("item", "service", pl.lit(OTHER)).alias("service"),
        pl.coalesce("item", "category", pl.lit(OTHER)).alias("category"),
        pl.coalesce("item", "sku_name", "sku_id").alias("sku_name"),
    )
    keys = [*_MONTHLY_KEY, "service", "category", "sku_name"]
    return collect(named.select(*keys, *_MEASURES).sort(*_MONTHLY_KEY, "sku_name"))


def cost_by(monthly: pl.DataFrame, *dimensions: str, within: Sequence[str] = BILL) -> pl.DataFrame:
    """Measures of :func:`monthly_costs` by ``dimensions`` inside each ``within``, and ``change`` (cost minus previous).

    Sorted by ``within``, then the most expensive first, then by dimension. A null dimension (no project, no region)
    is a row like any other. Rows that only the month before has are kept with cost 0.
    """
    keys = [*within, *dimensions]
    summed = monthly.lazy().group_by(keys).agg(pl.col(name).sum() for name in _MEASURES)
    return collect(
        summed.with_columns(change=pl.col("cost") - pl.col("previous_cost")).sort(
            [*within, "cost", "previous_cost", *dimensions],
            descending=[*(False for _ in within), True, True, *(False for _ in dimensions)],
        )
    )


def totals(monthly: pl.DataFrame, *, within: Sequence[str] = BILL) -> pl.DataFrame:
    """One row per ``within``: the measures, ``change``, and ``saving`` (public prices minus prices that applied)."""
    return cost_by(monthly, within=within).with_columns(saving=pl.col("list_cost") - pl.col("listed_cost"))


def daily_costs(
    charges: pl.DataFrame | pl.LazyFrame, *, accounts: pl.DataFrame, skus: pl.DataFrame, default_zone: str
) -> pl.DataFrame:
    """Cost by local day and service, per billing account and currency.

    A usage charge's day is the one that it starts on in the billing account's time zone. Other charges belong to no
    day: ``day`` is null and ``charge_kind`` says what they are (it is ``usage`` for every row with a day; discounts of
    commitments are ``COMMITMENT_DISCOUNT``).
    Columns: ``billing_account_id, currency, day, charge_kind, service, cost``; sorted by these, cost left out.
    """
    usage = pl.col("charge_kind") == "usage"
    hours = (
        charges.lazy()
        .with_columns(charge_start=pl.when(usage).then("charge_start"))
        .pipe(_by_item)
        .group_by(*BILL, "charge_start", "charge_kind", "sku_id", "item")
        .agg(pl.col("cost").sum())
        .join(_time_zones(accounts, default_zone), on="billing_account_id", how="left", validate="m:1")
        .with_columns(pl.col("time_zone").fill_null(default_zone))
        .join(_sku_names(skus).select("sku_id", "service"), on="sku_id", how="left", validate="m:1")
        .with_columns(pl.coalesce("item", "service", pl.lit(OTHER)).alias("service"))
    )
    # Polars converts a column to one zone at a time.
    per_zone = [
        rows.with_columns(day=pl.col("charge_start").dt.convert_time_zone(str(zone)).dt.date())
        for (zone,), rows in collect(hours).partition_by("time_zone", as_dict=True).items()
    ]
    key = [*BILL, "day", "charge_kind", "service"]
    if not per_zone:
        schema = {name: pl.Date if name == "day" else TEXT for name in key}
        return pl.DataFrame(schema={**schema, "cost": COST})
    return collect(pl.concat(per_zone).lazy().group_by(key).agg(pl.col("cost").sum()).sort(key, nulls_last=True))


def tag_costs(charges: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """Cost by tag key and value, per billing account and currency.

    For each key that occurs in a bill, the rows add up to the whole bill: ``value`` is null where a charge lacks the
    key, and ``part`` tells usage from what has no tags: the rounding of invoice lines (``rounding``), and fees,
    discounts and other amounts (``other``).
    Columns: ``billing_account_id, currency, key, value, part, cost``; sorted by bill, key, the most expensive value
    first; rows without a value come last: usage, other, rounding.
    """
    kind = pl.col("charge_kind")
    part = pl.when(kind.is_in(_USE)).then(pl.lit(USED)).when(kind == ROUNDED).then(pl.lit(ROUNDED))
    by_set = collect(
        charges.lazy().group_by(*BILL, "tags", part=part.otherwise(pl.lit(BESIDES))).agg(pl.col("cost").sum())
    )
    tagged = by_set.lazy().join(_parse_tags(by_set["tags"]).lazy(), on="tags", how="inner", validate="m:m")
    key = [*BILL, "key", "part"]
    with_value = tagged.group_by(*key, "value").agg(pl.col("cost").sum())
    keys = tagged.select(*BILL, "key").unique()
    bills = by_set.lazy().group_by(*BILL, "part").agg(pl.col("cost").sum().alias("whole"))
    rest = (
        keys.join(bills, on=BILL, how="inner", validate="m:m")
        .join(with_value.group_by(key).agg(pl.col("cost").sum()), on=key, how="left", validate="1:1")
        .select(
            *key,
            pl.lit(None, dtype=TEXT).alias("value"),
            (pl.col("whole") - pl.col("cost").fill_null(ZERO)).alias("cost"),
        )
        .filter(pl.col("cost") != ZERO)
    )
    columns = [*BILL, "key", "value", "part", "cost"]
    return collect(
        pl.concat([with_value.select(columns), rest.select(columns)])
        .with_columns(
            is_rest=pl.col("value").is_null(),
            place=pl.col("part").replace_strict({USED: 0, BESIDES: 1, ROUNDED: 2}, return_dtype=pl.Int8),
        )
        .sort(
            [*BILL, "key", "is_rest", "place", "cost", "value"],
            descending=[False, False, False, False, False, True, False],
        )
        .select(columns)
    )


def movers(monthly: pl.DataFrame, *by: str, within: Sequence[str] = BILL) -> pl.DataFrame:
    """What changed most against the month before, and why.

    The change of every (account, SKU, region) is split with last month's average price p and quantity q, this
    month's q': the quantity effect is (q' - q) times p, rounded half-even at 18 places; the price effect is the rest,
    so the two add up to the change exactly. What was not there in one of the months is all quantity; a charge without a
    quantity (a fee, the rounding of lines) is all price. The effects are then added up by ``by``.

    Columns: ``within``, ``by``, the measures, ``change, quantity_effect, price_effect`` and ``reason`` (one of
    ``REASONS``). The largest change comes first.
    """
    grain = list(dict.fromkeys([*within, *by, *BILL, "account_id", "sku_id", "region", "pricing_unit"]))
    parts = collect(monthly.lazy().group_by(grain).agg(pl.col(name).sum() for name in _MEASURES))
    effects = [
        quantity_effect(quantity, previous_quantity, cost, previous_cost)
        for quantity, previous_quantity, cost, previous_cost in parts.select(
            "quantity", "previous_quantity", "cost", "previous_cost"
        ).iter_rows()
    ]
    quantity, price = pl.col("quantity_effect"), pl.col("price_effect")
    summed = (
        parts.with_columns(pl.Series("quantity_effect", effects, dtype=COST))
        .lazy()
        .group_by([*within, *by])
        .agg(pl.col(name).sum() for name in [*_MEASURES, "quantity_effect"])
        .with_columns(change=pl.col("cost") - pl.col("previous_cost"))
        .with_columns(price_effect=pl.col("change") - quantity)
        .with_columns(
            reason=pl.when(pl.col("change") == ZERO)
            .then(pl.lit(UNCHANGED))
            .when(pl.col("previous_charges") == 0)
            .then(pl.lit(NEW))
            .when(pl.col("charges") == 0)
            .then(pl.lit(GONE))
            .when(price.abs() * _MINOR_EFFECT <= quantity.abs())
            .then(pl.lit(QUANTITY_CHANGED))
            .when(quantity.abs() * _MINOR_EFFECT <= price.abs())
            .then(pl.lit(PRICE_CHANGED))
            .otherwise(pl.lit(BOTH_CHANGED))
        )
    )
    columns = [*within, *by, *_MEASURES, "change", "quantity_effect", "price_effect", "reason"]
    order = [*(pl.col(name) for name in within), pl.col("change").abs(), *(pl.col(name) for name in by)]
    descending = [*(False for _ in within), True, *(False for _ in by)]
    return collect(summed.select(columns).sort(order, descending=descending))


def quantity_effect(quantity: Decimal, previous_quantity: Decimal, cost: Decimal, previous_cost: Decimal) -> Decimal:
    """The part of a change of cost that the change of quantity explains, at 18 places; see :func:`movers`."""
    if quantity == 0 and previous_quantity == 0:
        return ZERO
    with localcontext(prec=90):  # the usual 28 digits are fewer than an exact cost can have
        change = cost - previous_cost
        if quantity == 0 or previous_quantity == 0:
            return change
        effect = (quantity - previous_quantity) * previous_cost / previous_quantity
        if abs(effect) >= _LARGEST_COST:
            return change  # the average price of a vanishing quantity explains nothing
        return effect.quantize(Decimal(1).scaleb(-COST_DECIMALS), rounding=ROUND_HALF_EVEN)


_LARGEST_COST = Decimal(10) ** (38 - COST_DECIMALS - 1)


def check_adds_up(bill_totals: pl.DataFrame, invoices: pl.DataFrame, invoice_lines: pl.DataFrame) -> None:
    """Prove that charges, invoice lines and untaxed totals say the same for every bill, all its documents together.

    Args:
        bill_totals: :func:`totals` within ``BILL``.
        invoices: every invoice and credit note of the period.
        invoice_lines: their lines.

    Raises:
        InvariantError: naming the first bill that differs, and all three sums.
    """
    lines = (
        invoice_lines.lazy()
        .join(invoices.lazy().select("invoice_id", *BILL), on="invoice_id", how="inner", validate="m:1")
        .group_by(BILL)
        .agg(pl.col("net_amount").sum().cast(COST).alias("lines_cost"))
    )
    compared = collect(
        invoices.lazy()
        .group_by(BILL)
        .agg(pl.col("untaxed_amount").cast(COST).sum())
        .join(lines, on=BILL, how="left", validate="1:1")
        .join(
            bill_totals.lazy().filter((pl.col("charges") > 0) | (pl.col("cost") != ZERO)).select(*BILL, "cost"),
            on=BILL,
            how="full",
            coalesce=True,
            validate="1:1",
        )
        .filter(
            pl.col("cost").ne_missing(pl.col("untaxed_amount"))
            | pl.col("lines_cost").fill_null(ZERO).ne_missing(pl.col("untaxed_amount"))
        )
        .sort(BILL)
    )
    if compared.height:
        row = compared.row(0, named=True)
        raise InvariantError(
            f"the reports of {row['billing_account_id']} in {row['currency']} do not add up: charges {row['cost']}, "
            f"invoice lines {row['lines_cost']}, untaxed total {row['untaxed_amount']} "
            f"({compared.height} bills differ in all)"
        )


def outstanding_credits(
    granted: pl.DataFrame, drawn: pl.DataFrame, ledger: pl.DataFrame, *, at: datetime
) -> pl.DataFrame:
    """What is left of each credit, and what the month's invoices use of it.

    Args:
        granted: the book's CREDITS.
        drawn: credit_id, amount: what invoices use of each until the end of the month, the month's included.
        ledger: the month's rows of CREDIT_LEDGER.
        at: end of the month; a credit granted later is left out, one that has expired has nothing left.

    Returns:
        Columns ``currency, account_id, credit_id, kind, note, expires_on, amount, used, left``, of credits with
        anything used or left; sorted by currency, then the largest rest first.
    """
    used = ledger.lazy().group_by("credit_id").agg(pl.col("amount").sum().alias("used"))
    alive = pl.col("expires_on").is_null() | (pl.col("expires_on") > at)
    columns = ["currency", "account_id", "credit_id", "kind", "note", "expires_on", "amount", "used", "left"]
    return collect(
        granted.lazy()
        .filter(pl.col("granted_on") < at)
        .join(drawn.lazy().rename({"amount": "drawn"}), on="credit_id", how="left", validate="1:1")
        .join(used, on="credit_id", how="left", validate="1:1")
        .with_columns(pl.col("drawn", "used").fill_null(ZERO))
        .with_columns(left=pl.when(alive).then(pl.col("amount") - pl.col("drawn")).otherwise(ZERO))
        .filter((pl.col("used") != ZERO) | (pl.col("left") != ZERO))
        .select(columns)
        .sort("currency", "left", "account_id", "credit_id", descending=[False, True, False, False])
    )


_CHARGE_COLUMNS = (
    *_MONTHLY_KEY, "charge_kind", "corrects_period", "pricing_quantity", "list_cost", "contracted_cost", "cost",
)  # fmt: skip
_USE = ("usage", "cap", "minimum")
_DEDUCTIONS = ("discount", COMMITMENT_DISCOUNT, "credit")


def _by_item(charges: pl.LazyFrame) -> pl.LazyFrame:
    """Charges with ``item``: the name of what is no use of a SKU this month, which then has no SKU and no quantity."""
    kind = pl.col("charge_kind")
    item = (
        pl.when((kind == "correction") | pl.col("corrects_period").is_not_null())
        .then(pl.lit(CORRECTIONS))
        .when(kind == "adjustment")
        .then(pl.lit(ADJUSTMENTS))
        .when(pl.col("sku_id").is_not_null())
        .then(pl.lit(None, dtype=TEXT))
        .when(kind.is_in(("recurring", "discount")))  # of lines without a SKU, only fees are discounted
        .then(pl.lit(FEES))
        .when(kind == "commitment")
        .then(pl.lit(SHORTFALLS))
        .when(kind == "credit")
        .then(pl.lit(CREDITS))
        .otherwise(pl.lit(OTHER))
    )
    measured = {"sku_id", "pricing_unit", "pricing_quantity"} & set(charges.collect_schema().names())
    discount = (kind == "commitment") & (pl.col("cost") < ZERO)
    return charges.with_columns(
        item.alias("item"),
        pl.when(discount).then(pl.lit(COMMITMENT_DISCOUNT)).otherwise(kind).alias("charge_kind"),
    ).with_columns(pl.when(pl.col("item").is_null()).then(pl.col(name)).alias(name) for name in sorted(measured))


def _sum(column: str, condition: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Sum of ``column`` over the rows of ``condition``; nulls count as nothing."""
    return pl.when(condition).then(column).otherwise(pl.lit(None, dtype=dtype)).sum()


def _sku_names(skus: pl.DataFrame) -> pl.LazyFrame:
    return skus.lazy().select("sku_id", "service", "category", sku_name="name")


def _time_zones(accounts: pl.DataFrame, default_zone: str) -> pl.LazyFrame:
    zone = pl.col("time_zone").replace("", None).fill_null(default_zone)
    return accounts.lazy().select(billing_account_id="account_id", time_zone=zone)


def _parse_tags(tags: pl.Series) -> pl.DataFrame:
    """``tags, key, value``: one row per tag of each distinct tag set."""
    rows = [
        (text, str(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for text in tags.drop_nulls().unique().to_list()
        for key, value in json.loads(text).items()
    ]
    return pl.DataFrame(rows, schema={"tags": TEXT, "key": TEXT, "value": TEXT}, orient="row")
