"""load: every new or changed usage file, once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ratemill.audit import Act
from ratemill.findings import Finding, Severity
from ratemill.io.usage_files import FileRefusedError, UsageFile
from ratemill.io.usage_objects import KnownContents, UsageObject, find_usage
from ratemill.tables.runs import EVENTS

if TYPE_CHECKING:
    from ratemill.steps.context import Context


@dataclass(frozen=True)
class Loaded:
    """What loading came to."""

    files: int
    """Files that match the configuration."""
    loaded: int
    """Files read now; the others had not changed."""
    rows: int
    """Rows read now."""
    findings: tuple[Finding, ...]
    """An error per refused file, a warning per file that is gone."""

    @property
    def refused(self) -> list[Finding]:
        """The refusals: billing goes on without these files, and the command must not end as if all were well."""
        return [finding for finding in self.findings if finding.severity is Severity.ERROR]


def load(context: Context) -> Loaded:
    """Load what is new or changed, replace what was redelivered, set aside what is damaged, settle duplicates.

    One transaction per file: killed anywhere, the next run goes on with the next file.
    """
    config = context.config.usage
    settings = config.fingerprint()
    known = {row["file"]: row for row in context.warehouse.usage.files().iter_rows(named=True)}
    found = find_usage(context.workspace)
    findings: list[Finding] = []
    loaded = rows = 0
    with (
        context.step("load", total=len(found), unit="files") as step,
        KnownContents.read(context.workspace.object_contents) as contents,
        context.engine.reader(context.warehouse) as reader,
    ):
        changed: list[UsageFile | UsageObject] = []
        for file in found:
            if isinstance(file, tuple):
                findings.append(_refuse(context, file[0], "", file[1]))
            elif not _is_unchanged(known.get(file.name), file, settings):
                changed.append(file)
        step.advance(len(found) - len(changed))
        for read in reader.read(changed):
            if read.version is not None:
                contents.learn(read.version, read.file.sha256)
            if _is_unchanged(known.get(read.file.name), read.file, settings):  # an object, written anew as it was
                step.advance()
                continue
            try:
                record = read.store(context.warehouse, settings_sha256=settings)
            except FileRefusedError as refusal:
                findings.append(_refuse(context, read.file.name, read.file.sha256, str(refusal)))
                step.advance()
            else:
                loaded += 1
                rows += record["rows_in"]
                step.advance(rows=record["rows_in"])
        step.done(f"{loaded:,} of {len(found):,} files new or changed, {rows:,} rows", written=rows)
    findings += _gone(known, found)
    findings += _without_rows(context, found)
    with context.step("duplicates"):
        context.engine.settle_duplicates(context.warehouse)
    _note(context)
    return Loaded(len(found), loaded, rows, tuple(findings))


def _note(context: Context) -> None:
    """Note in the audit log which files differ from what it knows, those of a load that was killed included."""
    warehouse, settings = context.warehouse, context.config.usage.fingerprint()
    noted: dict[str, tuple[str, str]] = {}
    for (details,) in warehouse.table("ops", EVENTS, "act = 'loaded'").sort("sequence").select("details").iter_rows():
        act = json.loads(details)
        noted |= {file: (sha256, act["settings"]) for file, sha256 in act["files"].items()}
    files = warehouse.usage.files().filter(pl.col("settings_sha256") == settings)
    changed = {
        file: sha256
        for file, sha256 in files.select("file", "sha256").iter_rows()
        if noted.get(file) != (sha256, settings)
    }
    if changed:
        with warehouse.transaction():
            warehouse.record(
                Act("loaded", context.actor, context.now, details={"files": changed, "settings": settings})
            )


def _is_unchanged(former: dict[str, object] | None, file: UsageFile | UsageObject, settings: str) -> bool:
    if former is None:
        return False
    return (former["status"], former["sha256"], former["settings_sha256"]) == ("loaded", file.sha256, settings)


def _refuse(context: Context, name: str, sha256: str, reason: str) -> Finding:
    context.warehouse.usage.refuse_file(name, sha256, reason)
    message, _, cure = reason.rpartition(" → ")
    if not message:
        message, cure = reason, "ask its supplier for it again"
    return Finding(Severity.ERROR, "usage.file_refused", message, cure, file=name)


def _gone(known: dict[str, dict[str, object]], found: list[UsageFile | UsageObject | tuple[str, str]]) -> list[Finding]:
    here = {file[0] if isinstance(file, tuple) else file.name for file in found}
    return [
        Finding(
            Severity.WARNING,
            "usage.file_gone",
            "this file was loaded before and is no longer there; its usage is still billed",
            "put it back, or move the state folder away and run again to bill without it",
            file=name,
        )
        for name, record in sorted(known.items())
        if name not in here and record["rows_in"]
    ]


def _without_rows(context: Context, found: list[UsageFile | UsageObject | tuple[str, str]]) -> list[Finding]:
    here = {file.name for file in found if not isinstance(file, tuple)}
    files = context.warehouse.usage.files().filter(status="loaded", rows_in=0)["file"]
    return [
        Finding(
            Severity.WARNING,
            "usage.file_without_rows",
            "the file is sound and has no rows",
            "ask its supplier whether there was no usage, or remove the file",
            file=name,
        )
        for name in files
        if name in here
    ]
