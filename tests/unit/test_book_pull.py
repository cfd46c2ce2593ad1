"""What another system says about projects and members, put into the book's files: as worked examples."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ratemill.book.pulled import Remote, RemoteGrant, RemoteProject, principal_name, strongest
from ratemill.errors import DataRefusedError, UsageError
from ratemill.io.scaleway_account import ScalewayAccount, organizations_of
from ratemill.steps.pull import pull
from ratemill.workspace import find_workspace
from workspaces import make_workspace

NOW = datetime(2026, 10, 12, 9, 30, tzinfo=UTC)
PROJECTS = [
    {"project_id": "web", "account_id": "acme", "name": "Website", "cost_center": "CC-1", "valid_from": "2026-01-01", "valid_to": ""},
    {"project_id": "old", "account_id": "acme", "name": "Old shop", "cost_center": "", "valid_from": "", "valid_to": ""},
    {"project_id": "lab", "account_id": "globex", "name": "Lab", "cost_center": "", "valid_from": "", "valid_to": ""},
    {"project_id": "past", "account_id": "acme", "name": "Past", "cost_center": "", "valid_from": "", "valid_to": "2026-05-01"},
]  # fmt: skip
MEMBERS = [
    {"principal": "Ann@acme.example", "role": "billing_manager", "organization_id": "acme", "project_id": ""},
    {"principal": "bob@acme.example", "role": "billing_reader", "organization_id": "acme", "project_id": ""},
    {"principal": "eve@globex.example", "role": "billing_reader", "organization_id": "globex", "project_id": ""},
]
REMOTE = Remote(
    "acme",
    (RemoteProject("web", "Website and shop"), RemoteProject("lab", "Lab"), RemoteProject("new", "Newsletter"),
     RemoteProject("past", "Past")),
    (RemoteGrant("ann@acme.example", "billing_manager"), RemoteGrant("ci", "billing_reader", "new"),
     RemoteGrant("bob@acme.example", "billing_manager")),
)  # fmt: skip


@pytest.fixture
def shop(tmp_path):
    return make_workspace(tmp_path, usage=[], book={"projects": PROJECTS, "members": MEMBERS})


def pulled(shop, *remotes, **options):
    return pull(
        find_workspace(shop.root), remotes or [REMOTE], **{"tables": ["projects", "members"], "now": NOW, **options}
    )


def lines(shop, table):
    return (shop.root / "book" / f"{table}.csv").read_text().splitlines()


def test_projects_are_added_renamed_moved_and_ended_and_never_removed(shop):
    changes = {(one.what, one.name, one.detail) for one in pulled(shop).changes if one.table == "projects"}
    assert changes == {
        ("changed", "web", "Website → Website and shop"),
        ("ended", "Old shop (old)", "valid_to 2026-10-13"),  # what it used today is billed to it
        ("ended", "Lab (lab)", "at globex, valid_to 2026-10-12"),  # it moved
        ("added", "Lab (lab)", "at acme, valid_from 2026-10-12"),
        ("added", "Newsletter (new)", "at acme"),  # never seen before: since ever
        ("added", "Past (past)", "at acme, valid_from 2026-10-12"),  # it is there again
    }
    assert lines(shop, "projects") == [
        "project_id,account_id,name,cost_center,valid_from,valid_to",
        "web,acme,Website and shop,CC-1,2026-01-01,",
        "old,acme,Old shop,,,2026-10-13",
        "lab,globex,Lab,,,2026-10-12",
        "past,acme,Past,,,2026-05-01",
        "lab,acme,Lab,,2026-10-12,",
        "new,acme,Newsletter,,,",
        "past,acme,Past,,2026-10-12,",
    ]


def test_members_get_and_lose_what_the_other_system_says(shop):
    changes = {(one.what, one.name, one.detail) for one in pulled(shop).changes if one.table == "members"}
    assert changes == {
        ("ended", "bob@acme.example", "billing_reader of acme"),
        ("added", "bob@acme.example", "billing_manager of acme"),
        ("added", "ci", "billing_reader of project Newsletter"),
    }
    assert lines(shop, "members") == [
        "principal,role,organization_id,project_id,valid_to,valid_from",
        "Ann@acme.example,billing_manager,acme,,,",  # the same person, as the book spells it
        "bob@acme.example,billing_reader,acme,,2026-10-12T09:30:00Z,",
        "eve@globex.example,billing_reader,globex,,,",  # another organization's
        "bob@acme.example,billing_manager,acme,,,2026-10-12T09:30:00Z",
        "ci,billing_reader,acme,new,,",
    ]


def test_a_second_pull_finds_nothing_to_do(shop):
    pulled(shop)
    before = lines(shop, "projects"), lines(shop, "members")
    again = pulled(shop, now=NOW.replace(hour=11))
    assert (again.changes, again.files) == ((), ())
    assert (lines(shop, "projects"), lines(shop, "members")) == before


def test_a_dry_run_writes_nothing(shop):
    before = lines(shop, "projects"), lines(shop, "members")
    looked = pulled(shop, dry_run=True)
    assert looked.counts() == {
        "projects": {"added": 3, "changed": 1, "ended": 2}, "members": {"added": 2, "changed": 0, "ended": 1},
    }  # fmt: skip
    assert (lines(shop, "projects"), lines(shop, "members")) == before


def test_one_table_alone(shop):
    before = lines(shop, "members")
    assert pulled(shop, tables=["projects"]).files == ("book/projects.csv",)
    assert lines(shop, "members") == before


def test_semicolons_and_missing_files_are_taken_as_they_are(shop):
    text = "\n".join(lines(shop, "projects")).replace(",", ";")
    (shop.root / "book" / "projects.csv").write_text(f"\ufeff{text}\n", encoding="utf-8")
    (shop.root / "book" / "members.csv").unlink()
    pulled(shop)
    assert "web;acme;Website and shop;CC-1;2026-01-01;" in lines(shop, "projects")
    assert lines(shop, "members")[0].startswith("principal,role,organization_id")


def test_an_organization_that_is_no_account_is_refused(shop):
    with pytest.raises(UsageError, match=r"organization umbrella is no account of book/accounts\.csv"):
        pulled(shop, Remote("umbrella", (), ()))


def test_what_would_break_the_book_is_not_written(shop):
    before = lines(shop, "projects"), lines(shop, "members")
    with pytest.raises(DataRefusedError, match="nothing was written") as refused:
        pulled(shop, Remote("acme", (RemoteProject("web", "Web\x07site"),), ()))
    assert refused.value.findings
    assert (lines(shop, "projects"), lines(shop, "members")) == before


def test_a_wider_or_higher_grant_swallows_the_narrower():
    reader, manager = "billing_reader", "billing_manager"
    grants = [
        RemoteGrant("ann", reader), RemoteGrant("ann", manager), RemoteGrant("ann", reader, "web"),
        RemoteGrant("bob", reader), RemoteGrant("bob", manager, "web"), RemoteGrant("bob", reader, "lab"),
        RemoteGrant("eve", reader, "lab"),
    ]  # fmt: skip
    assert strongest(grants) == (
        RemoteGrant("ann", manager), RemoteGrant("bob", manager, "web"), RemoteGrant("bob", reader),
        RemoteGrant("eve", reader, "lab"),
    )  # fmt: skip


def test_names_become_principals():
    names = ["Ann.Lee@Acme.Example", "CI runner (prod)", "  ", "terraform_v2"]
    assert [principal_name(name) for name in names] == [
        "ann.lee@acme.example",
        "CI-runner-prod",
        "unnamed",
        "terraform_v2",
    ]


def test_credentials_are_told_by_name_and_never_by_value():
    with pytest.raises(UsageError, match="SCW_SECRET_KEY are not set"):
        ScalewayAccount({"SCW_ACCESS_KEY": "SCW" + "A" * 17})
    with pytest.raises(UsageError, match=r"SCW_\* are not as they should be") as wrong:
        ScalewayAccount({"SCW_ACCESS_KEY": "nonsense", "SCW_SECRET_KEY": "hush-hush"})
    assert "hush-hush" not in str(wrong.value)
    assert organizations_of(["AB=acme"], "") == {"ab": "acme"}
    assert organizations_of([], "cd") == {"cd": "cd"}
    with pytest.raises(UsageError, match="no organization is named"):
        organizations_of([], "")
