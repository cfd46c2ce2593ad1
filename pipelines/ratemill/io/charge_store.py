"""Charges as immutable Parquet: one folder per period and run, with a manifest that says what is in it."""

from __future__ import annotations

import hashlib
import io
import json
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
        """Put the charges that invoicing adds (rounding, fees, discounts, …) beside those that rating made."""
        folder = self.folder(period, run_id)
        write_file(folder / INVOICED_FILE, _as_parquet(charges))

    def usage_charges(self, period: BillingPeriod | str, run_id: str) -> pl.LazyFrame:
        """Charges that rating made: of kind usage, cap and minimum."""
        return _scan(sorted(self.folder(period, run_id).glob("shard-*.parquet")))

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

    def facts(self, period: BillingPeriod | str, run_id: str) -> dict[str, Any]:
        """What rating counted, as its manifest says."""
        manifest = json.loads((self.folder(period, run_id) / MANIFEST).read_text(encoding="utf-8"))
        facts: dict[str, Any] = manifest["facts"]
        return facts

    def remove(self, period: BillingPeriod, run_id: str) -> None:
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

    def finish(self) -> None:
        """Write unpriced usage and the manifest."""
        if not self._shards:
            _write(CHARGES.empty(), self.folder / "shard-0000.parquet")
        unpriced = pl.concat([UNPRICED.empty(), *self.unpriced])
        _write(unpriced, self.folder / UNPRICED_FILE)
        hashes = {}
        for file in sorted(self.folder.iterdir()):
            with file.open("rb") as handle:
                hashes[file.name] = hashlib.file_digest(handle, "sha256").hexdigest()
        manifest = {"charges": self.charges, "files": hashes, "facts": self.facts}
        text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False, default=str)
        (self.folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _scan(files: list[Path]) -> pl.LazyFrame:
    """Files of our own; a workspace's path may hold what Polars takes for wildcards."""
    return pl.scan_parquet(files, glob=False, hive_partitioning=False)


def _write(rows: pl.DataFrame, path: Path) -> None:
    path.write_bytes(_as_parquet(rows))


def _as_parquet(rows: pl.DataFrame) -> bytes:
    """Equal frames give equal bytes: one chunk, fixed row groups.

    Made in memory, because Polars does not say that a disk is full: it calls the file out of specification.
    """
    buffer = io.BytesIO()
    rows.rechunk().write_parquet(buffer, compression="zstd", compression_level=1, row_group_size=_ROW_GROUP)
    return buffer.getvalue()
