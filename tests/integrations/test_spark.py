"""A run on a Spark cluster: a real master and two real workers on this machine, and the bill of one machine.

Everything here asks the same question: are the charges those that one machine makes, byte for byte, whatever happens
to the workers on the way?
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import psutil
import pytest

pyspark = pytest.importorskip("pyspark")
pytest.importorskip("pyspark.sql")

from ratemill.engines import spark as spark_engine  # noqa: E402
from ratemill.errors import ExitCode  # noqa: E402
from ratemill.rating import series as rating_series  # noqa: E402
from ratemill.samples.demo import write_demo  # noqa: E402
from workspaces import BOOK, SOURCE_ROOT, TinyWorkspace, hours, make_workspace, run_process, tree  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),  # of pyspark's own
]

MONTHS = ("2026-09", "2026-10")


# ---------------------------------------------------------------------------------------------------------- the cluster


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _spark_class(folder, name, *arguments):
    program = Path(pyspark.__file__).parent / "bin" / "spark-class"
    with (folder / f"{name.rpartition('.')[2]}-{time.monotonic_ns()}.log").open("wb") as log:
        return subprocess.Popen(
            [program, name, "--host", "127.0.0.1", *arguments],
            env={
                **os.environ,
                "SPARK_LOCAL_IP": "127.0.0.1",
                "SPARK_DAEMON_MEMORY": "256m",
                "SPARK_LOCAL_DIRS": str(folder / "local"),
                "PYTHONPATH": SOURCE_ROOT,
            },
            stdout=log,
            stderr=log,
        )


def _until(found, *, seconds=90):
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, f"nothing came within {seconds} seconds"
        time.sleep(0.1)
    return result


class Standalone:
    """A master, and two workers with room for two applications at once."""

    def __init__(self, folder):
        port = _free_port()
        self.master = f"spark://127.0.0.1:{port}"
        self.processes = [
            _spark_class(
                folder, "org.apache.spark.deploy.master.Master", "--port", str(port), "--webui-port", str(_free_port())
            )
        ]
        _until(lambda: _answers(port))
        for number in range(2):
            self.processes.append(
                _spark_class(
                    folder, "org.apache.spark.deploy.worker.Worker", "--cores", "2", "--memory", "1g",
                    "--webui-port", str(_free_port()), "--work-dir", str(folder / f"worker-{number}"), self.master,
                )
            )  # fmt: skip

    @property
    def settings(self):
        """What an application says to use half of it: an executor on each worker."""
        return {
            "spark.master": self.master,
            "spark.cores.max": "2",
            "spark.executor.cores": "1",
            "spark.executor.memory": "512m",
            "spark.driver.memory": "512m",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.pyspark.python": sys.executable,
            "spark.ui.enabled": "false",
        }

    def executors(self):
        """Java processes that work for applications."""
        found = []
        for worker in self.processes[1:]:
            for child in psutil.Process(worker.pid).children():
                with suppress(psutil.Error):  # it has ended
                    if "CoarseGrainedExecutorBackend" in " ".join(child.cmdline()):
                        found.append(child)
        return found

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(timeout=30)


def _answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    started = Standalone(tmp_path_factory.mktemp("cluster"))
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def session(cluster):
    """A session that every command in this process finds, as in a notebook: it saves a start each time."""
    builder = pyspark.sql.SparkSession.builder.appName("tests")
    for name, value in cluster.settings.items():
        builder = builder.config(name, value)
    begun = builder.getOrCreate()
    try:
        yield begun
    finally:
        begun.stop()
        begun.sparkContext._gateway.shutdown()


# ------------------------------------------------------------------------------------------------------- the workspaces


def copy_of(shop, folder, **engine):
    """The workspace before it was billed, with another engine."""
    shutil.copytree(shop.root, folder, ignore=shutil.ignore_patterns("state", "out", "published"))
    copied = TinyWorkspace(folder)
    if engine:
        text = (folder / "ratemill.toml").read_text(encoding="utf-8")
        lines = ["", "[engine]", 'kind = "spark"', 'memory = "1GB"', "[engine.spark]"]
        lines += [f'"{name}" = "{value}"' for name, value in engine["spark"].items()]
        (folder / "ratemill.toml").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")
    return copied


def rated(shop, *months):
    """Load the usage and rate it; what stands in the charge store."""
    loaded = shop.command("load")
    assert loaded.code == ExitCode.DONE, loaded
    for month in months or MONTHS:
        ended = shop.command("rate", "--period", month)
        assert ended.code == ExitCode.DONE, ended
    return charges(shop)


def charges(shop):
    """Each file of the charge store, manifests with their counts included, by its hash."""
    found = tree(shop.root / "state" / "charges", shop.root)
    assert any(found.values()), "nothing was rated"
    return found


def not_billed(shop):
    """Every row that is not billed, with the reason, by the name of its file."""
    with duckdb.connect(shop.root / "state" / "warehouse.duckdb", read_only=True) as warehouse:
        return [
            warehouse.sql(
                f"SELECT file, row_number, {what} FROM raw.{table} JOIN raw.usage_files USING (file_id) ORDER BY ALL"
            ).fetchall()
            for table, what in (("usage_rejects", "rule, value"), ("usage_duplicates", "kind, usage_start"))
        ]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    """Shards and tasks so small that a little usage makes many of them."""
    monkeypatch.setattr(rating_series, "SHARD_ROWS", 300)
    monkeypatch.setattr(spark_engine, "MOST_ROWS_OF_TASK", 20_000)
    monkeypatch.setattr(spark_engine, "FEWEST_ROWS_OF_TASK", 100)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's two months: tiers, time windows and zones, caps, prices that change, a mistake of each kind.

    Besides, a file whose records have ids, of which others come again elsewhere: the same, and another.
    """
    folder = tmp_path_factory.mktemp("spark") / "demo"
    write_demo(folder, resources=60, months=2)
    named = folder / "usage" / "usage-2026-10-05.parquet"
    rows = pl.read_parquet(named, glob=False).with_row_index("record_id").with_columns(pl.format("r-{}", "record_id"))
    rows.write_parquet(named)
    again = rows.head(30)
    again.with_columns(
        quantity=pl.when(pl.col("record_id") == "r-7").then(pl.col("quantity") + 1).otherwise("quantity"),
        usage_start=pl.when(pl.col("record_id") == "r-8")
        .then(pl.col("usage_start") - timedelta(days=20))
        .otherwise("usage_start"),
    ).write_parquet(folder / "usage" / "usage-again.parquet")
    return TinyWorkspace(folder)


