"""How much memory a run may take: what the setting, the machine, a container and ulimit leave, and how it is dealt."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from ratemill.errors import UsageError
from ratemill.io.machine import this_machine
from ratemill.memory import SMALLEST, Budget, Machine, deal, parse_size, size_text
from workspaces import SOURCE_ROOT

GB = 10**9
GROUP = "the container (its control group)"


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4 * GB), ("1.5GB", 1_500_000_000), ("512MiB", 1 << 29), ("2GiB", 2 << 30)]
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["4", "GB", "4 GB", "4gb", "-1GB", "1.2.3GB", "1e3GB", "٤GB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="is no size such as 4GB"):
        parse_size(text)


def test_sizes_are_told_in_gb_and_never_too_small_where_they_are_asked_for():
    assert [size_text(size) for size in (4 * GB, 1_540_000_000, 1 << 30)] == ["4 GB", "1.5 GB", "1.1 GB"]
    assert size_text(1_510_000_000, up=True) == "1.6 GB"


CEILINGS = [  # (setting, RAM, limit, bytes, words of the reason)
    ("4GB", 24 * GB, None, 4 * GB, "as [engine] memory says"),
    ("4GB", 24 * GB, 8 * GB, 4 * GB, "as [engine] memory says"),
    ("4GB", 24 * GB, 4 * GB, 3_600_000_000, 'and not the [engine] memory = "4GB", since the container'),
    ("64GB", 24 * GB, None, 64 * GB, "as [engine] memory says"),  # swap may be meant: it is the user's word
    ("", 24 * GB, None, 12 * GB, "half of the machine's 24 GB"),
    ("", 24 * GB, 2 * GB, 1_600_000_000, "four fifths of the 2 GB that the container"),
    ("", 24 * GB, 20 * GB, 12 * GB, "half of the machine's 24 GB"),
    ("", 1_500_000_000, None, GB, "the least that a run needs"),
]


@pytest.mark.parametrize(("setting", "ram", "limit", "ceiling", "reason"), CEILINGS)
def test_the_ceiling_is_the_setting_or_a_share_of_what_there_is(setting, ram, limit, ceiling, reason):
    budget = deal(setting, None, Machine(ram, limit, GROUP if limit else "", 2))
    assert budget.ceiling == ceiling
    assert budget.reason.startswith(reason)
    assert budget.lowered == (setting != "" and ceiling < parse_size(setting))
    assert budget.told().startswith(f"memory: at most {size_text(ceiling)} for all processes of this run, ")


TOO_LITTLE = [
    ("4GB", 24 * GB, GB, ["a run needs at least 1 GB", f"{GROUP} allows 1 GB", "raise that limit to 1.3 GB"]),
    ("", 24 * GB, 512 << 20, [f"{GROUP} allows 0.5 GB", "1.3 GB or more"]),
    ("", 900_000_000, None, ["a run needs at least 1 GB", "this machine has less"]),
]


@pytest.mark.parametrize(("setting", "ram", "limit", "words"), TOO_LITTLE)
def test_a_machine_that_has_too_little_is_refused(setting, ram, limit, words):
    with pytest.raises(UsageError) as caught:
        deal(setting, None, Machine(ram, limit, GROUP if limit else "", 2))
    assert [word for word in words if word not in str(caught.value)] == []


def test_what_libraries_reserve_is_taken_off_the_limit_that_counts_it():
    machine = Machine(24 * GB, 5 * GB, "the process's limit (ulimit -d)", 2, reserved=2 * GB)
    told = "four fifths of the 3 GB that the process's limit (ulimit -d) allows besides 2 GB that libraries reserve"
    assert deal("", None, machine).told() == f"memory: at most 2.4 GB for all processes of this run, {told}"
    assert deal("2GB", None, machine).ceiling == 2 * GB
    assert deal("4GB", None, machine).ceiling == 2_700_000_000
    with pytest.raises(UsageError, match=r"allows 1 GB besides 2 GB .* raise that limit to 3\.3 GB or more"):
        deal("", None, Machine(24 * GB, 3 * GB, "the process's limit (ulimit -d)", 2, reserved=2 * GB))


def test_a_limit_of_addresses_is_refused_unless_it_leaves_what_charts_reserve():
    assert deal("4GB", None, Machine(24 * GB, addresses=100 * GB)).ceiling == 4 * GB
    with pytest.raises(UsageError, match=r"ulimit -v\) allows 16 GB of addresses"):
        deal("4GB", None, Machine(24 * GB, addresses=16 * GB))


@pytest.mark.parametrize("ceiling", [SMALLEST, 2 * GB, 4 * GB, 64 * GB])
@pytest.mark.parametrize("threads", [1, 2, 8, 64])
def test_the_parts_that_work_at_once_fit_under_the_ceiling(ceiling, threads):
    budget = Budget(ceiling, threads)
    assert budget.database + budget.beside < ceiling
    assert 1 <= budget.database_threads <= threads
    assert 1 <= budget.readers(threads) <= threads
    assert 1 <= budget.document_processes(threads) <= threads
    assert budget.beside // budget.document_processes(threads, limited=True) >= 350_000_000  # shipped templates: 330
    assert 50_000 <= budget.slice_rows(budget.readers(threads)) <= 1_000_000


def test_more_memory_is_never_used_for_fewer_processes_or_smaller_pieces():
    budgets = [Budget(ceiling, 8) for ceiling in (SMALLEST, 2 * GB, 4 * GB, 16 * GB)]
    for part in ("database", "database_threads", "beside"):
        sizes = [getattr(budget, part) for budget in budgets]
        assert sizes == sorted(sizes), part
    assert [budget.readers(8) for budget in budgets] == sorted(budget.readers(8) for budget in budgets)
    assert budgets[-1].slice_rows(8) > budgets[0].slice_rows(budgets[0].readers(8))


def test_what_cannot_be_cut_and_does_not_fit_is_refused_with_the_ceiling_it_needs():
    budget = Budget(SMALLEST, 2)
    budget.require_charges(200_000, lambda: "nobody asks")
    with pytest.raises(UsageError, match="the use of gpu by acme comes to 9,000,000 charges") as found:
        budget.require_charges(9_000_000, lambda: "the use of gpu by acme")
    _, _, wanted = str(found.value).rpartition("set [engine] memory to ")
    enough = parse_size(wanted.removesuffix(" or more").replace(" ", ""))
    Budget(enough, 2).require_charges(9_000_000, lambda: "nobody asks")
    assert budget.has_room_for(200_000)
    assert not budget.has_room_for(200_000 + 200_000), "one shard after the other"
    with pytest.raises(UsageError, match="9,000,000 resources and SKUs have usage in this period"):
        budget.require_series(9_000_000)


# ------------------------------------------------------------------------------------------- what the system says


def machine(folder, groups: str, files: dict[str, str]):
    """``/proc/self/cgroup`` and files below ``/sys/fs/cgroup``, as kernels and container engines lay them out."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = folder / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return this_machine(folder)


