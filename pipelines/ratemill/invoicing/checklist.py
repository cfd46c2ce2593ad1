"""The checklist of a close: what a person should have looked at before invoices become final, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.errors import UsageError
from ratemill.findings import Finding, Severity
from ratemill.frames import collect
from ratemill.money import minor_unit_decimals
from ratemill.tables.runs import CHECKLIST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from decimal import Decimal

    from ratemill.config import Seller
    from ratemill.period import BillingPeriod
    from ratemill.tables.invoices import Billed

_EXAMPLES = 3


@dataclass(frozen=True)
class Evidence:
    """What the points are judged by."""

    period: BillingPeriod
    time_zone: str
    """Zone that the hours and days of the month are counted in."""
    refused: Sequence[Finding]
    """One per usage file that could not be read."""
    files: Sequence[str]
    """Names of all usage files known."""
    hours: Iterable[int]
    """Hours of the month with any usage, from 0."""
    holes: pl.DataFrame
    """account_id, resource_id, hours: resources that leave out hours between their first and last."""
    rows_considered: int
    rows_rejected: int
    unpriced: pl.DataFrame
    """Rows of UNPRICED."""
    billed: Billed
    """The drafts."""
    last_month: pl.DataFrame
    """Rows of INVOICES of the month before that its run made."""
    seller: Seller
    accounts: pl.DataFrame
    """Rows of ACCOUNTS."""
    max_total_change: Decimal
    """Share."""
    findings: Sequence[Finding]
    """Warnings, of the run and of loading, but for those that are told as points of their own."""
    issue_date: date
    today: date
    """In the seller's zone, as the date of issue."""
    last_issue_date: date | None
    """Of the document issued last."""


class Seen(NamedTuple):
    """What was found at one point."""

    open: bool
    detail: str


@dataclass(frozen=True)
class Point:
    """Something to look at."""

    name: str
    look: Callable[[Evidence], Seen]
    cure: str
    waivable: bool = True


def checklist(evidence: Evidence) -> pl.DataFrame:
    """Rows of CHECKLIST, each ``ok`` or ``open``, in the order to look at them."""
    rows = []
    for point in POINTS:
        seen = point.look(evidence)
        rows.append(
            {
                "period": str(evidence.period),
                "point": point.name,
                "status": "open" if seen.open else "ok",
                "detail": seen.detail,
                "cure": point.cure if seen.open else "",
            }
        )
    return pl.DataFrame(rows).with_columns(reason=pl.lit(None), waived_by=pl.lit(None)).pipe(CHECKLIST.conform)


def waived(rows: pl.DataFrame, waivers: Mapping[str, str], *, by: str) -> pl.DataFrame:
    """The checklist where the points of ``waivers`` (point → reason) are waived.

    Raises:
        UsageError: a reason is empty, a point is not open, or it can't be waived.
    """
    open_points = rows.filter(status="open")["point"].to_list()
    fixed = {point.name for point in POINTS if not point.waivable}
    for point, reason in waivers.items():
        if point not in rows["point"]:
            raise UsageError(f"--waive {point}: there is no such point → the points are {', '.join(rows['point'])}")
        if not reason.strip():
            raise UsageError(f"--waive {point}: a waiver needs a reason → --waive {point}='who decided it, and why'")
        if point in fixed:
            raise UsageError(f"--waive {point}: this point can't be waived → {_cure(point)}")
        if point not in open_points:
            listed = f"the open points are {', '.join(open_points)}" if open_points else "no point is open"
            raise UsageError(f"--waive {point}: the point is not open → leave the waiver out; {listed}")
    is_waived = pl.col("point").is_in(list(waivers))
    reasons = pl.col("point").replace_strict(waivers, default=None, return_dtype=pl.String).str.strip_chars()
    return rows.with_columns(
        status=pl.when(is_waived).then(pl.lit("waived")).otherwise("status"),
        reason=reasons,
        waived_by=pl.when(is_waived).then(pl.lit(by)),
    )


def open_findings(rows: pl.DataFrame) -> list[Finding]:
    """An error for each point of the checklist that is open."""
    return [
        Finding(Severity.ERROR, f"close.{row['point']}", f"{row['point']}: {row['detail']}", row["cure"])
        for row in rows.filter(status="open").iter_rows(named=True)
    ]


