"""verify: prove that what was billed is still what was billed, and that its inputs lead to it.

Of a period that is closed, in this order: the act that closed it, what the warehouse says of it, every file of its
charges, every row of its documents, every file of its documents, its sums; then it is rated and assembled again, with
the book of then, beside what stands. Of an open one: the same for its current run, with nothing but that to go by.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.exceptions import PolarsError

from ratemill.audit import broken_links, rows_sha256
from ratemill.book.of_period import book_of_period
from ratemill.errors import DataRefusedError, RatemillError, UsageError
from ratemill.findings import Finding, capped
from ratemill.frames import collect
from ratemill.invoicing.corrections import find_corrections
from ratemill.io.charge_store import MANIFEST, ChargeStore
from ratemill.io.issued import IssuedStore
from ratemill.period import BillingPeriod
from ratemill.proof import broken_sums, changed_files, changed_rows, different_values, named, wrong, wrong_numbers
from ratemill.retention import correction_runs
from ratemill.steps.check import Checked
from ratemill.steps.closed import refuse_lost_ledger
from ratemill.steps.correct import assembled_again
from ratemill.steps.diff import book_of_run
from ratemill.steps.inputs import changed_rating_inputs, files_of, input_key, rating_inputs
from ratemill.steps.invoice import assembled
from ratemill.steps.rate import rate_into
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.charges import CHARGES
from ratemill.tables.invoices import BILLING_TABLES, CORRECTIONS, INVOICES, Billed
from ratemill.tables.runs import CHECKLIST, DOCUMENTS, EVENTS, NUMBER_SERIES, RUNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ratemill.book.model import Book
    from ratemill.invoicing.assembly import Invoices
    from ratemill.io.warehouse import Warehouse
    from ratemill.steps.context import Context


@dataclass
class Proof:
    """What was proven of one period."""

    period: str
    run_id: str
    closed: bool
    charge_files: int = 0
    documents: int = 0
    """Invoices and credit notes."""
    rows: int = 0
    """Rows that they consist of."""
    issued_files: int = 0
    out_files: int = 0
    derived: bool = False
    """Whether it was rated and assembled again, and led to the same."""
    not_derived: list[str] = field(default_factory=list)
    """Why it was not: inputs that are no longer what they were. What is stored could be proven all the same."""
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Verified:
    """What ``verify`` found."""

    acts: int
    last_sha256: str
    """Hash of the last act: keep it elsewhere, and a log that was cut short is found out."""
    findings: tuple[Finding, ...]
    """Of the audit log, and of what is no period's."""
    periods: tuple[Proof, ...]

    @property
    def all_findings(self) -> list[Finding]:
        """Those of the periods included."""
        return capped([*self.findings, *(finding for proof in self.periods for finding in proof.findings)])


def verify(context: Context, periods: Sequence[BillingPeriod] | None = None, *, expect: str | None = None) -> Verified:
    """Verify ``periods``, or every closed period.

    ``expect``: hash of an act that was kept elsewhere; it must still be in the audit log.

    Raises:
        UsageError: a period has no run.
    """
    warehouse = context.warehouse
    events = warehouse.table("ops", EVENTS).sort("sequence")
    findings = [wrong("chain", sentence, column="ops.events") for sentence in broken_links(events)]
    if expect is not None and expect not in events["sha256"].to_list():
        findings.append(
            wrong("chain", f"no act has the hash {expect} that was kept: the end of the audit log was cut off",
                  column="ops.events")
        )  # fmt: skip
    try:
        refuse_lost_ledger(context)
    except DataRefusedError as lost:
        message, _, cure = str(lost).partition(" → ")
        findings.append(wrong("published", message, cure))
    issues = _issues(events)
    findings += _of_no_period(warehouse, issues)
    chosen = periods if periods is not None else [
        BillingPeriod.parse(name) for name in sorted({*warehouse.closed_periods()["period"], *issues.closed})
    ]  # fmt: skip
    proofs = []
    for period in chosen:
        with context.progress.step(f"verify {period}") as step:
            proofs.append(_Verifier(context, period, issues).proof())
            step.done(f"{len(proofs[-1].findings):,} findings")
    last = str(events["sha256"][-1]) if events.height else ""
    return Verified(events.height, last, tuple(findings), tuple(proofs))


# ------------------------------------------------------------------------------------------------- what acts tell of


