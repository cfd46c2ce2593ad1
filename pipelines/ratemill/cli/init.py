"""``ratemill init``: a workspace to start from."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ratemill.cli.shared import JsonOption, LogFormatOption, QuietOption, finish, printable, set_up_logging
from ratemill.errors import UsageError


class Sample(StrEnum):
    """Workspaces that come with data."""

    DEMO = "demo"
    AWS = "aws"


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", show_default=False, help="Folder to make; must be missing or empty.")
    ],
    sample: Annotated[
        Sample | None,
        typer.Option(
            show_default=False,
            help="demo: a made-up provider, as large as you like; aws: real usage of one month. Else an empty book.",
        ),
    ] = None,
    resources: Annotated[
        int | None, typer.Option(metavar="N", show_default="150", help="demo: resources running at a time.")
    ] = None,
    months: Annotated[int | None, typer.Option(metavar="M", show_default="2", help="demo: months of usage.")] = None,
    until: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", show_default="2026-10", help="demo: the last month.")
    ] = None,
    json: JsonOption = False,
    log_format: LogFormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Make a workspace that runs at once."""
    set_up_logging(log_format=log_format, quiet=quiet)
    _refuse_demo_options(sample, {"--resources": resources, "--months": months, "--until": until})
    _refuse_used_folder(folder)

    # Imported late, since Polars takes longer to load than the checks above.
    from ratemill.io.atomic import StagedFolder  # noqa: PLC0415

    with StagedFolder(folder.absolute()) as staged:
        period = _write(staged, sample, resources=resources, months=months, until=until, quiet=quiet)

    command = f"ratemill run --workspace {shlex.quote(str(folder))} --period {period}"
    if json:
        finish({"workspace": str(folder), "sample": sample, "period": period, "next": command}, json=json)
    else:
        typer.echo(printable(command if sample else f"fill in {folder}/book and {folder}/usage, then: {command}"))


def _write(
    folder: Path, sample: Sample | None, *, resources: int | None, months: int | None, until: str | None, quiet: bool
) -> str:
    """Write the workspace; returns the period to run first."""
    if sample is Sample.AWS:
        from ratemill.samples import aws  # noqa: PLC0415

        aws.write_aws(folder)
        return str(aws.PERIOD)
    if sample is Sample.DEMO:
        return _write_demo(folder, resources=resources, months=months, until=until, quiet=quiet)
    from ratemill.samples.empty import write_empty  # noqa: PLC0415

    write_empty(folder)
    return "last"


def _write_demo(folder: Path, *, resources: int | None, months: int | None, until: str | None, quiet: bool) -> str:
    from ratemill.period import BillingPeriod  # noqa: PLC0415
    from ratemill.progress import make_progress  # noqa: PLC0415
    from ratemill.samples import demo  # noqa: PLC0415

    try:
        last = demo.DEFAULT_UNTIL if until is None else BillingPeriod.parse(until)
    except ValueError as error:
        raise UsageError(f"--until: {error}") from None
    size = demo.Size(
        resources=demo.DEFAULT_RESOURCES if resources is None else resources,
        months=demo.DEFAULT_MONTHS if months is None else months,
        until=last,
    )
    with make_progress(quiet=quiet) as shown, shown.step("usage", total=len(size.days), unit="files") as step:
        demo.write_demo(
            folder,
            resources=size.resources,
            months=size.months,
            until=size.until,
            progress=lambda _: step.advance(),
        )
    return str(last)


def _refuse_demo_options(sample: Sample | None, options: dict[str, object]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given and sample is not Sample.DEMO:
        chosen = f"--sample {sample}" if sample else "an empty workspace"
        raise UsageError(f"{', '.join(given)}: not for {chosen}; only the demo has a size (--sample demo)")


def _refuse_used_folder(folder: Path) -> None:
    if folder.is_dir():
        if any(folder.iterdir()):
            raise UsageError(f"{folder} exists and is not empty; nothing was written. Name another folder, or empty it")
    elif folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} exists and is no folder; nothing was written. Name another folder")
