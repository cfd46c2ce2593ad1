"""What an explanation is asked of: an invoice, a line, an account, a resource or a charge, by its name."""

from __future__ import annotations

import difflib
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.errors import UsageError
from ratemill.frames import collect
from ratemill.io.charge_store import ChargeStore
from ratemill.resources import sql
from ratemill.tables.invoices import INVOICE_LINES, INVOICES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context

KINDS = ("invoice", "line", "charge", "account", "resource")
_LINE = re.compile(r"(?P<invoice>.+)[:/](?P<line>[1-9][0-9]{0,8})(?:/[a-z]+)?(?:#(?P<charge>[1-9][0-9]{0,11}))?")
_MOST_NAMES = 8


@dataclass(frozen=True)
class Target:
    """What is to be explained."""

    kind: str
    name: str
    """How to ask for it again, without its kind."""
    period: str
    invoice_id: str | None = None
    line_number: int | None = None
    charge: int | None = None
    """Number of a usage charge on its line, from 1."""
    what: str = ""
    """In words, for a list to choose from."""


def find_target(context: Context, what: str, period: BillingPeriod | None) -> Target:
    """The one thing that ``what`` names.

    ``what``: an invoice's number or identity, ``INVOICE:LINE``, ``INVOICE:LINE#CHARGE``, an account, a resource (each
    by id, or by a name that no other has), or ``kind:`` and one of these. ``period`` is needed for the latter two.

    Raises:
        UsageError: it names nothing, or several things; the message lists what it may mean.
    """
    kind, _, rest = what.partition(":")
    wanted, name = ((kind,), rest) if kind in KINDS and rest else (KINDS, what)
    found = list(_all(context, name, wanted, period))
    if len(found) == 1:
        return _in_period(found[0], period)
    if found:
        raise UsageError(f"{what!r} names {len(found):,} things → say which: {_choices(found)}")
    if period is None and set(wanted) & {"account", "resource"}:
        raise UsageError(
            f"{what!r} is no invoice and no line of one; for an account or a resource, say of which month"
            f" → ratemill explain {shlex.quote(what)} --period YYYY-MM"
        )
    raise UsageError(_nothing(context, what, name, wanted, period))


def _all(context: Context, name: str, wanted: Sequence[str], period: BillingPeriod | None) -> Iterable[Target]:
    if "invoice" in wanted:
        yield from _invoices(context, name)
    if "line" in wanted or "charge" in wanted:
        yield from _lines(context, name)
    if period is None:
        return
    run = context.warehouse.current_run(period)
    if run is None:
        return
    if "account" in wanted:
        yield from _accounts(context, name, period)
    if "resource" in wanted:
        yield from _resources(context, name, period, run["run_id"])


def _in_period(target: Target, period: BillingPeriod | None) -> Target:
    if period is not None and target.period != str(period):
        raise UsageError(f"{target.name} is of {target.period}, not of {period} → --period {target.period}")
    return target


def _choices(found: Sequence[Target]) -> str:
    told = [f"{shlex.quote(f'{target.kind}:{target.name}')}{f' ({target.what})' if target.what else ''}"
            for target in found[:_MOST_NAMES]]  # fmt: skip
    more = f", … and {len(found) - _MOST_NAMES:,} more" if len(found) > _MOST_NAMES else ""
    return ", ".join(told) + more


def _invoice_rows(context: Context, name: str) -> list[dict[str, Any]]:
    rows = context.warehouse.table("billing", INVOICES, "invoice_id = $name OR number = $name", {"name": name})
    return rows.sort("period", "invoice_id").to_dicts()


def _invoices(context: Context, name: str) -> Iterable[Target]:
    for row in _invoice_rows(context, name):
        what = f"{row['document'].replace('_', ' ')} of {row['billing_account_id']}, {row['period']}"
        yield Target("invoice", row["invoice_id"], row["period"], row["invoice_id"], what=what)


