"""Files of issued invoices, ``state/issued/period=P/…``: written once, and copied from then on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratemill.io.atomic import PRIVATE_FILE, StagedFolder, make_private_folder, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ratemill.period import BillingPeriod


@dataclass(frozen=True)
class IssuedStore:
    """Folder ``state/issued``. Which of its files count is what the table DOCUMENTS says, and their hashes."""

    root: Path

    @staticmethod
    def file(period: BillingPeriod | str, name: str) -> str:
        """The path below the folder of what ``out/<period>`` holds as ``name``."""
        return f"period={period}/{name}"

    def write_period(self, period: BillingPeriod, files: Iterable[tuple[str, bytes]]) -> dict[str, str]:
        """Write all files of a period, given by their name in ``out/<period>``; path below the folder → SHA-256.

        They take the place of what a close that did not come to its end left there. Never call it for a closed period.

        Raises:
            TemporaryError, UsageError: as :class:`StagedFolder`; nothing has changed.
        """
        hashes: dict[str, str] = {}
        with StagedFolder(self.root / f"period={period}") as folder:
            for name, data in files:
                path = folder / name
                make_private_folder(path.parent)
                path.write_bytes(data)
                path.chmod(PRIVATE_FILE)
                hashes[self.file(period, name)] = hashlib.sha256(data).hexdigest()
        return hashes

    def add(self, file: str, data: bytes) -> str:
        """Write one more file of a closed period (a credit note by hand); its SHA-256."""
        write_file(self.root / file, data)
        return hashlib.sha256(data).hexdigest()

    def read(self, file: str) -> bytes:
        """The bytes of a file, by its path below the folder."""
        return (self.root / file).read_bytes()

    def files(self, period: BillingPeriod | str) -> list[str]:
        """Every file that is there for a period, by its path below the folder."""
        folder = self.root / f"period={period}"
        return sorted(path.relative_to(self.root).as_posix() for path in folder.rglob("*") if path.is_file())
