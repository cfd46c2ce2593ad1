"""The Billing API under load: how many answers a second, how long one takes, and whether it holds while bills change.

Needs the extra api, and wrk (apt-get install wrk). WORKSPACE has a period that a run has published; it is changed, so
take one that is for measuring: its last period is closed, since PDFs are those of issued invoices (open points of the
checklist are waived), and the next one gets adjustments in the book, a publish for each.

    python benchmarks/api_load.py WORKSPACE [--requests 100000] [--publishes 10] [--runs]

A real server on a free port of this machine answers: first each kind of request alone, then all in turn while the next
period is invoiced and published anew (--runs: by whole runs) and answers of each published state are compared.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import polars as pl
import psutil

from ratemill.errors import DataRefusedError, InvariantError, TemporaryError, UsageError
from ratemill.period import BillingPeriod
from ratemill.tables.book import ADJUSTMENTS
from ratemill.tables.invoices import INVOICES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LUA = Path(__file__).with_suffix(".lua")
MARKS = (10_000, 50_000, 100_000)
"""Requests after which memory is told."""
EVERY_SECONDS = 3.0
"""Between two looks at memory."""
PAUSE_SECONDS = 0.2
"""Between two comparisons: most of the load is to be the one that is measured."""
SERVED = ("--rate-limit", "1000000000", "--timeout", "60")
"""A key may ask without end here: what limits do is for tests to show."""
DIMENSIONS = ("account", "project", "service", "category", "sku", "region", "resource", "kind", "day")
CONSUMPTION = "/v1/consumption?group_by=project&group_by=sku"


def main() -> None:
    """Measure, print as it goes, and end with an error where an answer failed or mixed two states."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--seconds", type=int, default=20, help="for each kind of request")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--requests", type=int, default=100_000, help="while bills are published anew")
    parser.add_argument("--publishes", type=int, default=10)
    parser.add_argument("--runs", action="store_true", help="publish by whole runs, instead of invoice and publish")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed; it asks the server: apt-get install wrk")
    job = Job(options.workspace)
    closed = close(job)
    following = closed.shift(1)
    job.do("run", "--period", str(following))
    organizations, largest = payers(options.workspace)
    secret = new_key(job, [largest])
    secrets = [secret, new_key(job, organizations)]
    with served(options.workspace) as server:
        paths = {
            "consumption": f"{CONSUMPTION}&first_period={closed}",
            "invoices": "/v1/invoices",
            "PDF": issued_pdf(server, secret, closed),
        }
        load = Load(server, secret, options.connections)
        tell(f"{largest} has the most charges; {memory_of(server)} before the first request")
        for name, path in paths.items():
            load.first(name, path)
            load.of(name, [path], options.seconds)
        load.of("consumption, always another", other_consumptions(closed), options.seconds)
        tell(f"{memory_of(server)} after them")
        checker = Checker(server, secrets, closed, following)
        publishing = Publishing(job, following, largest, options.publishes, whole=options.runs)
        load.while_publishing(list(paths.values()), options.requests, publishing, checker)
        checker.end()
    checker.tell()
    if load.failures:
        sys.exit(f"{load.failures:,} requests were not answered, or not with 200")


# ------------------------------------------------------------------------------------------------------- the workspace


