"""The command line in a process of its own: its log as it comes, its exit code and its JSON at the end."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ratemill.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SECONDS_TO_STOP = 60
"""A command that was told to stop has this long before it is killed; it leaves nothing half-written either way."""
_NOT_STARTED = 127
"""As shells say it."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    summary: Mapping[str, Any]
    """The JSON object of its last line; empty where it was killed."""

    @property
    def findings(self) -> Sequence[Mapping[str, Any]]:
        """What it found, worst first as it told them."""
        findings: Sequence[Mapping[str, Any]] = self.summary.get("findings", ())
        return findings

    @property
    def may_pass(self) -> bool:
        """Whether the same command may succeed later."""
        return self.code == ExitCode.TEMPORARY

    @property
    def told(self) -> str:
        """Why it ended so, in a sentence."""
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}; nothing is half-written"
        return str(self.summary.get("error") or digest(self.findings) or f"ended with exit code {self.code}")


def call(line: Sequence[str], log: logging.Logger) -> Ended:
    """Run a command that was told ``--json --log-format json``; its log lines go to ``log``.

    Whatever is raised meanwhile, as by a scheduler that cancels, stops the command the way Ctrl-C does.
    """
    with tempfile.TemporaryFile() as stdout:
        try:
            process = subprocess.Popen(  # noqa: S603 - the caller's command, without a shell
                line,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            return Ended(_NOT_STARTED, {"error": f"{line[0]} can't be started: {error.strerror}"})
        with process:
            try:
                for told in process.stderr or ():
                    _log(log, told)
                code = process.wait()
            except BaseException:
                _stop(process)
                raise
        stdout.seek(0)
        lines = stdout.read().splitlines()
    return Ended(code, _summary(lines[-1] if lines else b""))


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()


def _summary(line: bytes) -> dict[str, Any]:
    try:
        summary = json.loads(line)
    except ValueError:
        return {}
    return summary if isinstance(summary, dict) else {}


def _log(log: logging.Logger, line: str) -> None:
    """One line of the command's log, with the figures it carries behind the sentence."""
    try:
        entry = json.loads(line)
        level, message = logging.getLevelNamesMapping()[entry["level"].upper()], entry["message"]
    except (ValueError, KeyError, TypeError, AttributeError):  # a library's word, or the system's
        log.warning("%s", line.rstrip())
        return
    figures = ", ".join(f"{name} {entry[name]}" for name in ("rows", "seconds") if name in entry)
    log.log(level, "%s", f"{message} ({figures})" if figures else message)


def digest(findings: Sequence[Mapping[str, Any]]) -> str:
    """How many findings there are, and what the first one says."""
    if not findings:
        return ""
    first = findings[0]
    row = f":{first['row']}" if first["row"] is not None else ""
    told = f"{first['file']}{row}: {first['message']}" if first["file"] else first["message"]
    return told if len(findings) == 1 else f"{len(findings):,} findings, the first: {told}"
