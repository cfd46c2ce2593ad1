"""A world of three customers for tests of who may see what: every name says whose it is.

=========  ========================  ==========================================================
payer      accounts it pays for      projects
=========  ========================  ==========================================================
kestrel    kestrel, falcon, merlin   quartz (kestrel's, falcon's from 15 October), garnet (merlin's)
marlin     marlin, dolphin           basalt (dolphin's), topaz (marlin's, kestrel's from 15 October)
osprey     osprey                    none
=========  ========================  ==========================================================

The word of an account is in its name, tax id, street, e-mail address, price list, resources, tags, discounts and
credits; that of a project in its name, cost centre and resources. So what a file must not hold is a word. Everybody's
machines share a SKU, a region and the tag ``fleet=everywhere``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from workspaces import BOOK, hours, make_workspace

if TYPE_CHECKING:
    from pathlib import Path

    from workspaces import TinyWorkspace

PAYERS = {
    "kestrel": "kestrel", "falcon": "kestrel", "merlin": "kestrel", "marlin": "marlin", "dolphin": "marlin",
    "osprey": "osprey",
}  # fmt: skip
MOVES = "2026-10-15"
BANK = "Example Bank"
CLERK = "Jo Insider"

MEMBERS = [
    {"principal": "cfo@kestrel.example", "role": "billing_manager", "organization_id": "kestrel"},
    {"principal": "ap@marlin.example", "role": "billing_reader", "organization_id": "marlin"},
    {"principal": "dev@falcon.example", "role": "billing_reader", "account_id": "falcon"},
    {"principal": "boss@kestrel.example", "role": "billing_reader", "account_id": "kestrel"},
    {"principal": "quartz-key", "role": "billing_manager", "project_id": "quartz"},
    {"principal": "topaz-now", "role": "billing_reader", "organization_id": "kestrel", "project_id": "topaz"},
    {"principal": "topaz-then", "role": "billing_reader", "organization_id": "marlin", "project_id": "topaz"},
    {"principal": "gone@osprey.example", "role": "billing_reader", "organization_id": "osprey",
     "valid_to": "2026-06-01"},
]  # fmt: skip


def make_customers(folder: Path, *, months: int = 2, documents: bool = True) -> TinyWorkspace:
    """The world's workspace with usage of September and October 2026, or of October alone."""
    accounts = [
        {
            "account_id": word, "billing_account_id": "" if payer == word else payer, "name": f"{word.title()} Group",
            "legal_name": f"{word.title()} Legal Ltd", "address_line1": f"1 street-{word}", "city": "Lyon",
            "country": "FR", "currency": "EUR", "tax_id": f"tax-{word}", "email": f"mail-{word}@{word}.example",
            "price_lists": f"list-{word}",
        }
        for word, payer in PAYERS.items()
    ]  # fmt: skip
    projects = [
        {"project_id": project, "account_id": account, "name": f"{project.title()} Works", "cost_center": f"cc-{project}",
         "valid_from": first, "valid_to": last}
        for project, account, first, last in (
            ("quartz", "kestrel", "", MOVES), ("quartz", "falcon", MOVES, ""), ("garnet", "merlin", "", ""),
            ("basalt", "dolphin", "", ""), ("topaz", "marlin", "", MOVES), ("topaz", "kestrel", MOVES, ""),
        )
    ]  # fmt: skip
    prices = [*BOOK["prices"]] + [
        {"price_id": f"price-{word}", "price_list": f"list-{word}", "sku_id": "vm", "currency": "EUR",
         "valid_from": "", "valid_to": "", "unit_price": f"0.0{number}7"}
        for number, word in enumerate(PAYERS, start=1)
    ]  # fmt: skip
    deals = {
        "discounts": [
            {"discount_id": f"deal-{word}", "account_id": word, "percent": "5", "note": f"deal-{word} of the year"}
            for word in ("kestrel", "marlin", "falcon")
        ] + [{"discount_id": "autumn", "percent": "1", "note": "Autumn offer"}],
        "commitments": [
            {"commitment_id": f"promise-{word}", "account_id": word, "amount": amount, "discount_percent": "2",
             "currency": "EUR", "note": f"promise-{word}"} for word, amount in (("kestrel", "400"), ("osprey", "417"))
        ],
        "credits": [
            {"credit_id": f"credit-{word}", "account_id": word, "amount": "33", "currency": "EUR", "kind": kind,
             "granted_on": "2026-01-01", "note": f"credit-{word}"}
            for word, kind in (("kestrel", "promotional"), ("marlin", "prepaid"))
        ],
        "recurring": [
            {"recurring_id": f"fee-{word}", "account_id": word, "description": f"fee-{word}", "amount": "7"}
            for word in ("kestrel", "falcon", "marlin")
        ],
        "budgets": [
            {"budget_id": f"budget-{word}", "account_id": account, "project_id": project, "amount": "900",
             "currency": "EUR"}
            for word, account, project in (("kestrel", "kestrel", ""), ("quartz", "", "quartz"), ("marlin", "marlin", ""),
                                           ("house", "", ""))
        ],
        "subscriptions": [
            {"subscription_id": f"watch-{word}", "events": "budget", "account_id": word,
             "address": f"watch-{word}@desk.example"} for word in ("kestrel", "marlin", "falcon")
        ],
        "adjustments": [
            {"adjustment_id": f"gift-{word}", "account_id": word, "project_id": project, "period": "2026-10",
             "amount": "-3", "reason": f"gift-{word}", "author": CLERK}
            for word, project in (("falcon", "quartz"), ("marlin", ""))
        ],
    }  # fmt: skip
    return make_workspace(
        folder,
        usage={f"night-shift-{month}.parquet": usage_of(month, days)
               for month, days in (("2026-09", 30), ("2026-10", 31))[2 - months:]},
        book={
            **{name: rows for name, rows in BOOK.items() if name != "prices"},
            "accounts": accounts, "projects": projects, "prices": prices, "members": MEMBERS, **deals,
        },
        config={
            "seller": {"bank": {"name": BANK, "iban": "FR1420041010050500013M02606", "bic": "ESTUFRPPXXX"}, "tax_id": "FR00123456789",
                       "address": ["1 Example Square", "Lyon"]},
            "output": {"pdf": documents, "html": documents, "einvoice": "off"},
        },
    )  # fmt: skip


