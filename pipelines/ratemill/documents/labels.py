"""The words of a document in the customer's language, from templates/<kind>/labels/<language>.json."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass

import jinja2

from ratemill.documents import formats
from ratemill.errors import UsageError


@dataclass(frozen=True)
class Wording:
    """Words and the language they are in."""

    language: str
    """BCP 47 tag that numbers and days are written in as well: never words of one language, figures of another."""
    direction: str
    """``ltr`` or ``rtl``."""
    labels: dict[str, str]
    """Label name → words; some hold ``$name`` places to fill in."""


def wording(environment: jinja2.Environment, kind: str, language: str) -> Wording:
    """Words of ``kind`` (a folder below templates/) in ``language``, else in its base language, else in English.

    A user's labels file may leave labels out: those stay English.

    Raises:
        UsageError: naming the file, where it is no JSON object of texts or has a label that no template knows.
    """
    tag = formats.language_tag(language)
    english = _read(environment, f"{kind}/labels/{formats.DEFAULT_LANGUAGE}.json") or {}
    known = _read(environment, f"shipped/{kind}/labels/{formats.DEFAULT_LANGUAGE}.json") or {}
    for candidate in dict.fromkeys((tag, tag.partition("-")[0])):
        file = f"{kind}/labels/{candidate}.json"
        labels = _read(environment, file)
        if labels is not None:
            _refuse_unknown(labels, known, file)
            rtl = formats.locale_of(tag).character_order == "right-to-left"
            return Wording(language=tag, direction="rtl" if rtl else "ltr", labels=known | english | labels)
    return Wording(language=formats.DEFAULT_LANGUAGE, direction="ltr", labels=known | english)


def _read(environment: jinja2.Environment, file: str) -> dict[str, str] | None:
    if environment.loader is None:
        return None
    try:
        source, *_ = environment.loader.get_source(environment, file)
        labels = json.loads(source)
    except jinja2.TemplateNotFound:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"templates/{file}: not valid JSON in UTF-8: {error}") from None
    if not isinstance(labels, dict) or not all(isinstance(text, str) for text in labels.values()):
        raise UsageError(f"templates/{file}: expected one JSON object of label names and texts")
    return labels


def _refuse_unknown(labels: dict[str, str], known: dict[str, str], file: str) -> None:
    for name in labels:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"templates/{file}: no template uses the label {name}{hint}")
