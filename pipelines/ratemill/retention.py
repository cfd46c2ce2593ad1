"""Which charges are kept, and which may go: one rule, for the step that removes them and for ``status``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratemill.io.charge_store import StoredRun


def collectable(stored: Iterable[StoredRun], runs: Iterable[Mapping[str, str]], *, keep_drafts: int) -> list[StoredRun]:
    """Of the runs on disk, those whose charges nobody needs any more.

    Of each period the newest ``keep_drafts`` are kept, for ``ratemill diff``, and never are those given up that count:

    - every run of ``runs`` (period, run_id, inputs): the current one of each period, which is the issued one where the
      period is closed;
    - the ratings of closed periods that these runs bill corrections of.
    """
    needed = {key for run in runs for key in ((run["period"], run["run_id"]), *correction_runs(run["inputs"]))}
    by_period: dict[str, list[StoredRun]] = {}
    for run in stored:
        by_period.setdefault(run.period, []).append(run)
    given_up: list[StoredRun] = []
    for period in sorted(by_period):
        given_up += _beyond(by_period[period], needed, keep_drafts)
    return given_up


def correction_runs(inputs: str) -> list[tuple[str, str]]:
    """Period and run of the ratings of closed periods that a run bills corrections of, from its ``inputs``."""
    corrections: dict[str, str] = json.loads(inputs).get("corrections", {})
    return [(period, f"{period}-{rating_key[:12]}") for period, rating_key in sorted(corrections.items())]


def _beyond(runs: Sequence[StoredRun], needed: set[tuple[str, str]], keep: int) -> list[StoredRun]:
    """The runs of one period that are neither needed nor among its newest, oldest first."""
    spare = [run for run in runs if (run.period, run.run_id) not in needed]
    newest_first = sorted(spare, key=lambda run: (run.written, run.run_id), reverse=True)
    return newest_first[max(0, keep - (len(runs) - len(spare))) :][::-1]
