"""Runs of the example DAG in one process: cases as JSON on stdin, how each task ended as JSON in the last line of stdout.

Needs Airflow and its environment (``AIRFLOW_HOME``, …); test_airflow.py starts it.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from datetime import datetime, timedelta
from pathlib import Path

from airflow import settings
from airflow.models import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import select

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "airflow" / "ratemill_billing.py"


def run(case):
    """One run: task → state, number of tries, XCom."""
    os.environ["RATEMILL_WORKSPACE"] = case["workspace"]
    dag = runpy.run_path(str(EXAMPLE))["dag"]
    for task in dag.tasks:
        task.retry_delay = timedelta(0)
        task.command = case.get("command", task.command)
    date = case.get("logical_date")
    made = dag.test(logical_date=datetime.fromisoformat(date) if date else None, run_conf=case.get("conf"))
    with settings.Session() as session:
        tasks = session.scalars(select(TaskInstance).where(TaskInstance.run_id == made.run_id)).all()
        values = session.scalars(
            select(XComModel).where(XComModel.run_id == made.run_id, XComModel.key == "return_value")
        )
        xcoms = {row.task_id: row.value for row in values}
        return {
            task.task_id.removeprefix("ratemill."): {
                "state": task.state,
                "tries": task.try_number,
                "xcom": xcoms.get(task.task_id),
            }
            for task in tasks
        }


if __name__ == "__main__":
    settings.configure_orm()
    print("\n" + json.dumps([run(case) for case in json.load(sys.stdin)]))
