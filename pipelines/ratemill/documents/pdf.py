"""Invoices as PDF/A-3a and PDF/UA-1: archivable, readable aloud, and the same bytes for the same invoice.

Typst sets the page. A customer's text reaches it only as JSON data, never as source, so no name can become markup.
The typefaces travel with the installation (Source Sans 3, and those inside typst), so the bytes do not depend on the
machine. Three sources are tried, in this order, for a character:

1. Source Sans 3 (Latin, Greek, Cyrillic, Vietnamese) and font files in the user's templates/fonts/;
2. only for invoices with characters that those lack, the fonts of the machine;
3. a character no font has is written out as its code point, ``U+1F600``: an odd name must not stop an invoice run.
"""

from __future__ import annotations

import json
import re
from decimal import localcontext
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import typst

from ratemill.documents import formats
from ratemill.documents.environment import guard_of
from ratemill.documents.labels import wording
from ratemill.documents.model import InvoiceDocument, as_text
from ratemill.errors import UsageError
from ratemill.money import ZERO
from ratemill.period import BillingPeriod

if TYPE_CHECKING:
    from datetime import datetime

INVOICE_TEMPLATE = "invoice/invoice.typ"
FONTS_FOLDER = "fonts"
STANDARDS: list[typst.PDFStandard] = ["a-3a", "ua-1"]

_FONT_PACKAGE = "fontpkg_source_sans_3"
_MISSING = re.compile(r'the text `"(.+?)"` could not be displayed|codepoint `"(.+?)"`')
_CODE_POINT = re.compile(r"\\u\{([0-9a-f]+)\}")
_PACKAGE_IMPORT = re.compile(r"""["']@[a-z][\w-]*/""")
_PACKAGE_MISSING = re.compile(r"failed to (download|load) package|package not found")
"""For imports whose name is put together when the template runs."""


class InvoicePdf:
    """Makes PDFs; keep one for many invoices, because it holds the fonts and the parsed template."""

    def __init__(self, environment: jinja2.Environment, *, system_fonts: bool = True) -> None:
        """Use ``environment``'s template folders: a user's invoice/invoice.typ comes before the shipped one.

        Args:
            environment: from ``make_environment``.
            system_fonts: whether characters that no shipped font has may come from the machine's fonts. Without,
                they are written out as code points, and every invoice is the same on every machine.

        Raises:
            UsageError: when the template asks for a package from the network.
        """
        self._environment = environment
        self._guard = guard_of(environment)
        self._system_fonts = system_fonts
        self._file, self._name, self._root = _find_template(environment)
        self._font_folders = [str(files(_FONT_PACKAGE) / "files"), *_user_fonts(environment, self._root)]

    def render(self, document: InvoiceDocument) -> bytes:
        """The PDF of one invoice.

        Raises:
            UsageError: when the template (or the logo) is wrong, with typst's own message.
        """
        words = wording(self._environment, "invoice", document.language)
        self._guard.begin(self._name)
        data = {
            "invoice": as_text(document, currency=document.currency, language=words.language),
            "labels": words.labels,
            "language": words.language,
            "direction": words.direction,
            "currency_first": formats.currency_comes_first(words.language),
            "carried": _carried(document, words.language),
        }
        created = int(creation_time(document).timestamp())
        try:
            return self._compile(self._compiler, data, created)
        except typst.TypstError as error:
            missing = _missing_characters(error)
            if not missing:
                raise self._explain(error) from None
        return self._with_fallbacks(data, created, missing)

    def _with_fallbacks(self, data: dict[str, Any], created: int, missing: set[str]) -> bytes:
        if self._system_fonts:
            try:
                return self._compile(self._system_compiler, data, created)
            except typst.TypstError as error:
                missing = _missing_characters(error)
                if not missing:
                    raise self._explain(error) from None
        spelt = {ord(character): f"U+{ord(character):04X}" for character in missing}
        compiler = self._system_compiler if self._system_fonts else self._compiler
        try:
            return self._compile(compiler, _translated(data, spelt), created)
        except typst.TypstError as error:
            raise self._explain(error) from None

    def _compile(self, compiler: typst.Compiler, data: dict[str, Any], created: int) -> bytes:
        result = compiler.compile(
            str(self._file),  # as a file: typst keeps what it parsed as long as the file is the same
            format="pdf",
            sys_inputs={"data": json.dumps(data, ensure_ascii=False, sort_keys=True)},
            pdf_standards=STANDARDS,
            timestamp=created,
        )
        if not isinstance(result, bytes):
            raise TypeError(f"expected one PDF, got {type(result).__name__}")
        return self._guard.check_size(result)

    def _explain(self, error: typst.TypstError) -> UsageError:
        if _PACKAGE_MISSING.search(error.message):
            return UsageError(_fetches(self._name))
        hints = f" ({'; '.join(error.hints)})" if error.hints else ""
        place = re.search(r"\.typ:(\d+):(\d+)", error.diagnostic or "")
        where = f":{place[1]}" if place else ""
        return UsageError(
            f"template {self._name}{where}: {error.message}{hints}. "
            "templates/README.md lists what the template gets; remove your copy to use the shipped one"
        )

    @cached_property
    def _compiler(self) -> typst.Compiler:
        return self._make_compiler(system_fonts=False)

    @cached_property
    def _system_compiler(self) -> typst.Compiler:
        return self._make_compiler(system_fonts=True)

    def _make_compiler(self, *, system_fonts: bool) -> typst.Compiler:
        fonts = typst.Fonts(include_system_fonts=system_fonts, font_paths=list(self._font_folders))
        return typst.Compiler(root=str(self._root), font_paths=fonts)


