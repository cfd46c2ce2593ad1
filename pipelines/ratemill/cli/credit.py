"""``ratemill credit-note``: give back an issued invoice, or a part of it."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated

import typer

from ratemill.cli.run import AsOfOption
from ratemill.cli.shared import (
    ByOption,
    IssueDateOption,
    JsonOption,
    LogFormatOption,
    QuietOption,
    WorkspaceOption,
    finish,
    open_workspace,
    printable,
    read_clock,
    read_issue_date,
    working,
)
from ratemill.errors import UsageError

if TYPE_CHECKING:
    from ratemill.steps.credit import Credited


def credit_note(
    invoice: Annotated[
        str,
        typer.Option(
            "--invoice", metavar="NUMBER", show_default=False, help="Number of the invoice, or its invoice_id."
        ),
    ],
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", show_default=False, help="Why; printed on the credit note.")
    ],
    line: Annotated[
        list[int] | None,
        typer.Option(
            "--line", metavar="N", show_default=False, help="Number of a line to credit; once for each. Else all lines."
        ),
    ] = None,
    amount: Annotated[
        str | None,
        typer.Option(
            "--amount",
            metavar="X",
            show_default=False,
            help="Untaxed amount to credit, spread over the lines pro rata. Else all that is left of them.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="KEY",
            show_default=False,
            help="Your own name of this credit: the same again changes nothing. Else invoice, lines, amount and reason"
            " are what must be the same.",
        ),
    ] = None,
    issue_date: IssueDateOption = None,
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    as_of: AsOfOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Credit an issued invoice, or a part of it.

    The credit note is numbered, dated and issued at once; it names its invoice, and never gives back more than is left
    of it, line by line. Taxes are given back with what they were paid on.
    """
    from ratemill.invoicing.credit_notes import Credit  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.steps.credit import credit  # noqa: PLC0415

    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    wanted = Credit(reason, tuple(line or ()), _read_amount(amount))
    day, now = read_issue_date(issue_date), read_clock(as_of)
    with working(
        opened,
        f"ratemill credit-note --invoice {invoice}",
        now=now,
        by=by,
        quiet=quiet,
        json=json,
        log_format=log_format,
    ) as context:
        credited = credit(context, invoice, wanted, issue_date=day, reference=reference)
    if json:
        finish(
            {
                "nothing_to_do": credited.nothing_to_do,
                "credit_note": credited.note,
                "invoice": credited.original["number"],
                "files": list(credited.files),
                "out": f"out/{credited.note['period']}",
            },
            json=True,
        )
    else:
        _print(credited)


def _print(credited: Credited) -> None:
    note, original = credited.note, credited.original
    state = "stands already: nothing to do" if credited.nothing_to_do else "issued"
    typer.echo(
        f"credit note {printable(note['number'])} {state}, on {note['issue_date']}, for invoice"
        f" {printable(original['number'])} of {original['issue_date']}"
    )
    amounts = (("untaxed", "untaxed_amount"), ("tax", "tax_amount"), ("total", "total_amount"))
    typer.echo(", ".join(f"{name} {_money(note[column], note['currency'])}" for name, column in amounts))
    if credited.nothing_to_do:
        typer.echo("to credit the same once more, give it another --reference or --reason")
    typer.echo(f"documents   out/{note['period']}/invoices/")


def _money(amount: Decimal, currency: str) -> str:
    from ratemill.documents.formats import format_amount  # noqa: PLC0415

    return f"{format_amount(amount, currency)} {currency}"


def _read_amount(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise UsageError(f"--amount: {text!r} is no number; write it as 12.50")
    return amount
