# ruff: noqa: INP001 - a script beside its data, not part of the package
"""Rebuild the book of the AWS sample from its usage file.

    python data/sample/aws/derive.py [FOLDER]

writes accounts.csv, skus.csv, prices.csv and taxes.csv into FOLDER (default: book/ beside this script). README.md
says what is taken from the file and what is invented.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

HERE = Path(__file__).resolve().parent
USAGE_FILE = HERE / "usage" / "focus_1_0_aws_2024_09.parquet"

PRICE_BEFORE_NAME = r"^(?:USD ?\$?|\$)?[0-9]+(?:\.[0-9]+)? (?:per|for) (?:GB - )?"
"""``$0.085 per``: descriptions open with the price, which is no part of a name."""
BLOCK_BEFORE_NAME = r"^(?:1 )?(?:1,000|10,000|1,000,000|million) "
"""``1,000 PUT requests``: the block a price is quoted for; the file's quantities and prices are of one request."""


def main(folder: Path) -> None:
    """Write the book's tables into ``folder``."""
    records = pl.read_parquet(USAGE_FILE)
    usage = records.filter(pl.col("ChargeCategory") == "Usage")
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in {
        "accounts": accounts(records),
        "skus": skus(usage),
        "prices": prices(usage),
        "taxes": taxes(),
    }.items():
        table.write_csv(folder / f"{name}.csv")


def accounts(records: pl.DataFrame) -> pl.DataFrame:
    """The account that pays, and the accounts it pays for."""
    payer = records.select(account_id="BillingAccountId", name="BillingAccountName").unique()
    payer_id = payer["account_id"].item()
    used = records.select(account_id="SubAccountId", name="SubAccountName").unique().sort("account_id")
    return pl.concat([payer, used]).select(
        "account_id",
        pl.when(pl.col("account_id") != payer_id).then(pl.lit(payer_id)).alias("billing_account_id"),
        "name",
        country=pl.lit("US"),
        currency=pl.lit("USD"),
        time_zone=pl.lit("UTC"),
        language=pl.lit("en"),
    )


def skus(usage: pl.DataFrame) -> pl.DataFrame:
    """One SKU per SkuPriceId, filed under the service most of its records name (a tie: the first by alphabet)."""
    services = (
        usage.group_by("SkuPriceId", "ServiceName", "ServiceCategory")
        .len()
        .sort("SkuPriceId", "len", "ServiceName", descending=[False, True, False])
        .unique("SkuPriceId", keep="first", maintain_order=True)
    )
    facts = usage.group_by("SkuPriceId").agg(only("ChargeDescription"), only("PricingUnit"))
    return (
        services.join(facts, on="SkuPriceId", validate="1:1")
        .sort("SkuPriceId")
        .select(
            sku_id="SkuPriceId",
            service="ServiceName",
            category="ServiceCategory",
            name=name_of(pl.col("ChargeDescription")),
            usage_unit="PricingUnit",
            pricing_unit="PricingUnit",
            units_per_pricing_unit=pl.lit(1),
        )
    )


def prices(usage: pl.DataFrame) -> pl.DataFrame:
    """The public price of each SKU, from the month the file is of."""
    start = usage["BillingPeriodStart"].unique().item().date()
    return (
        usage.group_by("SkuPriceId")
        .agg(only("ListUnitPrice"))
        .sort("SkuPriceId")
        .select(
            price_id=pl.format("{}-{}", "SkuPriceId", pl.lit(f"{start:%Y-%m}")),
            price_list=pl.lit("public"),
            sku_id="SkuPriceId",
            currency=pl.lit("USD"),
            valid_from=pl.lit(start),
            unit_price=pl.col("ListUnitPrice").cast(pl.String).str.strip_chars_end("0").str.strip_chars_end("."),
        )
    )


def taxes() -> pl.DataFrame:
    """Invented: no tax."""
    return pl.DataFrame(
        {
            "tax_code": ["US-OUT"],
            "country": ["US"],
            "category": ["standard"],
            "rate": [0],
            "kind": ["outside_scope"],
            "note": ["Sample data: no tax is computed"],
        }
    )


def only(column: str) -> pl.Expr:
    """The one value of ``column`` in a group; more than one is an error, since none of them could be chosen."""
    return pl.col(column).unique().item().alias(column)


def name_of(description: pl.Expr) -> pl.Expr:
    """A description as the name of a thing: no price, no block size, single blanks, a capital first."""
    name = (
        description.str.replace_all("|", ", ", literal=True)
        .str.replace(PRICE_BEFORE_NAME, "")
        .str.replace(BLOCK_BEFORE_NAME, "")
        .str.replace_all(r"\s+", " ")
    )
    return name.str.head(1).str.to_uppercase() + name.str.tail(-1)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "book")
