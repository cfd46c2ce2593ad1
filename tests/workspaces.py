"""Tiny workspaces: two accounts, three SKUs, a day of usage, and the command run on them.

::

    shop = make_workspace(tmp_path, usage=hours(quantity="-1"), config={"policy": {"max_rejected_share": "1"}})
    ended = shop.run()                     # `ratemill run --period 2026-10 --json`, in this process
    assert ended.code == ExitCode.DONE
    assert ended.rows["rejected"] == 24

Every workspace bills :data:`PERIOD` at the clock :data:`NOW`, so that a test means the same in ten years.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

import ratemill
from ratemill.cli import run_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PERIOD = "2026-10"
NOW = "2026-11-02T06:00:00Z"
SOURCE_ROOT = str(Path(ratemill.__file__).resolve().parents[1])

CONFIG: Mapping[str, Mapping[str, Any]] = {
    "seller": {"name": "Example Cloud", "country": "FR", "address": ["1 Example Square", "Lyon"], "tax_id": "FR00123"},
    # Most tests look at amounts and messages; documents cost most of a run's time.
    "output": {"pdf": False, "html": False, "einvoice": "off"},
}

BOOK: Mapping[str, Sequence[Mapping[str, str]]] = {
    "accounts": [
        {"account_id": "acme", "name": "Acme", "country": "FR", "currency": "EUR", "tax_code": ""},
        {"account_id": "globex", "name": "Globex", "country": "DE", "currency": "EUR", "tax_code": ""},
    ],
    "skus": [
        {
            "sku_id": sku,
            "service": service,
            "category": category,
            "name": name,
            "usage_unit": unit,
            "pricing_unit": priced,
            "units_per_pricing_unit": divisor,
        }
        for sku, service, category, name, unit, priced, divisor in (
            ("vm", "Compute", "Compute", "VM, small", "Hours", "Hours", "1"),
            ("disk", "Block Storage", "Storage", "Disk", "GiB-Hours", "GiB-Months", "hours_in_month"),
            ("egress", "Network", "Networking", "Egress", "GiB", "GiB", "1"),
        )
    ],
    "prices": [
        {
            "price_id": f"{sku}-eur",
            "price_list": "public",
            "sku_id": sku,
            "currency": "EUR",
            "valid_from": "",
            "valid_to": "",
            "unit_price": unit_price,
        }
        for sku, unit_price in (("vm", "0.10"), ("disk", "0.0744"), ("egress", "0.05"))
    ],
    "taxes": [
        {"tax_code": "fr", "country": "FR", "rate": "20", "kind": "standard"},
        {"tax_code": "de", "country": "DE", "rate": "19", "kind": "standard"},
    ],
}
"""The good book. Tests replace whole tables: ``book={"prices": [row | {...} for row in BOOK["prices"]]}``."""

UNITS = {row["sku_id"]: row["usage_unit"] for row in BOOK["skus"]}

QUANTITY = pl.Decimal(38, 12)


def hours(
    account: str = "acme",
    sku: str = "vm",
    *,
    resource: str | None = "vm-1",
    first: str = "2026-10-01T00:00:00Z",
    count: int = 24,
    quantity: str = "1",
    **columns: Any,
) -> pl.DataFrame:
    """Usage of one resource, hour after hour; ``columns`` are added or replace what is there."""
    start = datetime.fromisoformat(first).astimezone(UTC)
    starts = [start + timedelta(hours=hour) for hour in range(count)]
    return pl.DataFrame(
        {
            "account_id": [account] * count,
            "resource_id": pl.Series([resource] * count, dtype=pl.String),
            "sku_id": [sku] * count,
            "usage_start": pl.Series(starts, dtype=pl.Datetime("us", "UTC")),
            "quantity": pl.Series([Decimal(quantity)] * count, dtype=QUANTITY),
            "unit": pl.Series([UNITS.get(sku)] * count, dtype=pl.String),
        }
    ).with_columns(**{name: pl.lit(value) for name, value in columns.items()})


def good_usage() -> pl.DataFrame:
    """A day of both accounts and all three SKUs: acme 24 × 0.10 and 24 × 0.05, globex a 1000 GiB disk for a day."""
    return pl.concat(
        [
            hours(),
            hours(sku="egress", resource="nic-1"),
            hours("globex", "disk", resource="disk-1", quantity="1000"),
        ]
    )


ADDRESSED = [row | {"address_line1": "1 Example Street", "city": "Lyon"} for row in BOOK["accounts"]]
"""Accounts that invoices can be sent to, as a close wants them: ``book={"accounts": ADDRESSED}``."""


def month_of_usage(first: str = "2026-10-01T00:00:00Z", count: int = 744, **columns: Any) -> pl.DataFrame:
    """Each hour of a month: acme a machine, globex a disk. No hour is missing, which a close would ask about."""
    return pl.concat(
        [
            hours(first=first, count=count, **columns),
            hours("globex", "disk", resource="disk-1", first=first, count=count, quantity="1000", **columns),
        ]
    )


GOOD_TOTAL = {"acme": "3.60", "globex": "2.40"}
"""Untaxed amount of :func:`good_usage` per account."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON object in the last line of stdout."""
        summary: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return summary

    @property
    def rows(self) -> dict[str, int]:
        """Counts of usage rows of the one period, proven to add up."""
        (period,) = self.summary["periods"]
        rows: dict[str, int] = period["rows"]
        assert_rows_add_up(rows)
        return rows

    @property
    def findings(self) -> list[dict[str, Any]]:
        """Every finding, of the period and of loading."""
        summary = self.summary
        return [*summary.get("findings", []), *(f for period in summary.get("periods", []) for f in period["findings"])]

    def finding(self, rule: str) -> dict[str, Any]:
        """The one finding of ``rule``."""
        found = [finding for finding in self.findings if finding["rule"] == rule]
        assert len(found) == 1, f"{len(found)} findings of {rule} in {[f['rule'] for f in self.findings]}: {self}"
        return found[0]


