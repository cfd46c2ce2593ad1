"""Every file of a member's export, walked for what belongs to others.

Goal: no file that a member is given holds a name, id, number, tag, price or sum of another customer, account or
project. Method: a world in which every name says whose it is (tests/members.py), billed, closed and exported for a
member of each kind; then all that is in the files is read, whatever the format keeps it in: text, cells, pages,
values, statistics, dictionaries, metadata, comments, views, and the raw bytes.
"""

from __future__ import annotations

import json
import re
import zipfile
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from pypdf import PdfReader

from members import BANK, CLERK, MEMBERS, make_customers
from workspaces import run_here

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workspaces import Ended

pytestmark = pytest.mark.slow

PERIODS = ("2026-09", "2026-10")
INTERNAL = [CLERK, "budget-house", "night-shift", "stranger", "vm-nobody", "input_key", "rows_in"]
"""Of the seller alone: who decides, names of usage files, rejected rows, runs."""


class Sees(NamedTuple):
    """What may be in a member's files."""

    own: list[str]
    """Words (or strings) that must be there."""
    foreign: list[str]
    """Expressions that must not be there, in any spelling."""


EVERYBODY = {"kestrel", "falcon", "merlin", "marlin", "dolphin", "osprey", "quartz", "garnet", "basalt", "topaz"}
ALL_OF_KESTREL = ["kestrel", "falcon", "merlin", "quartz", "garnet", "topaz"]


def but(*own: str) -> list[str]:
    """Every word of the world but these."""
    return sorted(EVERYBODY - {*own})


