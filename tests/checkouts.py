"""A checkout as a reader of the README has it after ``make setup``, without installing everything once more."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_PARTS = (
    "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "data", "docs", "pipelines", "pyproject.toml", "requirements",
    "sql", "templates", "tests",
)  # fmt: skip


def reader_checkout(folder: Path) -> tuple[Path, dict[str, str]]:
    """A folder with the project's files (links) and a ``.venv`` that starts this interpreter; and the environment.

    ``pytest`` and the linters are stand-ins that do nothing: what asks for this is one of the tests itself.
    """
    checkout = folder / "ratemill"
    tools = checkout / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name in _PARTS:
        (checkout / name).symlink_to(ROOT / name)
    start = f'PYTHONPATH="{ROOT / "pipelines"}" exec "{sys.executable}"'
    _script(tools / "ratemill", f'{start} -m ratemill "$@"')
    for name in ("python", "python3"):
        _script(tools / name, f'{start} "$@"')
    for name in ("pytest", "ruff", "mypy"):
        _script(tools / name, "exit 0")
    for mark in (".locked", ".installed"):  # what make setup leaves behind when it is done
        (checkout / ".venv" / mark).touch()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "TZ": "UTC",
    }
    return checkout, environment


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
