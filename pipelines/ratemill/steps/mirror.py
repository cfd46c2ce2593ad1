"""mirror: copy what was published, made and issued to an object store, if ``[storage] mirror`` names one."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from ratemill import __version__
from ratemill.errors import TemporaryError, UsageError
from ratemill.io.mirror import Mirror, Mirrored, MirrorState, files_to_mirror, look_of
from ratemill.steps.publish import published_issues, published_runs

if TYPE_CHECKING:
    from ratemill.steps.context import Context

_logger = logging.getLogger(__name__)


def mirror(context: Context) -> Mirrored | None:
    """Bring the mirror up to date; none where it is, or there is none.

    The last thing that a command does: what it can't upload is done and right on this machine all the same, and the
    next command goes on with it.

    Raises:
        UsageError, TemporaryError: it could not be brought up to date; ``status`` says so from then on.
    """
    workspace = context.workspace
    if not context.config.storage.mirror or not workspace.published_database.is_file():
        return None
    state = MirrorState.read(workspace)
    if not state.is_behind(workspace):
        return None
    about = {"code": __version__, "runs": published_runs(context), "issued": published_issues(context)}
    with context.step("mirror", unit="files") as step:
        look = look_of(workspace)
        try:
            mirrored = Mirror.of(workspace).bring_up(files_to_mirror(workspace), about, done=step.advance)
        except (UsageError, TemporaryError) as error:
            replace(state, failed=str(error)).write(workspace)
            raise type(error)(
                f"the mirror is behind: {error}. Everything on this machine is done and right; the same command again"
                " goes on with the mirror, and so does: ratemill publish"
            ) from None
        MirrorState(mirrored.url, mirrored.version, look, mirrored.files, mirrored.size).write(workspace)
        step.done(f"{mirrored.url}, {mirrored.uploaded:,} of {mirrored.files:,} files uploaded")
    if mirrored.trouble:
        _logger.warning("mirror: old objects are still there: %s", mirrored.trouble)
    return mirrored
