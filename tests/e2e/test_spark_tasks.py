"""What workers of a cluster do, done in this process: the same charges as one machine makes, from the same usage.

Without Java: a stand-in for Spark asks for each task twice, since Spark may. The real cluster is in
tests/integrations/test_spark.py.
"""

import json
import shutil
from datetime import timedelta

import polars as pl
import pytest

from ratemill.engines import spark as spark_engine
from ratemill.engines.cluster import _as_error
from ratemill.engines.tasks import answer
from ratemill.errors import ExitCode
from ratemill.rating import series as rating_series
from stores import ENVIRONMENT, S3Server
from workspaces import PERIOD, hours, make_workspace, tree


class Twice:
    """Answers requests here, each of them two times, as Spark may after a failure."""

    slots = 3

    def __init__(self, settings, log):
        assert settings == {"spark.master": "spark://nowhere:7077"}
        assert log.name == "spark.log"

    def answers(self, task, requests, doing):
        for request in requests:
            assert doing(request), "each request can be named in a message"
        replies = []
        for number, request in enumerate(requests):
            first, second = (json.loads(answer(task, number, json.dumps(request))) for _ in range(2))
            assert first == second
            if "error" in first:
                raise _as_error(first["error"])
            replies.append(first)
        return replies

    def close(self):
        pass


pytestmark = pytest.mark.slow

SPARK = {"kind": "spark", "memory": "1GB", "spark": {"spark.master": "spark://nowhere:7077"}}


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.setattr(spark_engine, "Cluster", Twice)
    monkeypatch.setattr(spark_engine, "FEWEST_ROWS_OF_TASK", 10)
    monkeypatch.setattr(spark_engine, "MOST_ROWS_OF_TASK", 100)
    monkeypatch.setattr(rating_series, "SHARD_ROWS", 2)


def named(frame, first=0):
    """The same records, with ids of their own."""
    return frame.with_row_index("record_id", first).with_columns(pl.format("r-{}", "record_id"))


@pytest.fixture(scope="module")
def usage():
    """Records that come twice, the same and otherwise, with ids of their own and without, and bad ones."""
    many = pl.concat([hours(resource=f"vm-{number}", count=48) for number in range(4)])
    return {
        "many.parquet": many,
        "again.parquet": pl.concat([many.head(5), many[5:7].with_columns(pl.col("quantity") + 1)]),
        "named.parquet": named(hours("globex", "disk", resource="disk-1", quantity="1000")),
        "named-again.parquet": named(
            hours("globex", "disk", resource="disk-1", quantity="1000", count=3)
            .with_columns(
                quantity=pl.when(pl.int_range(pl.len()) == 1).then(pl.col("quantity") * 2).otherwise("quantity"),
                usage_start=pl.when(pl.int_range(pl.len()) == 2)
                .then(pl.col("usage_start") + timedelta(days=40))
                .otherwise("usage_start"),
            )
            .cast({"quantity": pl.Decimal(38, 12)})
        ),
        "bad.parquet": hours(resource="vm-9", count=3, quantity="-1"),
        "unknown.parquet": hours("nobody", resource="vm-8", count=3),
    }


@pytest.fixture
def shops(usage, tmp_path):
    """The same workspace for one machine, and for a cluster."""
    policy = {"policy": {"max_rejected_share": "1"}}
    return [
        make_workspace(tmp_path / name, usage=usage, config={**policy, **engine})
        for name, engine in (("one", {}), ("many", {"engine": SPARK}))
    ]


def billed(shop):
    """Everything that a run makes of the usage."""
    ended = shop.run()
    assert ended.code == ExitCode.DONE, ended
    return shop.documents(), ended.rows


def test_charges_and_counts_are_those_of_one_machine(shops):
    one, many = (billed(shop) for shop in shops)

    assert one == many
    assert many[1]["duplicate"] == 6, "five came twice, and one record with an id"
    assert len([name for name in many[0] if "shard-" in name]) == 2, "one of each account"


def test_what_one_machine_stored_is_shared_and_what_is_shared_is_read_by_one_machine(shops):
    """A workspace may change its engine between any two runs."""
    one, other = shops
    billed(one)
    before = rated_again(one)
    shutil.copy(other.root / "ratemill.toml", one.root)

    assert rated_again(one) == before
    assert (one.root / "state" / "shared" / "usage").is_dir()

    one.write_config({"policy": {"max_rejected_share": "1"}})
    for shop in shops:
        shop.write_usage("late.parquet", hours(resource="vm-late"))
        billed(shop)
    assert rated_again(one) == rated_again(other) != before, "rows of both places are billed together"


def rated_again(shop):
    """The charges, made anew."""
    shutil.rmtree(shop.root / "state" / "charges")
    assert shop.command("rate", "--period", PERIOD).code == ExitCode.DONE
    return tree(shop.root / "state" / "charges", shop.root)


def test_a_file_that_comes_anew_replaces_what_was_shared(shops, usage):
    for shop in shops:
        assert billed(shop)
        shop.write_usage("many.parquet", usage["many.parquet"].tail(50))

    one, many = (billed(shop) for shop in shops)

    assert one == many


def test_a_worker_that_does_not_see_the_usage_says_so(shops, monkeypatch):
    many = shops[1]

    class Elsewhere(Twice):
        def answers(self, task, requests, doing):
            (many.root / "usage" / "bad.parquet").unlink(missing_ok=True)
            return super().answers(task, requests, doing)

    monkeypatch.setattr(spark_engine, "Cluster", Elsewhere)

    ended = many.run()

    assert ended.code == ExitCode.USAGE
    assert "does not see" in ended.stderr
    assert "usage/bad.parquet" in ended.stderr
    assert "every worker reaches under the same path" in ended.stderr


def test_task_cpus_that_are_no_number_are_refused(tmp_path):
    shop = make_workspace(tmp_path, config={"engine": {**SPARK, "spark": {"spark.task.cpus": "two"}}})

    ended = shop.run()

    assert ended.code == ExitCode.USAGE
    assert "\"spark.task.cpus\" = 'two' is no whole number above 0" in ended.stderr


def test_nothing_is_left_of_what_tasks_hand_each_other(shops):
    many = shops[1]
    assert billed(many)

    assert tree(many.root / "state" / "shared" / "jobs", many.root) == {}


def test_objects_of_a_store_are_read_by_workers(tmp_path, monkeypatch):
    """Each worker downloads what it reads, and replies which version that was; a damaged object is refused."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with S3Server() as server:
        server.make_bucket("usage")
        server.put("usage", "a.parquet", hours(count=30))
        server.put("usage", "b.parquet", b"PAR1 and no end")
        shops = [
            make_workspace(
                tmp_path / name,
                usage=[],
                config={"usage": {"files": ["s3://usage/*.parquet"]}, "storage": server.config(), **engine},
            )
            for name, engine in (("one", {}), ("many", {"engine": SPARK}))
        ]

        one, many = (shop.command("load") for shop in shops)

        assert many.code == one.code == ExitCode.DATA_REFUSED
        assert many.summary == one.summary
        assert many.summary["rows"] == 30
        fetched = server.count("GET", "a.parquet")
        assert shops[1].command("load").summary["loaded"] == 0
        assert server.count("GET", "a.parquet") == fetched, "its hash is known by its ETag"
