"""Which of the records that share an identity is billed."""

from __future__ import annotations

import polars as pl

from ratemill.tables.usage import USAGE_DUPLICATES

VALUES = ["usage_end", "quantity", "unit", "attributes", "compared_identity", "compared_start"]
"""What must be equal for two records of one identity to be copies. (For records without a record_id, the last two are
part of the identity and null here.) The resource's name is a label and decides nothing."""


def settle_duplicates(records: pl.DataFrame) -> pl.DataFrame:
    """Rows of USAGE_DUPLICATES for ``records``, all of which share an ``identity`` with another.

    Equal values: one record is billed, the others are copies. Different values: none is billed, all are conflicts.
    Which copy stays depends only on contents (resource_name, file hash, row), so the order of files changes nothing.
    """
    ordered = records.sort("identity", "resource_name", "sha256", "row_number", "file_id", nulls_last=True)
    values = pl.struct(VALUES)
    settled = ordered.with_columns(
        conflict=(values != values.first()).any().over("identity"),
        position=pl.int_range(pl.len()).over("identity"),
        kept_file_id=pl.col("file_id").first().over("identity"),
        kept_row_number=pl.col("row_number").first().over("identity"),
    ).filter(pl.col("conflict") | (pl.col("position") > 0))
    return settled.select(
        file_id="file_id",
        row_number="row_number",
        kind=pl.when("conflict").then(pl.lit("conflict")).otherwise(pl.lit("copy")),
        usage_start="usage_start",
        has_record_id="has_record_id",
        kept_file_id=pl.when(~pl.col("conflict")).then("kept_file_id"),
        kept_row_number=pl.when(~pl.col("conflict")).then("kept_row_number"),
    ).select(USAGE_DUPLICATES.names)
