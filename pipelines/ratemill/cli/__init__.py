"""The ``ratemill`` command: its subcommands, and how every one of them ends.

Subcommands are imported when they are called, so that ``ratemill --help`` answers at once.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import platform
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from ratemill import __version__, logs
from ratemill.cli.shared import opened_workspace, print_json, printable, takes_colour, wrapped
from ratemill.errors import (
    DataRefusedError,
    ExitCode,
    InvariantError,
    LockedError,
    RatemillError,
    TemporaryError,
    UsageError,
)
from ratemill.observe import Ending, tell_over
from ratemill.stopping import Signals

_MAX_FINDINGS = 20
_FINDING_INDENT = 4
_INTERRUPTED = 128 + signal.SIGINT
_BROKEN_PIPE = 128 + signal.SIGPIPE

_CONTEXT = {"help_option_names": ["--help", "-h"]}

_STATUS = {
    ExitCode.DONE: "done",
    ExitCode.INTERNAL: "internal_error",
    ExitCode.USAGE: "usage_error",
    ExitCode.DATA_REFUSED: "refused",
    ExitCode.LOCKED: "locked",
    ExitCode.TEMPORARY: "temporary",
    ExitCode.NOTHING_TO_BILL: "nothing_to_bill",
}


class Command(NamedTuple):
    """A subcommand: its name, where its function is, and its line in ``ratemill --help``."""

    name: str
    """One word; of a command in one of :data:`GROUPS`, the group and the word."""
    function: str
    """``module:function``."""
    help: str
    """The first line of the function's docstring; a test keeps them equal."""


COMMANDS = (
    Command("init", "ratemill.cli.init:init", "Make a workspace that runs at once."),
    Command("run", "ratemill.cli.run:run", "Bill a period: load, check, rate, invoice, report, publish."),
    Command("plan", "ratemill.cli.plan:plan", "Show what a run would do now, step by step, and why."),
    Command("load", "ratemill.cli.steps:load", "Read new and changed usage files into the warehouse."),
    Command("check", "ratemill.cli.steps:check", "Check the book, the configuration and the usage of a period."),
    Command("rate", "ratemill.cli.steps:rate", "Turn the usage of a period into charges."),
    Command("invoice", "ratemill.cli.steps:invoice", "Draft the invoices of a rated period."),
    Command("report", "ratemill.cli.steps:report", "Write invoices, cost reports and files of a period."),
    Command("publish", "ratemill.cli.steps:publish", "Write the database that analysts open, and its mirror."),
    Command("close", "ratemill.cli.close:close", "Issue the invoices of a period, and freeze it."),
    Command("credit-note", "ratemill.cli.credit:credit_note", "Credit an issued invoice, or a part of it."),
    Command("verify", "ratemill.cli.verify:verify", "Prove that what was billed is unchanged."),
    Command("diff", "ratemill.cli.diff:diff", "Show what changed between two runs of a period, and why."),
    Command(
        "explain",
        "ratemill.cli.explain:explain",
        "Explain a figure: from usage and price to rounding, discounts and tax.",
    ),
    Command(
        "forecast",
        "ratemill.cli.forecast:forecast",
        "Show what a month is expected to cost at its end, with an interval.",
    ),
    Command(
        "anomalies", "ratemill.cli.anomalies:anomalies", "Show unusual spend of a period, and the resources behind it."
    ),
    Command("simulate", "ratemill.cli.simulate:simulate", "Show what invoices would have been with other prices."),
    Command("export focus", "ratemill.cli.export:focus", "Write the FOCUS datasets of a period that has invoices."),
    Command("export prices", "ratemill.cli.export:prices", "Write price pages: everybody's, or one customer's."),
    Command("export workbook", "ratemill.cli.export:workbook", "Write the workbook of a period that has invoices."),
    Command("export lines", "ratemill.cli.export:lines", "Write the invoice lines of a period that has invoices."),
    Command("export member", "ratemill.cli.export:member", "Write what one member may see, and nothing else."),
    Command("export einvoice", "ratemill.cli.export:einvoice", "Write the e-invoices of a closed period."),
    Command("alerts", "ratemill.cli.alerts:alerts", "Look at budgets and at what happened, and tell who subscribed."),
    Command("notifications", "ratemill.cli.alerts:notifications", "Show what was sent, waits, or went wrong."),
    Command("sql", "ratemill.cli.sql:sql", "Query the published data with SQL, read-only."),
    Command("query", "ratemill.cli.query:query", "Ask a report query of the published data."),
    Command("backup", "ratemill.cli.backup:backup", "Copy what can't be made again, as of one moment."),
    Command("restore", "ratemill.cli.backup:restore", "Make a workspace from a backup."),
    Command(
        "book pull", "ratemill.cli.book:pull", "Bring projects and members of the book up to what another system says."
    ),
    Command(
        "serve", "ratemill.cli.serve:serve", "Serve the Billing API: what was published, each key seeing its own part."
    ),
    Command("keys create", "ratemill.cli.keys:create", "Make a key, and show its secret: once, for it is not kept."),
    Command(
        "keys list",
        "ratemill.cli.keys:list_keys",
        "List keys: what each sees, when it was used last, whether it holds.",
    ),
    Command("keys revoke", "ratemill.cli.keys:revoke", "Take a key back for good; servers refuse it within a second."),
    Command("bench", "ratemill.cli.bench:bench", "Measure a run against the bare engine."),
    Command("status", "ratemill.cli.status:status", "Show what was run, and what is waiting."),
)
_BY_NAME = {command.name: command for command in COMMANDS}