# ---------------------------------------------------------------------------------------------------- usage


def _refused_files(evidence: Evidence) -> Seen:
    names = [f"{finding.file}: {finding.message}" for finding in evidence.refused]
    if not names:
        return Seen(open=False, detail="every usage file was read")
    return Seen(open=True, detail=f"{_count(len(names), 'usage file')} could not be read: {_examples(names, '; ')}")


def _missing_files(evidence: Evidence) -> Seen:
    """Files that come day by day tell by their names which of them is missing."""
    month = [evidence.period.first_day + timedelta(days=number) for number in range(evidence.period.days)]
    missing: list[str] = []
    series = daily_files(evidence.files, evidence.period)
    for name, days in sorted(series.items()):
        lacking = [day for day in month if day not in days]
        if lacking:
            missing.append(f"{name}: {_examples([day.isoformat() for day in lacking])}")
    if missing:
        return Seen(open=True, detail=f"days without a file, where other days have one: {_examples(missing, '; ')}")
    if not series:
        return Seen(open=False, detail="files do not come day by day, by their names")
    return Seen(open=False, detail=f"a file for each of {len(month)} days: {_examples(sorted(series))}")


def daily_files(names: Iterable[str], period: BillingPeriod) -> dict[str, set[date]]:
    """Files that come day by day: their name with ``*`` for the date → the days of ``period`` that have one.

    Those with a file on more than half of the days of this or the last month.
    """
    months = (period, period.shift(-1))
    found: dict[str, dict[BillingPeriod, set[date]]] = {}
    for name in names:
        dated = _dated(name)
        if dated is not None:
            rest, day = dated
            for month in months:
                if month.first_day <= day <= month.last_day:
                    found.setdefault(rest, {each: set() for each in months})[month].add(day)
    return {
        rest: days[period] for rest, days in found.items() if any(2 * len(days[month]) > month.days for month in months)
    }


_DAY = re.compile(
    r"(?<!\d)(?:(\d{4})(\d{2})(\d{2})|(\d{4})[^\d]{1,7}(\d{1,2})[^\d]{1,5}(\d{1,2}))(?!\d)",
)
"""20261005, 2026-10-05, 2026/10/05, year=2026/month=10/day=05."""


def _dated(name: str) -> tuple[str, date] | None:
    for match in _DAY.finditer(name):
        year, month, day = (int(part) for part in match.groups() if part is not None)
        try:
            return f"{name[: match.start()]}*{name[match.end() :]}", date(year, month, day)
        except ValueError:
            continue
    return None


def _missing_hours(evidence: Evidence) -> Seen:
    total = evidence.period.hours(evidence.time_zone)
    missing = sorted(set(range(total)) - set(evidence.hours))
    if not missing:
        return Seen(open=False, detail=f"usage in each of the {total} hours ({evidence.time_zone})")
    told = [_stretch(evidence, first, last) for first, last in _stretches(missing)]
    return Seen(
        open=True,
        detail=f"{len(missing)} of {total} hours have no usage of anybody: {_examples(told)} ({evidence.time_zone})",
    )