def _lines(context: Context, name: str) -> Iterable[Target]:
    match = _LINE.fullmatch(name)
    if match is None:
        return
    number, charge = int(match["line"]), match["charge"]
    for row in _invoice_rows(context, match["invoice"]):
        lines = context.warehouse.table(
            "billing", INVOICE_LINES, "invoice_id = $id AND line_number = $line",
            {"id": row["invoice_id"], "line": number},
        )  # fmt: skip
        if not lines.height:
            raise UsageError(
                f"{row['document'].replace('_', ' ')} {match['invoice']} has no line {number}: it has {row['lines']:,}"
                f" → ratemill explain {shlex.quote(match['invoice'])} lists the largest"
            )
        again = f"{row['invoice_id']}:{number}{f'#{charge}' if charge else ''}"
        yield Target("charge" if charge else "line", again, row["period"], row["invoice_id"], number,
                     int(charge) if charge else None)  # fmt: skip


def _accounts(context: Context, name: str, period: BillingPeriod) -> Iterable[Target]:
    known = _account_names(context, period)
    ids = [account for account in known if account == name] or [
        account for account, shown in known.items() if shown.casefold() == name.casefold()
    ]
    for account in ids:
        yield Target("account", account, str(period), what=f"account {known[account]}")


def _account_names(context: Context, period: BillingPeriod) -> dict[str, str]:
    """Account → name, of every account on an invoice of the period, and of those that pay."""
    values = {"period": str(period)}
    in_period = "invoice_id IN (SELECT invoice_id FROM billing.invoices WHERE period = $period)"
    invoices = context.warehouse.table("billing", INVOICES, "period = $period", values)
    lines = context.warehouse.frame(
        f"SELECT DISTINCT account_id, account_name FROM billing.invoice_lines WHERE {in_period}",  # noqa: S608 - a condition of our own
        values,
    )
    payers = dict.fromkeys(invoices["billing_account_id"].unique().sort())
    return {payer: str(payer) for payer in payers} | dict(lines.sort("account_id", "account_name").iter_rows())


def _resources(context: Context, name: str, period: BillingPeriod, run_id: str) -> Iterable[Target]:
    store = ChargeStore(context.workspace.charges)
    charges = store.usage_charges(period, run_id).filter(
        (pl.col("resource_id") == name) | (pl.col("resource_name") == name)
    )
    rows = collect(charges.select("resource_id", "resource_name", "account_id").unique())
    by_id = rows.filter(resource_id=name)
    found = by_id if by_id.height else rows.filter(pl.col("resource_id").is_not_null())
    for (resource,), part in sorted(found.partition_by("resource_id", as_dict=True).items()):
        accounts = ", ".join(part["account_id"].unique().sort())
        yield Target("resource", str(resource), str(period), what=f"of {accounts}")


def _nothing(context: Context, what: str, name: str, wanted: Sequence[str], period: BillingPeriod | None) -> str:
    """Nothing has that name: what comes nearest."""
    base = name.partition(":")[0] if _LINE.fullmatch(name) else name
    condition = "period = $period" if period else "true"
    rows = context.warehouse.table("billing", INVOICES, condition, {"period": str(period)} if period else {})
    names: dict[str, str] = {}
    if {"invoice", "line", "charge"} & set(wanted):
        names |= {name: name for column in ("invoice_id", "number") for name in rows[column].drop_nulls()}
    if "account" in wanted and period is not None:
        for account, shown in _account_names(context, period).items():
            names |= {account: account, shown: account}
    folded = {name.casefold(): target for name, target in names.items()}
    near = [folded[match] for match in difflib.get_close_matches(base.casefold(), list(folded), n=4, cutoff=0.6)]
    near += [target for name, target in folded.items() if base.casefold() in name][:4]
    if "resource" in wanted:
        resources = context.warehouse.frame(sql("explain/near_resources"), {"name": base, "most": 4})
        near += resources["resource_id"].to_list()
    of = f" of {period}" if period else ""
    if period is not None and context.warehouse.current_run(period) is None:
        return f"{period} has no run yet → run: ratemill run --period {period}"
    thing = wanted[0] if len(wanted) == 1 else "invoice, line, account or resource"
    message = f"no {thing}{of} is called {what!r}"
    close = list(dict.fromkeys(near))[:5]
    return (
        f"{message}; near it: {', '.join(close)}" if close else f"{message} → see out/{period or '<period>'}/index.html"
    )
