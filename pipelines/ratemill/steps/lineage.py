"""lineage: OpenLineage events of a command and its steps, to wherever OpenLineage's own configuration says.

Events are facts of ours here; a thread makes OpenLineage's of them and sends them. The work never waits for a server:
at its end a command gives what is left some seconds, and says in one warning what did not go out.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from ratemill import __version__
from ratemill.errors import ExitCode
from ratemill.insight.plan import STEPS
from ratemill.object_urls import ObjectUrl, is_object_url
from ratemill.period import BillingPeriod
from ratemill.steps.flow import flow_of
from ratemill.stopping import is_stopping
from ratemill.tables.charges import CHARGES
from ratemill.tables.invoices import BILLING_TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ratemill.observe import Ending, Work
    from ratemill.steps.context import Context
    from ratemill.workspace import Workspace

_logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5
"""How long the end of a command waits for events that are on their way."""
_SIGNALLED = 128
_TABLES = (CHARGES.name, *(table.name for table in BILLING_TABLES))


@dataclass(frozen=True)
class Parent:
    """The run that another is part of."""

    namespace: str
    job: str
    run: str

    @classmethod
    def parse(cls, text: str) -> Parent:
        """Read ``namespace/job/run``, as schedulers hand it over; a namespace may have slashes of its own.

        Raises:
            ValueError: it is something else.
        """
        namespace, job, run = text.rsplit("/", 2)
        return cls(namespace, job, str(UUID(run)))


@dataclass(frozen=True)
class Place:
    """A dataset: a file or folder, a pattern of usage files, or a table of the published database."""

    namespace: str
    name: str
    path: Path | None = None
    """Where to look for its size, once it is written."""


@dataclass(frozen=True)
class Fact:
    """One event, before it is OpenLineage's."""

    state: str
    at: datetime
    run: str
    job: str
    parent: Parent | None
    periods: tuple[str, ...] = ()
    inputs: tuple[Place, ...] = ()
    outputs: tuple[Place, ...] = ()
    rows: int | None = None
    """Rows written to the first of the outputs."""
    error: str = ""


class Lineage:
    """Observes a command and tells its lineage."""

    def __init__(self, workspace: Workspace, *, command: str) -> None:
        self._workspace = workspace
        self._namespace = os.environ.get("OPENLINEAGE_NAMESPACE") or "ratemill"
        self._job = f"{workspace.root.name}.{command}"
        self._run = str(uuid4())
        self._above = _parent_of_environment()
        self._steps: dict[int, str] = {}
        self._periods: set[str] = set()
        self._sender = _Sender(self._namespace)
        self._sender.put(Fact("START", datetime.now(UTC), self._run, self._job, self._above))

    def begun(self, work: Work) -> None:
        """START of a step."""
        if work.name in STEPS:
            self._steps[id(work)] = str(uuid4())
            self._put("START", work)

    def ended(self, work: Work, error: BaseException | None) -> None:
        """COMPLETE, FAIL or ABORT of a step."""
        if id(work) in self._steps:
            state = "COMPLETE" if error is None else "ABORT" if is_stopping() else "FAIL"
            self._put(state, work, error="" if error is None else str(error) or type(error).__name__)
            del self._steps[id(work)]

    def leaving(self, context: Context) -> None:
        """Nothing: the warehouse is no part of it."""

    def over(self, ending: Ending) -> None:
        """COMPLETE, FAIL or ABORT of the command, and all that is still on its way."""
        good = ending.exit_code in (ExitCode.DONE, ExitCode.NOTHING_TO_BILL)
        state = "COMPLETE" if good else "ABORT" if ending.exit_code > _SIGNALLED else "FAIL"
        self._sender.put(
            Fact(state, datetime.now(UTC), self._run, self._job, self._above, tuple(sorted(self._periods)),
                 error="" if good else ending.message or f"exit code {ending.exit_code}")
        )  # fmt: skip
        self._sender.close()

    def _put(self, state: str, work: Work, *, error: str = "") -> None:
        workspace = self._workspace
        if work.period is not None:
            self._periods.add(work.period)
        flow = flow_of(workspace, work.name, work.period or "*")
        outputs = [*_places(workspace, flow.outputs), *(_published(workspace) if work.name == "publish" else ())]
        fact = Fact(
            state, datetime.now(UTC), self._steps[id(work)], f"{self._job}.{work.name}",
            Parent(self._namespace, self._job, self._run), (work.period,) if work.period else (),
            tuple(_places(workspace, flow.inputs)), tuple(outputs), work.written, error,
        )  # fmt: skip
        self._sender.put(fact)


def _parent_of_environment() -> Parent | None:
    text = os.environ.get("OPENLINEAGE_PARENT_ID", "")
    if not text:
        return None
    try:
        return Parent.parse(text)
    except ValueError:
        _logger.warning("lineage: OPENLINEAGE_PARENT_ID = %r is not namespace/job/run, and is left out", text)
        return None


