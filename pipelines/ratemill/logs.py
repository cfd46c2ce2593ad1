"""Log lines on stderr: one sentence for people, or one JSON object per line for machines. Times are UTC.

Modules log with ``logging.getLogger(__name__)`` and pass figures as ``extra={"step": "load", "rows": 720000}``.
Who watches on a terminal has bars: there, lines have no time and no figures, and those with :data:`UNWATCHED` are left
out.
"""

from __future__ import annotations

import json
import logging
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LogFormat = Literal["text", "json"]

FIELDS = (
    "run_id", "period", "step", "rows", "files", "seconds", "exit_code", "findings",
    "request_id", "access_key", "address", "method", "path", "status", "milliseconds",
)  # fmt: skip
"""What ``extra`` may carry into a line; anything else stays out."""

UNWATCHED = MappingProxyType({"unwatched": True})
"""As ``extra``: this line is for whoever reads the log later, and for nobody who watches."""

_ROOT = "ratemill"
_WHERE = "_ratemill_where"
_bound: ContextVar[Mapping[str, object]] = ContextVar("ratemill_log_fields", default=MappingProxyType({}))


def configure(log_format: LogFormat = "text", *, level: int = logging.INFO, watched: bool = False) -> None:
    """Send the package's log lines to stderr in ``log_format``; calling it again replaces the former setting.

    ``watched``: somebody sees them as they come, on a terminal with bars.
    """
    logger = logging.getLogger(_ROOT)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = _StderrHandler()
    if log_format == "json":
        handler.setFormatter(_JsonFormatter())
    elif watched:
        handler.setFormatter(_WatchedFormatter())
        handler.addFilter(lambda record: not hasattr(record, "unwatched"))
    else:
        handler.setFormatter(_TextFormatter())
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Add ``fields`` (``run_id``, ``period``, ``step``) to every line logged inside the block; None adds nothing.

    An error that leaves the block remembers them, see :func:`where`.
    """
    token = _bound.set({**_bound.get(), **{name: value for name, value in fields.items() if value is not None}})
    try:
        yield
    except BaseException as error:
        if not hasattr(error, _WHERE):
            setattr(error, _WHERE, current())
        raise
    finally:
        _bound.reset(token)


def current() -> dict[str, object]:
    """The fields that lines have here."""
    return dict(_bound.get())


def where(error: BaseException) -> dict[str, object]:
    """The fields that lines had where ``error`` was raised."""
    found: dict[str, object] = getattr(error, _WHERE, {})
    return found


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """The known fields of a record, from ``extra`` and :func:`bound`, in a fixed order."""
    own = {**_bound.get(), **record.__dict__}
    return {name: own[name] for name in FIELDS if own.get(name) is not None}


class _StderrHandler(logging.Handler):
    """Looks up ``sys.stderr`` for every line: progress bars put a stand-in there that keeps lines above the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except BrokenPipeError:
            pass  # nobody reads the log any more; the work goes on
        except Exception:  # noqa: BLE001 - a log line that can't be written must not stop a run
            self.handleError(record)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **fields_of(record),
        }
        return json.dumps(line, ensure_ascii=False, default=str)


class _WatchedFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        message = " ".join(record.getMessage().splitlines())
        return f"{level}{message}"


class _TextFormatter(_WatchedFormatter):
    def format(self, record: logging.LogRecord) -> str:
        figures = ", ".join(f"{name} {_figure(value)}" for name, value in fields_of(record).items())
        return f"{_utc(record)} {super().format(record)}{f' ({figures})' if figures else ''}"


def _figure(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _utc(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
