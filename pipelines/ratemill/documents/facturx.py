"""Factur-X (ZUGFeRD): the e-invoice as CII inside the PDF that people read.

The PDF stays what typst made it, PDF/A-3a and PDF/UA-1, and equal input gives equal bytes. The file is attached here
and not in the template, so that a workspace's own template can't lose it.
"""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING

import pikepdf

from ratemill.resources import shipped

if TYPE_CHECKING:
    from datetime import datetime

FILE_NAME = "factur-x.xml"

_END_OF_SCHEMAS = "</rdf:Bag></pdfaExtension:schemas>"
_END_OF_METADATA = "</rdf:RDF>"


def embed(pdf: bytes, cii: bytes, *, modified: datetime) -> bytes:
    """``pdf`` with the e-invoice attached as an alternative of what the pages say, and named in its metadata.

    Args:
        pdf: PDF/A-3 out of :class:`ratemill.documents.pdf.InvoicePdf`.
        cii: the XML.
        modified: when the XML was made, as the PDF says it; a part of the bytes.
    """
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        attached = pikepdf.AttachedFileSpec(
            opened,
            cii,
            filename=FILE_NAME,
            description="Invoice as XML: Factur-X, EN 16931",
            mime_type="text/xml",
            mod_date=pikepdf.models.metadata.encode_pdf_date(modified),
            relationship=pikepdf.Name.Alternative,
        )
        opened.attachments[FILE_NAME] = attached
        opened.Root.AF = pikepdf.Array([attached.obj])
        metadata = opened.Root.Metadata
        metadata.write(_with_facturx(metadata.read_bytes().decode("utf-8")).encode("utf-8"))
        result = io.BytesIO()
        opened.save(result, deterministic_id=True, object_stream_mode=pikepdf.ObjectStreamMode.preserve)
        return result.getvalue()


def embedded(pdf: bytes) -> bytes | None:
    """The e-invoice inside a PDF; none where there is none."""
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        if FILE_NAME not in opened.attachments:
            return None
        return opened.attachments[FILE_NAME].get_file().read_bytes()


def _with_facturx(xmp: str) -> str:
    """Metadata that names the attachment, and describes the properties that do: PDF/A asks for both."""
    additions = {_END_OF_SCHEMAS: "factur-x-schema.xml", _END_OF_METADATA: "factur-x-properties.xml"}
    for marker, file in additions.items():
        if xmp.count(marker) != 1:
            raise ValueError(f"the PDF's metadata has {xmp.count(marker)} × {marker}, expected one")
        xmp = xmp.replace(marker, _shipped(file) + marker)
    return xmp


@cache
def _shipped(name: str) -> str:
    return (shipped("templates/einvoice") / name).read_text(encoding="utf-8").replace("\n", "")
