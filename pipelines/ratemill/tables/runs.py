"""What the job remembers of itself."""

from __future__ import annotations

import polars as pl

from ratemill.tables.book import EVENT_KINDS
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

REPORT_QUERIES = Table(
    "report_queries",
    "one report query, shipped or of the workspace, as it was when this database was published",
    (
        Column("name", TEXT, "Name: of a view, or for `ratemill query`"),
        Column("origin", TEXT, "Who wrote it: shipped with the program, or the workspace's own",
               one_of=("shipped", "workspace")),
        Column("file", TEXT, "File, relative to the workspace where it lies inside"),
        Column("sha256", TEXT, "SHA-256 of its bytes; empty where it can't be read"),
        Column("purpose", TEXT, "What it shows, as its header says"),
        Column("grain", TEXT, "What one row is, as its header says"),
        Column("parameters", TEXT, "Names of its parameters, separated by spaces; a view has none"),
        Column("is_view", pl.Boolean, "Whether it is a view of this database"),
        Column("problem", TEXT, "Why it can't be used", nullable=True),
    ),
    key=("file",),
)  # fmt: skip

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
        Column("act", TEXT, "What: loaded, drafted, closed, credited, collected, migrated"),
        Column("period", TEXT, "Billing period, YYYY-MM", nullable=True),
        Column("subject", TEXT, "What it was done to: a run, an invoice, a file", nullable=True),
        Column("details", TEXT, "Inputs' and results' hashes, totals before and after, as JSON with sorted keys"),
        Column("previous_sha256", TEXT, "Hash of the act before; of the first: 64 zeros"),
        Column("sha256", TEXT, "SHA-256 over the other columns"),
    ),
    key=("sequence",),
)

NOTIFICATION_STATES = ("queued", "sending", "sent", "failed", "given_up")

NOTIFICATIONS = Table(
    "notifications",
    "one event that one recipient is told of: the outbox, and its history",
    (
        Column("notification_id", TEXT, "SHA-256 over what happened and who is told: the idempotency key"),
        Column("kind", TEXT, "What happened", one_of=EVENT_KINDS),
        Column("period", TEXT, "Billing period, quarter or year that it is about", nullable=True),
        Column("account_id", TEXT, "Account that it is about", nullable=True),
        Column("budget_id", TEXT, "Budget that it is about", nullable=True),
        Column("subscription_id", TEXT, "Subscription that it is sent for"),
        Column("channel", TEXT, "How", one_of=("email", "webhook", "chat")),
        Column("address", TEXT, "Where to: an e-mail address, or a name in [notify]"),
        Column("language", TEXT, "Language of the message"),
        Column("quiet", TEXT, "Local hours in which it is not sent, or off"),
        Column("digest", pl.Boolean, "Whether it waits for the e-mail of the day"),
        Column("state", TEXT, "queued: to be sent; sending: given to a sender that has not yet said how it went; sent; "
               "failed: refused for good; given_up: tried too often", one_of=NOTIFICATION_STATES),
        Column("message_id", TEXT, "The message that carries it; notifications of one message share it", nullable=True),
        Column("attempts", pl.Int64, "How often it was tried"),
        Column("queued_at", INSTANT, "When it was found"),
        Column("not_before", INSTANT, "Not tried before this"),
        Column("last_attempt_at", INSTANT, "When it was tried last", nullable=True),
        Column("sent_at", INSTANT, "When it was taken by the other side", nullable=True),
        Column("last_error", TEXT, "What went wrong the last time", nullable=True),
        Column("payload", TEXT, "The event as JSON"),
    ),
    key=("notification_id",),
)  # fmt: skip
