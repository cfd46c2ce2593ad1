"""The files that a simulation is asked for."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from ratemill.documents.simulate import (
    PageJob,
    Simulation,
    SimulationPrinter,
    simulation_csv,
    simulation_page,
    simulation_workbook,
)
from ratemill.errors import UsageError
from ratemill.io.atomic import write_file
from ratemill.steps.documents import made

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ratemill.steps.context import Context
    from ratemill.steps.simulate import Simulated
    from ratemill.workspace import Workspace

NAME = "simulation"
FORMATS = (".html", ".xlsx", ".csv")
_SECONDS = 0.5


def files_to_write(workspace: Workspace, outputs: Sequence[Path]) -> tuple[Path, ...]:
    """The files that ``outputs`` name; a folder gets one of each kind.

    Raises:
        UsageError: an ending is unknown, or a place is one that the program looks after itself.
    """
    files: list[Path] = []
    for output in outputs:
        if output.suffix.lower() in FORMATS and not output.is_dir():
            files.append(output)
        elif output.is_dir() or not output.suffix:
            files += [output / f"{NAME}{ending}" for ending in FORMATS]
        else:
            raise UsageError(
                f"--output {output}: unknown ending; name a folder, or a file that ends in {', '.join(FORMATS)}"
            )
    ours = [workspace.state, workspace.root / "out", workspace.published, workspace.book]
    for file in files:
        for folder in ours:
            if file.resolve().is_relative_to(folder.resolve()):
                raise UsageError(
                    f"--output: {file} is in {folder.name}/, which holds what is billed → name another place"
                )
    return tuple(dict.fromkeys(files))


def write_simulation(context: Context, simulated: Simulated, files: Sequence[Path]) -> None:
    """Write each of ``files`` (of :func:`files_to_write`) in the format of its ending.

    Raises:
        UsageError: a template of the workspace is wrong, or a folder can't be written to.
    """
    simulation = Simulation(
        context.config.seller.name, simulated.periods, simulated.changes, simulated.notes, simulated.effects
    )
    with context.progress.step("write", unit="files") as step:
        for file in files:
            match file.suffix.lower():
                case ".html":
                    data = _page(context, simulation)
                case ".xlsx":
                    data = simulation_workbook(simulation)
                case _:
                    data = simulation_csv(simulation)
            write_file(file, data)
            step.advance()
        step.done(f"{len(files)} files")


def _page(context: Context, simulation: Simulation) -> bytes:
    job = PageJob(f"{NAME}.html", simulation_page(simulation))
    printer = SimulationPrinter(context.workspace.templates)
    with closing(made(context, printer, [job], seconds=_SECONDS)) as files:
        return b"".join(data for _, _, data in files)