class Job:
    """Commands of ratemill on a workspace, each a process of its own."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace

    def do(self, *arguments: str, allowed: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """One command; its summary.

        Raises:
            TemporaryError: it failed.
        """
        command = [*ratemill(*arguments), "--workspace", str(self.workspace), "--json"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
        if ended.returncode not in allowed:
            raise TemporaryError(f"ratemill {' '.join(arguments)}: {ended.stderr}")
        summary: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return summary


def ratemill(*arguments: str) -> list[str]:
    """The command that runs ratemill with these arguments."""
    return [sys.executable, "-m", "ratemill", *arguments]


def close(job: Job) -> BillingPeriod:
    """The last closed period; where there is none, the last one that is published is closed.

    Raises:
        UsageError: nothing is published.
    """
    published = job.workspace / "published" / "parquet" / f"{INVOICES.name}.parquet"
    if not published.is_file():
        raise UsageError(f"{job.workspace}: nothing is published → run it first: ratemill run --period YYYY-MM")
    invoices = pl.read_parquet(published)
    issued = invoices.filter(status="issued")
    period = BillingPeriod.parse(str((issued if issued.height else invoices)["period"].max()))
    if not issued.height:
        looked = job.do("close", "--period", str(period), "--check", allowed=(0, 3))
        points = [point["point"] for point in looked["checklist"] if point["status"] == "open"]
        waived = [part for point in points for part in ("--waive", f"{point}=measuring, nobody is billed")]
        started = time.monotonic()
        job.do("close", "--period", str(period), *waived)
        tell(f"{period} is closed, in {time.monotonic() - started:,.1f} s; waived: {', '.join(points) or 'nothing'}")
    return period


def payers(workspace: Path) -> tuple[list[str], str]:
    """Organizations that have charges, and the one that has the most."""
    charges = pl.scan_parquet(workspace / "published" / "parquet" / "charges" / "*" / "*.parquet")
    counted = charges.group_by("billing_account_id").len().sort("len", descending=True).collect(engine="streaming")
    tell(f"{counted['len'].sum():,} charges of {counted.height:,} organizations")
    return counted["billing_account_id"].to_list(), counted["billing_account_id"][0]


def new_key(job: Job, organizations: Sequence[str]) -> str:
    """The secret of a key for organizations as a whole."""
    of_them = [part for organization in organizations for part in ("--organization", organization)]
    return str(job.do("keys", "create", "--name", "load", *of_them)["secret"])


class Publishing(threading.Thread):
    """Changes the book and publishes, again and again: each time an organization pays one more, so no state recurs."""

    def __init__(self, job: Job, period: BillingPeriod, account: str, times: int, *, whole: bool) -> None:
        super().__init__(daemon=True)
        self._job, self._period, self._account, self._times, self._whole = job, period, account, times, whole
        self.done = 0
        self.error: Exception | None = None

    def run(self) -> None:
        """All of them."""
        try:
            for number in range(self._times):
                self._adjust(number)
                started = time.monotonic()
                if self._whole:
                    self._job.do("run", "--period", str(self._period))
                else:
                    self._job.do("invoice", "--period", str(self._period))
                    self._job.do("publish")
                self.done += 1
                tell(f"  publish {self.done}: {time.monotonic() - started:,.1f} s")
        except Exception as error:  # noqa: BLE001 - of a thread; raised by who waits for it
            self.error = error

    def _adjust(self, number: int) -> None:
        book = self._job.workspace / "book"
        accounts = pl.read_csv(book / "accounts.csv", infer_schema=False)
        path = book / "adjustments.csv"
        if path.is_file():
            adjustments = pl.read_csv(path, infer_schema=False)
        else:
            adjustments = pl.DataFrame(schema=ADJUSTMENTS.polars_schema).cast(pl.String)
        row = {
            "adjustment_id": f"load-{time.time_ns()}",
            "account_id": self._account,
            "period": str(self._period),
            "amount": str(number + 1),
            "currency": accounts.filter(account_id=self._account)["currency"].item(),
            "reason": "measuring",
            "author": "api_load",
        }
        pl.concat([adjustments, pl.DataFrame([row])], how="diagonal").write_csv(path)


# ---------------------------------------------------------------------------------------------------------- the server


@dataclass
class Server:
    """A server that answers."""

    process: psutil.Process
    host: str
    port: int

    def get(self, path: str, secret: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content of an answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=120)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {secret}"} if secret else {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def json(self, path: str, secret: str) -> Any:
        """Content of an answer that is 200.

        Raises:
            TemporaryError: it is not.
        """
        status, _, content = self.get(path, secret)
        if status != http.client.OK:
            raise TemporaryError(f"{path}: {status} {content.decode()}")
        return json.loads(content)

    @property
    def resident(self) -> int:
        """Bytes in memory."""
        found = 0
        for process in (self.process, *self.process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                found += process.memory_info().rss
        return found


@contextmanager
def served(workspace: Path) -> Iterator[Server]:
    """A server on a free port, with its log beside the workspace.

    Raises:
        TemporaryError: it did not start, or did not end as it should.
    """
    log = workspace.with_name(f"{workspace.name}-serve.log")
    options = ("--workspace", str(workspace), "--port", "0", *SERVED)
    with log.open("wb") as file, subprocess.Popen(ratemill("serve", *options), stderr=file) as process:  # noqa: S603
        try:
            address = urlsplit(until(lambda: re.search(r"serving (http://[^,\s]+)", log.read_text(encoding="utf-8"))))
            server = Server(psutil.Process(process.pid), str(address.hostname), int(address.port or 0))
            until(lambda: server.get("/readyz", "")[0] == http.client.OK)
            yield server
        finally:
            process.terminate()
            code = process.wait(60)
    if code:
        raise TemporaryError(f"the server ended with {code}; see {log}")


def until(found: Callable[[], re.Match[str] | bool | None]) -> str:
    """Wait for something that comes within a minute; the first group of what was matched, if it was."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(OSError):
            if it := found():
                return str(it[1]) if isinstance(it, re.Match) else ""
        time.sleep(0.2)
    raise TemporaryError("the server did not start")


