"""Who owns metered usage, from when to when, and who pays."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from engine import make_book
from ratemill.rating.owners import EVER, NEVER, owners_in, owners_of
from reference.model import Account, Book, Project, midnight

EVER_, NEVER_ = (pl.select(instant).item() for instant in (EVER, NEVER))
MARCH, MAY = midnight(date(2026, 3, 1)), midnight(date(2026, 5, 1))
BOOK = make_book(
    Book(
        accounts=(
            Account(account_id="a", price_lists=("deal",)),
            Account(account_id="b", time_zone="Asia/Kolkata", currency="EUR", price_lists=("gold", "plan")),
            Account(account_id="c", billing_account_id="b", time_zone="Asia/Tokyo", currency="EUR"),
            Account(account_id="d", billing_account_id="b", currency="EUR", price_lists=("own",)),
        ),
        projects=(
            Project(project_id="stays", account_id="b"),
            Project(project_id="moves", account_id="a", valid_to=MARCH),
            Project(project_id="moves", account_id="c", valid_from=MARCH),
            Project(project_id="pauses", account_id="b", valid_to=MARCH),
            Project(project_id="pauses", account_id="d", valid_from=MAY),
            Project(project_id="begins", account_id="b", valid_from=MAY),
        ),
    )
)

STRETCHES = [  # (account and project as metered, [(owner, from, to)])
    (("a", None), [("a", EVER_, NEVER_)]),
    (("a", "loose"), [("a", EVER_, NEVER_)]),
    (("a", "stays"), [("b", EVER_, NEVER_)]),
    (("d", "moves"), [("a", EVER_, MARCH), ("c", MARCH, NEVER_)]),
    (("a", "pauses"), [("b", EVER_, MARCH), ("a", MARCH, MAY), ("d", MAY, NEVER_)]),
    (("a", "begins"), [("a", EVER_, MAY), ("b", MAY, NEVER_)]),
    (("b", "begins"), [("b", EVER_, MAY), ("b", MAY, NEVER_)]),
    (("b", "pauses"), [("b", EVER_, MARCH), ("b", MARCH, MAY), ("d", MAY, NEVER_)]),
    (("nobody", None), []),
    (("nobody", "begins"), [("b", MAY, NEVER_)]),
]


def owners(*pairs):
    frame = pl.DataFrame(pairs, schema={"account_id": pl.String, "project_id": pl.String}, orient="row")
    return owners_of(frame, BOOK.accounts, BOOK.projects, time_zone="Europe/Berlin")


@pytest.mark.parametrize(("pair", "expected"), STRETCHES)
def test_stretches_of_one_owner(pair, expected):
    found = owners(pair).select("owner_account_id", "owner_from", "owner_to").rows()
    assert found == expected


def test_pairs_do_not_disturb_one_another():
    pairs = [pair for pair, _ in STRETCHES]
    together = owners(*pairs)
    for pair, expected in STRETCHES:
        mine = together.filter(pl.col("account_id") == pair[0], pl.col("project_id").eq_missing(pair[1]))
        assert mine.select("owner_account_id", "owner_from", "owner_to").rows() == expected


PAYERS = [  # (account, payer, currency, zone, lists): zone and currency are the payer's, lists its own or the payer's
    ("a", "a", "USD", "Europe/Berlin", "deal"),
    ("b", "b", "EUR", "Asia/Kolkata", "gold plan"),
    ("c", "b", "EUR", "Asia/Kolkata", "gold plan"),
    ("d", "b", "EUR", "Asia/Kolkata", "own"),
]


def test_the_payer_decides_zone_and_currency_and_its_lists_stand_in():
    found = owners(*((account, None) for account, *_ in PAYERS))
    columns = ["owner_account_id", "billing_account_id", "currency", "time_zone", "price_lists"]
    assert found.select(columns).rows() == PAYERS


def test_moves_at_other_times_make_no_difference_to_a_period():
    start, end = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    cut = owners_in(owners(("a", "moves"), ("a", "pauses"), ("a", "begins")), start, end)
    assert cut.select("project_id", "owner_account_id", "owner_from", "owner_to").rows() == [
        ("begins", "a", start, end),
        ("moves", "c", start, end),
        ("pauses", "a", start, end),
    ]
