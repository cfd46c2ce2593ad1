"""Backups as operations rely on them: of one moment, whole, proven, and enough for another machine.

Goal: what was issued is never lost, and no number is ever given twice because of a restore. Method: a month is closed,
backed up, and restored at another place (and as another user); the ledger is proven there, and the next month is closed.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from disks import fill, needs_root, small_disk
from ratemill.errors import ExitCode
from workspaces import (
    ADDRESSED,
    NOW,
    PERIOD,
    SOURCE_ROOT,
    Ended,
    TinyWorkspace,
    hours,
    make_workspace,
    month_of_usage,
    run_here,
    run_process,
    tree,
)

pytestmark = pytest.mark.slow

NOVEMBER = "2026-11"
AFTER_NOVEMBER = "2026-12-02T06:00:00Z"
NOBODY = 65534


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """October closed, with two invoices."""
    folder = tmp_path_factory.mktemp("closed") / "shop"
    shop = make_workspace(folder, usage={"october.parquet": month_of_usage()}, book={"accounts": ADDRESSED})
    (folder / "notes.txt").write_text("ours", encoding="utf-8")
    assert shop.run().code == ExitCode.DONE
    assert shop.close().code == ExitCode.DONE
    return shop


@pytest.fixture
def shop(closed, tmp_path):
    """A copy of it, for a test of its own."""
    shutil.copytree(closed.root, tmp_path / "shop")
    return TinyWorkspace(tmp_path / "shop")


def back_up(shop, *options) -> dict:
    ended = shop.command("backup", str(shop.root.parent / "backups"), *options)
    assert ended.code == ExitCode.DONE, ended.stderr
    return ended.summary


def restore(*words) -> Ended:
    return run_here(["restore", *map(str, words), "--json"])


def bill_november(shop) -> Ended:
    shop.write_usage("november.parquet", month_of_usage(first="2026-11-01T00:00:00Z", count=720))
    assert shop.run("--as-of", AFTER_NOVEMBER, period=NOVEMBER).code == ExitCode.DONE
    return shop.close(period=NOVEMBER, now=AFTER_NOVEMBER)


def test_another_machine_goes_on_from_a_backup(shop):
    made = back_up(shop, "--usage")
    assert (made["closed"], made["periods"], made["last_numbers"]) == ([PERIOD], [PERIOD], {"2026-{number:05}": 2})
    shutil.rmtree(shop.root)

    elsewhere = TinyWorkspace(shop.root.parent / "other machine" / "billing")
    restored = restore(made["backup"], elsewhere.root)
    assert restored.code == ExitCode.DONE, restored.stderr
    assert restored.summary["last_act"] == made["last_act"]
    assert {path.name for path in elsewhere.root.iterdir()} == {"book", "notes.txt", "ratemill.toml", "state", "usage"}

    assert elsewhere.run().code == ExitCode.DONE, "out and published are made again"
    assert elsewhere.run().summary["periods"][0]["nothing_to_do"]
    proven = elsewhere.command("verify", "--expect", made["last_act"]["sha256"])
    assert proven.code == ExitCode.DONE, proven.stderr
    assert proven.summary["periods"][0]["derived"]
    november = bill_november(elsewhere)
    assert november.code == ExitCode.DONE, november.stderr
    assert november.summary["closed"]["first_number"] == "2026-00003"


def test_usage_that_is_loaded_need_not_be_kept(shop):
    shop.write_usage("late.parquet", hours(resource="vm-late", count=3))  # not loaded yet: nowhere else
    made = back_up(shop)
    target = TinyWorkspace(shop.root.parent / "restored")
    assert restore(made["backup"], target.root).code == ExitCode.DONE
    assert [path.name for path in (target.root / "usage").iterdir()] == ["late.parquet"]
    (target.root / "usage" / "late.parquet").unlink()
    ended = target.run()
    assert ended.code == ExitCode.DONE
    assert ended.finding("usage.file_gone")["file"] == "usage/october.parquet"
    assert target.command("verify").code == ExitCode.DONE, "its rows are in the warehouse"


AS_ANOTHER = """
import os, sys
from ratemill.cli import run_command

backup, rehearsal, target, user, period, now = sys.argv[1:]


def use(folder):
    run = ["run", "--workspace", folder, "--period", period, "--as-of", now]
    return [run_command(words) for words in (["restore", backup, folder], run, ["verify", "--workspace", folder])]