@pytest.fixture(scope="module")
def local(demo, tmp_path_factory):
    """The demo, billed on one machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rating_series, "SHARD_ROWS", 300)
        shop = copy_of(demo, tmp_path_factory.mktemp("local") / "demo")
        rated(shop)
    return shop


# ------------------------------------------------------------------------------------------------------------ equality


@pytest.fixture(scope="module")
def spread(demo, session, cluster, tmp_path_factory):
    """The demo, billed on the cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rating_series, "SHARD_ROWS", 300)
        patch.setattr(spark_engine, "MOST_ROWS_OF_TASK", 20_000)
        shop = copy_of(demo, tmp_path_factory.mktemp("spread") / "demo", spark=cluster.settings)
        rated(shop)
    return shop


def test_a_cluster_makes_the_charges_of_one_machine(local, spread):
    assert charges(spread) == charges(local)
    assert len([name for name in charges(spread) if "shard-" in name]) > 10, "one shard each says little"


def test_a_cluster_refuses_the_rows_that_one_machine_refuses(local, spread):
    rejects, duplicates = not_billed(local)
    assert {rule for *_, rule, _ in rejects} >= {"account_id.empty", "quantity.minimum"}
    assert {kind for *_, kind, _ in duplicates} == {"copy", "conflict"}
    assert not_billed(spread) == [rejects, duplicates]


def test_rows_lie_in_shared_files_and_nothing_else_is_left(spread):
    with duckdb.connect(spread.root / "state" / "warehouse.duckdb", read_only=True) as warehouse:
        assert warehouse.sql("SELECT count(*) FROM raw.stored_usage").fetchall() == [(0,)]
    assert list((spread.root / "state" / "shared" / "jobs").iterdir()) == [], "what tasks hand each other is gone"


