"""A process that reads usage files: one JSON request a line in, one JSON reply a line out.

Started by :mod:`ratemill.io.usage_reader`, never imported. Frames go to the folder that the request names.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ratemill.config import Usage
from ratemill.errors import TemporaryError
from ratemill.io.atomic import make_private_folder, translate_os_errors
from ratemill.io.usage_files import FileRefusedError, UsageFile, open_usage_file
from ratemill.usage.intake import Intake, take_in

_PARENT = os.getppid()


def read(request: dict[str, Any]) -> dict[str, Any]:
    """``slices`` of the file, or why it is ``refused``, or what is ``temporary`` in the way."""
    file = UsageFile(Path(request["path"]), request["name"], request["sha256"])
    slices: list[dict[str, Any]] = []
    try:
        opened = open_usage_file(file, Usage.model_validate(request["config"]))
        for first_row, frame in opened.slices():
            if os.getppid() != _PARENT:
                sys.exit()  # the run was killed, and its folder is gone or will be
            folder = Path(request["folder"]) / str(len(slices))
            slices.append(_hand_over(take_in(frame, opened.mapping, first_row=first_row), folder))
    except FileRefusedError as refusal:
        return {"refused": str(refusal)}
    except TemporaryError as error:
        return {"temporary": str(error)}
    except MemoryError:
        return {"temporary": f"not enough memory to read {file.name}; nothing was changed"}
    return {"slices": slices}


def _hand_over(intake: Intake, folder: Path) -> dict[str, Any]:
    with translate_os_errors(f"handing over rows in {folder}"):
        make_private_folder(folder)
        for name in ("rows", "series", "rejects"):
            getattr(intake, name).write_ipc(folder / f"{name}.arrow", compat_level=None)
    return {
        "folder": str(folder),
        "rows_in": intake.rows_in,
        "rows_filtered": intake.rows_filtered,
        "rows_rejected": intake.rows_rejected,
    }


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(read(json.loads(line))) + "\n")
        sys.stdout.flush()