def issued_pdf(server: Server, secret: str, period: BillingPeriod) -> str:
    """The path of an invoice's PDF: the one with the most lines."""
    asked = urlencode({"status": "issued", "document": "invoice", "first_period": period, "last_period": period})
    invoices = server.json(f"/v1/invoices?{asked}", secret)["items"]
    invoice = max(invoices, key=lambda row: row["lines"])
    tell(f"PDF of {invoice['number']}, {invoice['lines']:,} lines")
    return f"/v1/invoices/{quote(invoice['invoice_id'])}/documents/pdf"


def other_consumptions(period: BillingPeriod) -> list[str]:
    """Paths of consumption, each added up by something else: hundreds, more than the server remembers answers of."""
    chosen = itertools.chain.from_iterable(itertools.combinations(DIMENSIONS, count) for count in range(2, 7))
    return [f"/v1/consumption?first_period={period}&{urlencode([('group_by', one) for one in names])}"
            for names in chosen]  # fmt: skip


def memory_of(server: Server) -> str:
    """What the server has in memory, in words."""
    return f"{server.resident / 1e6:,.0f} MB in memory"


# ------------------------------------------------------------------------------------------------------------ the load


@dataclass
class Load:
    """Asks as fast as it is answered."""

    server: Server
    secret: str
    connections: int
    failures: int = 0

    def first(self, name: str, path: str) -> None:
        """Ask once: how long it takes until an answer is remembered."""
        started = time.perf_counter()
        status, _, content = self.server.get(path, self.secret)
        took = (time.perf_counter() - started) * 1000
        self.failures += status != http.client.OK
        tell(f"{name + ', first answer':28} {took:9,.1f} ms, {status}, {len(content):,} bytes")

    def of(self, name: str, paths: list[str], seconds: int) -> None:
        """Ask for some seconds."""
        with self._wrk(paths, seconds) as process:
            told = process.communicate()[0]
        self._tell(name, told)

    def while_publishing(self, paths: list[str], requests: int, publishing: Publishing, checker: Checker) -> None:
        """Ask that many times, and for as long as bills are published.

        Raises:
            TemporaryError: a publish failed.
        """
        before = self._answered() - checker.asked
        begun = time.monotonic()
        tell(f"\n{requests:,} requests while bills are published anew; {memory_of(self.server)} at the start")
        marks, seen = [*(mark for mark in MARKS if mark < requests), requests], [self.server.resident]
        publishing.start()
        with self._wrk(paths, 7 * 24 * 3600) as process:
            while process.poll() is None:
                time.sleep(EVERY_SECONDS)
                asked, resident = self._answered() - checker.asked - before, self.server.resident
                seen.append(resident)
                while marks and asked >= marks[0]:
                    reached, publishes = marks.pop(0), publishing.done
                    tell(f"  after {reached:7,}: {resident / 1e6:,.0f} MB in memory, {publishes} publishes,"
                         f" {time.monotonic() - begun:,.0f} s")  # fmt: skip
                if not marks and not publishing.is_alive():
                    break
            process.send_signal(signal.SIGINT)  # it tells what it has found, and ends
            told = process.communicate()[0]
        publishing.join()
        tell(f"  memory: {min(seen) / 1e6:,.0f} to {max(seen) / 1e6:,.0f} MB, {seen[-1] / 1e6:,.0f} MB at the end,"
             f" in {len(seen):,} looks")  # fmt: skip
        self._tell("all three in turn", told)
        if publishing.error is not None:
            raise TemporaryError("a publish failed") from publishing.error

    def _wrk(self, paths: list[str], seconds: int) -> subprocess.Popen[str]:
        address = f"http://{self.server.host}:{self.server.port}"
        command = ["wrk", "-t", "2", "-c", str(self.connections), "-d", f"{seconds}s", "--timeout", "120s",
                   "-s", str(LUA), "-H", f"Authorization: Bearer {self.secret}", address, "--", *paths]  # fmt: skip
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - no shell, our own arguments

    def _tell(self, name: str, told: str) -> None:
        found = json.loads(told.splitlines()[-1])
        failures = int(found["refused"] + found["broken"])
        self.failures += failures
        tell(f"{name:28} {found['requests']:9,.0f} requests, {found['requests'] / found['seconds']:9,.1f}/s,"
             f" p50 {found['p50_ms']:,.1f} ms, p99 {found['p99_ms']:,.1f} ms, longest {found['most_ms']:,.1f} ms,"
             f" {failures:,} errors; {memory_of(self.server)}")  # fmt: skip

    def _answered(self) -> int:
        """Requests that the server says it has answered."""
        text = self.server.get("/metrics", "")[2].decode()
        counts = re.findall(r'^ratemill_api_requests_total\{.*route="/v1/.*\} (\S+)$', text, re.MULTILINE)
        return int(sum(map(float, counts)))


