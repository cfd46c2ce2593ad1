"""A workspace to fill in: settings with their defaults, and a book of headers."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from ratemill.resources import shipped
from ratemill.tables.book import EVERY_BOOK_TABLE
from ratemill.workspace import CONFIG_FILE

if TYPE_CHECKING:
    from pathlib import Path


def write_empty(folder: Path) -> None:
    """Write the workspace into ``folder``, made if missing: configuration, ``book/*.csv`` without rows, ``usage/``."""
    for part in ("book", "usage"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(shipped("data/sample") / "empty" / CONFIG_FILE, folder / CONFIG_FILE)
    for table in EVERY_BOOK_TABLE:
        (folder / "book" / f"{table.name}.csv").write_text(",".join(table.names) + "\n", encoding="utf-8")
