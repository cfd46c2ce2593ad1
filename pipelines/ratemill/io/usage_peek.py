"""What a usage file holds, as far as its footer says: nothing of its rows is read."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from glob import escape as glob_escape
from typing import TYPE_CHECKING

import duckdb

from ratemill.io.usage_files import FileRefusedError, open_usage_file
from ratemill.resources import sql

if TYPE_CHECKING:
    from datetime import datetime

    from ratemill.config import Usage as UsageConfig
    from ratemill.io.usage_files import UsageFile


@dataclass(frozen=True)
class Peeked:
    """What is seen of a file without reading its rows."""

    refused: str = ""
    """Why it can't be billed from; empty: nothing speaks against it so far."""
    first: datetime | None = None
    """Instant of its first usage; None: the footer does not say."""
    last: datetime | None = None
    unseen: str = "its footer does not say which time it covers"
    """Why ``first`` and ``last`` are not known, where they are not."""
    has_record_ids: bool = False
    """Its records may be the same as records of other months."""


def peek(file: UsageFile, config: UsageConfig) -> Peeked:
    """Look at the footer of ``file``."""
    try:
        opened = open_usage_file(file, config)
    except FileRefusedError as refusal:
        return Peeked(refused=str(refusal))
    columns = opened.mapping.columns
    first = last = None
    with suppress(duckdb.Error), duckdb.connect(config=_CONFIG) as reader:
        reader.execute("SET TimeZone = 'UTC'")
        place = {"file": glob_escape(str(file.path)), "column": columns["usage_start"]}
        first, last = reader.execute(sql("raw/parquet_span"), place).fetchone() or (None, None)
    return Peeked(first=first, last=last, has_record_ids="record_id" in columns)


_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
