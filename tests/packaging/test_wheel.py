"""What is published: the wheel carries every shipped file and runs where nothing but its dependencies is installed."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from ratemill import __version__

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = {
    "sql": "ratemill/sql",
    "templates": "ratemill/templates",
    "data/einvoice": "ratemill/data/einvoice",
    "data/sample": "ratemill/data/sample",
}
DEV_ONLY = ("pytest", "hypothesis", "mypy", "hatchling", "pypdf", "facturx", "saxonche")
PERIOD = "2026-10"

pytestmark = pytest.mark.slow


def run(*command, cwd, env=None, expect=0):
    """Run a command to its end; its output is in the failure when the exit code is not the expected one."""
    words = [str(part) for part in command]
    result = subprocess.run(
        words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert result.returncode == expect, (
        f"{words} exited with {result.returncode}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    )
    return result


def tracked(folder):
    """Files of the repository below a folder (also those not yet committed, but not ignored ones)."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of tracked files to compare with")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", folder, cwd=ROOT)
    return {path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist. The wheel is built from the sdist, as a distributor would."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


@pytest.mark.parametrize(("folder", "inside"), SHIPPED.items())
def test_the_wheel_carries_exactly_the_tracked_files(built, folder, inside):
    files = tracked(folder)
    assert files, f"no files below {folder}: nothing to compare"

    with zipfile.ZipFile(built[0]) as wheel:
        packed = {name: wheel.read(name) for name in wheel.namelist() if name.startswith(f"{inside}/")}

    assert set(packed) == {inside + path.removeprefix(folder) for path in files}
    for path in files:
        assert packed[inside + path.removeprefix(folder)] == (ROOT / path).read_bytes(), path


def test_the_wheel_carries_every_module_and_nothing_else(built):
    modules = {path.removeprefix("pipelines/") for path in tracked("pipelines/ratemill")}
    with zipfile.ZipFile(built[0]) as wheel:
        names = {name for name in wheel.namelist() if not name.startswith(tuple(SHIPPED.values()))}

    assert {name for name in names if name.startswith("ratemill/")} == modules
    assert {name.split("/")[0] for name in names} == {"ratemill", f"ratemill-{__version__}.dist-info"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_sdist_is_enough_to_build_test_and_read(built):
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}

    for needed in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "requirements/dev.lock"):
        assert needed in names
    for folder in ("pipelines/ratemill", "tests", "docs", *SHIPPED):
        assert tracked(folder) <= names, folder
    assert not [name for name in names if name.startswith((".ci", ".venv", "demo/", "dist/"))]


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """``bin`` of a fresh environment with the wheel and requirements/base.lock: no dev dependency, no checkout."""
    home = tmp_path_factory.mktemp("installed")
    lock = ROOT / "requirements" / "base.lock"
    uv = shutil.which("uv")
    if uv:
        run(uv, "venv", "--python", sys.executable, home / "venv", cwd=home)
        pip = [uv, "pip", "install", "--python", home / "venv" / "bin" / "python"]
    else:
        run(sys.executable, "-m", "venv", home / "venv", cwd=home)
        pip = [home / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet"]
    run(*pip, "--require-hashes", "-r", lock, cwd=home)
    run(*pip, "--no-deps", built[0], cwd=home)
    return home / "venv" / "bin"


def environment(**extra):
    """The caller's environment without anything that leads back to the checkout."""
    hidden = {"PYTHONPATH", "VIRTUAL_ENV", "RATEMILL_WORKSPACE", "PYTHONWARNINGS"}
    return {name: value for name, value in os.environ.items() if name not in hidden} | extra


def test_no_dev_dependency_is_there(installed, tmp_path):
    code = f"""
import importlib.util, pathlib, ratemill
from ratemill.resources import shipped
assert [name for name in {DEV_ONLY} if importlib.util.find_spec(name)] == []
for folder in {tuple(SHIPPED)}:
    assert shipped(folder).is_relative_to(pathlib.Path(ratemill.__file__).parent), shipped(folder)
"""
    run(installed / "python", "-I", "-c", code, cwd=tmp_path, env=environment())


def test_the_lock_satisfies_what_the_wheel_asks_for(installed, tmp_path):
    """The wheel was installed without its dependencies, so a lock that lags behind pyproject.toml shows here."""
    code = """
import importlib.metadata as metadata
from packaging.requirements import Requirement
for text in metadata.requires("ratemill"):
    wanted = Requirement(text)
    if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
        continue  # of an extra
    assert wanted.specifier.contains(metadata.version(wanted.name)), text
"""
    run(installed / "python", "-I", "-c", code, cwd=tmp_path, env=environment())


def outputs(workspace, period=PERIOD):
    """Every document and report of the billed period: path → bytes."""
    out = workspace / "out" / period
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_a_month_is_billed_from_the_installed_wheel(installed, tmp_path):
    """From nothing to invoices, in a bare locale, twice under zones a day apart: the same bytes, and no traceback."""
    ratemill = installed / "ratemill"
    bare = environment(LANG="C", LC_ALL="C", HOME=str(tmp_path / "nobody"))

    assert "init" in run(ratemill, "--help", cwd=tmp_path, env=bare).stdout
    made = {}
    for name, zone in (("west", "Pacific/Pago_Pago"), ("east", "Pacific/Kiritimati")):
        env = bare | {"TZ": zone}
        run(ratemill, "init", name, "--sample", "demo", "--resources", "40", cwd=tmp_path, env=env)
        run(ratemill, "run", "--workspace", name, "--period", PERIOD, cwd=tmp_path, env=env)
        made[name] = outputs(tmp_path / name)

    assert any(path.endswith(".pdf") for path in made["west"])
    assert made["west"] == made["east"]

    again = run(ratemill, "run", "--workspace", "west", "--period", PERIOD, "--json", cwd=tmp_path, env=bare)
    assert isinstance(json.loads(again.stdout.splitlines()[-1]), dict)
    assert outputs(tmp_path / "west") == made["west"], "a second run changes nothing"

    query = "SELECT count(*) AS invoices FROM invoices"
    answer = run(ratemill, "sql", "--workspace", "west", query, "--format", "csv", cwd=tmp_path, env=bare)
    header, count = answer.stdout.split()
    assert header == "invoices"
    assert int(count) > 0


def test_the_aws_sample_is_billed_from_the_installed_wheel(installed, tmp_path):
    ratemill = installed / "ratemill"
    run(ratemill, "init", "cloud", "--sample", "aws", cwd=tmp_path, env=environment())
    run(ratemill, "run", "--workspace", "cloud", "--period", "2024-09", cwd=tmp_path, env=environment())
    made = outputs(tmp_path / "cloud", "2024-09")
    assert {"index.html", "invoices/1234567890123-USD.json", "invoices/1234567890123-USD.pdf"} <= set(made)


def test_a_mistake_is_one_sentence_and_exit_code_2(installed, tmp_path):
    result = run(
        installed / "ratemill", "run", "--workspace", "nowhere", "--period", PERIOD,
        cwd=tmp_path, env=environment(), expect=2,
    )  # fmt: skip
    assert "nowhere" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
