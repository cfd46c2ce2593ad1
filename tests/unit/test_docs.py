"""The documentation is part of the product: what it says is compared with what the program does."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import socket
import subprocess
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import BaseModel

from checkouts import reader_checkout
from ratemill.cli import COMMANDS, GROUPS, LazyCommand
from ratemill.config import Config, parse_config
from ratemill.errors import ExitCode
from ratemill.io.query import QueryLimits
from ratemill.io.usage_files import SLICE_ROWS
from ratemill.steps.report import _MOST_REJECTS
from ratemill.tables.usage import ID_LENGTH, SERIES_COLUMNS
from reference.tiers import Tier, graduated, volume

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *DOCS.glob("*.md"),
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "templates/README.md")),
        *(ROOT / "tests").glob("**/README.md"),
        *(ROOT / "data" / "sample").glob("**/README.md"),
    ]
)
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def load_generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generator()


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def without_code(text):
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE))


def headings(text):
    return re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)


def anchor(heading):
    """The anchor that a forge gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def table(text, heading):
    """Rows of the first table below a heading, as lists of cells without back-ticks."""
    section = text.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
    rows = [
        [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        for line in section.splitlines()
        if line.strip().startswith("|")
    ]
    return rows[2:]


# Generated pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_page_is_current(name):
    assert read(name) == generate.PAGES[name](), f"{name} is not what the program says; run: make docs"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_is_documented_and_has_help(command):
    loaded = LazyCommand(command).load()
    assert f"## ratemill {command.name}\n" in read("docs/cli.md")
    assert loaded.help
    for parameter in loaded.params:
        assert parameter.help, f"ratemill {command.name}: {parameter.name} has no help"


# Settings --------------------------------------------------------------------------------------------------------------


def toml_text(value):
    """A default as the settings file would spell it."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case tuple():
            return json.dumps(list(value))
        case dict():
            return "{}"
        case _:
            return json.dumps(str(value))


def settings(model, section):
    """section → {key: default} of a configuration, subsections included."""
    found = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, f"{section}.{name}" if section else name)
        else:
            found[name] = "needed" if field.is_required() else toml_text(field.get_default(call_default_factory=True))
    if found:
        yield section, found


def test_every_setting_is_documented_with_its_default():
    page = read("docs/workspace.md")
    documented = {
        section: {row[0]: row[1] for row in table(page, f"### [{section}]")}
        for section in re.findall(r"^### \[(.+)\]$", page, re.MULTILINE)
    }
    assert documented == dict(settings(Config, ""))


def test_examples_of_settings_are_valid():
    needed = {"seller": {"name": "Example", "country": "FR"}}
    examples = [text for name in NAMES for text in blocks(read(name), "toml")]
    examples += re.findall(r"ratemill\.toml <<'EOF'\n(.*?)^EOF", README, re.DOTALL | re.MULTILINE)
    assert len(examples) > 1
    for text in examples:
        parse_config(needed | tomllib.loads(text))


@pytest.mark.parametrize(
    ("page", "heading"),
    [("README.md", "## For schedulers"), ("docs/operations.md", "## Exit codes"), ("docs/cli.md", "# Command line")],
)
def test_exit_codes_are_complete(page, heading):
    codes = [int(row[0]) for row in table(f"\n{read(page)}", heading) if row[0].isdecimal()]
    assert codes == sorted(ExitCode)


# Words and links -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_links_resolve(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        if target.startswith("https://"):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name} links to {target}, which is not there"
        assert file.is_relative_to(ROOT), f"{name} links to {target}, outside of the project"
        if fragment:
            known = [anchor(heading) for heading in headings(file.read_text(encoding="utf-8"))]
            assert fragment in known, f"{name} links to {target}; the headings there are {known}"


def test_code_points_to_headings_that_exist():
    sources = [*(ROOT / "pipelines").rglob("*.py"), *(ROOT / "sql").rglob("*.sql"), *(ROOT / "tests").rglob("*.py")]
    found = 0
    for source in sources:
        text = re.sub(r"\s+(?:#|--)?\s*", " ", source.read_text(encoding="utf-8"))
        for name, heading in re.findall(r"(docs/[\w-]+\.md)(?:, \"([^\"]+)\")?", text):
            found += 1
            assert (ROOT / name).is_file(), f"{source} mentions {name}, which is not there"
            if heading:
                assert heading in headings(read(name)), f'{source} mentions {name}, "{heading}"'
    assert found > 3, "nothing was compared"


@pytest.mark.parametrize("name", [*NAMES, "Makefile", "docs/generate.py"])
def test_no_trace_of_the_machine_it_was_written_on(name):
    text = read(name)
    assert str(ROOT.parent) + "/" not in text or ROOT.parent == Path("/")
    assert not re.search(r"/(?:home|Users|root|work|private)/|/tmp/(?!ratemill)", text)
    hosts = re.findall(r"https?://([^/\s)>\"'`]+)", text)
    assert not {host for host in hosts if "." not in host or re.fullmatch(r"[\d.:]+", host)}
    if len(socket.gethostname()) > 6:
        assert socket.gethostname() not in text


def test_docs_list_is_complete():
    """The README leads to every page."""
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", README))
    assert linked == {path.name for path in DOCS.glob("*.md")}


@pytest.mark.parametrize("name", re.findall(r"\((docs/images/[^)]+)\)", README))
def test_images_are_small(name):
    image = (ROOT / name).read_bytes()
    assert image.startswith(b"\x89PNG")
    assert len(image) < 150_000


def test_pictures_of_the_analysts_hour_are_all_there_and_small():
    shown = set(re.findall(r"\]\((images/session/[^)]+)\)", read("docs/analysts-hour.md")))
    files = [*(DOCS / "images" / "session").iterdir()]
    assert shown == {path.relative_to(DOCS).as_posix() for path in files}
    assert sum(path.stat().st_size for path in files) < 900_000


# Commands --------------------------------------------------------------------------------------------------------------


def mentioned_commands():
    """(page, command line) of every ``ratemill …`` that a page shows in a block or in back-ticks."""
    for name in NAMES:
        if name == "docs/cli.md":
            continue  # made from --help
        text = read(name)
        shown = [command for block in blocks(text, "sh") for command in generate._commands(block)]
        shown += [line for block in blocks(text, "text") for line in block.splitlines()]
        shown += re.findall(r"`(ratemill [^`\n]+)`", text)
        for command in shown:
            if command.startswith("ratemill "):
                yield name, command


def test_commands_in_the_docs_exist_with_their_options():
    known = {command.name: LazyCommand(command).load() for command in COMMANDS}
    seen = set()
    for page, line in mentioned_commands():
        words = shlex.split(line)
        if words[1] == "--help" or words[1].startswith("("):
            continue
        name = " ".join(words[1:3]) if words[1] in GROUPS else words[1]
        assert name in known, f"{page}: {line}"
        options = {option for parameter in known[name].params for option in parameter.opts} | {"--help"}
        for word in words[2:]:
            if re.fullmatch(r"--?[a-z][a-z-]*", word):
                assert word in options, f"{page}: {line}: no option {word}"
        seen.add(words[1])
    assert {"init", "run", "sql", "check"} <= seen


def test_blocks_are_split_into_whole_commands():
    block = "ratemill init shop\n# a comment\ncat > a.csv <<'EOF'\nit's\n\nEOF\nratemill sql \"SELECT 1\n  AS one\"\nls \\\n  -l\n"
    assert generate._commands(block) == [
        "ratemill init shop",
        "cat > a.csv <<'EOF'\nit's\n\nEOF",
        'ratemill sql "SELECT 1\n  AS one"',
        "ls \\\n  -l",
    ]


def without_hashes(text):
    """A run's id depends on the bytes of the files that were billed, and so on the versions of what wrote them."""
    return re.sub(r"(run \d{4}-\d\d)-[0-9a-f]{12}", r"\1-…", text)


@pytest.mark.slow
def test_commands_of_the_readme_run_and_print_what_it_shows(tmp_path):
    checkout, environment = reader_checkout(tmp_path)
    outputs = generate.run_blocks(README, checkout, environment)
    shown = generate.with_outputs(README, outputs)
    assert without_hashes(shown) == without_hashes(README), "README.md shows other outputs; run: make docs"
    assert len(generate.OUTPUT_OF.findall(README)) >= 4
    assert (checkout / "demo" / "out" / "2026-10" / "index.html").is_file()
    questions = README.partition("\n## Questions about a bill\n")[2].partition("\n## ")[0]
    going_on = {"ratemill sql", "ratemill serve"}  # until told to stop: tested where they are driven
    answered = [command for command in re.findall(r"`(ratemill [^`]+)`", questions) if command not in going_on]
    for command in answered:
        done = subprocess.run(
            [str(checkout / ".venv" / "bin" / "ratemill"), *shlex.split(command)[1:]],
            cwd=checkout / "demo",
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert len(answered) >= 8


# Numbers ---------------------------------------------------------------------------------------------------------------

TIER = re.compile(
    r"(?P<bound>≤[\d.]+|∞) @(?P<price>[\d.]+)(?: \+(?P<fee>[\d.]+))?(?: in packages of (?P<size>[\d.]+))?"
)


def test_worked_tiers_hold_in_the_reference():
    rows = [row for row in table(read("docs/how-we-bill.md"), "## Tiers") if re.match(r"(graduated|volume): ", row[0])]
    compared = 0
    for price, quantities, costs in rows:
        mode, _, text = price.partition(": ")
        tiers = [
            Tier(
                up_to=None if part["bound"] == "∞" else Decimal(part["bound"].removeprefix("≤")),
                unit_price=Decimal(part["price"]),
                flat_fee=Decimal(part["fee"] or 0),
                package_size=Decimal(part["size"]) if part["size"] else None,
            )
            for part in TIER.finditer(text)
        ]
        assert len(tiers) == text.count("@")
        cost = {"graduated": graduated, "volume": volume}[mode]
        pairs = list(zip(quantities.split(", "), costs.split(", "), strict=True))
        assert [cost(tiers, Decimal(quantity)) for quantity, _ in pairs] == [Decimal(due) for _, due in pairs]
        compared += len(pairs)
    assert compared >= 13


def test_limits_are_the_ones_of_the_code():
    page = read("docs/limits.md")
    query = QueryLimits()
    tags = next(column for column in SERIES_COLUMNS if column.name == "tags")
    defaults = Config.model_validate({"seller": {"name": "x", "country": "FR"}}).usage
    for text in (
        f"| ids, names and regions in usage | {ID_LENGTH} characters |",
        f"| tags of a record | {tags.max_length:,} characters as JSON |",
        f"| rows of a usage file | {defaults.max_rows_per_file:,} |",
        f"| rows per byte of a usage file (decompression bombs) | {defaults.max_rows_per_byte} |",
        f"| rows read at a time | {SLICE_ROWS:,} |",
        f"| rows in `rejects.csv` of a period | {_MOST_REJECTS:,} |",
        f"| time | {query.timeout_seconds:g} seconds (`--timeout`) |",
        f"| memory | {query.memory_bytes >> 30} GiB (`--memory`) |",
        f"| result | {query.max_bytes >> 20} MiB |",
    ):
        assert text in page
