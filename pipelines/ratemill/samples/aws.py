"""The real sample: one month of anonymised AWS usage, with a book derived from it (data/sample/aws/README.md)."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from ratemill.period import BillingPeriod
from ratemill.resources import shipped
from ratemill.workspace import CONFIG_FILE

if TYPE_CHECKING:
    from pathlib import Path

PERIOD = BillingPeriod(2024, 9)
"""The month the usage is of."""


def write_aws(folder: Path) -> None:
    """Write the workspace into ``folder``, made if missing; the attribution goes with it."""
    source = shipped("data/sample") / "aws"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG_FILE, "README.md"):
        shutil.copyfile(source / name, folder / name)
    for part, pattern in (("book", "*.csv"), ("usage", "*.parquet")):
        (folder / part).mkdir(exist_ok=True)
        for file in sorted((source / part).glob(pattern)):
            shutil.copyfile(file, folder / part / file.name)
