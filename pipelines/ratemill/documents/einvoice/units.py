"""Codes of units: UN/ECE Recommendations 20 and 21, from data/einvoice/units.csv."""

from __future__ import annotations

import csv
from functools import cache

from ratemill.resources import shipped

PIECE = "C62"
"""The code of what has no code of its own: one."""


def unit_code(unit: str) -> str:
    """The code of a pricing unit; C62 where the list has none for it.

    Words are found in any case (``Hours``), symbols as they are written: MB is a megabyte, and Mb is none.
    """
    text = " ".join(unit.split())
    return _codes().get(text) or _codes().get(text.casefold(), PIECE)


@cache
def _codes() -> dict[str, str]:
    with (shipped("data/einvoice") / "units.csv").open(encoding="utf-8", newline="") as stream:
        return {row["unit"]: row["code"] for row in csv.DictReader(stream)}