@dataclass(frozen=True)
class _Issues:
    """Details of the acts that issued documents."""

    closed: dict[str, dict[str, Any]]
    """Period → the row of EVENTS that closed it, ``details`` read."""
    credited: list[dict[str, Any]]

    def rows(self, *, period: str | None = None) -> dict[str, dict[str, str]]:
        """invoice_id → table → SHA-256, of every document, or of those that belong to ``period``."""
        acts = [act for act in (*self.closed.values(), *self.credited) if period in (None, act["period"])]
        return {name: tables for act in acts for name, tables in act["details"].get("rows", {}).items()}

    def numbers(self, period: str | None = None) -> dict[str, str]:
        """invoice_id → number."""
        acts = [act for act in (*self.closed.values(), *self.credited) if period in (None, act["period"])]
        return {name: number for act in acts for name, number in act["details"].get("numbers", {}).items()}

    def documents(self, period: str) -> dict[str, str]:
        """Path below state/issued → SHA-256."""
        acts = [act for act in (*self.closed.values(), *self.credited) if act["period"] == period]
        return {file: sha256 for act in acts for file, sha256 in act["details"].get("documents", {}).items()}


def _issues(events: pl.DataFrame) -> _Issues:
    closed: dict[str, dict[str, Any]] = {}
    credited = []
    for row in events.filter(pl.col("act").is_in(["closed", "credited"])).iter_rows(named=True):
        try:
            act = row | {"details": json.loads(row["details"])}
        except ValueError:
            continue  # its hash is wrong, and that is told
        if row["act"] == "closed":
            closed[str(row["period"])] = act
        else:
            credited.append(act)
    return _Issues(closed, credited)


def _of_no_period(warehouse: Warehouse, issues: _Issues) -> list[Finding]:
    """Numbers, documents that no act issued, and rows of no document."""
    invoices = warehouse.table("billing", INVOICES)
    issued = invoices.filter(status="issued")
    series = warehouse.table("ops", NUMBER_SERIES).sort("series")
    found = wrong_numbers(series.iter_rows(), issued)
    known = issues.rows()
    found += [
        wrong("rows", f"invoice {invoice_id} has the status issued, and no act issued it")
        for invoice_id in issued["invoice_id"].sort()
        if invoice_id not in known
    ]
    present = set(invoices["invoice_id"])
    found += [
        wrong("rows", f"{named(invoice_id, issues.numbers())} was issued, and is gone", column="invoices")
        for invoice_id in sorted(known)
        if invoice_id not in present
    ]
    for table in BILLING_TABLES[1:]:
        orphans = warehouse.table("billing", table, "invoice_id NOT IN (SELECT invoice_id FROM billing.invoices)")
        found += [
            wrong("rows", f"rows of {table.name} belong to invoice {invoice_id}, which is not there", column=table.name)
            for invoice_id in orphans["invoice_id"].unique().sort()
        ]
    return found


# --------------------------------------------------------------------------------------------------------- one period


