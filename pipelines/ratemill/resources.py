"""Where the shipped sql/, templates/ and data/ are: beside the package (installed) or at the top of a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent.parent


@cache
def shipped(folder: str) -> Path:
    """Path of a shipped folder, for example ``sql`` or ``data/sample``.

    Raises:
        FileNotFoundError: naming both places, when the installation is broken.
    """
    installed = _PACKAGE / folder
    if installed.is_dir():
        return installed
    checkout = _CHECKOUT / folder
    if checkout.is_dir() and (_CHECKOUT / "pyproject.toml").is_file():
        return checkout
    raise FileNotFoundError(f"the installation lacks {folder}: neither {installed} nor {checkout} exists")


@cache
def sql(name: str) -> str:
    """Text of a shipped query, by path below sql/ without ending: ``core/metered_usage``."""
    return (shipped("sql") / f"{name}.sql").read_text(encoding="utf-8")