# --------------------------------------------------------------------------------------------------------- the checker


@dataclass
class _State:
    """What answers of one published state said, by organization and currency, for each key."""

    consumed: dict[str, dict[tuple[str, str], Decimal]] = field(default_factory=dict)
    invoiced: dict[str, dict[tuple[str, str], Decimal]] = field(default_factory=dict)


class Checker(threading.Thread):
    """Asks for consumption and invoices all the while, and holds answers of one state against each other."""

    def __init__(self, server: Server, secrets: Sequence[str], first: BillingPeriod, last: BillingPeriod) -> None:
        super().__init__(daemon=True)
        self._server, self._secrets = server, secrets
        months = {"first_period": str(first), "last_period": str(last)}
        self._consumption = f"/v1/consumption?{urlencode({**months, 'group_by': 'organization', 'page_size': 1000})}"
        self._invoices = f"/v1/invoices?{urlencode({**months, 'page_size': 1000})}"
        self._ended = threading.Event()
        self._states: dict[str, _State] = defaultdict(_State)
        self._tags: dict[tuple[str, str, str], str] = {}
        self.asked = 0
        """Requests so far, which are none of the load's."""
        self._answers = self._begun_again = 0
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        """Until it is ended."""
        try:
            while not self._ended.wait(PAUSE_SECONDS):
                for secret in self._secrets:
                    self._consumed(secret)
                    self._invoiced(secret)
        except Exception as error:  # noqa: BLE001 - of a thread; raised by who ends it
            self._error = error

    def end(self) -> None:
        """Stop asking, and raise what was found.

        Raises:
            InvariantError: an answer mixed two states, or two answers of one state contradict each other.
        """
        self._ended.set()
        self.join()
        if self._error is not None:
            raise self._error

    def tell(self) -> None:
        """How much was compared.

        Raises:
            DataRefusedError: nothing was, so nothing is known.
        """
        both = sum(1 for state in self._states.values() if state.consumed and state.invoiced)
        tell(
            f"{self._answers:,} answers of {len(self._states)} published states were compared, consumption with"
            f" invoices in {both}: none mixed two; {self._begun_again} lists were begun again after a publish"
        )
        if not both:
            raise DataRefusedError("no state was seen by two answers")

    def _consumed(self, secret: str) -> None:
        answers = self._pages(self._consumption, secret)
        items = [row for answer in answers for row in answer["items"]]
        sums = _sums(items, "organization_id")
        totals: dict[str, Decimal] = defaultdict(Decimal)
        for (_, currency), amount in sums.items():
            totals[currency] += amount
        told = {row["untaxed"]["currency"]: Decimal(row["untaxed"]["amount"]) for row in answers[0]["totals"]}
        _require(told == totals, f"consumption: the rows add up to {dict(totals)}, and the answer says {told}")
        snapshot = answers[0]["snapshot"]
        state = self._states[snapshot]
        self._same(snapshot, "consumption", state.consumed, secret, sums)
        if secret in state.invoiced:
            self._agree(snapshot, sums, state.invoiced[secret])

    def _invoiced(self, secret: str) -> None:
        answers = self._pages(self._invoices, secret)
        rows = [row for answer in answers for row in answer["items"]]
        sums = _sums([row for row in rows if row["corrects_invoice_id"] is None], "organization_id")
        snapshot = answers[0]["snapshot"]
        state = self._states[snapshot]
        self._same(snapshot, "invoices", state.invoiced, secret, sums)
        if secret in state.consumed:
            self._agree(snapshot, state.consumed[secret], sums)

    def _same(self, snapshot: str, what: str, known: dict[str, dict[tuple[str, str], Decimal]], secret: str,
              sums: dict[tuple[str, str], Decimal]) -> None:  # fmt: skip
        said = known.setdefault(secret, sums)
        _require(said == sums, f"{what} of state {snapshot}: {sums} now, and {said} before")

    def _agree(self, snapshot: str, consumed: dict[tuple[str, str], Decimal],
               invoiced: dict[tuple[str, str], Decimal]) -> None:  # fmt: skip
        differing = {key for key in consumed.keys() | invoiced.keys()
                     if consumed.get(key, Decimal()) != invoiced.get(key, Decimal())}  # fmt: skip
        _require(not differing, f"state {snapshot}: consumption is not what invoices say, of {sorted(differing)}")

    def _pages(self, path: str, secret: str) -> list[dict[str, Any]]:
        """All pages of a list, of one state: it is begun again where bills are published in between."""
        while True:
            answers: list[dict[str, Any]] = []
            cursor = ""
            while True:
                asked = f"{path}&{urlencode({'cursor': cursor})}" if cursor else path
                self.asked += 1
                status, headers, content = self._server.get(asked, secret)
                if status == http.client.GONE:
                    self._begun_again += 1
                    break
                _require(status == http.client.OK, f"{asked}: {status} {content[:500].decode()}")
                answer = json.loads(content)
                self._answers += 1
                answers.append(answer)
                tag = self._tags.setdefault((asked, secret, answer["snapshot"]), headers["etag"])
                _require(tag == headers["etag"], f"{asked}: two answers of state {answer['snapshot']} differ")
                cursor = answer["next_cursor"] or ""
                if not cursor:
                    _require(len({one["snapshot"] for one in answers}) == 1, f"{path}: pages of several states")
                    return answers


def _sums(rows: list[dict[str, Any]], by: str) -> dict[tuple[str, str], Decimal]:
    sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for row in rows:
        sums[row[by], row["untaxed"]["currency"]] += Decimal(row["untaxed"]["amount"])
    return dict(sums)


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 - reads like assert, and stays with -O
    if not holds:
        raise InvariantError(message)


def tell(text: str) -> None:
    """A line that is there at once: a large month takes its time."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
