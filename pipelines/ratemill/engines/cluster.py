"""A Spark cluster as a place that answers requests: one task each, tried again where its worker dies.

Spark schedules and nothing else: a request and its reply are short texts, and rows stay in files that workers read and
write. What the JVM says goes to a log file; a user is told what failed in one sentence.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ratemill import __version__
from ratemill.errors import ExitCode, RatemillError, TemporaryError, UsageError
from ratemill.io.atomic import write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

_DEFAULTS = {
    "spark.app.name": "ratemill",
    "spark.task.cpus": "1",
    "spark.ui.showConsoleProgress": "false",
}
_MASTER_SECONDS = 10
_WORKER_SECONDS = 120
"""So long a cluster may take until its first worker is there."""
_FAILED = "ratemill task failed: "
"""What tasks raise begins with this, and goes on with JSON."""
_LONGEST_REASON = 600


class TaskFailedError(RuntimeError):
    """A task that was tried to the last, and not for a reason that a user can mend: its traceback is the message."""


class Cluster:
    """A session with a cluster, begun when it is first asked."""

    def __init__(self, settings: Mapping[str, str], log: Path) -> None:
        self._settings = {**_DEFAULTS, **settings}
        self._log = log
        self._session: Any = None
        self._is_ours = False

    @property
    def slots(self) -> int:
        """How many tasks can run at once."""
        cpus = int(self._settings["spark.task.cpus"])
        return max(1, int(self._connected().sparkContext.defaultParallelism) // cpus)

    def answers(
        self, task: str, requests: Sequence[dict[str, Any]], doing: Callable[[dict[str, Any]], str]
    ) -> list[dict[str, Any]]:
        """Let workers do a task of :mod:`ratemill.engines.tasks` for each request; the replies, in order.

        ``doing``: a request in words, for messages: ``reading usage/2026-10-01.parquet``.

        Raises:
            RatemillError: of the kind that a task raised, or TemporaryError where it always failed, or UsageError
                where workers are not fit for the work.
        """
        if not requests:
            return []
        session = self._connected()
        work = _worker_function(task, [json.dumps(request) for request in requests], __version__)
        frame = session.range(0, len(requests), 1, len(requests)).mapInArrow(work, "number long, reply string")
        try:
            rows = frame.toArrow().to_pylist()
        except Exception as error:  # noqa: BLE001 - of Java, of Python, of the bridge between them
            raise self._told(str(error), requests, doing) from None
        replies = [json.loads(reply) for _, reply in sorted((row["number"], row["reply"]) for row in rows)]
        for reply in replies:
            if "error" in reply:
                raise _as_error(reply["error"])
        return replies

    def close(self) -> None:
        """End the session, unless somebody else began it."""
        if self._session is not None and self._is_ours:
            with suppress(Exception):  # it may have ended by itself, and there is nothing left to do
                self._session.stop()
        self._session = None

    # ------------------------------------------------------------------------------------------------------ connecting

    def _connected(self) -> Any:
        if self._session is None:
            self._session = self._connect()
        return self._session

    def _connect(self) -> Any:
        try:
            import pandas  # noqa: F401, ICN001, PLC0415 - an extra: Spark's bridge to Arrow asks for it
            from pyspark import SparkConf, SparkContext  # noqa: PLC0415
            from pyspark.java_gateway import launch_gateway  # noqa: PLC0415
            from pyspark.sql import SparkSession  # noqa: PLC0415
        except ImportError as error:
            raise UsageError(
                f'[engine] kind = "spark" needs {error.name}, which is not installed'
                " → run: pip install 'ratemill[spark]'"
            ) from None
        for name in ("py4j", "SQLQueryContextLogger", "DataFrameQueryContextLogger"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what they say is told by us
        active = SparkSession.getActiveSession()
        if active is not None:
            if "connect" in type(active).__module__:
                raise UsageError("a session of Spark Connect does not show its workers → use one of a classic cluster")
            return active
        conf = SparkConf(loadDefaults=False)
        for name, value in self._settings.items():
            conf.set(name, value)
        self._require_master()
        try:
            if SparkContext._gateway is None:  # noqa: SLF001 - a JVM of an earlier session is used again
                write_file(self._log, b"")
                with self._log.open("ab") as log:
                    gateway = launch_gateway(conf, popen_kwargs={"stdout": log, "stderr": log})
                SparkContext(conf=conf, gateway=gateway)
            session = SparkSession.builder.config(conf=conf).getOrCreate()
        except Exception as error:  # noqa: BLE001 - of Java, of Python, of the bridge between them
            raise self._not_begun(str(error)) from None
        self._is_ours = True
        self._await_worker(session)
        return session

    def _require_master(self) -> None:
        """A standalone master that is away is asked for minutes by Spark; a connection tells it at once."""
        master = self._settings.get("spark.master", "")
        if not master.startswith("spark://"):
            return
        reasons = []
        for place in master.removeprefix("spark://").split(","):
            host, _, port = place.rpartition(":")
            try:
                socket.create_connection((host, int(port)), timeout=_MASTER_SECONDS).close()
            except (OSError, ValueError) as error:
                reasons.append(f"{place}: {error}")
            else:
                return
        raise TemporaryError(
            f"the Spark cluster can't be reached ({'; '.join(reasons)}); nothing was changed → start it, or correct"
            ' "spark.master" in [engine.spark]'
        )

    def _not_begun(self, reason: str) -> RatemillError:
        if "A master URL must be set" in reason:
            return UsageError(
                'no Spark cluster is named → set "spark.master" in [engine.spark], or run by spark-submit'
            )
        if "JAVA_GATEWAY_EXITED" in reason or "JAVA_HOME" in reason:
            return UsageError(f"Spark could not start Java → install Java 17 or later, or see why in {self._log}")
        return TemporaryError(
            f"no session with the Spark cluster could be begun: {_first_line(reason)} → see why in {self._log}"
        )

    def _await_worker(self, session: Any) -> None:
        """Spark would wait for ever for a first worker, and say so only in its log."""
        settings = session.sparkContext.getConf()
        dynamic = settings.get("spark.dynamicAllocation.enabled", "false") == "true"
        if dynamic or session.sparkContext.master.startswith("local"):
            return
        tracker = session.sparkContext._jsc.sc().statusTracker()  # noqa: SLF001 - no other way to ask
        deadline = time.monotonic() + _WORKER_SECONDS
        while len(tracker.getExecutorInfos()) <= 1:  # the driver is one
            if time.monotonic() > deadline:
                self.close()
                raise TemporaryError(
                    f"no worker of the Spark cluster took up the work within {_WORKER_SECONDS} seconds; nothing was"
                    " changed → start workers, or ask for less: spark.executor.memory, spark.executor.cores"
                )
            time.sleep(0.2)

    # ---------------------------------------------------------------------------------------------------------- errors

    def _told(
        self, reason: str, requests: Sequence[dict[str, Any]], doing: Callable[[dict[str, Any]], str]
    ) -> Exception:
        failed = re.search(re.escape(_FAILED) + r"(\{.*\})", reason)
        if failed is not None:
            told = json.loads(failed[1])
            what = doing(requests[told["number"]])
            if told["exit_code"] == ExitCode.INTERNAL:
                return TaskFailedError(f"{what} on {told['host']}:\n{told['trace']}")
            return TemporaryError(f"{what} failed on {told['host']}, again and again: {told['message']}")
        for sign, message in _UNFIT:
            found = re.search(sign, reason)
            if found is not None:
                return UsageError(message.format(*found.groups()))
        lost = re.search(r"Task (\d+) in stage \S+ failed (\d+) times", reason)
        if lost is not None:
            number, times = map(int, lost.groups())
            return TemporaryError(
                f"{doing(requests[min(number, len(requests) - 1)])} ended its worker {times} times, most likely for"
                " want of memory; nothing was published → give executors more memory (spark.executor.memoryOverhead),"
                f" or see why in {self._log}"
            )
        return TemporaryError(
            f"the Spark cluster gave up: {_first_line(reason)}; nothing was published → run again, or see why in"
            f" {self._log}"
        )


_INSTALL = f"install ratemill {__version__} with its extra spark where the workers run"
_NAMED = 'in [engine.spark]: "spark.pyspark.python"'
_UNFIT = (
    (r"No module named '?(\w+)", f"a worker has no Python package {{}} → {_INSTALL}"),
    (r'Cannot run program "([^"]+)"', f"a worker has no {{}} → {_INSTALL}, and name its Python {_NAMED}"),
    (
        "PYTHON_VERSION_MISMATCH",
        f"the workers' Python is another one than this → use one version, and name it {_NAMED}",
    ),
)
"""What Spark says where workers can't do any work, and what that means."""


