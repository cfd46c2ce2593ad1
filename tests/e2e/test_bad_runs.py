"""Runs that must not end well, as users start them: a process, its exit code, its words, and what it leaves behind."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import shutil
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pypdf import PdfReader

from disks import fill, needs_root, small_disk
from ratemill.errors import ExitCode
from workspaces import (
    BOOK,
    GOOD_TOTAL,
    NOW,
    PERIOD,
    SOURCE_ROOT,
    good_usage,
    hours,
    make_workspace,
    run_process,
)

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from pathlib import Path

# ------------------------------------------------------------------------------------------------ command line, toml


ARABIC_DIGITS = "\u0662\u0660\u0662\u0666-10"
WRONG_ARGUMENTS = {
    "period in the future": (["--period", "2026-12"], ["period 2026-12 has not begun: it is 2026-11-02 06:00 UTC",
                                                       "correct --period, or the clock"]),
    "no such month": (["--period", "2026-13"], ["'2026-13' is not a billing period", "for example 2026-10"]),
    "a path": (["--period", "../../etc/passwd"], ["is not a billing period; write it as YYYY-MM"]),
    "other digits": (["--period", ARABIC_DIGITS], [f"'{ARABIC_DIGITS}' is not a billing period"]),
    "a range backwards": (["--period", "2026-10..2026-09"], ["runs backwards; write the earlier period first"]),
    "no period": ([], ["Missing option '--period'", "ratemill run --help"]),
    "no such option": (["--period", PERIOD, "--priod", "x"], ["No such option", "--priod"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_ARGUMENTS)
def test_wrong_arguments_are_a_usage_error_and_touch_nothing(tmp_path, case):
    options, words = WRONG_ARGUMENTS[case]
    make_workspace(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    ended = run_process(["run", "--workspace", str(tmp_path), "--as-of", NOW, "--json", *options])
    assert ended.code == ExitCode.USAGE
    assert [word for word in words if word not in ended.stderr] == [], ended.stderr
    assert (ended.summary["status"], ended.summary["exit_code"]) == ("usage_error", 2)
    left = [path for path in sorted(tmp_path.rglob("*")) if "state" not in path.relative_to(tmp_path).parts]
    assert left == before


CONFIGURATIONS = {
    "no TOML": ("[seller\n", ["ratemill.toml: not valid TOML", "line 1"]),
    "misspelt key": ('[seller]\nname = "X"\ncountry = "FR"\n[policy]\nmax_reject_share = 0\n',
                     ["unknown key policy.max_reject_share; did you mean policy.max_rejected_share?"]),
    "missing key": ('[seller]\nname = "X"\n', ["ratemill.toml: seller.country is missing"]),
    "wrong value": ('[seller]\nname = "X"\ncountry = "France"\n[period]\ntime_zone = "Mars/Base"\n',
                    ["seller.country = 'France'", "'Mars/Base' is not an IANA time zone"]),
    "not UTF-8": (b'[seller]\nname = "Caf\xe9"\n', ["ratemill.toml: not valid TOML"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_a_broken_configuration_says_which_key_and_what_is_expected(tmp_path, case):
    text, words = CONFIGURATIONS[case]
    shop = make_workspace(tmp_path)
    (tmp_path / "ratemill.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = shop.run(process=True)
    assert ended.code == ExitCode.USAGE
    assert [word for word in words if word not in ended.stderr] == [], ended.stderr
    assert not (tmp_path / "state").exists()


def test_a_workspace_that_is_not_there_names_every_place_that_was_tried(tmp_path):
    ended = run_process(["run", "-p", PERIOD, "-w", str(tmp_path / "none")])
    assert ended.code == ExitCode.USAGE
    assert f"no workspace found; tried in order: --workspace: no folder {tmp_path / 'none'}" in ended.stderr
    assert "ratemill init DIR --sample demo" in ended.stderr
    ended = run_process(["run", "-p", PERIOD], RATEMILL_WORKSPACE=str(tmp_path))
    assert ended.code == ExitCode.USAGE
    assert f"--workspace: not set; $RATEMILL_WORKSPACE: {tmp_path} has no ratemill.toml" in ended.stderr
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------ what is told


def test_a_refused_run_tells_people_and_schedulers_the_same(tmp_path):
    shop = make_workspace(tmp_path, usage={"good.parquet": good_usage(), "bad.parquet": hours(sku="vm-large")})
    machine = shop.run("--log-format", "json", process=True)
    people = shop.command("run", "--period", PERIOD, "--as-of", NOW, process=True, json=False)
    assert machine.code == people.code == ExitCode.DATA_REFUSED
    (told,) = [json.loads(line) for line in machine.stderr.splitlines() if '"level": "error"' in line]
    assert told["message"] == machine.summary["error"]
    assert told["findings"] == machine.summary["findings"]
    assert machine.summary["status"] == "refused"
    assert f"error: {told['message']}" in people.stderr
    assert "usage/bad.parquet:1, column sku_id: 'vm-large' must be a SKU of book/skus" in people.stderr
    assert people.stdout == ""
    assert shop.written() == {}


def test_a_refused_file_is_on_the_page_and_in_the_exit_code(tmp_path):
    shop = make_workspace(tmp_path)
    (tmp_path / "usage" / "cut.parquet").write_bytes(b"PAR1")
    ended = shop.command("run", "--period", PERIOD, "--as-of", NOW, "--quiet", process=True, json=False)
    assert ended.code == ExitCode.DATA_REFUSED
    assert "1 usage file was refused: the drafts are incomplete (exit 3)." in ended.stdout
    page = " ".join(ended.stdout.split())
    assert "usage/cut.parquet" in page
    assert "cut off: it begins as Parquet, and its end is missing" in page
    status = shop.command("status", process=True, json=False)
    assert status.code == ExitCode.DONE
    assert "refused    usage/cut.parquet: cut off" in status.stdout


# ------------------------------------------------------------------------------------------------- lock, permissions


HOLD = """
import sys
from pathlib import Path
from ratemill.io.lock import hold_lock
with hold_lock(Path(sys.argv[1]), command="ratemill run --period 2026-09"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_run_names_the_first(tmp_path):
    shop = make_workspace(tmp_path)
    environment = {**os.environ, "PYTHONPATH": SOURCE_ROOT}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "state" / "lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
    ) as first:  # fmt: skip
        try:
            assert first.stdout.readline() == b"held\n"
            second = shop.run(process=True)
        finally:
            first.kill()
    assert second.code == ExitCode.LOCKED
    assert f"the workspace is locked by pid {first.pid} on " in second.stderr
    assert "running `ratemill run --period 2026-09`; wait for it or stop it" in second.stderr
    assert second.summary["status"] == "locked"
    assert shop.written() == {}
    assert shop.run(process=True).code == ExitCode.DONE, "the lock of a dead process is free"


