"""Charges as immutable Parquet: one folder per period and run, with a manifest that says what is in it."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.io.atomic import StagedFolder, remove_folder, write_file
from ratemill.tables.charges import CHARGES, UNPRICED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ratemill.period import BillingPeriod

MANIFEST = "manifest.json"
UNPRICED_FILE = "unpriced.parquet"
INVOICED_FILE = "invoiced.parquet"
_ROW_GROUP = 250_000


@dataclass(frozen=True)
class StoredRun:
    """The folder of one run, as it lies on disk."""

    period: str
    run_id: str
    size: int
    """Bytes."""
    written: int
    """When its newest file was written, in nanoseconds: each time the run is drafted."""


@dataclass(frozen=True)
class ChargeStore:
    """Folder ``state/charges``."""

    root: Path

    def folder(self, period: BillingPeriod | str, run_id: str) -> Path:
        """Where the charges of a run are."""
        return self.root / f"period={period}" / f"run={run_id}"

    @contextmanager
    def writing(self, period: BillingPeriod, run_id: str) -> Iterator[ChargeWriter]:
        """Write a run's charges aside; they appear when the block ends well."""
        with StagedFolder(self.folder(period, run_id)) as folder:
            writer = ChargeWriter(folder)
            yield writer
            writer.finish()

    def add_invoiced(self, period: BillingPeriod, run_id: str, charges: pl.DataFrame) -> None:
        """Put the charges that invoicing adds (rounding, fees, discounts, …) beside those that rating made.

        Killed between the two files, the manifest lacks the hash, or has a former one; the run is then not yet
        current, and is invoiced again.
        """
        folder = self.folder(period, run_id)
        data = as_parquet(charges)
        manifest = self.manifest(period, run_id)
        manifest["files"][INVOICED_FILE] = hashlib.sha256(data).hexdigest()
        write_file(folder / INVOICED_FILE, data)
        write_file(folder / MANIFEST, _manifest_text(manifest))

    def usage_charges(self, period: BillingPeriod | str, run_id: str) -> pl.LazyFrame:
        """Charges that rating made: of kind usage, cap and minimum."""
        return _scan(sorted(self.folder(period, run_id).glob("shard-*.parquet")))

    def usage_parts(self, period: BillingPeriod | str, run_id: str) -> list[pl.LazyFrame]:
        """The same in parts, each small enough to be worked on in memory: every invoice line is in one of them."""
        return [_scan([file]) for file in sorted(self.folder(period, run_id).glob("shard-*.parquet"))]

    def charge_files(self, period: BillingPeriod | str, run_id: str) -> list[Path]:
        """Every file of a run that holds charges."""
        folder = self.folder(period, run_id)
        return [*sorted(folder.glob("shard-*.parquet")), folder / INVOICED_FILE]

    def all_charges(self, period: BillingPeriod | str, run_id: str) -> pl.LazyFrame:
        """Every charge of a run."""
        return _scan(self.charge_files(period, run_id))

    def unpriced(self, period: BillingPeriod | str, run_id: str) -> pl.DataFrame:
        """Usage that found no price."""
        return pl.read_parquet(self.folder(period, run_id) / UNPRICED_FILE, glob=False)

    def has_unpriced(self, period: BillingPeriod | str, run_id: str) -> bool:
        """Whether usage found no price, as far as is known: charges that are gone may have had some."""
        return not (self.folder(period, run_id) / UNPRICED_FILE).is_file() or self.unpriced(period, run_id).height > 0

    def facts(self, period: BillingPeriod | str, run_id: str) -> dict[str, Any]:
        """What rating counted, as its manifest says."""
        facts: dict[str, Any] = self.manifest(period, run_id)["facts"]
        return facts

    def manifest(self, period: BillingPeriod | str, run_id: str) -> dict[str, Any]:
        """What is in a run's folder: ``charges`` (rows that rating made), ``files`` (name → SHA-256), ``facts``."""
        manifest: dict[str, Any] = json.loads((self.folder(period, run_id) / MANIFEST).read_text(encoding="utf-8"))
        return manifest

    def hashes(self, period: BillingPeriod | str, run_id: str) -> dict[str, str]:
        """SHA-256 of every file of a run as it is on disk now, by its path below this folder."""
        files = sorted(path for path in self.folder(period, run_id).rglob("*") if path.is_file())
        return {path.relative_to(self.root).as_posix(): _file_sha256(path) for path in files}

    def stored(self) -> list[StoredRun]:
        """Every run whose charges are here, by period and run."""
        found = []
        for folder in sorted(self.root.glob("period=*/run=*")):
            files = [path.stat() for path in folder.iterdir() if path.is_file()]
            if files:
                period, run_id = (name.partition("=")[2] for name in (folder.parent.name, folder.name))
                written = max(status.st_mtime_ns for status in files)
                found.append(StoredRun(period, run_id, sum(status.st_size for status in files), written))
        return found

    def remove(self, period: BillingPeriod | str, run_id: str) -> None:
        """Delete the charges of a run that is no longer needed."""
        remove_folder(self.folder(period, run_id))


class ChargeWriter:
    """Writes the files of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unpriced: list[pl.DataFrame] = []
        self._shards = 0
        self.charges = 0
        self.facts: dict[str, Any] = {}

    def write_shard(self, charges: pl.DataFrame, unpriced: pl.DataFrame) -> None:
        """Write the next shard."""
        _write(charges, self.folder / f"shard-{self._shards:04d}.parquet")
        self._shards += 1
        self.charges += charges.height
        self.unpriced.append(unpriced)

    def take_shard(self, file: Path, charges: int, unpriced: pl.DataFrame) -> None:
        """Take the next shard, which was written elsewhere as :func:`as_parquet` does."""
        shutil.move(file, self.folder / f"shard-{self._shards:04d}.parquet")
        self._shards += 1
        self.charges += charges
        self.unpriced.append(unpriced)

    def replace_unpriced(self, unpriced: pl.DataFrame) -> None:
        """Put unpriced usage of all shards together in the place of each shard's."""
        self.unpriced = [unpriced]

    def finish(self) -> None:
        """Write unpriced usage and the manifest."""
        if not self._shards:
            _write(CHARGES.empty(), self.folder / "shard-0000.parquet")
        _write(pl.concat([UNPRICED.empty(), *self.unpriced]), self.folder / UNPRICED_FILE)
        hashes = {file.name: _file_sha256(file) for file in sorted(self.folder.iterdir())}
        manifest = {"charges": self.charges, "files": hashes, "facts": self.facts}
        (self.folder / MANIFEST).write_bytes(_manifest_text(manifest))


def _manifest_text(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False, default=str) + "\n").encode()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _scan(files: list[Path]) -> pl.LazyFrame:
    """Files of our own; a workspace's path may hold what Polars takes for wildcards."""
    return pl.scan_parquet(files, glob=False, hive_partitioning=False)


def _write(rows: pl.DataFrame, path: Path) -> None:
    path.write_bytes(as_parquet(rows))


def as_parquet(rows: pl.DataFrame) -> bytes:
    """Equal frames give equal bytes: one chunk, fixed row groups.

    Made in memory, because Polars does not say that a disk is full: it calls the file out of specification.
    """
    buffer = io.BytesIO()
    rows.rechunk().write_parquet(buffer, compression="zstd", compression_level=1, row_group_size=_ROW_GROUP)
    return buffer.getvalue()
