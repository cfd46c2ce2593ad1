"""What identifies a run: everything that can change its result, by hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill import __version__
from ratemill.book.model import Book
from ratemill.book.of_period import book_of_period
from ratemill.book.relevance import Used, changes_that_matter
from ratemill.io.charge_store import ChargeStore
from ratemill.period import BillingPeriod
from ratemill.resources import sql
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.runs import RUNS
from ratemill.tables.usage import BOOK_REJECTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratemill.config import Seller
    from ratemill.io.warehouse import Warehouse
    from ratemill.steps.context import Context


def inputs_of(context: Context, book: Book, files: pl.DataFrame, period: BillingPeriod) -> dict[str, Any]:
    """The inputs of a run by name, ready for JSON; what ``diff`` names as causes.

    ``files``: rows of USAGE_FILES that have to do with the period (:func:`files_of`).
    """
    return {
        **rating_inputs(context, book, files, period),
        "credits": book.table_sha256("credits"),
        "configuration": context.config.fingerprint(),
        "seller": context.config.seller.model_dump(mode="json", include=_KEPT_OF_SELLER),
        "ledger": context.warehouse.ledger_fingerprint(period),
        "corrections": periods_to_correct(context, book, period),
    }


_KEPT_OF_SELLER = {"name", "payment_terms_days"}
_TOLD_ELSEWHERE = ("usage_elsewhere", "seller")
"""Inputs that others hold already: they add nothing to the key."""


def seller_of(run: Mapping[str, Any], now: Seller) -> Seller:
    """The seller as a run's documents name it: what ``[seller]`` says ``now`` is for later months.

    ``run``: its row of RUNS.
    """
    return now.model_copy(update=json.loads(run["inputs"]).get("seller", {}))


def rating_inputs(context: Context, book: Book, files: pl.DataFrame, period: BillingPeriod) -> dict[str, Any]:
    """The inputs that decide what the usage of ``period`` costs; see :func:`rating_key`."""
    relevant = book_of_period(book, period)
    return {
        "usage": dict(files.select("file", "sha256").sort("file").iter_rows()),
        "usage_elsewhere": _files_elsewhere(files, book, period, context.config.period.time_zone),
        "record_ids": list(
            context.warehouse.frame(sql("core/record_id_fingerprint"), {"files": files["file_id"].to_list()}).row(0)
        ),
        "book": {table.name: relevant.table_sha256(table.name) for table in BOOK_TABLES},
        "rating_configuration": context.config.rating_fingerprint(),
        "code": __version__,
    }


def files_of(files: pl.DataFrame, period: BillingPeriod) -> pl.DataFrame:
    """Files with usage around the period, and files of which no row was accepted, which could have had some."""
    touches = (pl.col("first_usage_start") < period.widest_end) & (pl.col("last_usage_start") >= period.widest_start)
    nothing_accepted = (pl.col("rows_accepted") == 0) & (pl.col("rows_in") > 0)
    return files.filter(touches.fill_null(False) | nothing_accepted).sort("sha256", "file")


def _files_elsewhere(files: pl.DataFrame, book: Book, period: BillingPeriod, time_zone: str) -> list[str]:
    """Those of ``files`` that hold nothing of the month in the zone of any account.

    Next month's first file lies around this month too, since it is still this month somewhere on earth; it must not
    make a closed month look changed where nobody lives there.
    """
    zones = {time_zone, *book.accounts["time_zone"].drop_nulls()}
    start, end = min(map(period.start, zones)), max(map(period.end, zones))
    here = (pl.col("first_usage_start") < end) & (pl.col("last_usage_start") >= start)
    return files.filter(~here.fill_null(False))["file"].sort().to_list()


def rating_key(inputs: dict[str, Any], period: BillingPeriod) -> str:
    """SHA-256 of the inputs that decide what the usage of ``period`` costs, however often it is rated.

    File names do not count, nor what only decides when and how it is billed: credits, the seller, the ledger.
    """
    elsewhere = set(inputs["usage_elsewhere"])
    return _sha256(
        {
            "period": str(period),
            "usage": sorted(sha256 for file, sha256 in inputs["usage"].items() if file not in elsewhere),
            **{name: inputs[name] for name in ("record_ids", "book", "rating_configuration", "code")},
        }
    )


def changed_rating_inputs(then: dict[str, Any], now: dict[str, Any], period: BillingPeriod) -> list[str]:
    """What the usage of ``period`` is rated from and is not what it was, in words; nothing where all is the same."""
    old, new = (
        {sha256: name for name, sha256 in inputs["usage"].items() if name not in inputs["usage_elsewhere"]}
        for inputs in (then, now)
    )
    told = [f"usage file {old[sha256]}: its content is no longer loaded" for sha256 in {*old} - {*new}]
    told += [f"usage file {new[sha256]}: it came or changed since" for sha256 in {*new} - {*old}]
    if then["record_ids"] != now["record_ids"]:
        told.append("records of the same record_id came in files of other months since")
    if then["rating_configuration"] != now["rating_configuration"]:
        told.append("ratemill.toml: [usage] or [period] is not what it was")
    if then["code"] != now["code"]:
        told.append(f"ratemill {then['code']} made it, this is {now['code']}")
    if not told and rating_key(then, period) != rating_key(now, period):
        told.append("the book")
    return sorted(told)


def input_key(inputs: dict[str, Any], period: BillingPeriod) -> str:
    """SHA-256 of all inputs: equal keys, equal results."""
    named = {name: value for name, value in inputs.items() if name not in _TOLD_ELSEWHERE}
    return _sha256({**named, "period": str(period), "usage": sorted(inputs["usage"].values())})


def _sha256(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------------------------------------- after the close


@dataclass(frozen=True)
class Settled:
    """With which inputs a closed period was last billed: those of its close, or of its last issued correction."""

    rating_key: str
    code: str
    """Version that rated it. A new version alone is no reason to bill a closed period again."""
    book_sha256: str
    """The book it was rated with."""
    charges: str
    """Run of the period that its charges are kept under."""


def settled_periods(warehouse: Warehouse) -> dict[str, Settled]:
    """Each closed period → what it was last billed with."""
    closed = warehouse.closed_periods()
    runs = {
        row["run_id"]: row
        for row in warehouse.table(
            "ops", RUNS, "run_id IN (SELECT run_id FROM ops.closed_periods)"
        ).iter_rows(named=True)
    }  # fmt: skip
    settled: dict[str, Settled] = {}
    run_of: dict[str, dict[str, Any]] = {}
    for row in closed.iter_rows(named=True):
        run = run_of[row["period"]] = runs[row["run_id"]]
        settled[row["period"]] = Settled(row["rating_key"], run["code_version"], run["book_sha256"], run["run_id"])
    for name in warehouse.order_of_closing():  # the last correction counts
        run = run_of[name]
        for period, key in json.loads(run["inputs"]).get("corrections", {}).items():
            settled[period] = Settled(key, run["code_version"], run["book_sha256"], f"{period}-{key[:12]}")
    return settled


def periods_to_correct(context: Context, book: Book, period: BillingPeriod) -> dict[str, str]:
    """Closed period → its rating key now, of each that ``period`` has to bill corrections of.

    Those are closed periods whose inputs differ from what they were last billed with. The earliest open period after
    them that has a run bills them, and no other, so that two drafts never bill the same.
    """
    warehouse = context.warehouse
    closed_now = warehouse.closed_period(period)
    if closed_now is not None:  # it has billed what it has
        issued = warehouse.table("ops", RUNS, "run_id = $run_id", {"run_id": closed_now["run_id"]})
        return dict(json.loads(issued["inputs"][0]).get("corrections", {}))
    settled = settled_periods(warehouse)
    drafted = warehouse.runs().filter("is_current", pl.col("period") < str(period))["period"].to_list()
    open_before = [other for other in drafted if other not in settled]
    found: dict[str, str] = {}
    for closed, before in settled.items():
        if closed >= str(period) or any(closed < other for other in open_before):
            continue
        key = changed_rating_key(context, book, BillingPeriod.parse(closed), before)
        if key is not None:
            found[closed] = key
    return dict(sorted(found.items()))


def changed_rating_key(context: Context, book: Book, period: BillingPeriod, settled: Settled) -> str | None:
    """The rating key of a closed period now; none where nothing differs that may change what it was billed.

    ``settled``: of :func:`settled_periods`.
    """
    inputs = rating_inputs(context, book, files_of(context.warehouse.usage.files(), period), period)
    same_code = inputs | {"code": settled.code}
    if rating_key(same_code, period) == settled.rating_key:
        return None
    return rating_key(inputs, period) if _may_matter(context, book, period, same_code, settled) else None


def _may_matter(context: Context, book: Book, period: BillingPeriod, inputs: dict[str, Any], settled: Settled) -> bool:
    """Whether what differs can change what the closed period costs: all but some changes of the book can."""
    warehouse = context.warehouse
    if ChargeStore(context.workspace.charges).has_unpriced(period, settled.charges):
        return True
    tables = {table.name: warehouse.book_table(table, settled.book_sha256) for table in BOOK_TABLES}
    former = book_of_period(Book.of(**tables), period)
    hashes = {table.name: former.table_sha256(table.name) for table in BOOK_TABLES}
    if rating_key(inputs | {"book": hashes}, period) != settled.rating_key:
        return True  # it is not only the book
    changed = [name for name, sha256 in hashes.items() if sha256 != inputs["book"][name]]
    return bool(changes_that_matter(former, book_of_period(book, period), changed, _used(warehouse, period)))


def _used(warehouse: Warehouse, period: BillingPeriod) -> Used:
    """What the usage of a closed period named: by its lines, and by rows that its book did not know."""
    billed = warehouse.issued_for(period)
    rejects = warehouse.table("raw", BOOK_REJECTS, "period = $period", {"period": str(period)})
    unknown = dict(rejects.select("column", "value").unique().group_by("column").agg("value").iter_rows())
    return Used(
        accounts={*billed.invoices["billing_account_id"], *billed.lines["account_id"], *unknown.get("account_id", ())},
        projects=set(billed.lines["project_id"].drop_nulls()),
        skus={*billed.lines["sku_id"].drop_nulls(), *unknown.get("sku_id", ())},
        has_wrong_units="unit" in unknown,
    )
