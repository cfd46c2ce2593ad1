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
        Column("input_key", TEXT, "SHA-256 over everything below and what the ledger held before the period"),
        Column("inputs", TEXT, "The inputs as JSON: usage (file → SHA-256), book (table → SHA-256), configuration, "
               "code, ledger; what diff names as causes"),
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

CLOSED_PERIODS = Table(
    "closed_periods",
    "one closed period",
    (
        Column("period", TEXT, "Billing period, YYYY-MM"),
        Column("run_id", TEXT, "Run whose invoices were issued"),
        Column("rating_key", TEXT, "SHA-256 of the inputs its usage was rated with, as far as they concern the period"),
        Column("issue_date", pl.Date, "Day of issue"),
        Column("closed_at", INSTANT, "When it was closed"),
        Column("closed_by", TEXT, "Who closed it"),
        Column("invoices", pl.Int64, "Documents that were issued"),
        Column("first_number", TEXT, "Number of the first invoice", nullable=True),
        Column("last_number", TEXT, "Number of the last invoice", nullable=True),
    ),
    key=("period",),
)  # fmt: skip

CHECKLIST = Table(
    "checklist",
    "one point that was checked before a period was closed",
    (
        Column("period", TEXT, "Billing period, YYYY-MM"),
        Column("point", TEXT, "Stable name of the point"),
        Column("status", TEXT, "ok, open (stops the close), or waived (by a person, with a reason)",
               one_of=("ok", "open", "waived")),
        Column("detail", TEXT, "What was seen"),
        Column("cure", TEXT, "What to do about it"),
        Column("reason", TEXT, "Why it was waived", nullable=True),
        Column("waived_by", TEXT, "Who waived it", nullable=True),
    ),
    key=("period", "point"),
)  # fmt: skip

NUMBER_SERIES = Table(
    "number_series",
    "one gap-free series of numbers",
    (
        Column("series", TEXT, "Pattern of the numbers, with the year filled in"),
        Column("last", pl.Int64, "Last number that was given"),
    ),
    key=("series",),
)

DOCUMENTS = Table(
    "documents",
    "one file of an issued invoice or credit note",
    (
        Column("invoice_id", TEXT, "Invoice or credit note"),
        Column("file", TEXT, "Path below state/issued"),
        Column("sha256", TEXT, "SHA-256 of its bytes"),
    ),
    key=("file",),
)

EVENTS = Table(
    "events",
    "one act, chained to the one before by its hash",
    (
        Column("sequence", pl.Int64, "Number of the act, from 1"),
        Column("at", INSTANT, "When, by the machine's clock"),
        Column("actor", TEXT, "Who"),
        Column("act", TEXT, "What: loaded, drafted, closed, credited, collected"),
        Column("period", TEXT, "Billing period, YYYY-MM", nullable=True),
        Column("subject", TEXT, "What it was done to: a run, an invoice, a file", nullable=True),
        Column("details", TEXT, "Inputs' and results' hashes, totals before and after, as JSON with sorted keys"),
        Column("previous_sha256", TEXT, "Hash of the act before; of the first: 64 zeros"),
        Column("sha256", TEXT, "SHA-256 over the other columns"),
    ),
    key=("sequence",),
)
