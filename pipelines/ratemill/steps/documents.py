"""How documents are made: in this process, in several, or in some with limits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ratemill.documents.environment import has_templates
from ratemill.io.document_pool import Limits, make_documents

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from ratemill.io.document_pool import File, JobT, Maker
    from ratemill.steps.context import Context

_SECONDS_PER_PROCESS = 2.0
"""A process more is worth its start for this much work."""
_MOST_PROCESSES = 16
"""``[engine] threads`` may ask for more."""


def has_own_templates(context: Context) -> bool:
    """Whether files of the workspace come to run when its documents are made."""
    return has_templates(context.workspace.templates)


def made(context: Context, maker: Maker[JobT], jobs: Iterable[JobT], *, seconds: float) -> Generator[File, None, None]:
    """The files of all jobs in order; close it when it is not read to its end.

    Args:
        context: the workspace. Templates of its own run in processes with limits.
        maker: what makes the files.
        jobs: what to make.
        seconds: about how long one processor takes for all of them.

    Raises:
        UsageError: a template of the workspace is wrong, or went over a limit.
        TemporaryError: the system ended a process.
    """
    budget = context.budget
    cores = context.config.engine.threads or min(budget.threads, _MOST_PROCESSES)
    limited = has_own_templates(context)
    useful = min(budget.document_processes(cores, limited=limited), int(seconds / _SECONDS_PER_PROCESS))
    processes = 0 if useful <= 1 else useful
    limits = None
    if limited:
        usual = Limits()
        limits = replace(usual, memory_bytes=min(usual.memory_bytes, budget.beside // max(processes, 1)))
    return make_documents(maker, jobs, processes=processes, limits=limits)