GROUPS = {
    "export": "Write files for other systems.",
    "book": "Fill tables of the book from elsewhere.",
    "keys": "Make, list and revoke keys of the Billing API.",
}
"""Words that commands of two words begin with, and their line in ``ratemill --help``."""


class LazyCommand(TyperCommand):
    """Stands for a subcommand in ``--help`` and completion, and becomes the real one when it is called."""

    def __init__(self, command: Command) -> None:
        super().__init__(command.name.rpartition(" ")[2], help=command.help)
        self._command = command

    def load(self) -> TyperCommand:
        """Import the subcommand."""
        module, _, function = self._command.function.partition(":")
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        register = single.command(self.name, context_settings=_CONTEXT)
        register(getattr(importlib.import_module(module), function))
        loaded = typer.main.get_command(single)
        if not isinstance(loaded, TyperCommand):
            raise TypeError(f"{self._command.function} is a group of commands")
        return loaded

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the real command, which is what the group invokes."""
        return self.load().make_context(info_name, args, parent=parent, **extra)


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(dict.fromkeys(command.name.partition(" ")[0] for command in COMMANDS))

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | TyperGroup | None:  # noqa: ARG002
        if cmd_name in GROUPS:
            return CommandGroup(cmd_name)
        return LazyCommand(_BY_NAME[cmd_name]) if cmd_name in _BY_NAME else None


class CommandGroup(TyperGroup):
    """The commands whose first word is that of a group."""

    def __init__(self, name: str) -> None:
        super().__init__(
            name=name, help=GROUPS[name], no_args_is_help=True, rich_markup_mode=None, context_settings=dict(_CONTEXT)
        )

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Second words, in order."""
        words = (command.name.split(" ") for command in COMMANDS)
        return [rest[0] for first, *rest in words if rest and first == self.name]

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:  # noqa: ARG002
        """The command of that second word."""
        command = _BY_NAME.get(f"{self.name} {cmd_name}")
        return LazyCommand(command) if command is not None else None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: at once, the same on every terminal, and fit for the docs
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ratemill {__version__}")
        raise typer.Exit


