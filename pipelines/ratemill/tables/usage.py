"""Usage: one resource's metered quantity of one SKU in one hour."""

from __future__ import annotations

from decimal import Decimal

import polars as pl

from ratemill.money import QUANTITY
from ratemill.tables.columns import INSTANT, TEXT, Column, Table

ID_LENGTH = 512

SERIES_COLUMNS = (
    Column("account_id", TEXT, "Account that used the resource", max_length=ID_LENGTH),
    Column("project_id", TEXT, "Project the resource belongs to", nullable=True, max_length=ID_LENGTH),
    Column("resource_id", TEXT, "Metered resource", nullable=True, max_length=ID_LENGTH),
    Column("resource_name", TEXT, "Name the customer gave the resource", nullable=True, max_length=ID_LENGTH),
    Column("sku_id", TEXT, "What was metered", max_length=ID_LENGTH),
    Column("region", TEXT, "Region the resource runs in", nullable=True, max_length=ID_LENGTH),
    Column("unit", TEXT, "Unit of the quantity; must be the SKU's usage unit", nullable=True, max_length=64),
    Column("tags", TEXT, "Tags as a JSON object of strings, keys sorted", nullable=True, max_length=16384),
    Column("attributes", TEXT, "What the meter's attr.* columns say, as a JSON object of strings, keys sorted; prices "
           "may ask for them", nullable=True, max_length=16384),
)  # fmt: skip
"""What repeats hour after hour: stored once per combination, so that a row of usage is a few bytes."""

IDENTITY_COLUMNS = tuple(
    column.name for column in SERIES_COLUMNS if column.name not in ("resource_name", "unit", "attributes")
)
"""What says, with usage_start, whether two records without ids of their own are the same."""

ROW_COLUMNS = (
    Column("usage_start", INSTANT, "First instant of the metered hour, UTC"),
    Column("usage_end", INSTANT, "First instant after the metered hour, UTC"),
    # A month of such records adds up within DECIMAL(38,12), whatever their number.
    Column("quantity", QUANTITY, "Metered quantity", unit="unit", minimum=Decimal(0), maximum=Decimal(10**18)),
    Column("record_id", TEXT, "The meter's own id of the record; its identity when given", nullable=True,
           max_length=ID_LENGTH),
)  # fmt: skip

USAGE = Table(
    "usage",
    "one resource's metered quantity of one SKU in one hour",
    (*SERIES_COLUMNS, *ROW_COLUMNS),
)

ATTRIBUTE_PREFIX = "attr."
"""Columns of a usage file whose name starts with this are attributes: facts of the provider that decide a price."""

INPUT_COLUMNS = tuple(name for name in USAGE.names if name != "attributes")
"""Columns a usage file may have, besides attributes."""

REQUIRED_INPUT_COLUMNS = ("account_id", "sku_id", "usage_start", "quantity")
"""Columns every usage file must have; the others default to null (usage_end: one hour after the start)."""

USAGE_FILES = Table(
    "usage_files",
    "one usage file as it was last loaded",
    (
        Column("file_id", pl.Int32, "Number of the file within the warehouse"),
        Column("file", TEXT, "Path of the file, relative to the workspace"),
        Column("sha256", TEXT, "SHA-256 of its bytes"),
        Column("settings_sha256", TEXT, "SHA-256 of the settings it was read with: columns, filter, limits"),
        Column("status", TEXT, "What became of its last delivery", one_of=("loaded", "refused")),
        Column("reason", TEXT, "Why it was refused", nullable=True),
        Column("rows_in", pl.Int64, "Rows in the file"),
        Column("rows_filtered", pl.Int64, "Rows left out by the configured row filter"),
        Column("rows_accepted", pl.Int64, "Rows that keep every rule"),
        Column("rows_rejected", pl.Int64, "Rows that break a rule"),
        Column("first_usage_start", INSTANT, "Earliest usage in it", nullable=True),
        Column("last_usage_start", INSTANT, "Latest usage in it", nullable=True),
    ),
    key=("file_id",),
)

USAGE_REJECTS = Table(
    "usage_rejects",
    "one broken rule of one row of a usage file",
    (
        Column("file_id", pl.Int32, "File the row came from"),
        Column("row_number", pl.Int64, "Row of the file, from 1"),
        Column("column", TEXT, "Column that breaks the rule"),
        Column("value", TEXT, "The value seen", nullable=True),
        Column("rule", TEXT, "Stable name of the rule"),
        Column("message", TEXT, "What was expected, in words"),
    ),
)

REJECTED_ROWS = Table(
    "usage_rejects",
    "one broken rule of one row of a usage file",
    (
        Column("period", TEXT, "Period it was judged in, where the rule depends on the book; empty: any period",
               nullable=True),
        *USAGE_REJECTS.columns,
    ),
)  # fmt: skip
"""As analysts see them: rows refused at loading, rows the book does not know, records that contradict each other."""

BOOK_REJECTS = Table(
    "book_rejects",
    "one accepted row of a period that names something the book does not know",
    (Column("period", TEXT, "Billing period, YYYY-MM"), *USAGE_REJECTS.columns),
)
"""Judged anew at each rating, because the book may have changed."""

USAGE_DUPLICATES = Table(
    "usage_duplicates",
    "one accepted row that is not billed because another row is the same record",
    (
        Column("file_id", pl.Int32, "File the row came from"),
        Column("row_number", pl.Int64, "Row of the file, from 1"),
        Column("kind", TEXT, "copy: same values, another row is billed; conflict: values differ, no row is billed",
               one_of=("copy", "conflict")),
        Column("usage_start", INSTANT, "First instant of the record"),
        Column("has_record_id", pl.Boolean, "Whether the identity is the meter's record_id"),
        Column("kept_file_id", pl.Int32, "File of the row that is billed instead", nullable=True),
        Column("kept_row_number", pl.Int64, "Row that is billed instead", nullable=True),
    ),
    key=("file_id", "row_number"),
)  # fmt: skip
