"""E-invoices in a folder of their own, with a manifest written last."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from ratemill.io.atomic import PRIVATE_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MANIFEST = "manifest.json"
_MARK = "einvoice_syntax"


def write_einvoice(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    """Write one file; what the manifest says of every file."""
    path = folder / name
    path.write_bytes(data)
    path.chmod(PRIVATE_FILE)
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def write_manifest(folder: Path, syntax: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """``manifest.json``. Where it is, everything is."""
    manifest = {_MARK: syntax, **facts}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return manifest


def is_export(folder: Path) -> bool:
    """Whether ``folder`` is a former export, which a new one may replace."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and _MARK in manifest