@app.callback()
def ratemill(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Month-end rating and invoicing: hourly usage in, reconciled invoices and cost reports out.

    Exit codes: 0 done or nothing to do, 1 internal error, 2 usage or configuration, 3 data refused,
    4 workspace locked or period closed, 75 temporary (try again), 99 nothing to bill.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code (see :func:`run_command`)."""
    _settle_streams()
    code = run_command(sys.argv[1:] if arguments is None else list(arguments))
    nobody_reads = code == _BROKEN_PIPE
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        nobody_reads, code = True, code or _BROKEN_PIPE
    if nobody_reads:
        # The interpreter flushes stdout again when it ends; give it somewhere to write to.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _settle_streams() -> None:
    """Files and pipes get the same bytes on every machine; a terminal gets what it can show.

    A stream that whoever started us has closed leads nowhere: else the next file to be opened would become it, and what
    we say would go into the warehouse.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is the one that is missing
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = None if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace", newline="\n")


def run_command(arguments: list[str]) -> int:
    """Run one command line; errors are told on stderr (and with ``--json`` on stdout) and become an exit code."""
    signals = Signals()
    signals.install()
    teller = _Teller(arguments)
    code = _run(arguments, signals, teller)
    tell_over(Ending(code, teller.told, teller.findings))
    return code


def _run(arguments: list[str], signals: Signals, teller: _Teller) -> int:
    try:
        result = typer.main.get_command(app).main(arguments, prog_name="ratemill", standalone_mode=False)
        if signals.received == signal.SIGINT and result == _INTERRUPTED:  # typer returns instead of raising
            return teller.stopped(signal.SIGINT)
        sys.stdout.flush()
        return result if isinstance(result, int) else ExitCode.DONE
    except BaseException as error:  # noqa: BLE001 - the one place where everything ends, panics of libraries included
        teller.where = logs.where(error)
        if signals.received is not None:
            return teller.stopped(signals.received)
        return teller.end(error)


class _Teller:
    """Tells the user how a command ended, in the form the command line asked for.

    The options are looked up in the raw arguments, since a command line that can't be parsed ends here too.
    """

    def __init__(self, arguments: list[str]) -> None:
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        self._arguments = arguments
        self.told = ""
        """The message of the error, if there was one."""
        self.findings: tuple[Any, ...] = ()
        self.where: dict[str, object] = {}
        """Run, period and step that the error came from, as far as they are known."""
        self._json = "--json" in options
        self._json_log = "--log-format=json" in options or ("--log-format", "json") in pairwise(options)

    def stopped(self, number: int) -> int:
        """The command was interrupted."""
        if number == signal.SIGINT:
            return self._tell("stopped; nothing half-written", 128 + number, status="interrupted", label="")
        name = signal.Signals(number).name
        return self._tell(f"stopped by {name}; nothing half-written", 128 + number, status="terminated", label="")

    def end(self, error: BaseException) -> int:
        """The command raised ``error``."""
        cause = error.__context__ if isinstance(error, SystemExit) else error  # typer turns the one into the other
        if isinstance(cause, BrokenPipeError):
            return _BROKEN_PIPE  # whoever read our output has had enough: no error, and nobody to tell
        if isinstance(error, SystemExit):
            return error.code if isinstance(error.code, int) else ExitCode.INTERNAL
        if isinstance(error, typer.Abort):
            return self.stopped(signal.SIGINT)
        if isinstance(error, _CLICK_ERROR):
            return self._usage(error)
        known = error if isinstance(error, RatemillError) else _translate(error)
        return self._known(known, error) if known is not None else self._internal(error)

    def _known(self, known: RatemillError, error: BaseException) -> int:
        details = _write_details(error, self._arguments) if isinstance(known, InvariantError) else None
        message = f"{known}; details written to {details}; please report" if details else str(known)
        return self._tell(message, known.exit_code, findings=known.findings)

    def _usage(self, error: Any) -> int:
        if type(error).__name__ == "NoArgsIsHelpError":  # no arguments at all; its message is the help
            sys.stderr.write(error.format_message() + "\n")
            return ExitCode.USAGE
        context = getattr(error, "ctx", None)
        hint = f" (see: {context.command_path} --help)" if context is not None else ""
        return self._tell(f"{error.format_message().rstrip('.')}{hint}", ExitCode.USAGE)

    def _internal(self, error: BaseException) -> int:
        if os.environ.get("RATEMILL_DEBUG") == "1":
            traceback.print_exception(error)
        kind = type(error).__name__
        what = " ".join(str(error).split())[:500]
        details = _write_details(error, self._arguments)
        where = f"details written to {details}" if details else "set RATEMILL_DEBUG=1 to see details"
        return self._tell(f"internal error: {kind}: {what}; {where}; please report", ExitCode.INTERNAL, label="")

    def _tell(
        self, message: str, code: int, *, findings: Sequence[Any] = (), status: str = "", label: str = "error: "
    ) -> int:
        self.told, self.findings = message, tuple(findings)
        status = status or _STATUS.get(ExitCode(code), "internal_error")
        with suppress(BrokenPipeError):
            if self._json_log:
                told = [finding.as_dict() for finding in findings]
                line = {"time": _now(), "level": "error", "message": message, **self.where}
                line |= {"exit_code": code, "findings": told}
                sys.stderr.write(json.dumps(line, ensure_ascii=False) + "\n")
            else:
                sys.stderr.write(_plain(message, findings, label=label, stream=sys.stderr))
            sys.stderr.flush()
        if self._json:
            told = [finding.as_dict() for finding in findings]
            with suppress(BrokenPipeError):
                print_json({"status": status, "exit_code": int(code), "error": message, "findings": told})
        return int(code)


def _plain(message: str, findings: Sequence[Any], *, label: str, stream: TextIO) -> str:
    red, end = ("\x1b[1;31m", "\x1b[0m") if takes_colour(stream) else ("", "")
    told = wrapped(f"{label}{printable(message)}", stream, under=len(label))
    red_until = len(label) or len(told)
    lines = [f"{red}{told[:red_until]}{end}{told[red_until:]}"]
    lines += [
        wrapped(f"  {finding.severity.value}: {printable(str(finding))}", stream, under=_FINDING_INDENT)
        for finding in findings[:_MAX_FINDINGS]
    ]
    if len(findings) > _MAX_FINDINGS:
        lines.append(f"  … and {len(findings) - _MAX_FINDINGS:,} more (--json lists all {len(findings):,})")
    return "\n".join(lines) + "\n"


def _translate(error: BaseException) -> RatemillError | None:
    """The user's view of what libraries raise; None for a bug."""
    from ratemill.io.atomic import from_os_error, names_full_disk  # noqa: PLC0415 - for errors only

    text = " ".join(str(error).split())
    library, kind = type(error).__module__.partition(".")[0], type(error).__name__
    if isinstance(error, MemoryError) or (library == "_duckdb" and kind == "OutOfMemoryException"):
        cure = (
            "raise [engine] memory in ratemill.toml"
            if library == "_duckdb"
            else "run again when the machine is less busy, or set [engine] memory in ratemill.toml to what it can spare"
        )
        return TemporaryError(f"not enough memory → {cure}; nothing was changed{f' ({text})' if text else ''}")
    if names_full_disk(text):
        return TemporaryError(f"disk full: free space and run again; nothing is half-written ({text})")
    if library == "_duckdb":
        return _trouble_of_database(text)
    if isinstance(error, OSError):
        return from_os_error(error, "reading or writing")
    if isinstance(error, UnicodeEncodeError):
        return UsageError(f"the output's encoding can't show every character: set PYTHONUTF8=1 ({text})")
    return None


def _trouble_of_database(text: str) -> RatemillError | None:
    """What a message of DuckDB means to the user; None for a bug."""
    if "Could not set lock on file" in text:
        return LockedError(f"a database file is open in another process; close it and run again ({text})")
    if "Corrupt database file" in text:
        return DataRefusedError(
            f"a database file is damaged ({text}) → look after the disk, and bring the workspace back from a backup:"
            " ratemill restore; if it is published/billing.duckdb, ratemill publish makes it again"
        )
    return None


def _write_details(error: BaseException, arguments: list[str]) -> Path | None:
    """Write the traceback to the workspace's ``state/errors``, else to a temporary file; None when neither works."""
    workspace = opened_workspace.get()
    content = "".join(
        [
            f"ratemill {__version__}, Python {platform.python_version()}, {platform.platform()}\n",
            f"{_now()} pid {os.getpid()}: ratemill {shlex.join(arguments)}\n\n",
            *traceback.format_exception(error),
        ]
    )
    name = f"{_now().replace(':', '')}-{os.getpid()}.log"
    if workspace is not None:
        with suppress(OSError, RatemillError):
            from ratemill.io.atomic import write_file  # noqa: PLC0415 - for errors only

            file = workspace.state / "errors" / name
            write_file(file, content.encode("utf-8", "backslashreplace"))
            return file
    with suppress(OSError):
        descriptor, path = tempfile.mkstemp(prefix="ratemill-error-", suffix=".log")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content.encode("utf-8", "backslashreplace"))
        return Path(path)
    return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _click_error() -> type[Exception]:
    """The base of all errors about a command line; typer exports only one of its children."""
    return next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


_CLICK_ERROR = _click_error()
