"""``ratemill verify``: prove what was billed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratemill.cli.shared import (
    JsonOption,
    LogFormatOption,
    QuietOption,
    WorkspaceOption,
    finish,
    open_workspace,
    print_entry,
    printable,
    read_periods,
    working,
    wrapped,
)
from ratemill.errors import ExitCode

if TYPE_CHECKING:
    from ratemill.steps.verify import Proof, Verified

_INDENT, _FINDING_INDENT = 11, 4
"""Columns in front of what a line tells."""


def verify(
    period: Annotated[
        str | None,
        typer.Option(
            "--period",
            "-p",
            metavar="YYYY-MM",
            show_default=False,
            help="Billing period, a range or last, closed or open; else every closed period.",
        ),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect",
            metavar="HASH",
            show_default=False,
            help="Hash of an act that you kept elsewhere: it must still be in the audit log.",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Prove that what was billed is unchanged.

    Checks the audit log, every file and row of each closed period against what was kept when it was closed, its sums
    and numbers; then rates and assembles it again and compares. Whatever differs is named, and the exit code is 3.
    """
    from ratemill.steps.verify import verify as verify_step  # noqa: PLC0415 - heavy libraries, not needed for --help

    periods = None if period is None else read_periods(period)
    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    with working(opened, "ratemill verify", quiet=quiet, json=json, log_format=log_format, in_doubt=True) as context:
        verified = verify_step(context, periods, expect=expect)
    code = ExitCode.DATA_REFUSED if verified.all_findings else ExitCode.DONE
    if json:
        finish(_summary(verified, code), json=True)
    else:
        _print(verified)
    if code:
        raise typer.Exit(code)


def _summary(verified: Verified, code: ExitCode) -> dict[str, Any]:
    return {
        "status": "refused" if code else "done",
        "exit_code": int(code),
        "acts": verified.acts,
        "last_sha256": verified.last_sha256,
        "periods": [
            {name: value for name, value in vars(proof).items() if name != "findings"}
            | {"findings": len(proof.findings)}
            for proof in verified.periods
        ],
        "findings": [finding.as_dict() for finding in verified.all_findings],
    }


def _print(verified: Verified) -> None:
    typer.echo(f"audit log  {verified.acts:,} acts, the last one {verified.last_sha256 or '(none)'}")
    if not verified.periods:
        typer.echo("periods    none is closed; an open one is verified with --period")
    for proof in verified.periods:
        for line in _lines(proof):
            typer.echo(wrapped(printable(line), sys.stdout, under=_INDENT))
    findings = verified.all_findings
    for finding in findings:
        print_entry(f"  {finding.severity.value}: ", str(finding), under=_FINDING_INDENT)
    count = f"{len(findings):,} {'thing is' if len(findings) == 1 else 'things are'} not as they were"
    typer.echo(count if findings else "all of it is as it was")


def _lines(proof: Proof) -> list[str]:
    state = "closed" if proof.closed else "open"
    counts = (
        f"{proof.charge_files:,} files of charges, {proof.documents:,} documents of {proof.rows:,} rows,"
        f" {proof.issued_files:,} issued files, {proof.out_files:,} files in out"
    )
    lines = [f"{proof.period}    {state}, run {proof.run_id}: {counts}"]
    if proof.derived:
        lines.append("           rated and assembled again: the same")
    if proof.not_derived:
        lines.append("           not rated again, since its inputs are not what they were:")
        lines += [f"             {reason}" for reason in proof.not_derived]
    return lines