GROUPS = {
    "no limit, version 2": ("0::/user.slice", {"user.slice/memory.max": "max\n"}, None),
    "a container of version 2: its own root": ("0::/\n", {"memory.max": "2147483648\n"}, 2 << 30),
    "a service of version 2": (
        "0::/system.slice/billing.service\n",
        {"system.slice/billing.service/memory.max": "3000000000\n", "system.slice/memory.max": "max\n"},
        3 * GB,
    ),
    "the group around it has less": (
        "0::/batch/job-7\n", {"batch/job-7/memory.max": "max\n", "batch/memory.max": "1500000000\n"}, 1_500_000_000,
    ),
    "version 1": (
        "4:memory:/docker/ab\n1:cpu:/\n", {"memory/docker/ab/memory.limit_in_bytes": "2000000000\n"}, 2 * GB,
    ),
    "version 1, the path is the host's": (
        "4:cpu,memory:/kubepods/pod1\n", {"memory/memory.limit_in_bytes": "2000000000\n"}, 2 * GB,
    ),
    "no limit, version 1": ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
    "both versions": ("4:memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "2000000000\n"}, 2 * GB),
    "a path that leads out": ("0::/../../etc\n", {"memory.max": "2000000000\n"}, 2 * GB),
    "nonsense": ("0::\nx\n", {"memory.max": "many\n"}, None),
}  # fmt: skip


@pytest.mark.parametrize("case", GROUPS)
def test_the_limit_of_the_control_group_is_found(tmp_path, case):
    groups, files, limit = GROUPS[case]
    found = machine(tmp_path, groups, files)
    assert (found.limit, found.limited_by) == (limit, GROUP if limit else "")
    assert found.ram > 0


def test_a_system_without_control_groups_has_no_limit(tmp_path):
    assert this_machine(tmp_path).limit is None


def test_a_limit_of_the_process_is_taken_into_account():
    code = "from ratemill.io.machine import this_machine; m = this_machine(); print(m.limit, m.limited_by)"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": SOURCE_ROOT},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (1_234_567_890, 1_234_567_890)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "1234567890 the process's limit (ulimit -d)\n"