def bound_by_permissions() -> list[str]:
    """What to start a command with, so that files may be closed to it, root though it may be."""
    if os.getuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root may read everything, and there is no setpriv to take that right away")
    return [setpriv, "--bounding-set", "-dac_override,-dac_read_search"]


CLOSED = {
    # what is closed, its mode, exit code, words
    "file": ("usage/bad.parquet", 0o000, ExitCode.DATA_REFUSED,
             ["usage/bad.parquet: cannot be read: Permission denied", "check the file, its owner and permissions"]),
    "folder": ("usage", 0o000, ExitCode.USAGE,
               ["the folder {root}/usage cannot be listed: Permission denied", "check its owner and permissions"]),
    "workspace": (".", 0o555, ExitCode.USAGE,
                  ["locking {root}/state/lock is not allowed: permission denied", "check owner and mode"]),
    "configuration": ("ratemill.toml", 0o000, ExitCode.USAGE, ["ratemill.toml: cannot be read: Permission denied"]),
    "book": ("book/prices.csv", 0o000, ExitCode.DATA_REFUSED, ["book/prices.csv", "ermission denied"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CLOSED)
def test_what_may_not_be_read_or_written_is_named(tmp_path, case):
    name, mode, code, words = CLOSED[case]
    prefix = bound_by_permissions()
    shop = make_workspace(tmp_path)
    shop.write_usage("bad.parquet", hours(resource="vm-9"))
    path = tmp_path / name
    former = path.stat().st_mode
    path.chmod(mode)
    try:
        ended = subprocess.run(
            [*prefix, sys.executable, "-m", "ratemill", "run", "-q", "-w", str(tmp_path), "-p", PERIOD, "--as-of", NOW],
            env={**os.environ, "PYTHONPATH": SOURCE_ROOT}, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
    finally:
        path.chmod(former)
    told = ended.stdout.decode() + ended.stderr.decode()
    assert "Traceback" not in told
    assert ended.returncode == code, told
    assert [word for word in words if word.format(root=tmp_path) not in told] == [], told
    if case == "file":
        assert shop.invoice("acme")["totals"]["untaxed"] == GOOD_TOTAL["acme"]
    else:
        assert shop.written() == {}


# --------------------------------------------------------------------------------------------------------- disk full


DOCUMENTS = {"output": {"pdf": True, "html": True}}


@needs_root
@pytest.mark.slow
def test_a_full_disk_at_any_moment_leaves_the_old_or_the_new_and_space_mends_it(tmp_path):
    """Between none and enough, the disk is full at another moment each time: locking, loading, reporting, publishing."""
    reference = make_workspace(tmp_path / "reference", config=DOCUMENTS)
    assert reference.run().code == ExitCode.DONE
    moments = set()
    for number, free in enumerate((0, 30, 80, 150, 220, 300, 400, 600, 1000, 2000, 3000, 8000)):
        with small_disk(tmp_path / f"disk-{number}") as disk:
            shop = make_workspace(disk / "shop", config=DOCUMENTS)
            ballast = fill(disk, free_kilobytes=free)
            ended = shop.run("-q")
            ballast.unlink()
            if ended.code == ExitCode.DONE:
                moments.add("none")
            else:
                assert ended.code == ExitCode.TEMPORARY, ended
                assert "disk full" in ended.stderr
                assert "free space and run again" in ended.stderr
                out, published = (disk / "shop" / "out" / PERIOD, disk / "shop" / "published")
                assert not published.exists()
                if out.exists():
                    assert (
                        shop.documents().items()
                        >= {
                            name: digest for name, digest in reference.documents().items() if name.startswith("out/")
                        }.items()
                    ), "half of the documents"
                moments.add("publish" if out.exists() else "report" if (shop.root / "out").exists() else "before")
            again = shop.run("-q")
            assert again.code == ExitCode.DONE, again
            assert again.rows == {"in": 72, "billed": 72, "duplicate": 0, "filtered": 0, "other_periods": 0,
                                  "rejected": 0, "unpriced": 0}  # fmt: skip
            assert shop.documents() == reference.documents()
            assert sorted(shop.written()) == sorted(reference.written())
    assert moments == {"before", "report", "publish", "none"}


@needs_root
def test_a_disk_that_fills_up_in_a_later_run_leaves_what_stands(tmp_path):
    reference = make_workspace(tmp_path / "reference", usage=[good_usage(), hours(resource="vm-9", count=744)])
    assert reference.run().code == ExitCode.DONE
    with small_disk(tmp_path / "disk") as disk:
        shop = make_workspace(disk / "shop", usage=[good_usage()])
        assert shop.run().code == ExitCode.DONE
        before = shop.written()
        shop.write_usage("usage-1.parquet", hours(resource="vm-9", count=744))
        ballast = fill(disk, free_kilobytes=8)
        ended = shop.run(process=True)
        assert ended.code == ExitCode.TEMPORARY, ended
        assert "disk full" in ended.stderr
        assert (ended.summary["status"], ended.summary["exit_code"]) == ("temporary", 75)
        assert shop.written() == before
        ballast.unlink()
        assert shop.run(process=True).code == ExitCode.DONE
        out = {name: digest for name, digest in shop.written().items() if name.startswith("out/")}
        assert out == {name: digest for name, digest in reference.written().items() if name.startswith("out/")}


# ----------------------------------------------------------------------------------------------------- hostile names


HOSTILE = [
    "<script>alert(1)</script>",
    "\"quoted\" 'name' & co",
    "🚀💶",
    "../../../etc/passwd",
    "..",
    "/absolute",
    "back\\slash",
    '=HYPERLINK("http://evil.example","x")',
    "@SUM(A1)",
    "+1",
    "con",
    "\u202egnp.exe",
    "x" * 300,
]
UNSAFE_CELL = re.compile(r"^[=+\-@\t\r]")


def test_hostile_names_stay_text_everywhere(tmp_path):
    """Ids, names and tags that customers chose: no file leaves out/, no markup, no formula, and every invoice is there."""
    template = BOOK["accounts"][0]
    usage = [hours(name, resource=name, count=2, resource_name=name, tags=json.dumps({name: name})) for name in HOSTILE]
    shop = make_workspace(
        tmp_path / "deep" / "er" / "shop",
        usage=usage,
        book={"accounts": [template | {"account_id": name, "name": name} for name in HOSTILE]},
        config=DOCUMENTS,
    )
    ended = shop.run(process=True)
    assert ended.code == ExitCode.DONE, ended
    assert ended.rows["billed"] == 2 * len(HOSTILE)
    assert ended.summary["periods"][0]["totals"][0]["invoices"] == len(HOSTILE)

    outside = [path for path in tmp_path.rglob("*") if shop.root not in (path, *path.parents)]
    assert set(outside) == {shop.root.parent, shop.root.parent.parent}
    assert {path.name for path in shop.root.iterdir()} == {
        "ratemill.toml", "book", "usage", "state", "out", "published"
    }  # fmt: skip

    invoices = shop.root / "out" / PERIOD / "invoices"
    pdfs = sorted(invoices.glob("*.pdf"))
    assert len(pdfs) == len(HOSTILE)
    text = "".join(page.extract_text() for page in PdfReader(pdfs[0]).pages)
    assert "0.24" in text

    seen = set()
    for page in (shop.root / "out" / PERIOD).rglob("*.html"):
        markup = page.read_text(encoding="utf-8")
        assert "<script>alert" not in markup
        assert "http://evil" not in "".join(re.findall(r'(?:href|src)="([^"]*)"', markup))
        seen |= {name for name in HOSTILE if html.escape(name) in markup or name in html.unescape(markup)}
        assert "\u202e" not in markup, "it would turn the text after it around"
    assert seen == {name for name in HOSTILE if "\u202e" not in name}
    for sheet in (shop.root / "out" / PERIOD).rglob("*.csv"):
        for row in csv.reader(sheet.read_text(encoding="utf-8-sig").splitlines()):
            unsafe = [cell for cell in row if UNSAFE_CELL.match(cell) and not is_number(cell)]
            assert unsafe == [], sheet
    total = sum(Decimal(json.loads(path.read_text())["totals"]["untaxed"]) for path in invoices.glob("*.json"))
    assert total == Decimal("0.20") * len(HOSTILE)


def is_number(cell: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", cell) is not None


# ------------------------------------------------------------------------------------------------------------- bombs


MEASURED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (24 << 30, 24 << 30))
from ratemill.cli import run_command
code = run_command(sys.argv[1:])
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(max(int(peak), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss), file=sys.stderr)
sys.exit(code)
"""


def load_measured(root: Path) -> tuple[int, dict, float]:
    """Exit code, summary and peak memory in GB of ``ratemill load`` or of its largest child process."""
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, "load", "--quiet", "--workspace", str(root), "--json"],
        env={**os.environ, "PYTHONPATH": SOURCE_ROOT}, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    peak = int(ended.stderr.split()[-1]) / 1e6
    return ended.returncode, json.loads(ended.stdout.splitlines()[-1]), peak


def write_bomb(path: Path, *, resource_id: str, groups: int, dictionary: bool, rows: int = 500_000) -> None:
    """``rows`` equal rows in each of ``groups`` row groups, group by group so that making it takes little memory."""
    zero = pa.repeat(pa.scalar(0, pa.int32()), rows)
    values = pa.DictionaryArray.from_arrays(zero, pa.array([resource_id]))
    columns = {
        "account_id": pa.DictionaryArray.from_arrays(zero, pa.array(["acme"])),
        "sku_id": pa.DictionaryArray.from_arrays(zero, pa.array(["vm"])),
        "usage_start": pa.repeat(pa.scalar(1_790_812_800_000_000, pa.timestamp("us", tz="UTC")), rows),
        "quantity": pa.repeat(pa.scalar(Decimal(1), pa.decimal128(38, 12)), rows),
        "resource_id": values,
        # Bytes that cannot be compressed bring the file under the cap of rows a byte; nobody reads them.
        "ballast": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(1), rows, [None, pa.py_buffer(os.urandom(rows // 4) + bytes(rows - rows // 4))]
        ),
    }
    table = pa.table(columns if dictionary else {name: columns[name] for name in columns if name != "ballast"})
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(groups):
            writer.write_table(table)


@pytest.mark.slow
def test_half_a_megabyte_that_unfolds_to_gigabytes_is_refused_before_any_of_it_is_read(tmp_path):
    shop = make_workspace(tmp_path, usage=[])
    path = tmp_path / "usage" / "bomb.parquet"
    write_bomb(path, resource_id="x" * 200, groups=40, dictionary=False)
    assert path.stat().st_size < 1_000_000
    code, summary, peak = load_measured(shop.root)
    assert code == ExitCode.DATA_REFUSED
    assert "unfold to 20,000,000 rows" in summary["findings"][0]["message"]
    assert 0.1 < peak < 0.5, peak


@pytest.mark.slow
@pytest.mark.parametrize(("length", "groups"), [(500, 5), (100_000, 2)])
def test_a_bomb_within_the_caps_is_read_in_bounded_memory(tmp_path, length, groups):
    """2.5 million rows of one long text, 1.25 GB if each row had its own; one million of a huge one, 100 GB."""
    shop = make_workspace(tmp_path, usage=[], config={"engine": {"memory": "1GB"}})
    path = tmp_path / "usage" / "bomb.parquet"
    write_bomb(path, resource_id="x" * length, groups=groups, dictionary=True)
    assert path.stat().st_size < 2_000_000
    code, summary, peak = load_measured(shop.root)
    assert (code, summary["loaded"], summary["rows"]) == (ExitCode.DONE, 1, 500_000 * groups)
    assert 0.2 < peak < 4, peak
