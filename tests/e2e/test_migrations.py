"""A warehouse of a former layout is brought up to date, or refused; killed meanwhile, it is old or new.

No layout was released before the present one, so the steps up are of this test: the mechanism is the program's own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys

import duckdb
import pytest

from ratemill.config import Engine
from ratemill.errors import ExitCode, UsageError
from ratemill.io import warehouse as module
from ratemill.io.warehouse import FORMAT, Warehouse
from workspaces import ADDRESSED, SOURCE_ROOT, TinyWorkspace, make_workspace, month_of_usage

pytestmark = pytest.mark.slow

LATER = FORMAT + 2
STEPS = {
    f"{FORMAT:04}_to_{FORMAT + 1:04}.sql": """-- Who delivered a file.
ALTER TABLE raw.usage_files ADD COLUMN supplier VARCHAR;
UPDATE raw.usage_files SET supplier = 'us; the only one';
""",
    f"{FORMAT + 1:04}_to_{FORMAT + 2:04}.sql": """-- Notes on runs.
CREATE TABLE ops.notes (run_id VARCHAR NOT NULL, note VARCHAR NOT NULL);
INSERT INTO ops.notes SELECT run_id, 'kept' FROM ops.runs;
""",
}


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A closed month in today's layout."""
    shop = make_workspace(
        tmp_path_factory.mktemp("closed") / "shop", usage=month_of_usage(), book={"accounts": ADDRESSED}
    )
    assert shop.run().code == ExitCode.DONE
    assert shop.close().code == ExitCode.DONE
    return shop


@pytest.fixture
def shop(closed, tmp_path):
    """A copy of it, for a test of its own."""
    shutil.copytree(closed.root, tmp_path / "shop")
    return TinyWorkspace(tmp_path / "shop")


@pytest.fixture
def later(monkeypatch, tmp_path):
    """The program of two layouts later; the folder of its steps."""
    folder = tmp_path / "sql" / "migrations"
    folder.mkdir(parents=True)
    for name, text in STEPS.items():
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(module, "FORMAT", LATER)
    monkeypatch.setattr(module, "shipped", lambda name: tmp_path / name)
    return folder


def warehouse_of(shop):
    return shop.root / "state" / "warehouse.duckdb"


def asked(shop, query, name="warehouse.duckdb"):
    with duckdb.connect(str(shop.root / "state" / name), read_only=True) as connection:
        return connection.execute(query).fetchall()


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_former_layout_is_migrated_once_and_what_was_closed_is_still_proven(shop, later):
    before = digest(warehouse_of(shop))
    ended = shop.command("load")
    assert ended.code == ExitCode.DONE, ended.stderr
    assert "migrating warehouse.duckdb from layout 4 to 6; as it was: warehouse.layout-4.duckdb" in ended.stderr
    assert asked(shop, "SELECT version FROM ops.format") == [(LATER,)]
    assert asked(shop, "SELECT DISTINCT supplier FROM raw.usage_files") == [("us; the only one",)]
    assert asked(shop, "SELECT note FROM ops.notes") == [("kept",)]
    assert digest(shop.root / "state" / "warehouse.layout-4.duckdb") == before

    ((details,),) = asked(shop, "SELECT details FROM ops.events WHERE act = 'migrated'")
    files = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in STEPS.items()}
    assert json.loads(details) == {"from": FORMAT, "to": LATER, "files": files}
    proven = shop.command("verify")
    assert proven.code == ExitCode.DONE, proven.stderr
    assert proven.summary["periods"][0]["derived"]
    assert "migrating" not in shop.run().stderr
    assert asked(shop, "SELECT count(*) FROM ops.events WHERE act = 'migrated'") == [(1,)]


def test_a_later_layout_is_refused_and_not_touched(shop, monkeypatch):
    before = digest(warehouse_of(shop))
    monkeypatch.setattr(module, "FORMAT", FORMAT - 1)
    ended = shop.run()
    assert ended.code == ExitCode.USAGE
    assert f"has layout {FORMAT}, and this version of ratemill knows layouts up to {FORMAT - 1}" in ended.stderr
    assert "install that version, or restore the backup from before it" in ended.stderr
    assert digest(warehouse_of(shop)) == before


def test_what_only_looks_migrates_nothing(shop, later):
    before = digest(warehouse_of(shop))
    looking = Warehouse.open(warehouse_of(shop), Engine(), read_only=True)
    with pytest.raises(UsageError, match="run: ratemill load, which migrates it"), looking:
        pass
    assert digest(warehouse_of(shop)) == before


BROKEN = {
    "a step is missing": (lambda folder: folder.joinpath(f"{FORMAT:04}_to_{FORMAT + 1:04}.sql").unlink(),
                          ExitCode.USAGE, f"there is no way from layout {FORMAT} of the warehouse to {FORMAT + 1}"),
    "a name says nothing": (lambda folder: folder.joinpath("later.sql").write_text("SELECT 1"),
                            ExitCode.USAGE, "later.sql is no migration: its name must be like 0004_to_0005.sql"),
    "the second step fails": (lambda folder: max(folder.iterdir()).write_text("-- x\nDROP TABLE ops.nowhere;"),
                              ExitCode.INTERNAL, "nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_migrated_stays_as_it_was(shop, later, monkeypatch, case):
    spoil, code, words = BROKEN[case]
    spoil(later)
    ended = shop.command("load")
    assert ended.code == code
    assert words in ended.stderr
    assert asked(shop, "SELECT version FROM ops.format") == [(FORMAT,)]
    assert "supplier" not in {name for name, *_ in asked(shop, "DESCRIBE raw.usage_files")}
    monkeypatch.undo()
    assert shop.command("verify").code == ExitCode.DONE, "the former program goes on with it"


DIE = """
import os, signal, sys
from pathlib import Path
from ratemill.io import warehouse as module
from ratemill.io.migrations import Migration
from ratemill.cli import run_command

workspace, shipped, moment = sys.argv[1:]
module.FORMAT, module.shipped = {later}, lambda name: Path(shipped) / name


def dying(function, before):
    def call(*arguments, **named):
        if before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call


if moment == "copied":
    module.copy_aside = dying(module.copy_aside, before=False)
elif moment == "in the middle":
    Migration.apply = dying(Migration.apply, before=False)
elif moment == "before the commit":
    module.Warehouse.record = dying(module.Warehouse.record, before=False)
else:
    module.Warehouse._create_tables = dying(module.Warehouse._create_tables, before=True)
run_command(["load", "--workspace", workspace])
"""
MOMENTS = {"copied": FORMAT, "in the middle": FORMAT, "before the commit": FORMAT, "after the commit": LATER}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_it_migrates_it_is_old_or_new(shop, later, moment):
    script = DIE.replace("{later}", str(LATER))
    killed = subprocess.run(
        [sys.executable, "-c", script, str(shop.root), str(later.parent.parent), moment],
        env={"PYTHONPATH": SOURCE_ROOT}, capture_output=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # DuckDB's log is read by whoever opens it next for writing, so this look is one of them.
    with duckdb.connect(str(warehouse_of(shop))) as connection:
        assert connection.execute("SELECT version FROM ops.format").fetchall() == [(MOMENTS[moment],)]
    assert shop.command("load").code == ExitCode.DONE
    assert asked(shop, "SELECT version FROM ops.format") == [(LATER,)]
    assert asked(shop, "SELECT count(*) FROM ops.events WHERE act = 'migrated'") == [(1,)]
    assert shop.command("verify").code == ExitCode.DONE
