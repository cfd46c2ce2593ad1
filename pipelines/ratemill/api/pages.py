"""Pages for people at ``/``: costs, invoices and prices of whoever signs in with an API key.

They work without a script, and none could run: the policy of each page allows its own style sheet, by its hash, and
forms to this server. What a page shows is asked with the same queries as the API, of one published state.
"""

from __future__ import annotations

import base64
import hashlib
import re
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ratemill.api.documents import CONTENT_TYPES, issued_file
from ratemill.api.keys import address_of
from ratemill.api.page_model import Frame, bills_of, costs_of, frame_of, prices_of
from ratemill.api.periods import PeriodText, latest_period
from ratemill.api.problems import Problem
from ratemill.api.sessions import COOKIE, LIFETIME
from ratemill.api.v1.invoices import found_invoice
from ratemill.documents.environment import make_environment, render
from ratemill.documents.filenames import safe_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    import jinja2

    from ratemill.api.app import Core
    from ratemill.api.snapshots import Snapshot

router = APIRouter(include_in_schema=False)
_OURS = re.compile(r"/(?:sign-out|prices|invoices(?:/.*)?)?")
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_SEE_OTHER = 303
_LONGEST_SECRET = 64

PeriodAsked = Annotated[PeriodText | None, Query(alias="period")]
CustomerAsked = Annotated[str, Query(alias="customer", max_length=512)]


def is_page(path: str) -> bool:
    """Whether a path is one of people's, whose errors are pages too."""
    return _OURS.fullmatch(path) is not None


def problem_page(request: Request, problem: Problem) -> Response:
    """A problem in words, on a page."""
    return _page(
        request, "problem", problem.status, title=problem.title, detail=problem.detail, headers=problem.headers
    )


# -------------------------------------------------------------------------------------------------- coming and going


@router.get("/")
def costs(request: Request, period: PeriodAsked = None, customer: CustomerAsked = "") -> Response:
    """Costs of a month; or the form to sign in."""
    with _visit(request, "costs", customer) as visit:
        if visit is None:
            return _page(request, "sign_in", wrong="")
        snapshot, frame = visit
        zone = request.app.state.core.workspace.config.period.time_zone
        shown = costs_of(snapshot, frame, period or latest_period(snapshot), time_zone=zone)
        return _page(request, "costs", frame=frame, costs=shown)


@router.post("/")
async def sign_in(request: Request) -> Response:
    """Prove the key of the form, and give a cookie for it."""
    _refuse_other_sites(request)
    secret = parse_qs((await request.body()).decode("utf-8", "replace")).get("key", [""])[0]
    secret = secret.strip().lower()[:_LONGEST_SECRET]
    core: Core = request.app.state.core
    try:
        principal = await run_in_threadpool(core.keys.prove, secret, address_of(request))
        core.limits.count_request(principal)
    except Problem as problem:
        return _page(request, "sign_in", problem.status, wrong=problem.detail, headers=problem.headers)
    request.scope["ratemill"].principal = principal
    token = await run_in_threadpool(core.sessions.start, principal)
    answer = RedirectResponse("/", _SEE_OTHER)
    answer.set_cookie(
        COOKIE, token, max_age=int(LIFETIME.total_seconds()), path="/", httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return answer


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End the session, wherever its cookie has got to."""
    _refuse_other_sites(request)
    core: Core = request.app.state.core
    core.sessions.end(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/", _SEE_OTHER)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


# ------------------------------------------------------------------------------------------------- invoices and prices


@router.get("/invoices")
def invoices(request: Request, customer: CustomerAsked = "") -> Response:
    """Invoices and credit notes."""
    with _visit(request, "invoices", customer) as visit:
        if visit is None:
            return RedirectResponse("/", _SEE_OTHER)
        snapshot, frame = visit
        return _page(request, "invoices", frame=frame, bills=bills_of(snapshot, frame))


@router.get("/invoices/{invoice_id:path}/pdf")
def invoice_pdf(invoice_id: str, request: Request) -> Response:
    """An invoice as it was issued."""
    with _visit(request, "invoices", "") as visit:
        if visit is None:
            return RedirectResponse("/", _SEE_OTHER)
        snapshot, _ = visit
        row = found_invoice(snapshot, invoice_id)
        _, data = issued_file(request.app.state.core, snapshot, row["invoice_id"], "pdf")
    name = quote(f"{safe_name(row['number'] or row['invoice_id'])}.pdf")
    return Response(
        data,
        media_type=CONTENT_TYPES["pdf"],
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}"},
    )


@router.get("/prices")
def prices(request: Request) -> Response:
    """Prices of today, in the currencies in which the key's customers are billed."""
    with _visit(request, "prices", "") as visit:
        if visit is None:
            return RedirectResponse("/", _SEE_OTHER)
        snapshot, frame = visit
        accounts = snapshot.rows("api/v1/accounts", {"organization_id": None, "limit": None, "offset": 0})
        currencies = {row["currency"] for row in accounts}
        core: Core = request.app.state.core
        zone = core.workspace.config.period.time_zone
        lists = prices_of(snapshot, now=core.now(), currencies=currencies, time_zone=zone)
        return _page(request, "prices", frame=frame, lists=lists)


# ------------------------------------------------------------------------------------------------------------- visits


@contextmanager
def _visit(request: Request, here: str, customer: str) -> Iterator[tuple[Snapshot, Frame] | None]:
    """The state that a page is of, as whoever is signed in sees it, and what every page has; None for a stranger.

    Raises:
        Problem: it asks too often (429), or nothing is published (503), or the customer is none of theirs (404).
    """
    core: Core = request.app.state.core
    principal = core.sessions.principal(request.cookies.get(COOKIE, ""))
    if principal is None:
        yield None
        return
    request.scope["ratemill"].principal = principal
    core.limits.count_request(principal)
    if customer and customer not in principal.organizations:
        raise Problem.not_found("customer", customer)
    with core.snapshots.current(principal.scope) as snapshot:
        seller = core.workspace.config.seller.name
        yield snapshot, frame_of(snapshot, principal, seller=seller, here=here, customer=customer)


def _refuse_other_sites(request: Request) -> None:
    """Go on if a form was sent from one of these pages: nobody is to be signed in or out by another site.

    Raises:
        Problem: it was not (403).
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:  # what a browser says, and no page can
        is_ours = site in ("same-origin", "none")
    else:
        is_ours = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not is_ours:
        raise Problem(403, "other-site", "this form was sent from another site; open this page itself and try again")


def _page(
    request: Request, name: str, status: int = 200, *, headers: dict[str, str] | None = None, **values: Any
) -> Response:
    core: Core = request.app.state.core
    text = render(
        _templates(),
        f"api/{name}.html.j2",
        language="en",
        direction="ltr",
        seller=core.workspace.config.seller.name,
        **values,
    )
    policies = {
        "Content-Security-Policy": _policy(text),
        "Referrer-Policy": "same-origin",  # without a referrer, forms are sent as from nowhere (Origin: null)
    }
    return HTMLResponse(text, status, {**(headers or {}), **policies})


def _policy(text: str) -> str:
    """What a page may do: use its own style sheet, and send its forms here."""
    digests = [hashlib.sha256(style.encode()).digest() for style in _STYLE.findall(text)]
    styles = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; style-src {styles}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


@cache
def _templates() -> jinja2.Environment:
    """The shipped ones alone: a workspace's own would run in the server, without the limits that documents have."""
    return make_environment()
