"""Bill the month before, on the first five days of every month.

Put this file into the folder of DAGs, and set where the workspace is. A past month is billed by triggering the DAG with
its parameter: airflow dags trigger ratemill_billing --conf '{"period": "2026-09"}'
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.sdk import DAG, CronTriggerTimetable, Param

from ratemill.integrations.airflow import ratemill_month

WORKSPACE = os.environ.get("RATEMILL_WORKSPACE", "/srv/billing")
TIME_ZONE = "Europe/Berlin"

with DAG(
    "ratemill_billing",
    description="Draft the invoices of last month; late files are billed by the runs of the next days.",
    schedule=CronTriggerTimetable("0 6 1-5 * *", timezone=TIME_ZONE),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={
        "period": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{4}-(0[1-9]|1[0-2])$",
            title="Month",
            description="YYYY-MM; empty: the month before the day of the run",
        ),
    },
    tags=["billing"],
) as dag:
    ratemill_month(WORKSPACE, time_zone=TIME_ZONE)
