"""The analyst's hour is played again: every command of the page, on a real terminal, as it stands there."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
]

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_analysts_hour_goes_as_it_is_told(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("docs_session", DOCS / "session.py")
    session = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, session)  # where its dataclasses look for themselves
    spec.loader.exec_module(session)
    page = (DOCS / "analysts-hour.md").read_text(encoding="utf-8")
    folder = tmp_path / "place"
    folder.mkdir()
    screens = session.play(page, folder)  # stops where a command ends otherwise than the page says
    blocks = session.blocks(page)
    assert len(screens) == len(blocks) > 12
    for block, screen in zip(blocks, screens, strict=True):
        assert "Traceback" not in screen, block.text
    shown = "\n".join(screens)
    for words in ("drafts written", "2026-09 can't be closed", "2026-09 is closed", "sent      email", "0 new"):
        assert words in shown, words
    assert (folder / "hour" / "storage.html").is_file()
    assert list((folder / "hour" / "mail" / "new").iterdir())
