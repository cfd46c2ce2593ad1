"""The same inputs give the same bytes, wherever, however and in whatever order they are taken in.

Goal: charges and documents depend on the usage and the book alone. Method: one month of the demo, with a day that was
delivered twice, is billed along different ways; what comes out is compared byte for byte. Where the files themselves
differ (split or shuffled otherwise), the run's id does too, and is the only thing that may.
"""

from __future__ import annotations

import json
import random
import shutil

import polars as pl
import pytest

from workspaces import run_here, run_process, tree

pytestmark = pytest.mark.slow

PERIOD = "2026-10"
NOW = "2026-11-02T06:00:00Z"
SEED = 20_261_125
WAYS = {
    "east": {
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONHASHSEED": "1",
    },
    "west": {
        "TZ": "America/St_Johns",
        "LANG": "de_DE.UTF-8",
        "LC_ALL": "",
        "PYTHONHASHSEED": "2",
        "POLARS_MAX_THREADS": "1",
    },
}


def bill(root, command="run", environment=None):
    arguments = [
        command,
        "-w",
        str(root),
        *(["-p", PERIOD, "--as-of", NOW] if command == "run" else []),
        "-q",
        "--json",
    ]
    ended = run_here(arguments) if environment is None else run_process(arguments, **environment)
    assert ended.code == 0, ended.stderr
    return ended


def results(root):
    """Documents and charges: everything but databases, which hold the time of the run."""
    return {**tree(root / "out", root), **tree(root / "state" / "charges", root)}


def run_id(root):
    return json.loads((root / "out" / PERIOD / "manifest.json").read_text(encoding="utf-8"))["run_id"]


def documents_without_run_id(root):
    folder = root / "out" / PERIOD
    return {
        path.name: path.read_bytes().replace(run_id(root).encode(), b"RUN")
        for path in sorted((folder / "invoices").iterdir())
    }


def charges_without_run_id(root):
    files = sorted((root / "state" / "charges" / f"period={PERIOD}" / f"run={run_id(root)}").glob("*.parquet"))
    return {file.name: pl.read_parquet(file).drop("run_id", strict=False) for file in files}


def prepare(root, *, documents):
    assert run_here(["init", str(root), "--sample", "demo", "--resources", "12", "--months", "1", "-q"]).code == 0
    usage = root / "usage"
    for file in sorted(usage.iterdir()):
        if file.suffix == ".json" or int(file.stem[-2:]) % 3 != 1:
            file.unlink()
    shutil.copy(usage / "usage-2026-10-13.parquet", usage / "again.parquet")
    flag = json.dumps(documents)
    with (root / "ratemill.toml").open("a", encoding="utf-8") as config:
        config.write(f"\n[output]\npdf = {flag}\nhtml = {flag}\n")
    return root


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("bytes") / "inputs", documents=False)


@pytest.fixture(scope="module")
def billed(tmp_path_factory, inputs):
    """The month billed the plain way."""
    root = tmp_path_factory.mktemp("bytes") / "billed"
    shutil.copytree(inputs, root)
    rows = bill(root).rows
    assert rows["duplicate"] > 0
    assert rows["billed"] > 0
    return root


@pytest.fixture
def other(tmp_path, inputs):
    """The same inputs in another folder."""
    return shutil.copytree(inputs, tmp_path / "somewhere" / "else entirely")


def test_from_scratch_in_another_folder(billed, other):
    bill(other)
    assert results(other) == results(billed)


def test_with_one_thread(billed, other):
    with (other / "ratemill.toml").open("a", encoding="utf-8") as config:
        config.write('\n[engine]\nthreads = 1\nmemory = "1GB"\n')
    bill(other)
    assert results(other) == results(billed)


def test_loaded_in_two_goes_the_later_half_first(billed, other, tmp_path):
    early = sorted((other / "usage").iterdir())[:6]
    for file in early:
        file.rename(tmp_path / file.name)
    loaded = bill(other, "load").summary["loaded"]
    assert 0 < loaded < len(list((billed / "usage").iterdir()))
    for file in early:
        (tmp_path / file.name).rename(file)
    bill(other)
    assert results(other) == results(billed)


def test_with_files_named_in_another_order(billed, other):
    files = sorted((other / "usage").iterdir())
    for number, file in enumerate(files):
        file.rename(file.with_name(f"{len(files) - number:03}.parquet"))
    bill(other)
    assert results(other) == results(billed)


def read_all(folder):
    return pl.concat([pl.read_parquet(file) for file in sorted(folder.iterdir())])


def write_parts(folder, frame, cuts):
    for file in folder.iterdir():
        file.unlink()
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, frame.height], strict=True)):
        frame.slice(start, end - start).write_parquet(folder / f"part-{number}.parquet", row_group_size=1_000)


def shuffled(frame):
    return frame.sample(fraction=1, shuffle=True, seed=SEED)


def unchanged(frame):
    return frame


@pytest.mark.parametrize("order", [unchanged, shuffled, pl.DataFrame.reverse])
def test_with_the_same_rows_in_other_files(billed, other, order):
    usage = other / "usage"
    rows = read_all(usage)
    cuts = sorted(random.Random(SEED).sample(range(1, rows.height), 4))  # noqa: S311
    write_parts(usage, order(rows), cuts)
    bill(other)
    assert run_id(other) != run_id(billed)
    assert documents_without_run_id(other) == documents_without_run_id(billed)
    expected, seen = charges_without_run_id(billed), charges_without_run_id(other)
    assert list(seen) == list(expected)
    for name, frame in expected.items():
        assert frame.equals(seen[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_in_another_process_zone_locale_and_with_other_hashes(tmp_path, way):
    """With every kind of document: dates, sorted names and charts are where a machine's settings would show."""
    here = prepare(tmp_path / "here", documents=True)
    there = shutil.copytree(here, tmp_path / "there")
    bill(here)
    bill(there, environment=WAYS[way])
    assert any(name.endswith(".pdf") for name in results(here))
    assert any(name.endswith("index.html") for name in results(here))
    assert results(there) == results(here)