class _Verifier:
    """Verifies one period."""

    def __init__(self, context: Context, period: BillingPeriod, issues: _Issues) -> None:
        self.context = context
        self.warehouse = context.warehouse
        self.store = ChargeStore(context.workspace.charges)
        self.period = period
        self.issues = issues
        self.closing = issues.closed.get(str(period))
        run = self.warehouse.current_run(period)
        if run is None and self.closing is not None:
            rows = self.warehouse.table("ops", RUNS, "run_id = $run", {"run": self.closing["subject"]})
            run = rows.row(0, named=True) if rows.height else None
        if run is None and self.closing is None:
            raise UsageError(f"{period} has no run yet, so there is nothing to verify → run: ratemill run -p {period}")
        self.run = run
        run_id = str(self.closing["subject"] if self.closing is not None else run["run_id"] if run else "")
        self.done = Proof(str(period), run_id, closed=self.closing is not None)
        self.numbers: dict[str, str | None] = {}

    def proof(self) -> Proof:
        """Everything that can be proven of the period."""
        self._find(self._what_is_told())
        stored = self._stored()
        self.numbers = dict(stored.invoices.select("invoice_id", "number").iter_rows())
        self.numbers |= self.issues.numbers(str(self.period))
        if self.closing is not None:
            self._find(self._rows(stored))
        self._find(self._documents())
        charge_findings = self._charge_files()
        self._find(charge_findings)
        self._find(broken_sums(stored, self.numbers, None if charge_findings else self._charged()))
        self.done.documents = stored.invoices.height
        self.done.rows = sum(rows.height for _, rows in stored.frames())
        self._derive(stored)
        return self.done

    def _find(self, findings: Sequence[Finding]) -> None:
        self.done.findings += findings

    # ------------------------------------------------------------------------------------------------ what is stored

    def _what_is_told(self) -> list[Finding]:
        """The warehouse's own rows about the period: its run, its close, its checklist, its documents."""
        period, run = self.period, self.run
        if run is None:
            return [wrong("run", f"the run {self.done.run_id} of {period} is gone", column="ops.runs")]
        found = []
        try:
            key: str | None = input_key(json.loads(run["inputs"]), period)
        except (ValueError, KeyError, TypeError, AttributeError):
            key = None
        if key != run["input_key"] or run["run_id"] != f"{period}-{run['input_key'][:12]}":
            found.append(
                wrong("run", f"the inputs of run {run['run_id']} do not lead to its id: they were changed",
                      column="ops.runs")
            )  # fmt: skip
        row = self.warehouse.closed_period(period)
        if self.closing is None:
            return [*found, *([] if row is None else [
                wrong("close", f"{period} counts as closed, and no act closed it", column="ops.closed_periods")
            ])]  # fmt: skip
        details = self.closing["details"]
        told = {
            "run_id": self.closing["subject"],
            "rating_key": details.get("rating_key"),
            "issue_date": details.get("issue_date"),
            "closed_at": str(self.closing["at"]),
            "closed_by": self.closing["actor"],
            "invoices": len(details.get("rows", {})),
        }
        if row is None:
            found.append(wrong("close", f"{period} was closed, and counts as open", column="ops.closed_periods"))
        else:
            found += [
                wrong("close", f"{name} of the closed period {period} is {row[name]}, it was closed with {value}",
                      column="ops.closed_periods")
                for name, value in told.items()
                if str(row[name]) != str(value)
            ]  # fmt: skip
        kept = {name: run[name] for name in ("input_key", "book_sha256")}
        if key is not None:
            kept["inputs"] = json.loads(run["inputs"])
        found += [
            wrong("run", f"{name} of run {run['run_id']} is not what it was when {period} was closed",
                  column="ops.runs", value=name)
            for name, value in kept.items()
            if value != details.get(name, value)
        ]  # fmt: skip
        points = self.warehouse.table("ops", CHECKLIST, "period = $period", {"period": str(period)}).drop("period")
        if "checklist" in details and _sorted(points.to_dicts()) != _sorted(details["checklist"]):
            found.append(wrong("close", f"the checklist of {period} was changed after it was closed",
                               column="ops.checklist"))  # fmt: skip
        return found

    def _stored(self) -> Billed:
        """What the warehouse holds of the period's documents, and of everything an act issued for it."""
        issued = sorted(self.issues.rows(period=str(self.period)))
        where = (
            "invoice_id IN (SELECT invoice_id FROM billing.invoices WHERE period = $period)"
            " OR list_contains($issued, invoice_id)"
        )
        values = {"period": str(self.period), "issued": issued or [""]}
        return Billed.of(self.warehouse.table("billing", table, where, values) for table in BILLING_TABLES)

    def _rows(self, stored: Billed) -> list[Finding]:
        return changed_rows(self.issues.rows(period=str(self.period)), rows_sha256(stored), self.numbers)

    def _charge_files(self) -> list[Finding]:
        """The files of the run against the act that closed it, or against its manifest."""
        folder = self.context.workspace.relative(self.store.root)
        cure = "restore state/charges from a backup"
        mine = (str(self.period), self.done.run_id)
        self.done.charge_files = len(self.store.hashes(*mine))
        found: list[Finding] = []
        sealed: set[tuple[str, str]] = set()
        if self.closing is not None:
            expected: dict[str, str] = self.closing["details"].get("charges", {})
            sealed = {mine, *map(_run_of, expected)}
            seen = {name: sha256 for run in sealed for name, sha256 in self.store.hashes(*run).items()}
            found += changed_files(expected, seen, folder=folder, rule="charges", cure=cure)
        for run in (mine, *(correction_runs(self.run["inputs"]) if self.run else [])):
            if run not in sealed:
                found += self._against_manifest(*run, folder, cure)
        return found

    def _against_manifest(self, period: str, run_id: str, folder: str, cure: str) -> list[Finding]:
        start = f"period={period}/run={run_id}/"
        place = f"{folder}/{start}{MANIFEST}"
        seen = self.store.hashes(period, run_id)
        if seen.pop(f"{start}{MANIFEST}", None) is None:
            return [wrong("charges", "the file is missing", cure, file=place)]
        try:
            files = self.store.manifest(period, run_id)["files"]
            expected = {f"{start}{name}": str(sha256) for name, sha256 in files.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return [wrong("charges", "the file was changed: it is no manifest", cure, file=place)]
        return changed_files(expected, seen, folder=folder, rule="charges", cure=cure)

    def _charged(self) -> pl.DataFrame | None:
        charges = self.store.all_charges(self.period, self.done.run_id)
        return collect(charges.group_by("invoice_id").agg(pl.col("cost").sum().alias("charged")))

    def _documents(self) -> list[Finding]:
        """Files in state/issued against the act that issued them, and those in out/ against both."""
        workspace, period = self.context.workspace, str(self.period)
        issued = self.issues.documents(period)
        store = IssuedStore(workspace.issued)
        folder = workspace.relative(store.root)
        seen = {name: _sha256(store.root / name) for name in store.files(period)}
        self.done.issued_files = len(seen)
        found = changed_files(issued, seen, folder=folder, rule="documents", cure="restore state/issued from a backup")
        told = self.warehouse.table("ops", DOCUMENTS, "starts_with(file, $start)", {"start": f"period={period}/"})
        hashes = dict(told.select("file", "sha256").iter_rows())
        found += [
            wrong("documents", f"the table documents does not tell of {name} what was issued", column="ops.documents")
            for name in sorted({*hashes, *issued})
            if hashes.get(name) != issued.get(name)
        ]
        start = f"period={period}/"
        return found + self._out({name.removeprefix(start): sha256 for name, sha256 in issued.items()})

    def _out(self, issued: dict[str, str]) -> list[Finding]:
        folder = self.context.workspace.out(self.period)
        name = self.context.workspace.relative(folder)
        cure = f"remove it if it was changed or added, then run: ratemill run --period {self.period}"
        seen = {
            path.relative_to(folder).as_posix(): _sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
        }
        self.done.out_files = len(seen)
        if seen.pop(MANIFEST, None) is None:
            return [wrong("documents", "the file is missing", cure, file=f"{name}/{MANIFEST}")]
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            expected = {str(file): str(sha256) for file, sha256 in manifest["files"].items()}
            of_run = manifest["run_id"] == self.done.run_id
        except (ValueError, KeyError, TypeError, AttributeError):
            return [wrong("documents", "the file was changed: it is no manifest", cure, file=f"{name}/{MANIFEST}")]
        found = changed_files(expected | issued, seen, folder=name, rule="documents", cure=cure)
        if not of_run:
            found.append(wrong("documents", f"the files are of run {manifest['run_id']}, the current run is"
                               f" {self.done.run_id}", cure, file=f"{name}/{MANIFEST}"))  # fmt: skip
        return found

    # --------------------------------------------------------------------------------------------------- once more

    def _derive(self, stored: Billed) -> None:
        """Rate and assemble again, and compare; where that is not possible, say why."""
        if self.run is None or any(f.rule == "verify.run" for f in self.done.findings):
            self.done.not_derived.append("its run is not known as it was")
            return
        inputs = json.loads(self.run["inputs"])
        try:
            book = book_of_run(self.warehouse, self.run["book_sha256"])
        except Exception as error:  # noqa: BLE001 - pandera's many ways to say that a row breaks its contract
            self._find([wrong("book", f"the book of then is no longer right: {_first_line(error)}", column="book")])
            return
        self._find(self._book(book, inputs))
        files = files_of(self.warehouse.usage.files(), self.period)
        now = rating_inputs(self.context, book, files, self.period)
        self.done.not_derived += changed_rating_inputs(inputs, now, self.period)
        if self.done.not_derived or any(finding.rule == "verify.book" for finding in self.done.findings):
            return
        checked = Checked(self.period, book, files, inputs, ())
        before = len(self.done.findings)
        with self._scratch() as scratch:
            try:
                invoices = self._rated_again(checked, scratch)
                self._find(self._same_charges(scratch))
            except (RatemillError, PolarsError, OSError) as error:
                self._find([wrong("derived", f"{self.period} can't be derived again: {_first_line(error)}")])
                return
        run_made = Billed.of(
            rows.filter(pl.col("invoice_id").is_in(self._by_hand(stored), nulls_equal=True).not_())
            for _, rows in stored.frames()
        )
        self._find(different_values(invoices, run_made, self.numbers))
        self.done.derived = len(self.done.findings) == before

    def _by_hand(self, stored: Billed) -> list[str]:
        return stored.invoices.filter(origin="hand")["invoice_id"].to_list()

    def _book(self, book: Book, inputs: dict[str, Any]) -> list[Finding]:
        """Whether the book that the warehouse keeps is the one of the run."""
        if self.run is None or book.sha256 == self.run["book_sha256"]:
            return []
        relevant = book_of_period(book, self.period)
        tables = [
            table.name for table in BOOK_TABLES if relevant.table_sha256(table.name) != inputs["book"].get(table.name)
        ]
        where = ", ".join(f"book.{name}" for name in tables) or "rows that do not concern the period"
        return [wrong("book", f"the book that run {self.done.run_id} was made with was changed: {where}", column=where)]

    def _rated_again(self, checked: Checked, scratch: ChargeStore) -> Invoices:
        with scratch.writing(self.period, checked.run_id) as writer:
            writer.facts = rate_into(self.context, checked, writer, keep_rejects=False)
        charges = scratch.usage_charges(self.period, checked.run_id)
        invoices = assembled(self.context, checked, charges, self._corrections(checked))
        scratch.add_invoiced(self.period, checked.run_id, invoices.charges)
        return invoices

    def _corrections(self, checked: Checked) -> pl.DataFrame:
        """What the period had to bill for closed ones: from the charges of then, and what had been billed by then."""
        found = [
            find_corrections(
                assembled_again(self.context, checked.book, BillingPeriod.parse(period), run_id),
                self.warehouse.issued_for(period, before=self.period),
                period=period,
            )
            for period, run_id in correction_runs(json.dumps(checked.inputs))
        ]
        return pl.concat([CORRECTIONS.empty(), *found])

    def _same_charges(self, scratch: ChargeStore) -> list[Finding]:
        """Charges byte for byte; where usage of another month cuts them into other files, row for row."""
        folder = f"period={self.period}/run={self.done.run_id}/"
        derived = scratch.hashes(self.period, self.done.run_id)
        stored = self.store.hashes(self.period, self.done.run_id)
        for hashes in (derived, stored):
            hashes.pop(f"{folder}{MANIFEST}", None)
        if derived == stored:
            return []
        name = self.context.workspace.relative(self.store.root)
        if {*derived} == {*stored}:
            differ = sorted(file for file in derived if derived[file] != stored[file])
        else:
            differ = sorted({*derived} ^ {*stored})
        shards = [(store.folder(self.period, self.done.run_id)) for store in (scratch, self.store)]
        if all("shard-" in file for file in differ) and _same_rows(*shards):
            return []
        told = {finding.file for finding in self.done.findings}
        return [
            wrong("derived", "its charges are other ones when they are derived again", file=f"{name}/{file}")
            for file in differ
            if f"{name}/{file}" not in told
        ]

    @contextmanager
    def _scratch(self) -> Iterator[ChargeStore]:
        """A place beside the charges that goes when the block ends, or with the next run."""
        folder = self.context.workspace.state / f".verify.{os.getpid()}.tmp"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            yield ChargeStore(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _same_rows(one: Path, other: Path) -> bool:
    """Whether two folders' shards hold the same charges in the same order, however they are cut into files."""
    rest = [CHARGES.empty(), CHARGES.empty()]
    files = [sorted(folder.glob("shard-*.parquet")) for folder in (one, other)]
    while any(files) or any(frame.height for frame in rest):
        for side in (0, 1):
            while not rest[side].height and files[side]:
                rest[side] = pl.read_parquet(files[side].pop(0), glob=False, hive_partitioning=False)
        common = min(frame.height for frame in rest)
        if not common:
            return not any(frame.height for frame in rest)
        if not rest[0].head(common).equals(rest[1].head(common)):
            return False
        rest = [frame.slice(common) for frame in rest]
    return True


def _run_of(path: str) -> tuple[str, str]:
    """``period=P/run=R/file`` → P, R."""
    period, run, *_ = path.split("/")
    return period.removeprefix("period="), run.removeprefix("run=")


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sorted(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(points, key=lambda point: str(point.get("point")))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