SEEN = {
    "cfo@kestrel.example": Sees(
        [*ALL_OF_KESTREL, "tax-falcon", "promise-kestrel", "credit-kestrel", "budget-quartz", "watch-falcon", BANK],
        but(*ALL_OF_KESTREL),
    ),
    "ap@marlin.example": Sees(
        ["marlin", "dolphin", "basalt", "vm-marlin-topaz", BANK],
        [*but("marlin", "dolphin", "basalt", "topaz"), "budget-", "watch-"]
    ),
    "dev@falcon.example": Sees(
        ["vm-falcon", "vm-falcon-quartz", "tax-falcon", "deal-falcon", "gift-falcon", "fee-falcon"],
        [*but("falcon", "quartz", "kestrel"), "vm-kestrel", "tax-kestrel", "street-kestrel", "mail-kestrel",
         "budget-", "watch-", "fee-kestrel", "name-kestrel", "tag-kestrel", BANK],
    ),
    "boss@kestrel.example": Sees(
        ["vm-kestrel", "vm-kestrel-quartz", "vm-kestrel-topaz", "tax-kestrel"],
        [*but("kestrel", "quartz", "topaz"), "fee-", "commitment not used", BANK],
    ),
    "quartz-key": Sees(
        ["vm-kestrel-quartz", "vm-falcon-quartz", "cc-quartz", "gift-falcon", "budget-quartz"],
        [*but("kestrel", "falcon", "quartz"), r"vm-kestrel\b(?!-quartz)", r"vm-falcon\b(?!-quartz)", "watch-",
         "budget-kestrel", "tax-", "street-", "mail-", "fee-", "legal ltd", BANK],
    ),
    "topaz-now": Sees(
        ["vm-kestrel-topaz", "cc-topaz"],
        [*but("kestrel", "topaz"), r"vm-kestrel\b(?!-topaz)", "tax-", "street-", "mail-", "fee-", "legal ltd", BANK],
    ),
    "topaz-then": Sees(
        ["vm-marlin-topaz"], [*but("marlin", "topaz"), r"vm-marlin\b(?!-topaz)", "tax-", "street-", "mail-", BANK]
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two months billed, the first one issued."""
    shop = make_customers(tmp_path_factory.mktemp("customers"))
    for period in PERIODS:
        ended = shop.run(period=period)
        assert ended.code == 0, ended.stderr
    ended = shop.close(period="2026-09", waive=["usage.rejected"])
    assert ended.code == 0, ended.stderr
    ended = shop.run(period="2026-10")
    assert ended.code == 0, ended.stderr
    return shop


@pytest.fixture(scope="module")
def exports(world) -> dict[str, Path]:
    """Principal → the folder of the export."""
    found = {}
    for principal in SEEN:
        ended = export(world, principal)
        assert ended.code == 0, ended.stderr
        found[principal] = world.root / ended.summary["folder"]
    return found


def export(world, principal: str, *options: str) -> Ended:
    return run_here(
        ["export", "member", principal, "-w", str(world.root), "--period", "2026-09..2026-10", "--as-of",
         "2026-11-02T06:00:00Z", *options, "--json"]
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- the walk


def contents(folder: Path) -> Iterator[tuple[str, str]]:
    """Place and text of everything that is in the files, each file's bytes and name included."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        yield f"name of {name}", name
        if not path.is_file():
            continue
        data = path.read_bytes()
        yield f"bytes of {name}", data.decode("latin-1")
        yield f"text of {name}", data.decode("utf-8", "replace")
        yield f"wide text of {name}", data.decode("utf-16-le", "replace")
        read = READERS.get(path.suffix)
        for part, text in read(path) if read is not None else ():
            yield f"{part} of {name}", text


def _pdf(path: Path) -> Iterator[tuple[str, str]]:
    reader = PdfReader(path)
    for number, page in enumerate(reader.pages, start=1):
        yield f"page {number}", page.extract_text()
    yield "metadata", str(reader.metadata) + str(reader.xmp_metadata and reader.xmp_metadata.stream.get_data())
    for attached, files in reader.attachments.items():
        yield f"attachment {attached}", b"".join(files).decode("utf-8", "replace")


def _xlsx(path: Path) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield name, archive.read(name).decode("utf-8", "replace")


def _parquet(path: Path) -> Iterator[tuple[str, str]]:
    file = pq.ParquetFile(path)
    yield "metadata", f"{file.metadata.metadata} {file.schema_arrow.metadata} {file.metadata.created_by}"
    for group in range(file.metadata.num_row_groups):
        for number in range(file.metadata.num_columns):
            column = file.metadata.row_group(group).column(number)
            yield "statistics", f"{column.path_in_schema} {column.statistics}"
    texts = [field.name for field in file.schema_arrow if field.type in ("string", "large_string")]
    table = pq.read_table(path, read_dictionary=texts)
    for name in table.column_names:
        for chunk in table.column(name).chunks:
            values = chunk.dictionary if hasattr(chunk, "dictionary") else chunk
            yield f"values of {name}", "\n".join(map(str, values.to_pylist()))


def _duckdb(path: Path) -> Iterator[tuple[str, str]]:
    with duckdb.connect(str(path), read_only=True) as database:
        for function in ("duckdb_tables", "duckdb_columns", "duckdb_views", "duckdb_schemas", "duckdb_constraints"):
            yield function, str(database.sql(f"SELECT * FROM {function}()").fetchall())
        names = [name for (name,) in database.sql("SELECT table_name FROM information_schema.tables").fetchall()]
        for name in names:
            yield f"rows of {name}", str(database.sql(f'SELECT * FROM "{name}"').fetchall())
            yield f"statistics of {name}", str(database.sql(f'SUMMARIZE SELECT * FROM "{name}"').fetchall())
        for (name,) in database.sql("SELECT table_name FROM duckdb_tables()").fetchall():
            yield f"storage of {name}", str(database.sql(f"PRAGMA storage_info('{name}')").fetchall())


READERS = {".pdf": _pdf, ".xlsx": _xlsx, ".parquet": _parquet, ".duckdb": _duckdb}


@pytest.mark.parametrize("principal", SEEN)
def test_no_file_holds_what_belongs_to_others(exports, principal):
    forbidden = {word: re.compile(word, re.IGNORECASE) for word in (*SEEN[principal].foreign, *INTERNAL)}
    found = []
    for place, text in contents(exports[principal]):
        found += [f"{word} in {place}: …{text[max(hit.start() - 40, 0) : hit.end() + 40]!r}…"
                  for word, expression in forbidden.items() if (hit := expression.search(text))]  # fmt: skip
    assert found == []


@pytest.mark.parametrize("principal", SEEN)
def test_what_is_ones_own_is_there(exports, principal):
    """And so the walk finds what is there to be found."""
    everything = "\n".join(text for _, text in contents(exports[principal]))
    assert [word for word in SEEN[principal].own if word not in everything] == []


def test_the_walk_reads_every_kind_of_file(exports):
    """Own words are found in each format of an organization's export, and in the tables in all three forms."""
    found = {place.rpartition(".")[2] for place, text in contents(exports["ap@marlin.example"]) if "marlin" in text}
    assert {"pdf", "xlsx", "parquet", "duckdb", "csv", "html", "json"} <= found


# ------------------------------------------------------------------------------------------------------------- numbers


def numbers_of_invoices(world) -> pl.DataFrame:
    with duckdb.connect(str(world.root / "published/billing.duckdb"), read_only=True) as database:
        return database.sql("SELECT * FROM invoices").pl()


@pytest.mark.parametrize("principal", SEEN)
def test_no_number_of_another_invoice(world, exports, principal):
    """Nor, for readers of a part, any sum of an invoice: what the others used is one subtraction away."""
    invoices = numbers_of_invoices(world)
    organization = next(row.get("organization_id") if not row.get("project_id") else None
                        for row in MEMBERS if row["principal"] == principal)  # fmt: skip
    others = invoices.filter(pl.col("billing_account_id") != (organization or ""))
    payer = "marlin" if principal == "topaz-then" else "kestrel"
    foreign = others if organization else others.filter(pl.col("billing_account_id") != payer)
    secret = {*foreign["number"].drop_nulls()}
    for name in ("total_amount", "untaxed_amount", "subtotal_amount", "due_amount"):
        secret |= {f"{amount:.2f}" for amount in others[name] if amount >= Decimal(20)}
    assert len(secret) > 5
    expression = re.compile(rf"(?<!\d)({'|'.join(map(re.escape, sorted(secret)))})(?!\d)")
    found = [(place, hit[0]) for place, text in contents(exports[principal])
             if not place.startswith("bytes") and (hit := expression.search(text))]  # fmt: skip
    assert found == []


def test_what_is_shown_adds_up(exports):
    """Charges are the lines before tax, whoever looks; together the two sides of the move are the whole project."""
    for folder in exports.values():
        with duckdb.connect(str(folder / "billing.duckdb"), read_only=True) as database:
            charged = database.sql("SELECT period, sum(cost) FROM charges GROUP BY ALL ORDER BY ALL").fetchall()
            lined = database.sql(
                "SELECT left(invoice_id, 7), sum(net_amount) FROM invoice_lines GROUP BY ALL ORDER BY ALL"
            ).fetchall()
            billed = database.sql('SELECT sum("BilledCost") FROM focus_cost_and_usage WHERE "x_ChargeKind" NOT IN'
                                  " ('tax', 'prepaid')").fetchall()  # fmt: skip
        assert charged == lined
        assert billed == [(sum(amount for _, amount in lined),)]
    parts = [pl.read_parquet(exports[who] / "parquet/charges.parquet") for who in ("topaz-then", "topaz-now")]
    assert parts[0]["charge_end"].max() <= parts[1]["charge_start"].min()


def test_what_is_not_shown_has_no_table_and_no_view(exports):
    for principal, there in (("quartz-key", False), ("cfo@kestrel.example", True)):
        with duckdb.connect(str(exports[principal] / "billing.duckdb"), read_only=True) as database:
            names = {name for (name,) in database.sql("SELECT table_name FROM information_schema.tables").fetchall()}
        assert ({"invoices", "tax_lines", "credit_ledger", "discounts", "credit_notes"} <= names) is there
        assert {"charges", "usage", "cost_by_day", "cost_by_tag", "focus_cost_and_usage"} <= names
        assert not {"runs", "findings", "events", "usage_files", "usage_rejects", "closed_periods"} & names


def test_documents_are_those_that_were_issued(world, exports):
    folder = exports["cfo@kestrel.example"]
    for name in ("2026-09/invoices/kestrel-EUR.pdf", "2026-10/invoices/kestrel-EUR.json"):
        assert (folder / name).read_bytes() == (world.root / "out" / name).read_bytes()
    assert not list(exports["dev@falcon.example"].rglob("invoices"))


def test_again_gives_the_same_files(world, exports):
    """All but the database, which holds the moment it was made in; and the former folder is replaced as a whole."""
    folder = exports["dev@falcon.example"]
    before = json.loads((folder / "manifest.json").read_text())["files"]
    (folder / "left-over.txt").write_text("of somebody")
    assert export(world, "dev@falcon.example").code == 0
    after = json.loads((folder / "manifest.json").read_text())["files"]
    assert not (folder / "left-over.txt").exists()
    assert {name: facts for name, facts in before.items() if name != "billing.duckdb"} == {
        name: facts for name, facts in after.items() if name != "billing.duckdb"
    }
