"""Ratemill in Airflow 3: a month as a group of tasks, one per step (docs/orchestrators.md).

::

    from ratemill.integrations.airflow import ratemill_month

    with DAG("billing", schedule=CronTriggerTimetable("0 6 1-5 * *", timezone="Europe/Berlin"), ...):
        ratemill_month("/srv/billing", time_zone="Europe/Berlin")

Needs Airflow and of Ratemill only this package: the command may live in an environment of its own.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import BaseOperator, TaskGroup, chain
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from ratemill.errors import ExitCode
from ratemill.integrations.steps import PATIENCE_SECONDS, STEPS, due_period

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

_BY_COMMAND = {step.command: step for step in STEPS}

PERIOD_OF_RUN = "{{ params.get('period') or '' }}"
"""The month that whoever triggers the run asks for; else the one that is due."""


class RatemillOperator(BaseOperator):
    """One step of a month. Its JSON summary is the task's XCom; amounts in it are text.

    Exit code 99 (nothing to bill) skips the task, 75 (temporary) fails it so that Airflow retries it, and every other
    code fails it for good: what was refused would be refused again.

    Args:
        step: ``load``, ``check``, ``rate``, ``invoice``, ``report`` or ``publish``.
        workspace: folder with ``ratemill.toml``, as the worker sees it.
        period: the month, ``2026-10``; empty: the month before the run is due, see :func:`ratemill_month`.
        time_zone: where months begin and end.
        command: how ``ratemill`` is called.
        wait: seconds to wait for another process that is at work in the workspace.
        **kwargs: of every operator.
    """

    template_fields = ("workspace", "period")
    ui_color = "#e3ecf4"

    def __init__(
        self,
        *,
        step: str,
        workspace: str,
        period: str = PERIOD_OF_RUN,
        time_zone: str = "UTC",
        command: Sequence[str] = ("ratemill",),
        wait: float = PATIENCE_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.workspace = workspace
        self.period = period
        self.time_zone = time_zone
        self.command = list(command)
        self.wait = wait
        self.hook = SubprocessHook()

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Run the step to its end."""
        period = self.period or str(due_period(_instant(context), self.time_zone))
        line = [*self.command, self.step, *_BY_COMMAND[self.step].arguments(self.workspace, period, self.wait)]
        ended = self.hook.run_command(line)
        try:
            summary = json.loads(ended.output)
        except ValueError:
            summary = {"error": ended.output}
        if ended.exit_code == ExitCode.DONE:
            return {"period": period, **summary}
        told = f"ratemill {self.step} of {period} (exit code {ended.exit_code}): {summary.get('error', 'see the log')}"
        if ended.exit_code == ExitCode.NOTHING_TO_BILL:
            raise AirflowSkipException(told)
        raise (AirflowException if ended.exit_code == ExitCode.TEMPORARY else AirflowFailException)(told)

    def on_kill(self) -> None:
        """Stop the command; it leaves nothing half-written."""
        self.hook.send_sigterm()


def _instant(context: Mapping[str, Any]) -> datetime:
    """When the run is due: the end of its data interval, or when it was triggered, where it has none.

    Not its logical date: that is the interval's start under some timetables, its end under others, and a run that was
    triggered by hand may have none.
    """
    run = context["dag_run"]
    instant: datetime = run.data_interval_end or run.run_after
    return instant


def ratemill_month(
    workspace: str,
    *,
    group_id: str = "ratemill",
    period: str = PERIOD_OF_RUN,
    time_zone: str = "UTC",
    command: Sequence[str] = ("ratemill",),
    wait: float = PATIENCE_SECONDS,
    retries: int = 3,
    retry_delay: timedelta = timedelta(minutes=5),
    **kwargs: Any,
) -> TaskGroup:
    """Bill a month: load, check, rate, invoice, report and publish, one task each.

    Args:
        workspace: folder with ``ratemill.toml``, as the workers see it.
        group_id: name of the group.
        period: template of the month to bill. The default is the parameter ``period`` of the run, and without it the
            month before the one in which the run is due: on any day of November that is October.
        time_zone: where months begin and end; give ``[period] time_zone`` of the workspace.
        command: how ``ratemill`` is called, where it is not on the PATH of the workers.
        wait: seconds that a task waits for another process in the workspace: two months at once take turns.
        retries: how often a task is tried again that ended with exit code 75; no other code is tried again.
        retry_delay: the pause before that; it grows each time.
        **kwargs: of every operator: ``pool``, ``queue``, ``executor_config``, ``on_failure_callback``, …
    """
    with TaskGroup(group_id, tooltip="Bill a month with Ratemill") as group:
        tasks = [
            RatemillOperator(
                task_id=step.command,
                step=step.command,
                workspace=workspace,
                period=period,
                time_zone=time_zone,
                command=command,
                wait=wait,
                retries=retries,
                retry_delay=retry_delay,
                retry_exponential_backoff=2,
                doc_md=step.about,
                **kwargs,
            )
            for step in STEPS
        ]
        chain(*tasks)
    return group