def assert_rows_add_up(rows: Mapping[str, int]) -> None:
    """Rows in = filtered + rejected + duplicates + accepted (billed now or kept for another month)."""
    assert rows["in"] > 0, "nothing was counted"
    parts = ("filtered", "rejected", "duplicate", "billed", "other_periods")
    assert rows["in"] == sum(rows[part] for part in parts), rows
    assert rows["unpriced"] <= rows["billed"], rows


@dataclass(frozen=True)
class TinyWorkspace:
    """A workspace of a test."""

    root: Path

    def copied(self, folder: Path) -> TinyWorkspace:
        """The workspace as it is, in a folder of its own that is there and empty."""
        return TinyWorkspace(shutil.copytree(self.root, folder, dirs_exist_ok=True))

    def run(self, *options: str, period: str = PERIOD, process: bool = False) -> Ended:
        """``ratemill run``, see :meth:`command`."""
        return self.command("run", "--period", period, "--as-of", NOW, *options, process=process)

    def close(
        self, *options: str, period: str = PERIOD, now: str = NOW, waive: Iterable[str] = (), process: bool = False
    ) -> Ended:
        """``ratemill close`` with the points of ``waive`` waived, see :meth:`command`."""
        waivers = [f"--waive={point}=known to the test" for point in waive]
        return self.command("close", "--period", period, "--as-of", now, *waivers, *options, process=process)

    def close_whatever_is_open(self) -> Ended:
        """``ratemill close`` with every open point of the checklist waived."""
        points = self.close("--check").summary["checklist"]
        return self.close(waive=[row["point"] for row in points if row["status"] == "open"])

    def command(self, name: str, *options: str, process: bool = False, json: bool = True) -> Ended:
        """A command on this workspace; ``process``: in a process of its own, as users run it (a second slower)."""
        arguments = [name, "--workspace", str(self.root), *options, *(["--json"] if json else [])]
        return run_process(arguments) if process else run_here(arguments)

    def write_usage(self, name: str, frame: pl.DataFrame, **options: Any) -> Path:
        """Write ``usage/<name>`` with ``options`` of ``write_parquet``."""
        path = self.root / "usage" / name
        frame.write_parquet(path, **options)
        return path

    def write_book(self, name: str, rows: Iterable[Mapping[str, str]] | None) -> None:
        """Write ``book/<name>.csv``; None removes it."""
        path = self.root / "book" / f"{name}.csv"
        if rows is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(as_csv(rows), encoding="utf-8")

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write ``ratemill.toml``: ``config`` over :data:`CONFIG`, section by section."""
        sections = {name: {**CONFIG.get(name, {}), **config.get(name, {})} for name in {**CONFIG, **config}}
        (self.root / "ratemill.toml").write_text(as_toml(sections), encoding="utf-8")

    def written(self) -> dict[str, str]:
        """What users see: each file under out/ and published/ with the hash of its bytes."""
        return {
            **tree(self.root / "out", self.root),
            **tree(self.root / "published", self.root),
        }

    def documents(self) -> dict[str, str]:
        """out/ and the charges, which must be the same after any detour. The database holds the time of the run."""
        return {**tree(self.root / "out", self.root), **tree(self.root / "state" / "charges", self.root)}

    def invoice(self, account: str, period: str = PERIOD, currency: str = "EUR") -> dict[str, Any]:
        """The invoice as ``out/`` has it."""
        path = self.root / "out" / period / "invoices" / f"{account}-{currency}.json"
        invoice: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        return invoice


def make_workspace(
    folder: Path,
    *,
    usage: pl.DataFrame | Sequence[pl.DataFrame] | Mapping[str, pl.DataFrame] | None = None,
    book: Mapping[str, Sequence[Mapping[str, str]] | None] | None = None,
    config: Mapping[str, Any] | None = None,
) -> TinyWorkspace:
    """A workspace under ``folder``.

    Args:
        folder: where; created at need.
        usage: one file ``usage/usage.parquet``, or several: ``usage-0.parquet`` … or by name; default
            :func:`good_usage`, no file for an empty list.
        book: tables that replace those of :data:`BOOK`; None leaves the table out.
        config: sections whose keys come over those of :data:`CONFIG`.
    """
    shop = TinyWorkspace(folder)
    for name in ("book", "usage"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shop.write_config(config or {})
    for name, rows in {**BOOK, **(book or {})}.items():
        shop.write_book(name, rows)
    if usage is None:
        usage = good_usage()
    if isinstance(usage, pl.DataFrame):
        usage = {"usage.parquet": usage}
    elif not isinstance(usage, dict):
        usage = {f"usage-{number}.parquet": frame for number, frame in enumerate(usage)}
    for name, frame in usage.items():
        shop.write_usage(name, frame)
    return shop


def run_process(arguments: Sequence[str], **environment: str) -> Ended:
    """``ratemill …`` in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "ratemill", *arguments],
        env={**os.environ, "PYTHONPATH": SOURCE_ROOT, "PYTHONUTF8": "1", **environment},
        capture_output=True,
        timeout=240,
        check=False,
    )
    told = Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())
    assert "Traceback" not in told.stderr, told.stderr
    return told


def run_here(arguments: Sequence[str]) -> Ended:
    """``ratemill …`` in this process: the same code from the command line on, without the second that imports take."""
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n") for _ in range(2))
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = {number: signal.getsignal(number) for number in signals}
    try:
        with redirect_stdout(stdout), redirect_stderr(stderr):
            code = int(run_command(list(arguments)))
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    told = []
    for stream in (stdout, stderr):
        stream.flush()
        told.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    return Ended(code, *told)


def tree(folder: Path, root: Path) -> dict[str, str]:
    """Path below ``root`` → SHA-256, of every file in ``folder``; folders and links count as well."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def as_csv(rows: Iterable[Mapping[str, str]]) -> str:
    """Rows as CSV; every column that any of them has."""
    listed = list(rows)
    names = list(dict.fromkeys(name for row in listed for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return text.getvalue()


def as_toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Sections as TOML. JSON spells text, numbers, truth and lists of them as TOML does; tables are written inline."""
    lines = []
    for name, values in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{_key(key)} = {_toml(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


def _key(key: str) -> str:
    return json.dumps(key)