def _stretches(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Numbers in order → first and last of each run of them."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _stretch(evidence: Evidence, first: int, last: int) -> str:
    start = evidence.period.start(evidence.time_zone)
    return (
        f"{_local(start + timedelta(hours=first), evidence)} to {_local(start + timedelta(hours=last + 1), evidence)}"
    )


def _local(instant: datetime, evidence: Evidence) -> str:
    return f"{instant.astimezone(ZoneInfo(evidence.time_zone)):%Y-%m-%d %H:%M}"


def _holes(evidence: Evidence) -> Seen:
    """For information: resources are stopped and started."""
    holes = evidence.holes
    if not holes.height:
        return Seen(open=False, detail="every resource has usage from its first to its last hour without a hole")
    told = [f"{resource} of {account} ({hours:,} h)" for account, resource, hours in holes.head(_EXAMPLES).iter_rows()]
    return Seen(
        open=False,
        detail=f"{_count(holes.height, 'resource')} without usage for hours between the first and the last, which may"
        f" be as it was: {_examples(told, of=holes.height)}",
    )


def _rejected(evidence: Evidence) -> Seen:
    rejected, considered = evidence.rows_rejected, evidence.rows_considered
    if not rejected:
        return Seen(open=False, detail=f"none of {considered:,} usage rows is rejected")
    share = f"{100 * rejected / considered:.3g} %" if considered else "all"
    return Seen(open=True, detail=f"{rejected:,} of {considered:,} usage rows are rejected ({share}) and not billed")


def _unpriced(evidence: Evidence) -> Seen:
    unpriced = evidence.unpriced
    if not unpriced.height:
        return Seen(open=False, detail="every usage record has a price")
    sums = collect(
        unpriced.lazy()
        .group_by("account_id", "sku_id", "usage_unit")
        .agg(pl.col("quantity").sum())
        .sort("account_id", "sku_id", "usage_unit")
    )
    told = [
        f"{quantity.normalize():f} {unit} of {sku} for {account}" for account, sku, unit, quantity in sums.iter_rows()
    ]
    return Seen(
        open=True,
        detail=f"{unpriced['records'].sum():,} usage records have no price and are not billed: {_examples(told)}",
    )


# ---------------------------------------------------------------------------------------------------- seller, customers


def _seller_address(evidence: Evidence) -> Seen:
    if any(line.strip() for line in evidence.seller.address):
        return Seen(open=False, detail="the seller has an address")
    return Seen(open=True, detail=f"{evidence.seller.name} has no address, which every invoice must carry")


def _seller_tax_id(evidence: Evidence) -> Seen:
    if evidence.seller.tax_id.strip():
        return Seen(open=False, detail="the seller has a tax number")
    return Seen(open=True, detail=f"{evidence.seller.name} has no tax number, which invoices with tax must carry")


def _address(evidence: Evidence) -> Seen:
    payers = _payers(evidence)
    without = payers.filter(pl.col("address_line1").is_null() | pl.col("city").is_null())["account_id"].to_list()
    if not without:
        return Seen(open=False, detail="every account that pays has an address")
    return Seen(open=True, detail=f"{_count(len(without), 'account')} without street or city: {_examples(without)}")


def _tax_id(evidence: Evidence) -> Seen:
    """Reverse charge is for businesses: the invoice must name their number."""
    reverse = evidence.billed.taxes.filter(kind="reverse_charge")["invoice_id"].implode()
    charged = evidence.billed.invoices.filter(pl.col("invoice_id").is_in(reverse))
    payers = _payers(evidence).filter(pl.col("account_id").is_in(charged["billing_account_id"].implode()))
    without = payers.filter(pl.col("tax_id").is_null())
    if not without.height:
        return Seen(open=False, detail="every account with reverse charge has a tax number")
    told = [f"{account} ({country})" for account, country in without.select("account_id", "country").iter_rows()]
    return Seen(
        open=True,
        detail=f"{_count(len(told), 'account')} with reverse charge, but without a tax number: {_examples(told)}",
    )


def _payers(evidence: Evidence) -> pl.DataFrame:
    billed = evidence.billed.invoices["billing_account_id"].implode()
    return evidence.accounts.filter(pl.col("account_id").is_in(billed)).sort("account_id")


# ---------------------------------------------------------------------------------------------------- money


def _totals(evidence: Evidence) -> Seen:
    if not evidence.last_month.height:
        return Seen(open=False, detail=f"{evidence.period.shift(-1)} has no invoices to compare with")
    moved: list[str] = []
    gone: list[str] = []
    new: list[str] = []
    both = _untaxed(evidence.last_month).join(
        _untaxed(evidence.billed.invoices), on=["payer", "currency"], how="full", coalesce=True, suffix="_now"
    )
    for payer, currency, before, now in both.sort("payer", "currency").iter_rows():
        if before is None:
            new.append(f"{payer} {_money(now, currency)}")
        elif now is None:
            gone.append(f"{payer} {_money(before, currency)}")
        elif abs(now - before) > evidence.max_total_change * abs(before):
            share = f" ({100 * (now - before) / abs(before):+.0f} %)" if before else ""
            moved.append(f"{payer} {_money(before, currency)} → {_money(now, currency)}{share}")
    limit = f"{100 * evidence.max_total_change:f}".rstrip("0").rstrip(".")
    told = [
        f"{_count(len(found), 'payer')} {what}: {_examples(found)}"
        for what, found in ((f"moved by more than {limit} %", moved), ("gone", gone), ("new", new))
        if found
    ]
    text = "; ".join(told) or f"no untaxed total moved by more than {limit} %"
    return Seen(open=bool(moved or gone), detail=f"against {evidence.period.shift(-1)}: {text}")


def _untaxed(invoices: pl.DataFrame) -> pl.DataFrame:
    return collect(
        invoices.lazy()
        .group_by(pl.col("billing_account_id").alias("payer"), "currency")
        .agg(pl.col("untaxed_amount").sum().alias("untaxed"))
    )


def _money(amount: Decimal, currency: str) -> str:
    return f"{amount:,.{minor_unit_decimals(currency)}f} {currency}"


def _findings(evidence: Evidence) -> Seen:
    found = evidence.findings
    if not found:
        return Seen(open=False, detail="the run has no other warnings")
    told = [f"{finding.rule}: {finding.message}" for finding in found]
    return Seen(open=True, detail=f"{_count(len(found), 'warning')}: {_examples(told, '; ')}")


# ---------------------------------------------------------------------------------------------------- dates


def _after_period(evidence: Evidence) -> Seen:
    early = evidence.issue_date <= evidence.period.last_day
    told = f"the date of issue {evidence.issue_date} is {'not after' if early else 'after'} the last day of the month"
    return Seen(open=early, detail=told)


def _not_future(evidence: Evidence) -> Seen:
    late = evidence.issue_date > evidence.today
    told = f"the date of issue {evidence.issue_date} is {'after' if late else 'not after'} today, {evidence.today}"
    return Seen(open=late, detail=f"{told}, and nothing can be issued with an earlier one later" if late else told)


def _in_order(evidence: Evidence) -> Seen:
    last = evidence.last_issue_date
    if last is None:
        return Seen(open=False, detail="nothing was issued before")
    early = evidence.issue_date < last
    told = f"the date of issue {evidence.issue_date} is {'before' if early else 'not before'} {last}, the last one used"
    return Seen(open=early, detail=told)


# ---------------------------------------------------------------------------------------------------- words


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _examples(items: Sequence[str], separator: str = ", ", *, of: int | None = None) -> str:
    """The first few, and how many more there are."""
    total = len(items) if of is None else of
    shown = separator.join(items[:_EXAMPLES])
    return shown if total <= _EXAMPLES else f"{shown} and {total - _EXAMPLES:,} more"


def _cure(name: str) -> str:
    return next(point.cure for point in POINTS if point.name == name)


POINTS = (
    Point("usage.files_refused", _refused_files, "ask the supplier for sound files, and run again"),
    Point("usage.files_missing", _missing_files, "ask the supplier for the files, and run again"),
    Point("usage.hours_missing", _missing_hours, "find out whether files are late; if nothing was used, waive it"),
    Point("usage.holes", _holes, ""),
    Point("usage.rejected", _rejected, "read rejects.csv among the reports, mend the book or the files, and run again"),
    Point("usage.unpriced", _unpriced, "add the prices to book/prices, and run again"),
    Point("seller.address", _seller_address, "write [seller] address into ratemill.toml, and run again"),
    Point("seller.tax_id", _seller_tax_id, "write [seller] tax_id into ratemill.toml, and run again"),
    Point("accounts.address", _address, "add address_line1 and city to book/accounts, and run again"),
    Point("accounts.tax_id", _tax_id, "add the tax_id to book/accounts, or correct the tax, and run again"),
    Point("invoices.totals", _totals, "look at the invoices named, and at what their usage comes from"),
    Point("run.findings", _findings, "read the warnings of the run and do what they say, or waive them together"),
    Point("issue_date.after_period", _after_period, "leave --issue-date out, or give a later day"),
    Point("issue_date.not_future", _not_future, "leave --issue-date out, or give today's"),
    Point("issue_date.in_order", _in_order, "numbers follow dates: give this --issue-date or a later one",
          waivable=False),
)  # fmt: skip
"""Every point, in the order to look at them: first what was used, then who bills, who pays, how much, and when."""
