"""File names from identifiers that customers may have chosen."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata

_LONGEST_SLUG = 60
_UNSAFE = re.compile(r"[^a-z0-9._-]+")
_ENDS_LIKE_A_HASH = re.compile(r"-[a-z2-7]{16}$")
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_NAMELESS = "account"


def safe_name(identifier: str) -> str:
    """A readable file name stem for ``identifier``: lower-case ASCII letters, digits, ``.``, ``_`` and ``-``.

    Different identifiers get different names on every file system, also one that ignores case: where the readable
    form lost anything (or could be taken for a name with a hash), 80 bits of the identifier's SHA-256 follow it.
    The result is never empty, has no path separator, never starts with a dot or dash, and is at most 77 characters.
    """
    folded = unicodedata.normalize("NFKD", identifier)
    ascii_only = "".join(c for c in folded if not unicodedata.combining(c)).lower()
    slug = _UNSAFE.sub("-", ascii_only)[:_LONGEST_SLUG].strip(".-")
    slug = re.sub(r"\.{2,}", ".", slug)
    if slug and slug == identifier and not _ENDS_LIKE_A_HASH.search(slug) and not _WINDOWS_DEVICES.fullmatch(slug):
        return slug
    digest = hashlib.sha256(identifier.encode("utf-8", errors="surrogatepass")).digest()
    return f"{slug or _NAMELESS}-{base64.b32encode(digest[:10]).decode('ascii').lower()}"