def usage_of(month: str, days: int) -> pl.DataFrame:
    """Machines of every account and project, every hour; a project's are metered at the account that has it then."""
    first = f"{month}-01T00:00:00Z"
    pieces = [
        _machine(account, None, first, days * 24)
        for account in PAYERS
    ] + [
        _machine("merlin", "garnet", first, days * 24),
        _machine("dolphin", "basalt", first, days * 24),
    ]  # fmt: skip
    for project, before, after in (("quartz", "kestrel", "falcon"), ("topaz", "marlin", "kestrel")):
        if month < MOVES[:7]:
            pieces.append(_machine(before, project, first, days * 24))
        else:
            pieces += [
                _machine(before, project, first, 14 * 24),
                _machine(after, project, f"{MOVES}T00:00:00Z", (days - 14) * 24),
            ]
    stranger = hours("vm-stranger", resource="vm-nobody", first=first, count=1)  # no such account: a rejected row
    return pl.concat([*pieces, stranger.with_columns(project_id=pl.lit(None, pl.String),
                                                     resource_name=pl.lit("nobody"), tags=pl.lit("{}"))])  # fmt: skip


def _machine(account: str, project: str | None, first: str, count: int) -> pl.DataFrame:
    words = account if project is None else f"{account}-{project}"
    return hours(account, resource=f"vm-{words}", first=first, count=count).with_columns(
        project_id=pl.lit(project, pl.String),
        resource_name=pl.lit(f"name-{words}"),
        tags=pl.lit(f'{{"fleet":"everywhere","owner":"tag-{words}"}}'),
    )