def _places(workspace: Workspace, names: Iterable[str]) -> Iterable[Place]:
    """Datasets named as OpenLineage's specification names files and objects."""
    for name in names:
        if is_object_url(name):
            url = ObjectUrl.parse(name)
            yield Place(f"s3://{url.bucket}", url.key)
        else:
            path = workspace.root / name
            yield Place("file", path.as_posix(), path)


def _published(workspace: Workspace) -> Iterable[Place]:
    for table in _TABLES:
        yield Place(f"duckdb://{workspace.published_database.as_posix()}", table)


# ------------------------------------------------------------------------------------------------------------- sending


class _Sender:
    """A thread that sends facts in order, and stops at the first that can't be sent."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._facts: SimpleQueue[Fact | None] = SimpleQueue()
        self._left = 0
        self._trouble = ""
        self._thread = Thread(target=self._send, name="lineage", daemon=True)
        self._thread.start()

    def put(self, fact: Fact) -> None:
        """Send when it is its turn."""
        self._left += 1
        self._facts.put(fact)

    def close(self) -> None:
        """Wait for a while; warn of what is left."""
        self._facts.put(None)
        self._thread.join(PATIENCE_SECONDS)
        if self._thread.is_alive() and not self._trouble:
            self._trouble = f"the server takes longer than {PATIENCE_SECONDS} seconds"
        if self._trouble:
            events = "1 event was" if self._left == 1 else f"{self._left:,} events were"
            _logger.warning("lineage: %s not sent: %s; the work itself is not touched by this", events, self._trouble)

    def _send(self) -> None:
        try:
            client = _client()
            while (fact := self._facts.get()) is not None:
                client.emit(_event(fact, self._namespace))
                self._left -= 1
            client.close(PATIENCE_SECONDS)
        except ImportError:
            self._trouble = "OpenLineage is not installed → pip install 'ratemill[lineage]'"
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop a run
            self._trouble = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


class _NotConfiguredError(Exception):
    pass


def _client() -> Any:
    from openlineage.client import OpenLineageClient  # noqa: PLC0415 - an extra

    for library in ("openlineage", "urllib3"):  # what they say would stand between our lines in other words
        logger = logging.getLogger(library)
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
    client = OpenLineageClient()
    if client.transport.kind == "console" and (client.config.transport or {}).get("type") != "console":
        raise _NotConfiguredError(
            "no transport is configured → set OPENLINEAGE_URL, or OPENLINEAGE_CONFIG to a file that names one"
        )
    return client


def _event(fact: Fact, namespace: str) -> Any:
    from openlineage.client import event_v2, facet_v2  # noqa: PLC0415 - an extra

    engine = facet_v2.processing_engine_run.ProcessingEngineRunFacet(__version__, "ratemill")
    facets: dict[str, Any] = {"processing_engine": engine}
    if fact.parent is not None:
        parent = facet_v2.parent_run
        facets["parent"] = parent.ParentRunFacet(
            run=parent.Run(runId=fact.parent.run),
            job=parent.Job(namespace=fact.parent.namespace, name=fact.parent.job),
        )
    if fact.periods:
        first, last = (BillingPeriod.parse(name) for name in (fact.periods[0], fact.periods[-1]))
        facets["nominalTime"] = facet_v2.nominal_time_run.NominalTimeRunFacet(
            nominalStartTime=first.start().isoformat(), nominalEndTime=last.end().isoformat()
        )
    if fact.error:
        facets["errorMessage"] = facet_v2.error_message_run.ErrorMessageRunFacet(fact.error, "PYTHON")
    job_type = facet_v2.job_type_job.JobTypeJobFacet(processingType="BATCH", integration="RATEMILL", jobType="JOB")
    return event_v2.RunEvent(
        eventType=event_v2.RunState(fact.state),
        eventTime=fact.at.isoformat(),
        run=event_v2.Run(runId=fact.run, facets=facets),
        job=event_v2.Job(namespace=namespace, name=fact.job, facets={"jobType": job_type}),
        inputs=[event_v2.InputDataset(place.namespace, place.name) for place in fact.inputs],
        outputs=[
            event_v2.OutputDataset(place.namespace, place.name, outputFacets=_statistics(fact, place, number))
            for number, place in enumerate(fact.outputs)
        ],
        producer=_PRODUCER,
    )


_PRODUCER = f"https://pypi.org/project/ratemill/{__version__}"


def _statistics(fact: Fact, place: Place, number: int) -> dict[str, Any]:
    from openlineage.client import facet_v2  # noqa: PLC0415 - an extra

    if fact.state != "COMPLETE" or place.path is None:
        return {}
    rows = fact.rows if number == 0 else None
    files = [place.path] if place.path.is_file() else []
    with suppress(OSError):
        files = files or [path for path in place.path.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        facet = facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=rows, size=size, fileCount=len(files)
        )
        return {"outputStatistics": facet}
    return {}