def _worker_function(task: str, texts: list[str], version: str) -> Callable[[Iterator[pa.RecordBatch]], Any]:
    """What Spark ships to workers, by value: they may lack everything that it imports."""

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import json  # noqa: PLC0415 - on the worker
        import socket  # noqa: PLC0415

        import pyarrow  # noqa: ICN001, PLC0415

        for batch in batches:
            for number in batch.column(0).to_pylist():
                try:
                    import ratemill  # noqa: PLC0415

                    found = f"has ratemill {ratemill.__version__}" if ratemill.__version__ != version else ""
                except ImportError:
                    found = "has no ratemill"
                if found:
                    message = f"the worker on {socket.gethostname()} {found}, and this is ratemill {version}"
                    cure = f" → install ratemill {version} with its extra spark where the workers run"
                    reply = json.dumps({"error": {"exit_code": 2, "message": message + cure}})
                else:
                    from ratemill.engines.tasks import answer  # noqa: PLC0415

                    reply = answer(task, number, texts[number])
                yield pyarrow.RecordBatch.from_pydict({"number": [number], "reply": [reply]})

    return work


def failure(number: int, error: Exception, trace: str) -> str:
    """What a task raises so that Spark tries again, and :meth:`Cluster.answers` understands it in the end."""
    told = {
        "number": number,
        "host": socket.gethostname(),
        "exit_code": int(error.exit_code) if isinstance(error, RatemillError) else int(ExitCode.INTERNAL),
        "message": str(error)[:_LONGEST_REASON],
        "trace": trace,
    }
    return _FAILED + json.dumps(told)


def _as_error(told: dict[str, Any]) -> RatemillError:
    kinds = {kind.exit_code: kind for kind in RatemillError.__subclasses__()}
    return kinds[ExitCode(told["exit_code"])](told["message"])


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:_LONGEST_REASON] if lines else "no reason was given"
