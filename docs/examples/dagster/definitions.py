"""Ratemill's assets as a code location of Dagster.

Try it with: dagster dev -f definitions.py
Beside assets of your own: defs = dg.Definitions.merge(definitions(...), your_definitions)
"""

from __future__ import annotations

import os

from ratemill.integrations.dagster import definitions

defs = definitions(
    os.environ.get("RATEMILL_WORKSPACE", "/srv/billing"),
    start="2026-01",
    time_zone="Europe/Berlin",
    owners=["team:finance"],
)
