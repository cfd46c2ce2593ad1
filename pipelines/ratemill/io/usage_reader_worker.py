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
from ratemill.errors import TemporaryError, UsageError
from ratemill.io.atomic import make_private_folder, translate_os_errors
from ratemill.io.machine import be_first_to_go
from ratemill.io.usage_files import FileRefusedError, UsageFile, open_usage_file
from ratemill.io.usage_objects import UsageObject
from ratemill.usage.intake import Intake, take_in

_PARENT = os.getppid()


def read(request: dict[str, Any]) -> dict[str, Any]:
    """``slices`` of the file, or why it is ``refused``, or what is ``temporary`` in the way or wrong in the ``usage``.

    ``fetched`` tells of an object which version was read, and the hash of its content.
    """
    slices: list[dict[str, Any]] = []
    fetched: dict[str, Any] = {}
    try:
        file, fetched = _file_of(request)
        opened = open_usage_file(file, Usage.model_validate(request["config"]), most_rows=request["most_rows"])
        for first_row, frame in opened.slices():
            if os.getppid() != _PARENT:
                sys.exit()  # the run was killed, and its folder is gone or will be
            folder = Path(request["folder"]) / str(len(slices))
            slices.append(_hand_over(take_in(frame, opened.mapping, first_row=first_row), folder))
    except FileRefusedError as refusal:
        return {"refused": str(refusal), **fetched}
    except TemporaryError as error:
        return {"temporary": str(error)}
    except UsageError as error:
        return {"usage": str(error)}
    except MemoryError:
        return {"temporary": f"not enough memory to read {request['name']}; nothing was changed"}
    finally:
        if fetched:
            file.path.unlink(missing_ok=True)  # read, and what came of it is handed over
    return {"slices": slices, **fetched}


def _file_of(request: dict[str, Any]) -> tuple[UsageFile, dict[str, Any]]:
    if "object" not in request:
        return UsageFile(Path(request["path"]), request["name"], request["sha256"]), {}
    file, version = UsageObject.of_request(request["object"]).fetch(Path(request["folder"]))
    facts = {"path": str(file.path), "sha256": file.sha256, "etag": version.etag, "size": version.size}
    return file, {"fetched": facts}


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
    be_first_to_go()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(read(json.loads(line))) + "\n")
        sys.stdout.flush()
