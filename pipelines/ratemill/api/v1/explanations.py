"""``/v1/invoices/{invoice_id}/lines/{line_number}/explanation``: where a line comes from."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Path

from ratemill.api.answers import Answer, Exact, Instant, Money, Reading
from ratemill.api.problems import Problem
from ratemill.api.v1.invoices import InvoiceId, Line, line_of
from ratemill.api.v1.prices import Price, prices_of

router = APIRouter(prefix="/v1", tags=["Invoices"])
_MOST_RESOURCES = 1000
_NOT_HERE = (
    "Meter records, the files they came from and how tiers were filled hour by hour are not published; the provider has"
    " them: ratemill explain."
)


class ChargesOfResource(Answer):
    """What one resource adds to the line."""

    resource_id: str | None
    resource_name: str | None
    charges: int
    first_start: Instant
    last_end: Instant
    quantity: Exact | None
    cost: Money


class Step(Answer):
    """From the exact cost to what is taxed."""

    what: str
    source_id: str | None
    amount: Money


class Explanation(Answer):
    """A line, the charges it is the sum of, the prices they had, and every step to what is taxed."""

    line: Line
    steps: list[Step]
    """They add up to `line.net`."""
    adds_up: bool
    """Whether they do, to the last digit; usage is added up from its charges, and not read off the line."""
    prices: list[Price]
    """Price versions of the charges, with their tiers."""
    resources: list[ChargesOfResource]
    """The costliest first."""
    resources_left_out: int
    not_here: str


@router.get("/invoices/{invoice_id:path}/lines/{line_number}/explanation")
def explanation(
    invoice_id: InvoiceId, line_number: Annotated[int, Path(ge=1, le=2**31 - 1)], snapshot: Reading
) -> Explanation:
    """Where a line comes from: resources, price versions and tiers, rounding, discounts, commitments, credits."""
    rows = snapshot.rows("api/v1/line", {"invoice": invoice_id, "line_number": line_number})
    if not rows:
        raise Problem.not_found("invoice_line", f"{invoice_id}:{line_number}")
    row = rows[0]
    key = {"invoice_id": row["invoice_id"], "line_number": line_number}
    charges = snapshot.rows("api/v1/line_charges", key)
    resources = snapshot.rows("api/v1/line_resources", key)
    made_of = charges or [{"kind": row["line_kind"], "source_id": row["source_id"], "amount": row["amount"]}]
    steps = [*made_of, *snapshot.rows("api/v1/line_deductions", key)]
    return Explanation(
        line=line_of(row),
        steps=[_step(step, row["currency"]) for step in steps],
        adds_up=sum((step["amount"] for step in steps), Decimal()) == row["net_amount"],
        prices=prices_of(snapshot, sorted({name for one in charges for name in one["price_ids"]})),
        resources=[_resource(one, row["currency"]) for one in resources[:_MOST_RESOURCES]],
        resources_left_out=max(0, len(resources) - _MOST_RESOURCES),
        not_here=_NOT_HERE,
    )


_WORDS = {
    "usage": "usage at its prices, exact", "cap": "less above the cap", "minimum": "more up to the minimum",
    "rounding": "rounding to the currency's minor unit", "recurring": "recurring fee", "adjustment": "adjustment",
    "correction": "correction of a closed month",
}  # fmt: skip


def _step(row: dict[str, Any], currency: str) -> Step:
    if "description" in row:
        what = f"{row['kind']}: {row['description']}"
    else:
        what = "shortfall of a commitment" if row["kind"] == "commitment" else _WORDS[row["kind"]]
    return Step(what=what, source_id=row.get("source_id"), amount=Money.of(row["amount"], currency))


def _resource(row: dict[str, Any], currency: str) -> ChargesOfResource:
    names = ("resource_id", "resource_name", "charges", "first_start", "last_end", "quantity")
    return ChargesOfResource(**{name: row[name] for name in names}, cost=Money.of(row["cost"], currency))
