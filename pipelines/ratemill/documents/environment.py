"""The one Jinja environment: sandboxed, strict about names, escaping, without chance or clock.

The sandbox keeps templates off everything but what they are given; time, memory and size are bounded by the process
that renders (:mod:`ratemill.documents.guard`).
"""

from __future__ import annotations

import os
import string
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ratemill.documents import formats
from ratemill.documents.guard import Guard, LimitError
from ratemill.errors import UsageError
from ratemill.resources import shipped

if TYPE_CHECKING:
    from collections.abc import Generator

SHIPPED_PREFIX = "shipped"
"""``{% extends "shipped/invoice/invoice.html.j2" %}`` reaches the original from a template that replaces it."""

FILTERS = {
    "amount": formats.format_amount,
    "money": formats.format_money,
    "quantity": formats.format_quantity,
    "unit": formats.format_unit,
    "unit_price": formats.format_unit_price,
    "exact": formats.format_exact,
    "percent": formats.format_percent,
    "day": formats.format_day,
    "days": formats.format_days,
    "country": formats.format_country,
    "month": formats.format_month,
    "plain": formats.plain,
    "fill": lambda text, **values: string.Template(text).substitute(**values),
}
"""Filters beside Jinja's own; templates/README.md documents each."""

_PLAIN_TEXT_ENDINGS = (".txt", ".md")
_REMOVED_FILTERS = ("random",)
_REMOVED_GLOBALS = ("lipsum",)


class Templates(ImmutableSandboxedEnvironment):
    """The environment, and what watches over its templates."""

    guard = Guard()


def make_environment(user_templates: Path | None = None, guard: Guard | None = None) -> Templates:
    """The environment every document is rendered with.

    A template is looked for in ``user_templates`` first (if that folder exists), then among the shipped ones. The
    sandbox and autoescape hold for both, and an unknown variable is an error: a misspelt name must not make an
    amount vanish from an invoice.

    Args:
        user_templates: the workspace's folder of templates.
        guard: what limits the templates; default: nothing does.

    Raises:
        UsageError: a link in ``user_templates`` leads out of it.
    """
    originals = jinja2.FileSystemLoader(shipped("templates"), encoding="utf-8")
    loaders: list[jinja2.BaseLoader] = [jinja2.PrefixLoader({SHIPPED_PREFIX: originals})]
    if user_templates is not None and user_templates.is_dir():
        _refuse_links_outside(user_templates)
        loaders.append(jinja2.FileSystemLoader(user_templates, encoding="utf-8"))
    loaders.append(originals)
    environment = Templates(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=_escapes,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(FILTERS)
    # The same data must give the same bytes, so nothing random is in reach.
    for name in _REMOVED_FILTERS:
        del environment.filters[name]
    for name in _REMOVED_GLOBALS:
        del environment.globals[name]
    environment.guard = guard or Guard()
    return environment


def has_templates(user_templates: Path) -> bool:
    """Whether a workspace has templates of its own: any file in the folder may come to run, even a style sheet."""
    return any(names for _, _, names in os.walk(user_templates))


def guard_of(environment: jinja2.Environment) -> Guard:
    """What limits the templates of ``environment``."""
    return environment.guard if isinstance(environment, Templates) else Guard()


def render(environment: jinja2.Environment, name: str, /, **variables: Any) -> str:
    """The text of template ``name`` (path below templates/) with ``variables``.

    Raises:
        UsageError: naming template and line, what is wrong, and where the variables are documented.
        MemoryError: there is too little, and no limit of the template's that says so.
    """
    guard = guard_of(environment)
    guard.begin(name)
    try:
        generated = cast("Generator[str, None, None]", environment.get_template(name).generate(**variables))
        return guard.collect(generated)
    except jinja2.TemplateNotFound as error:
        raise UsageError(f"template {error.name} was not found (wanted by {name})") from None
    except jinja2.TemplateSyntaxError as error:
        raise UsageError(f"template {error.name or name}:{error.lineno}: {error.message}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"template {name} or one it includes is not UTF-8: {error}") from None
    except LimitError as error:
        raise UsageError(f"template {_template_line(error, environment) or name}: {error}") from None
    except MemoryError as error:
        raise MemoryError(f"template {_template_line(error, environment) or name}") from None
    except Exception as error:
        place = _template_line(error, environment)
        if place is None:
            raise  # not the template's doing: a bug of ours must not be blamed on the user
        raise UsageError(
            f"template {place}: {type(error).__name__}: {error}. templates/README.md lists every variable and filter"
        ) from error


def _refuse_links_outside(folder: Path) -> None:
    """A template may read the files of its folder, and a link would make any file of the machine one of them."""
    inside = folder.resolve()
    for parent, folders, names in os.walk(folder):
        for path in (Path(parent, name) for name in sorted((*folders, *names))):
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise UsageError(
                    f"template {path.relative_to(folder).as_posix()} is a link that leads out of the templates folder"
                    " → put a copy of the file there"
                )


def _shown(value: Any) -> Any:
    """What an expression prints: text without characters that hide or turn around what a reader sees."""
    return formats.clean_text(value) if type(value) is str else value


def _escapes(name: str | None) -> bool:
    """Everything is escaped but plain text: forgetting an ending must fail safe."""
    return name is None or not name.removesuffix(".j2").endswith(_PLAIN_TEXT_ENDINGS)


def _template_line(error: Exception, environment: jinja2.Environment) -> str | None:
    """``name.html.j2:12``: the innermost template line that was running when ``error`` was raised."""
    folders = [str(folder) for folder in _search_path(environment.loader)]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        for folder in folders:
            if frame.filename.startswith(folder):
                return f"{Path(frame.filename).relative_to(folder).as_posix()}:{frame.lineno}"
    return None


def _search_path(loader: jinja2.BaseLoader | None) -> list[str]:
    if isinstance(loader, jinja2.FileSystemLoader):
        return [str(folder) for folder in loader.searchpath]
    if isinstance(loader, jinja2.ChoiceLoader):
        return [folder for each in loader.loaders for folder in _search_path(each)]
    return []
