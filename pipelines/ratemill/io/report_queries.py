"""Report queries: the shipped ones of sql/reports, and those that a workspace has in a folder of the same name.

Each file is one SELECT with a header that says what it is for. One without parameters is a view of the published
database as well; one with parameters, ``$name``, is asked with ``ratemill query``, which binds their values.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratemill.findings import Finding, Severity
from ratemill.resources import shipped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ratemill.workspace import Workspace

PERIOD_PARAMETERS = ("first_period", "last_period")
"""Given by --period; without it, every month."""
KINDS = ("text", "number", "whole", "day")
LARGEST_FILE = 1 << 20

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SECTIONS = ("Purpose", "Grain", "Parameters", "Example")
_PARAMETERS = re.compile(
    r"(?P<names>\$\w+(?:, \$\w+)*)(?: \((?P<kind>\w+)(?:, default (?P<default>[^)]*))?\))?: (?P<meaning>.*)"
)
_NOT_CODE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$\$.*?\$\$", re.DOTALL)


@dataclass(frozen=True)
class Parameter:
    """A value that a report query asks for."""

    name: str
    kind: str = "text"
    default: str | None = None
    """As it would be given; a day may be ``today``."""
    meaning: str = ""


@dataclass(frozen=True)
class ReportQuery:
    """One file of sql/reports."""

    name: str
    origin: str
    """shipped or workspace."""
    file: str
    """As messages name it."""
    text: str
    sha256: str
    purpose: str
    grain: str
    parameters: tuple[Parameter, ...]
    example: tuple[str, tuple[str, ...]] | None
    """A command, and the lines that it prints."""

    @property
    def is_view(self) -> bool:
        """Whether it stands in the published database under its name."""
        return not self.parameters

    @property
    def of_periods(self) -> bool:
        """Whether it has the parameters that --period gives."""
        return any(parameter.name in PERIOD_PARAMETERS for parameter in self.parameters)


def find_report_queries(workspace: Workspace) -> tuple[list[ReportQuery], list[Finding]]:
    """The shipped report queries, then the workspace's own, each by name; and what is wrong with files of the latter.

    A file that can't be used is told and left out: a mistake in a report must not keep a month from being billed.
    """
    found = shipped_report_queries()
    taken = {query.name for query in found}
    findings: list[Finding] = []
    for path in sorted(workspace.queries.glob("*.sql")):
        name = workspace.relative(path)
        try:
            query = _read_own(path, name, workspace.queries, taken)
        except _Unusable as reason:
            findings.append(broken_report(name, str(reason), reason.cure))
        else:
            found.append(query)
    return found, findings


def shipped_report_queries() -> list[ReportQuery]:
    """Those of the program itself, by name."""
    return [
        read_report_query(path.read_bytes(), name=path.stem, origin="shipped", file=f"shipped/sql/reports/{path.name}")
        for path in sorted((shipped("sql") / "reports").glob("*.sql"))
    ]


def report_hashes(workspace: Workspace) -> dict[str, str]:
    """File → SHA-256, of every file that is or should be a report query."""
    hashes = {query.file: query.sha256 for query in shipped_report_queries()}
    for path in sorted(workspace.queries.glob("*.sql")):
        try:
            hashes[workspace.relative(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            hashes[workspace.relative(path)] = ""
    return hashes


def broken_report(file: str, reason: str, cure: str) -> Finding:
    """What is told of a report query of the workspace that can't be used."""
    return Finding(Severity.WARNING, "reports.broken", reason, cure, file=file)


def read_report_query(data: bytes, *, name: str, origin: str, file: str) -> ReportQuery:
    """What a file's bytes say.

    Raises:
        UnicodeDecodeError: they are no UTF-8.
    """
    text = data.decode("utf-8-sig").replace("\r\n", "\n")
    said = read_header(text)
    declared = {parameter.name: parameter for parameter in _declared(said.get("Parameters", []))}
    used = _used(text)
    in_order = [*(name for name in declared if name in used), *(name for name in used if name not in declared)]
    example = said.get("Example", [])
    return ReportQuery(
        name=name,
        origin=origin,
        file=file,
        text=text,
        sha256=hashlib.sha256(data).hexdigest(),
        purpose=_sentence(said.get("Purpose", [])),
        grain=_sentence(said.get("Grain", [])),
        parameters=tuple(declared.get(name, Parameter(name)) for name in in_order),
        example=(example[0], tuple(line.removeprefix("  ") for line in example[1:])) if example else None,
    )


def read_header(text: str) -> dict[str, list[str]]:
    """Section → its lines, of the comment that a query begins with: Purpose, Grain, Parameters, Example."""
    said: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        comment = line.removeprefix("--").removeprefix(" ")
        section, colon, rest = comment.partition(":")
        if colon and section in _SECTIONS:
            current = said.setdefault(section, [])
            current += [rest.strip()] if rest.strip() else []
        else:
            current.append(comment.rstrip())
    return said


class _Unusable(Exception):  # noqa: N818 - becomes a finding
    def __init__(self, reason: str, cure: str) -> None:
        super().__init__(reason)
        self.cure = cure


def _read_own(path: Path, file: str, folder: Path, taken: set[str]) -> ReportQuery:
    if path.stem in taken:
        raise _Unusable(f"{path.stem} is the name of a report that is shipped", "rename the file")
    if not _NAME.fullmatch(path.stem):
        raise _Unusable(
            f"{path.stem!r} can't be the name of a report",
            "name the file with small letters, digits and _, such as margin_by_team.sql",
        )
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _Unusable("it is a link that leads out of its folder", "copy the file there instead")
    try:
        data = path.read_bytes() if path.stat().st_size <= LARGEST_FILE else None
    except OSError as error:
        raise _Unusable(f"it can't be read: {(error.strerror or 'error').lower()}", "check its mode") from None
    if data is None:
        raise _Unusable(f"it is larger than {LARGEST_FILE >> 20} MiB, and a query is a few lines", "shorten it")
    try:
        return read_report_query(data, name=path.stem, origin="workspace", file=file)
    except UnicodeDecodeError as error:
        raise _Unusable(f"it is not UTF-8 text (byte {error.start})", "save it as UTF-8") from None


def _used(text: str) -> list[str]:
    """Names of the parameters in the code, in order."""
    code = _NOT_CODE.sub(" ", text)
    return list(dict.fromkeys(re.findall(r"(?<![\w$])\$([a-zA-Z_]\w*)(?!\$)", code)))


def _declared(lines: list[str]) -> Iterator[Parameter]:
    """The parameters that a header explains, one a line, each going on in lines that begin with none."""
    entries: list[str] = []
    for line in lines:
        if line.strip().startswith("$"):
            entries.append(line.strip())
        elif entries:
            entries[-1] += f" {line.strip()}"
    for entry in entries:
        match = _PARAMETERS.fullmatch(entry)
        if match is None:
            continue
        kind = match["kind"] if match["kind"] in KINDS else "text"
        for name in match["names"].split(", "):
            yield Parameter(name.removeprefix("$"), kind, match["default"], match["meaning"])


def _sentence(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())
