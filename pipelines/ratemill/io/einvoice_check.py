"""Whether an e-invoice keeps its schema and the rules of EN 16931, by validators that are not ours.

They run in a process of its own: the processor of the rules is native code, and what it does to its process must not be
done to the one that holds the warehouse.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

from ratemill.errors import TemporaryError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

_WORKER = "ratemill.io.einvoice_check_worker"
_NEEDED = ("facturx", "saxonche", "lxml")


@dataclass(frozen=True)
class FailedRule:
    """One rule that a document breaks."""

    rule: str
    """Its name, such as BR-CO-15; XSD for the schema."""
    is_fatal: bool
    """Whether receivers refuse the document; otherwise it is advice."""
    message: str
    """The rule, in the standard's words."""
    place: str
    """Where in the document; empty: not known."""


@dataclass(frozen=True)
class Checked:
    """What the validators say about a document."""

    rules: int
    """How many rules had something to look at."""
    failed: tuple[FailedRule, ...]

    @property
    def is_valid(self) -> bool:
        """Whether no rule that makes it invalid is broken."""
        return not any(each.is_fatal for each in self.failed)


class EInvoiceCheck:
    """The validators, started once for many documents. Use as a context manager."""

    def __init__(self) -> None:
        """Look whether they are installed.

        Raises:
            UsageError: they are not.
        """
        missing = [name for name in _NEEDED if find_spec(name) is None]
        if missing:
            raise UsageError(
                f"the validators of e-invoices are not installed ({', '.join(missing)})"
                " → install them: pip install 'ratemill[einvoice]'"
            )
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def check(self, file: Path) -> Checked:
        """Check one file, UBL or CII.

        Raises:
            TemporaryError: the validators ended without an answer.
        """
        answer = self._ask(file)
        return Checked(
            rules=answer["fired"],
            failed=tuple(
                FailedRule(each["rule"], each["flag"] == "fatal", each["message"], each["place"])
                for each in answer["failed"]
            ),
        )

    def _ask(self, file: Path) -> dict[str, Any]:
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter and a module of ours
                [sys.executable, "-m", _WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise TypeError("the validators have no pipes")
        try:
            process.stdin.write(f"{file.resolve()}\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            process.communicate()
            self._process = None
            code = process.returncode
            raise TemporaryError(f"the validators of e-invoices ended (code {code}) while they looked at {file.name}")
        answer: dict[str, Any] = json.loads(line)
        return answer