def test_again_there_is_nothing_to_do(spread):
    before = charges(spread)

    again = spread.command("load")

    assert (again.summary["loaded"], again.summary["rows"]) == (0, 0)
    assert rated(spread) == before


def test_one_machine_goes_on_where_a_cluster_was(demo, local, spread, tmp_path):
    """The cluster is away on the day of the close: the same workspace is rated here, from the shared files."""
    shop = TinyWorkspace(shutil.copytree(spread.root, tmp_path / "demo"))
    shutil.copy(demo.root / "ratemill.toml", shop.root)
    shutil.rmtree(shop.root / "state" / "charges")

    assert rated(shop) == charges(local)


def test_a_cluster_goes_on_where_one_machine_was(local, session, cluster, tmp_path):
    """A workspace that grew: rows of the warehouse move to the shared folder, without a file that is gone by now."""
    shop = copy_of(local, tmp_path / "demo", spark=cluster.settings)
    shutil.copytree(local.root / "state", shop.root / "state")
    shutil.rmtree(shop.root / "state" / "charges")
    (shop.root / "usage" / "usage-2026-10-09.parquet").unlink()

    assert rated(shop) == charges(local)


def test_a_file_that_comes_anew_replaces_its_rows(local, spread, tmp_path):
    shops = [TinyWorkspace(shutil.copytree(shop.root, tmp_path / shop.root.parent.name)) for shop in (local, spread)]
    for shop in shops:
        path = shop.root / "usage" / "usage-2026-10-11.parquet"
        rows = pl.read_parquet(path, glob=False)
        rows.tail(rows.height // 2).with_columns(pl.col("quantity") * 2).cast(rows.schema).write_parquet(path)

    one, many = (rated(shop, "2026-10") for shop in shops)

    assert one == many != charges(local)
    deliveries = [entry.name for entry in (shops[1].root / "state" / "shared" / "usage").iterdir()]
    assert len(deliveries) == len(list((shops[1].root / "usage").glob("*.parquet"))) + 1, "the former one is gone"


def test_an_account_larger_than_all_others_is_spread_like_the_rest(session, cluster, tmp_path):
    giant = [hours(resource=f"vm-{number}", count=744) for number in range(30)]
    others = [hours("globex", "disk", resource=f"disk-{number}", count=20) for number in range(5)]
    shop = make_workspace(tmp_path / "one", usage=[pl.concat(giant[:15]), pl.concat(giant[15:]), pl.concat(others)])
    many = copy_of(shop, tmp_path / "many", spark=cluster.settings)

    assert rated(many, "2026-10") == rated(shop, "2026-10")


def test_a_damaged_file_is_refused_and_the_rest_is_loaded(session, cluster, tmp_path):
    shop = make_workspace(tmp_path / "one", usage={"a.parquet": hours(), "b.parquet": hours(resource="vm-2")})
    whole = (shop.root / "usage" / "b.parquet").read_bytes()
    (shop.root / "usage" / "b.parquet").write_bytes(whole[: len(whole) // 2])
    many = copy_of(shop, tmp_path / "many", spark=cluster.settings)

    one, ended = shop.command("load"), many.command("load")

    assert ended.code == one.code == ExitCode.DATA_REFUSED
    assert ended.summary == one.summary


def test_a_cost_that_no_column_holds_is_refused_as_on_one_machine(session, cluster, tmp_path):
    prices = [row | {"unit_price": "100000000000000000000"} for row in BOOK["prices"]]
    shop = make_workspace(tmp_path / "one", usage=hours(quantity="1000000"), book={"prices": prices})
    many = copy_of(shop, tmp_path / "many", spark=cluster.settings)

    one, ended = shop.run(), many.run()

    assert ended.code == one.code == ExitCode.DATA_REFUSED
    assert ended.stderr.splitlines()[-1] == one.stderr.splitlines()[-1]
    assert not (many.root / "published").exists()


def test_a_whole_run_publishes_and_then_has_nothing_to_do(session, cluster, tmp_path):
    shop = make_workspace(tmp_path / "one", usage=[hours(), hours("globex", "disk", quantity="1000")])
    many = copy_of(shop, tmp_path / "many", spark=cluster.settings)

    assert many.run().code == shop.run().code == ExitCode.DONE
    assert many.documents() == shop.documents()
    one, explained = (each.command("explain", "acme", "--period", "2026-10", json=False) for each in (shop, many))
    assert explained == one, "hour by hour, from the shared files"
    assert many.run().summary["periods"][0]["nothing_to_do"] is True


# -------------------------------------------------------------------------------------------------------------- faults


def on_path(folder, **modules):
    """A folder of Python modules that come before ours: what a worker's machine may have instead."""
    folder.mkdir()
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return {"spark.executorEnv.PYTHONPATH": f"{folder}{os.pathsep}{SOURCE_ROOT}"}


def test_an_executor_that_is_killed_is_replaced_and_the_charges_are_the_same(demo, local, cluster, tmp_path):
    shop = copy_of(demo, tmp_path / "demo", spark=cluster.settings)
    others = {process.pid for process in cluster.executors()}
    with subprocess.Popen(
        [sys.executable, "-m", "ratemill", "load", "--workspace", shop.root],
        env={**os.environ, "PYTHONPATH": SOURCE_ROOT},
        stderr=subprocess.PIPE,
    ) as loading:
        usage = shop.root / "state" / "shared" / "usage"
        _until(lambda: usage.is_dir() and len(list(usage.iterdir())) > 2, seconds=180)
        victim = next(process for process in cluster.executors() if process.pid not in others)
        victim.send_signal(signal.SIGKILL)
        told = loading.communicate(timeout=240)[1].decode()
    assert loading.returncode == ExitCode.DONE, told

    for month in MONTHS:
        assert run_here_again(shop, month).code == ExitCode.DONE
    assert charges(shop) == charges(local)


def run_here_again(shop, month):
    """Rate in this process, so that shards are as small as those of the others."""
    return shop.command("rate", "--period", month)


def test_a_task_that_always_fails_is_told_in_one_sentence(cluster, tmp_path):
    """Each worker that imports our code dies at once, as of want of memory."""
    dying = on_path(
        tmp_path / "dying",
        sitecustomize=(
            "import os, sys\n"
            "class Finder:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name == 'ratemill.engines.tasks':\n"
            "            os.kill(os.getpid(), 9)\n"
            "sys.meta_path.insert(0, Finder())\n"
        ),
    )
    shop = make_workspace(tmp_path / "shop", usage=hours())
    many = copy_of(shop, tmp_path / "many", spark={**cluster.settings, **dying})

    ended = many.run(process=True)

    assert ended.code == ExitCode.TEMPORARY
    assert "reading usage/usage.parquet ended its worker 4 times, most likely for want of memory" in ended.stderr
    assert "nothing was published" in ended.stderr
    assert "org.apache" not in ended.stderr
    assert not (many.root / "published").exists()
    assert "Exception" in (many.root / "state" / "spark.log").read_text(encoding="utf-8"), "the whole story is kept"


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ('__version__ = "0.0.9"\n', "has ratemill 0.0.9, and this is ratemill"),
        ("raise ImportError\n", "has no ratemill, and this is ratemill"),
    ],
)
def test_a_worker_with_another_version_or_none_is_no_use(cluster, tmp_path, module, words):
    shop = make_workspace(tmp_path / "shop", usage=hours())
    other = on_path(tmp_path / "other", ratemill=module)
    many = copy_of(shop, tmp_path / "many", spark={**cluster.settings, **other})

    ended = many.run(process=True)

    assert ended.code == ExitCode.USAGE
    assert words in ended.stderr
    assert "with its extra spark where the workers run" in ended.stderr


def test_a_cluster_that_is_away_is_told_at_once(tmp_path):
    port = _free_port()
    shop = make_workspace(tmp_path / "shop", usage=hours())
    many = copy_of(shop, tmp_path / "many", spark={"spark.master": f"spark://127.0.0.1:{port}"})

    ended = run_process(
        ["run", "--workspace", str(many.root), "--period", "2026-10", "--as-of", "2026-11-02T06:00:00Z"]
    )

    assert ended.code == ExitCode.TEMPORARY
    assert f"the Spark cluster can't be reached (127.0.0.1:{port}: [Errno 111] Connection refused)" in ended.stderr
    assert not (many.root / "published").exists()
