"""Exceptions a user can cause, one class per kind of mistake, each with its exit code.

Exit codes (docs/operations.md): 0 done or nothing to do, 1 internal error, 2 usage or configuration,
3 data refused (do not retry), 4 period closed or workspace locked, 75 temporary (retry), 99 nothing to bill.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratemill.findings import Finding


class ExitCode(IntEnum):
    """Process exit codes, documented in docs/operations.md."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    DATA_REFUSED = 3
    LOCKED = 4
    TEMPORARY = 75
    NOTHING_TO_BILL = 99


class RatemillError(Exception):
    """Something the user can mend. ``str()`` is the whole message, in one or two sentences."""

    exit_code: ExitCode = ExitCode.INTERNAL

    def __init__(self, message: str, *, findings: Sequence[Finding] = ()) -> None:
        super().__init__(message)
        self.findings: tuple[Finding, ...] = tuple(findings)


class UsageError(RatemillError):
    """A wrong argument, option, configuration or workspace."""

    exit_code = ExitCode.USAGE


class DataRefusedError(RatemillError):
    """Input data that must not be billed as it is; trying again changes nothing."""

    exit_code = ExitCode.DATA_REFUSED


class LockedError(RatemillError):
    """Another process holds the workspace, or the period is closed."""

    exit_code = ExitCode.LOCKED


class TemporaryError(RatemillError):
    """Disk full, storage away: the same command may succeed later."""

    exit_code = ExitCode.TEMPORARY


class NothingToBillError(RatemillError):
    """There is nothing to bill for the period."""

    exit_code = ExitCode.NOTHING_TO_BILL


class InvariantError(RatemillError):
    """A law of the ledger does not hold: a bug, and nothing was written."""

    exit_code = ExitCode.INTERNAL
