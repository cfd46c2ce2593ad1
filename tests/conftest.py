"""What every test starts from: one time zone, the same hypothesis settings, and golden files."""

from __future__ import annotations

import difflib
import os
import time
from itertools import takewhile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

GOLDEN = Path(__file__).parent / "golden"
SHOWN_DIFF_LINES = 60

# Results must not depend on the machine's zone: `TEST_TZ=Asia/Kathmandu make test` has to pass as well.
os.environ["TZ"] = os.environ.get("TEST_TZ", "UTC")
time.tzset()

# A workspace named in the developer's shell must not be billed by a test.
os.environ.pop("RATEMILL_WORKSPACE", None)

# A shared two-core machine makes single examples slow at random, hence no deadline. In CI the same examples every
# time, so that a red run is red again; at a desk new ones, so that something new is found.
settings.register_profile("desk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("desk"), derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="run only the tests with golden files, write those files anew and delete the ones no test uses",
    )


def pytest_configure(config):
    config.stash[_used] = set()


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--update-golden"):
        return
    others = [item for item in items if "golden" not in getattr(item, "fixturenames", ())]
    items[:] = [item for item in items if item not in others]
    config.hook.pytest_deselected(items=others)


@pytest.fixture
def golden(request):
    """``golden(name, data)``: the bytes must equal the file tests/golden/``name``.

    `make golden` writes the files; they are never edited by hand, and a difference is read before it is committed.
    """

    def check(name: str, data: bytes) -> None:
        path = (GOLDEN / name).resolve()
        assert path.is_relative_to(GOLDEN.resolve()), f"{name} is outside tests/golden"
        assert path not in request.config.stash[_used] or path.read_bytes() == data, f"two tests disagree on {name}"
        request.config.stash[_used].add(path)
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            return
        assert path.is_file(), f"no golden file tests/golden/{name}; `make golden` writes it"
        if path.read_bytes() != data:
            pytest.fail(describe_difference(name, path.read_bytes(), data), pytrace=False)

    return check


@pytest.fixture(scope="session")
def billed_once(tmp_path_factory):
    """October of the customers of members.py, billed. What several modules begin with is made once and never changed."""
    from members import make_customers  # noqa: PLC0415 - after the time zone is set, above

    shop = make_customers(tmp_path_factory.mktemp("billed"), months=1, documents=False)
    assert shop.run().code == 0
    return shop


@pytest.fixture(scope="session")
def closed_once(billed_once, tmp_path_factory):
    """The same, closed."""
    shop = billed_once.copied(tmp_path_factory.mktemp("closed"))
    assert shop.close_whatever_is_open().code == 0
    return shop


@pytest.fixture(scope="module")
def billed_customers(billed_once, tmp_path_factory):
    """A copy of the module's own of customers whose October is billed."""
    return billed_once.copied(tmp_path_factory.mktemp("customers"))


@pytest.fixture(scope="module")
def closed_customers(closed_once, tmp_path_factory):
    """A copy of the module's own of customers whose October is closed."""
    return closed_once.copied(tmp_path_factory.mktemp("customers"))


def describe_difference(name: str, expected: bytes, actual: bytes) -> str:
    """A unified diff of texts; sizes and the first differing byte of anything else."""
    advice = f"tests/golden/{name} differs; if every line of this change is wanted: make golden"
    try:
        before, after = (data.decode().splitlines() for data in (expected, actual))
    except UnicodeDecodeError:
        equal = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(expected, actual, strict=False)))
        return f"{advice}\n{len(expected)} bytes expected, {len(actual)} seen, equal for the first {equal}"
    lines = list(difflib.unified_diff(before, after, "expected", "seen", lineterm="", n=2))
    more = [f"… {len(lines) - SHOWN_DIFF_LINES} more lines"] if len(lines) > SHOWN_DIFF_LINES else []
    return "\n".join([advice, *(lines[:SHOWN_DIFF_LINES] or ["only line ends differ"]), *more])


def pytest_sessionfinish(session, exitstatus):
    """With --update-golden, delete files that no test asked for; only when every test was there and passed."""
    config = session.config
    chosen = config.getoption("keyword") or config.getoption("markexpr") or config.args != config.getini("testpaths")
    if not config.getoption("--update-golden") or chosen or exitstatus != 0 or not config.stash[_used]:
        return
    for path in sorted(GOLDEN.rglob("*")):
        if path.is_file() and path.resolve() not in config.stash[_used]:
            path.unlink()


_used = pytest.StashKey[set[Path]]()