def _carried(document: InvoiceDocument, language: str) -> dict[str, str]:
    """Line number → sum of the amounts of the lines shown so far, to be carried over to the next page."""
    total, carried = ZERO, {}
    with localcontext(prec=80):  # amounts can have more than the usual 28 digits
        for line in document.shown_lines():
            total += line.amount
            carried[str(line.number)] = formats.format_amount(total, document.currency, language)
    return carried


def creation_time(document: InvoiceDocument) -> datetime:
    """What the PDF says it was made at: the end of the period, since equal invoices are equal files."""
    return BillingPeriod.parse(document.period).end(document.computation.time_zone)


def _find_template(environment: jinja2.Environment) -> tuple[Path, str, Path]:
    """File, name for messages and root folder: typst reads no file outside the folder the template came from."""
    if environment.loader is None:
        raise TypeError("the environment has no template folders; make it with make_environment")
    _, file, _ = environment.loader.get_source(environment, INVOICE_TEMPLATE)
    if file is None:
        raise TypeError(f"{INVOICE_TEMPLATE} is no file")
    template = Path(file).resolve()
    root = template.parents[INVOICE_TEMPLATE.count("/")]
    for path in sorted(root.rglob("*.typ")):
        if _PACKAGE_IMPORT.search(path.read_text(encoding="utf-8", errors="replace")):
            raise UsageError(_fetches(path.relative_to(root).as_posix()))
    return template, INVOICE_TEMPLATE, root


def _fetches(template: str) -> str:
    return (
        f"template {template}: it imports a typst package, which would be fetched from the network; "
        "copy the package's files into templates/invoice/ and import them by path"
    )


def _user_fonts(environment: jinja2.Environment, root: Path) -> list[str]:
    """Font folders of every template folder that has one."""
    loaders = environment.loader.loaders if isinstance(environment.loader, jinja2.ChoiceLoader) else []
    folders = [Path(path) for each in loaders if isinstance(each, jinja2.FileSystemLoader) for path in each.searchpath]
    return [
        str(folder / FONTS_FOLDER) for folder in dict.fromkeys((*folders, root)) if (folder / FONTS_FOLDER).is_dir()
    ]


def _missing_characters(error: typst.TypstError) -> set[str]:
    """Characters that the PDF standards refuse because no font has them, out of typst's list of errors."""
    found: set[str] = set()
    for match in _MISSING.finditer(error.diagnostic or ""):
        text = match[1] or match[2]
        found.update(_CODE_POINT.sub(lambda code: chr(int(code[1], 16)), text))
    return found


def _translated(value: Any, table: dict[int, str]) -> Any:
    if isinstance(value, str):
        return value.translate(table)
    if isinstance(value, list):
        return [_translated(item, table) for item in value]
    if isinstance(value, dict):
        return {name: _translated(item, table) for name, item in value.items()}
    return value
