"""What the job remembers of itself."""

from __future__ import annotations

import polars as pl

from ratemill.tables.columns import INSTANT, TEXT, Column, Table

RUNS = Table(
    "runs",
    "one run of one billing period",
    (
        Column("run_id", TEXT, "Identity of the run: period and a hash of its inputs"),
        Column("period", TEXT, "Billing period, YYYY-MM"),
        Column("input_key", TEXT, "SHA-256 over usage files, book, configuration and code version"),
        Column("book_sha256", TEXT, "SHA-256 of the book"),
        Column("code_version", TEXT, "Version of ratemill"),
        Column("status", TEXT, "How far it came: rated (charges stand), invoiced (invoices stand), reported (documents "
               "stand), done (published)", one_of=("rated", "invoiced", "reported", "done")),
        Column("is_current", pl.Boolean, "Whether it is the one that counts for its period: set when it is invoiced"),
        Column("finished_at", INSTANT, "When it became what its status says"),
        Column("summary", TEXT, "Its summary as JSON, once it is reported", nullable=True),
    ),
    key=("run_id",),
)  # fmt: skip

FINDINGS = Table(
    "findings",
    "one finding of a run",
    (
        Column("run_id", TEXT, "Run that found it"),
        Column("severity", TEXT, "How much it matters", one_of=("error", "warning", "info")),
        Column("rule", TEXT, "Stable name of the check"),
        Column("file", TEXT, "File", nullable=True),
        Column("row", pl.Int64, "Row or line of the file", nullable=True),
        Column("column", TEXT, "Column", nullable=True),
        Column("value", TEXT, "Value seen", nullable=True),
        Column("message", TEXT, "What is wrong"),
        Column("cure", TEXT, "What to do"),
    ),
)
