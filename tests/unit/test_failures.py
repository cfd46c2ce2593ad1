"""What is told to others when a run does not come to its end."""

from __future__ import annotations

import os
import signal

import pytest

from ratemill.cli.shared import open_workspace, read_clock, working
from ratemill.errors import LockedError, TemporaryError
from ratemill.period import BillingPeriod
from ratemill.steps.failures import failures_are_told
from ratemill.stopping import Signals
from workspaces import NOW, PERIOD, make_workspace

SUBSCRIPTION = {"subscription_id": "ops", "channel": "email", "address": "ops@example.com"}


@pytest.fixture
def signals():
    """Signals are received as in a command."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = {number: signal.getsignal(number) for number in numbers}
    Signals().install()
    yield
    Signals().install()  # which has received none
    for number, handler in former.items():
        signal.signal(number, handler)


def raised(error):
    raise error


def swallowed(number):
    """As databases do: the statement that the signal came in ends well, or as an error of theirs, and the next fails."""
    try:
        os.kill(os.getpid(), number)
    except (SystemExit, KeyboardInterrupt):
        raise RuntimeError("the transaction is aborted") from None


@pytest.mark.parametrize(
    ("trouble", "ends", "messages"),
    [
        (lambda: raised(TemporaryError("disk full")), "disk full", ["disk full"]),
        (lambda: raised(KeyError("a\nbug")), "bug", ["internal error: KeyError: 'a\\nbug'"]),
        (lambda: raised(LockedError("another run is at work")), "another", []),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "143", []),
        (lambda: swallowed(signal.SIGTERM), "aborted", []),
        (lambda: swallowed(signal.SIGINT), "aborted", []),
    ],
    ids=["known", "bug", "locked", "stopped", "stopped and renamed", "interrupted and renamed"],
)
def test_a_run_that_failed_is_told_and_one_that_was_stopped_is_not(tmp_path, signals, trouble, ends, messages):
    make_workspace(tmp_path, usage=[], book={"subscriptions": [SUBSCRIPTION]})
    period = BillingPeriod.parse(PERIOD)
    with working(open_workspace(tmp_path), "ratemill run", now=read_clock(NOW), quiet=True) as context:
        with pytest.raises(BaseException, match=ends), failures_are_told(context, "run_failed", [period]):
            trouble()
        queued = context.warehouse.frame("SELECT payload->>'message' AS message FROM ops.notifications")
    assert queued["message"].to_list() == messages