assert use(rehearsal) == [0, 0, 0]  # what is imported on the way may be out of the other user's reach
os.setgroups([])
os.setgid(int(user))
os.setuid(int(user))
assert use(target) == [0, 0, 0]
"""


@needs_root
def test_as_another_user(shop):
    """What root backed up is restored, billed and proven by a user who has nothing else."""
    made = back_up(shop)
    home = shop.root.parent / "nobody"
    shutil.copytree(made["backup"], home / "backup")
    for path in (home, *home.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    for folder in home.parents:
        folder.chmod(folder.stat().st_mode | 0o011)
    words = (home / "backup", home.parent / "rehearsal", home / "billing", NOBODY, PERIOD, NOW)
    ended = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER, *map(str, words)],
        env={"PYTHONPATH": SOURCE_ROOT}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert {path.stat().st_uid for path in (home / "billing").rglob("*")} == {NOBODY}
    assert {(home / name).stat().st_mode & 0o077 for name in ("billing", "billing/state", "billing/out")} == {0}


def test_the_second_backup_links_to_the_first_and_each_is_whole(shop):
    first = back_up(shop, "--usage")
    assert bill_november(shop).code == ExitCode.DONE
    second = back_up(shop, "--usage")
    assert (first["linked"], second["closed"]) == (0, [PERIOD, NOVEMBER])
    old, new = (shop.root.parent / "backups" / made["backup"].rpartition("/")[2] for made in (first, second))
    issued = f"state/issued/period={PERIOD}/invoices/acme-EUR.json"
    assert (old / issued).samefile(new / issued)
    assert second["linked"] > 5
    assert not (new / issued).samefile(shop.root / issued), "what spoils the workspace must not spoil its backups"
    assert not (old / "state/warehouse.duckdb").samefile(new / "state/warehouse.duckdb")
    shutil.rmtree(old)
    assert restore(new, "--check").code == ExitCode.DONE


DAMAGES = {
    "changed": (lambda path: path.write_bytes(path.read_bytes().replace(b"2026-00001", b"2026-00007")),
                "was changed: its SHA-256 is another one"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-5]), "bytes instead of"),
    "removed": (lambda path: path.unlink(), "is missing"),
    "added": (lambda path: path.with_name("acme-USD.json").write_bytes(b"{}"), "does not belong to it"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_named_and_not_restored(shop, damage):
    spoil, words = DAMAGES[damage]
    made = back_up(shop)
    victim = shop.root.parent / "backups" / made["backup"].rpartition("/")[2] / "state" / "issued"
    victim = victim / f"period={PERIOD}" / "invoices" / "acme-EUR.json"
    spoil(victim)
    target = shop.root.parent / "restored"
    for ended in (restore(made["backup"], target), restore(made["backup"], "--check")):
        assert ended.code == ExitCode.DATA_REFUSED
        assert "is damaged: 1 of its" in ended.stderr
        (finding,) = ended.findings
        assert finding["rule"] == "backup.damaged"
        assert "state/issued/period=2026-10/invoices/acme-" in finding["message"]
        assert words in finding["message"]
    assert not target.exists()


def test_a_manifest_that_leads_out_of_its_folder_is_refused(shop):
    made = back_up(shop)
    manifest = shop.root.parent / "backups" / made["backup"].rpartition("/")[2] / "backup.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content["files"]["../../elsewhere"] = next(iter(content["files"].values()))
    manifest.write_text(json.dumps(content), encoding="utf-8")
    ended = restore(made["backup"], shop.root.parent / "restored")
    assert ended.code == ExitCode.DATA_REFUSED
    assert "backup.json is damaged: it is no list of a backup's files" in ended.stderr


def test_a_backup_that_is_older_than_an_invoice_is_refused_as_long_as_anything_tells_of_it(tmp_path):
    shop = make_workspace(tmp_path / "shop", usage=month_of_usage(), book={"accounts": ADDRESSED})
    assert shop.run().code == ExitCode.DONE
    old = back_up(shop)
    assert shop.close().code == ExitCode.DONE

    restored = TinyWorkspace(tmp_path / "restored")
    assert restore(old["backup"], restored.root).code == ExitCode.DONE
    (shop.root / "published").rename(restored.root / "published")
    for ended in (restored.run(), restored.close(), restored.command("backup", str(tmp_path / "backups"))):
        assert ended.code == ExitCode.DATA_REFUSED
        assert "published holds 2 documents that were issued for 2026-10" in ended.stderr
        assert "bring it back from the latest backup" in ended.stderr
    # Where nothing survived but the hash that was noted elsewhere, that tells.
    shutil.rmtree(restored.root / "published")
    kept = json.loads((shop.root / "out" / PERIOD / "manifest.json").read_text(encoding="utf-8"))
    assert kept["issued"], "an invoice did leave the house"
    last = back_up(TinyWorkspace(restored.root))["last_act"]
    assert last == old["last_act"]
    told = run_here(["restore", str(old["backup"]), str(tmp_path / "again")])
    assert f"the last one {last['act']} {last['sha256']}" in told.stdout


def test_keys_of_the_billing_api_are_kept_while_it_answers(shop):
    """It takes no lock; what it committed last is in the log beside its database."""
    database = shop.root / "state" / "api.sqlite"
    with closing(sqlite3.connect(database)) as serving:
        serving.execute("PRAGMA journal_mode = wal")
        serving.execute("CREATE TABLE keys (name TEXT)")
        serving.execute("INSERT INTO keys VALUES ('mona')")
        serving.commit()
        serving.execute("INSERT INTO keys VALUES ('not committed yet')")
        made = back_up(shop)
        assert database.with_name("api.sqlite-wal").stat().st_size
    target = shop.root.parent / "restored"
    assert restore(made["backup"], target).code == ExitCode.DONE
    with closing(sqlite3.connect(target / "state" / "api.sqlite")) as restored:
        assert restored.execute("SELECT name FROM keys").fetchall() == [("mona",)]


def test_a_run_and_a_backup_never_work_at_once(shop):
    code = "import sys, time; from ratemill.io.lock import hold_lock; from pathlib import Path\n"
    code += "with hold_lock(Path(sys.argv[1]), command='ratemill run --period 2026-11'):\n"
    code += "    print('locked', flush=True); time.sleep(float(sys.argv[2]))"
    words = [sys.executable, "-c", code, str(shop.root / "state" / "lock")]
    backups = str(shop.root.parent / "backups")
    with subprocess.Popen([*words, "60"], env={"PYTHONPATH": SOURCE_ROOT}, stdout=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"locked\n"
        refused = shop.command("backup", backups)
        running.kill()
    assert refused.code == ExitCode.LOCKED
    assert "running `ratemill run --period 2026-11`" in refused.stderr
    with subprocess.Popen([*words, "1"], env={"PYTHONPATH": SOURCE_ROOT}, stdout=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"locked\n"
        waited = shop.command("backup", backups, "--wait", "60")
    assert waited.code == ExitCode.DONE


def test_a_place_that_cannot_be_is_refused(shop):
    inside = shop.command("backup", str(shop.root / "backups"))
    assert inside.code == ExitCode.USAGE
    assert "is inside of the workspace" in inside.stderr
    made = back_up(shop)
    for words, told in (
        ((made["backup"], shop.root), "is not empty → name a folder that is new"),
        ((shop.root, shop.root.parent / "x"), "is no backup: it has no backup.json"),
        ((made["backup"],), "name the folder to restore into, or give --check"),
    ):
        ended = restore(*words)
        assert ended.code == ExitCode.USAGE
        assert told in ended.stderr
    assert shop.command("verify").code == ExitCode.DONE, "nothing was touched"


@needs_root
def test_a_full_disk_leaves_no_half_backup(shop, tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        ballast = fill(disk, free_kilobytes=200)
        full = shop.command("backup", str(disk / "backups"))
        assert full.code == ExitCode.TEMPORARY
        assert "disk full" in full.stderr
        assert tree(disk / "backups", disk) == {}
        ballast.unlink()
        assert shop.command("backup", str(disk / "backups")).code == ExitCode.DONE


def test_people_are_told_how_far_it_goes_and_what_comes_next(shop):
    folder = str(shop.root.parent / "backups")
    made = run_process(["backup", folder, "--workspace", str(shop.root), "--quiet"])
    assert made.code == ExitCode.DONE, made.stderr
    place = made.stdout.splitlines()[0]
    told = run_process(["restore", place, str(shop.root.parent / "restored")]).stdout
    assert "number      the last one of 2026-{number:05} is 2" in told
    assert f"→ run: ratemill run --workspace {shop.root.parent / 'restored'} --period 2026-10" in told
    assert "→ run: ratemill verify --workspace" in told
