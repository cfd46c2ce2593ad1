"""Documents made by several processes: the same files in the same order, and an end to every kind of trouble."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from makers import Job, Maker
from ratemill.errors import RatemillError, TemporaryError, UsageError
from ratemill.io.document_pool import Limits, make_documents

PLACES = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(sys.modules["ratemill"].__file__).parents[1])])


@pytest.fixture(autouse=True)
def _no_process_lives_on(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", PLACES)
    yield
    assert not psutil.Process().children()


def jobs(number):
    return [Job(each) for each in range(number)]


@pytest.mark.parametrize(("processes", "limits"), [(1, None), (3, None), (2, Limits())])
def test_files_and_their_order_do_not_depend_on_the_number_of_processes(processes, limits):
    here = list(make_documents(Maker(), jobs(9), processes=0))
    assert [name for _, name, _ in here][:4] == ["0.a", "0.b", "1.a", "1.b"]
    assert list(make_documents(Maker(), jobs(9), processes=processes, limits=limits)) == here


def test_a_bounded_number_of_jobs_is_taken_ahead_of_what_is_read():
    taken = []

    def watched():
        for job in jobs(50):
            taken.append(job.number)
            yield job

    with closing(make_documents(Maker(), watched(), processes=2)) as files:
        for count, _ in enumerate(files):
            assert len(taken) <= count // 2 + 4


def test_a_reader_that_stops_ends_the_processes():
    with closing(make_documents(Maker("sleep"), jobs(50), processes=2)) as files:
        next(files)
        assert len(psutil.Process().children()) == 2
    assert not psutil.Process().children()


DEATHS = {
    "killed": (TemporaryError, "ended by SIGKILL, most likely for want of memory; nothing was written"),
    "no room to draw": (TemporaryError, "ended by SIGTRAP, most likely for want of memory; nothing was written"),
    "crashed": (RatemillError, "ended with SIGSEGV; nothing was written; please report"),
    "ended": (RatemillError, "ended with exit code 7"),
    "bug": (RuntimeError, "KeyError: 'price'"),
    "refuse": (UsageError, "template x.html:1: this is wrong"),
    "no memory": (MemoryError, ""),
}


@pytest.mark.parametrize(("mischief", "kind", "words"), [(name, *told) for name, told in DEATHS.items()])
def test_what_happens_in_a_process_is_told_here(mischief, kind, words):
    files = make_documents(Maker(mischief), jobs(9), processes=2)
    seen = []
    with pytest.raises(kind) as caught:
        seen.extend(name for _, name, _ in files)
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert seen == ["0.a", "0.b", "1.a", "1.b", "2.a", "2.b"], "what came before it is not lost"


def test_a_bug_in_a_process_is_told_with_its_place():
    with pytest.raises(RuntimeError) as caught:
        list(make_documents(Maker("bug"), jobs(9), processes=2))
    assert 'raise KeyError("price")' in str(caught.value.__cause__)


LIMITED = {
    "loop": "template invoice/invoice.html.j2: it was stopped after 1 s of computing",
    "stubborn": "template invoice/invoice.html.j2: it was stopped after 1 s of computing",
    "grow": "template invoice/invoice.html.j2: it needs more than 1,074 MB of memory",
    "abort": "template of this workspace: it needs more than 1,074 MB of memory",
}


@pytest.mark.slow
@pytest.mark.parametrize(("mischief", "message"), LIMITED.items())
def test_a_job_that_goes_over_a_limit_is_stopped_and_its_template_named(mischief, message):
    limits = Limits(cpu_seconds=0.5, cpu_seconds_per_line=0.1, memory_bytes=1 << 30, memory_bytes_per_line=0)
    with pytest.raises(UsageError) as caught:
        list(make_documents(Maker(mischief), jobs(5), processes=1, limits=limits))
    assert str(caught.value).startswith(message)


def test_limits_grow_with_the_invoice():
    limits = Limits()
    small, large = limits.budget(1), limits.budget(10_000)
    assert large.cpu_seconds > 10 * small.cpu_seconds
    assert large.memory_bytes > 4 * small.memory_bytes
    assert large.characters > 5 * small.characters
    assert large.wall_seconds > large.cpu_seconds


def test_a_process_with_limits_does_not_see_credentials(monkeypatch, tmp_path):
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    with closing(make_documents(Maker("sleep"), jobs(9), processes=1, limits=Limits())) as files:
        next(files)
        (process,) = psutil.Process().children()
        inside = process.environ()
    assert "DATABASE_PASSWORD" not in inside
    assert inside["https_proxy"].startswith("http://127.0.0.1")


RUN = """
import signal, sys
from contextlib import closing
from pathlib import Path
from makers import Job, Maker
from ratemill.io.document_pool import make_documents
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with closing(make_documents(Maker("sleep", Path(sys.argv[1])), map(Job, range(90)), processes=2)) as files:
    for file in files:
        print(file[1], flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_run_that_is_stopped_leaves_no_process(tmp_path, number):
    note = tmp_path / "ids"
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(note)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as run:
        for _ in range(6):
            run.stdout.readline()
        children = [psutil.Process(int(line)) for line in note.read_text(encoding="utf-8").split()]
        assert len(children) == 2
        run.send_signal(number)
        run.stdout.read()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
