"""Rules of this code base that no linter knows, read off the syntax tree of every module.

Each rule is a function from a parsed module to the offences in it. Each is first shown a snippet that breaks it, since
a rule that finds nothing anywhere would pass for ever.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ratemill import __version__
from ratemill.io.warehouse import FORMAT

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pipelines" / "ratemill"
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}

PURE = ("rating/", "invoicing/", "insight/", "book/")
"""Frames in, frames out: no file, no database, no clock."""
EXACT = ("rating/", "invoicing/", "money.py")
"""Money is computed here: no float."""

FORBIDDEN_IMPORTS = {
    # files, processes, network, clock, chance
    "pathlib", "os", "io", "shutil", "tempfile", "glob", "subprocess", "socket", "urllib", "time", "random", "secrets",
    # other engines and media
    "duckdb", "pyarrow", "jinja2", "typst", "vl_convert", "altair", "filelock",
    # what knows about media or about the person at the keyboard
    "typer", "rich", "ratemill.io", "ratemill.documents", "ratemill.cli", "ratemill.workspace", "ratemill.resources",
}  # fmt: skip
FORBIDDEN_CALLS = re.compile(r"open|now|today|utcnow|(sink|scan|read|write)_\w+")
FORBIDDEN_BUILTINS = {"print", "input", "eval", "exec"}
SQL = re.compile(
    r"\s*(select\s.+\sfrom\s|insert\s+into\s|update\s.+\sset\s|delete\s+from\s|merge\s+into\s|copy\s.+\sto\s"
    r"|create\s+(or\s+replace\s+)?(temp\w*\s+)?(table|view|macro)\s|with\s+\w+\s+as\s*\()",
    re.IGNORECASE | re.DOTALL,
)

Offences = Iterator[tuple[int, str]]


@cache
def parsed(name: str) -> ast.Module:
    """A module's syntax tree, for every rule."""
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def called_name(node: ast.Call) -> str:
    """``sink_parquet`` for both ``frame.sink_parquet(…)`` and ``sink_parquet(…)``."""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def imported(node: ast.AST) -> list[str]:
    """Full names of the modules (and the names out of them) that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def docstrings(tree: ast.Module) -> set[int]:
    """Ids of the constant nodes that are documentation: of modules, classes, functions and attributes."""
    bare = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    return {id(value) for value in bare if isinstance(value, ast.Constant)}


def impure_imports(tree: ast.Module) -> Offences:
    for node in ast.walk(tree):
        for name in imported(node):
            parts = name.split(".")
            prefixes = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
            if prefixes & FORBIDDEN_IMPORTS:
                yield node.lineno, f"imports {name}; a pure module takes what it needs as arguments"


def impure_calls(tree: ast.Module) -> Offences:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        builtin = isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_BUILTINS
        if builtin or FORBIDDEN_CALLS.fullmatch(called_name(node)):
            if called_name(node).startswith("write_") and not node.args:
                continue  # without a target, frame.write_csv() and its kin return text
            yield node.lineno, f"calls {called_name(node)}(); a pure module takes what it needs as arguments"


def collects(tree: ast.Module) -> Offences:
    """LazyFrame.collect takes options by keyword only; ``frames.collect(frame)`` is the way that is meant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if (name in {"collect", "collect_async", "collect_batches"} and not node.args) or (
                name == "collect_all" and ast.unparse(node.func.value) in {"pl", "polars"}
            ):
                yield (
                    node.lineno,
                    f".{name}() elsewhere than in frames.py: the in-memory engine wraps decimals silently",
                )


def floats(tree: ast.Module) -> Offences:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield node.lineno, f"the float {node.value}; write Decimal('{node.value}')"
        if isinstance(node, ast.Call) and called_name(node) in {"float", "mean", "median", "quantile", "std", "var"}:
            yield node.lineno, f"{called_name(node)}() leaves the decimal domain"
        if isinstance(node, ast.Attribute) and node.attr in {"Float32", "Float64"}:
            yield node.lineno, f"{node.attr} is no type for money"


def long_sql(tree: ast.Module) -> Offences:
    documentation = docstrings(tree)
    for node in ast.walk(tree):
        if id(node) in documentation:
            continue
        text = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
        if SQL.match(text) and (node.end_lineno != node.lineno or "\n" in text.strip()):
            yield node.lineno, "a statement of several lines; it belongs in a file under sql/"


def no_docstring(tree: ast.Module) -> Offences:
    if not ast.get_docstring(tree):
        yield 1, "no docstring; say what the module is for"


RULES = {  # name: (rule, which modules, a snippet that breaks it)
    "pure modules import no medium": (
        impure_imports,
        lambda name: name.startswith(PURE),
        "from ratemill.io import warehouse",
    ),
    "pure modules read and write nothing and know no clock": (
        impure_calls,
        lambda name: name.startswith(PURE),
        "day = datetime.now(UTC)",
    ),
    "only frames.py collects": (
        collects,
        lambda name: name != "frames.py",
        "rows = frame.lazy().collect()",
    ),
    "money is never a float": (
        floats,
        lambda name: name.startswith(EXACT),
        "half = 0.5",
    ),
    "SQL lives in sql/": (
        long_sql,
        lambda name: not name.startswith("io/"),
        'query = f"""SELECT {column}\nFROM charges"""',
    ),
    "every module says what it is for": (
        no_docstring,
        lambda _: True,
        "x = 1",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_rule_holds_in_every_module(rule):
    offences_in, applies, _ = RULES[rule]
    names = [name for name in MODULES if applies(name)]
    assert names, "a rule that applies to no module says nothing"

    offences = [
        f"pipelines/ratemill/{name}:{line}: {what}" for name in names for line, what in offences_in(parsed(name))
    ]

    assert offences == []


@pytest.mark.parametrize(
    ("rule", "snippet"),
    [
        *((rule, snippet) for rule, (_, _, snippet) in RULES.items()),
        ("pure modules import no medium", "import duckdb"),
        ("pure modules import no medium", "from pathlib import Path"),
        ("pure modules import no medium", "from ratemill.workspace import Workspace"),
        ("pure modules import no medium", "from ratemill import resources"),
        ("pure modules import no medium", "def f():\n    import os.path"),
        ("pure modules read and write nothing and know no clock", "open('x')"),
        ("pure modules read and write nothing and know no clock", "date.today()"),
        ("pure modules read and write nothing and know no clock", "eval(rule)"),
        ("pure modules read and write nothing and know no clock", "pl.scan_parquet('x')"),
        ("pure modules read and write nothing and know no clock", "frame.sink_parquet('x')"),
        ("pure modules read and write nothing and know no clock", "frame.write_csv('x')"),
        ("only frames.py collects", "pl.collect_all([a, b])"),
        ("only frames.py collects", "frame.collect(engine='streaming')"),
        ("money is never a float", "float(price)"),
        ("money is never a float", "pl.col('cost').mean()"),
        ("money is never a float", "pl.col('cost').cast(pl.Float64)"),
        ("SQL lives in sql/", "q = 'SELECT a '\\\n    'FROM b'"),
        ("SQL lives in sql/", 'q = """\n  create or replace table t as (select 1)"""'),
        ("SQL lives in sql/", 'q = """with x as (\nselect 1) select * from x"""'),
    ],
)
def test_rule_catches_what_breaks_it(rule, snippet):
    assert list(RULES[rule][0](ast.parse(snippet)))


@pytest.mark.parametrize(
    ("rule", "snippet"),
    [
        ("pure modules import no medium", "import polars as pl\nfrom ratemill.tables import charges"),
        ("pure modules read and write nothing and know no clock", "frame.with_columns(opened=pl.col('open'))"),
        ("pure modules read and write nothing and know no clock", "pl.col('lists').list.eval(pl.element())"),
        ("pure modules read and write nothing and know no clock", "text = frame.write_csv(quote_style='always')"),
        ("only frames.py collects", "schema = frame.collect_schema()"),
        ("only frames.py collects", "rows = frames.collect(frame)"),
        ("money is never a float", "half = Decimal('0.5')\ncount = 2"),
        ("SQL lives in sql/", 'def f():\n    """With care,\n    select a price from the list."""'),
        ("SQL lives in sql/", "connection.execute('DELETE FROM t')"),
    ],
)
def test_rule_lets_pass_what_keeps_it(rule, snippet):
    assert list(RULES[rule][0](ast.parse(snippet))) == []


# ---------------------------------------------------------------------------------------------------- around the code


def test_every_query_is_one_select_with_a_header():
    """Purpose, grain and parameters stand above each query; the query is one SELECT and nothing else.

    The schema of the API's own store is no query.
    """
    queries = sorted(set((ROOT / "sql").rglob("*.sql")) - set((ROOT / "sql/api/store").rglob("*.sql")))
    assert queries, "no queries found"

    offences = []
    for path in queries:
        text = path.read_text(encoding="utf-8")
        code = re.sub(r"--.*", "", text).strip()
        if not text.startswith("-- "):
            offences.append(f"{path.relative_to(ROOT)}: no header comment")
        if re.match(r"(?i)(select|with)\b", code) is None:
            offences.append(f"{path.relative_to(ROOT)}: starts with {code[:20]!r}, not SELECT or WITH")
        if ";" in code.rstrip(";"):
            offences.append(f"{path.relative_to(ROOT)}: more than one statement")
        documented = set(re.findall(r"\$(\w+)", "\n".join(re.findall(r"--.*", text))))
        offences.extend(
            f"{path.relative_to(ROOT)}: parameter ${name} is not in the header"
            for name in sorted(set(re.findall(r"\$([a-z]\w*)", code)) - documented)
        )

    assert offences == []


def test_migrations_lead_to_the_layout_of_the_code():
    """One file for each layout after the first that was released, which is 4; each says what it is for."""
    files = sorted((ROOT / "sql" / "migrations").glob("*.sql"))
    assert [path.name for path in files] == [f"{step:04}_to_{step + 1:04}.sql" for step in range(4, FORMAT)]
    assert [path.name for path in files if not path.read_text(encoding="utf-8").startswith("-- ")] == []


def test_the_version_is_stated_once_more_and_alike():
    """pyproject.toml states it for installers, ratemill.__version__ for the program."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__
    assert __version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def locked(name):
    """Package → version of a lock file."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE))


def test_the_locks_agree():
    """What is tested (dev) is what is run (base): each runtime package is in both, in one version."""
    base, dev = locked("base"), locked("dev")
    assert base.items() <= dev.items()
    assert {"pytest", "ruff", "mypy", "hatchling"} <= dev.keys() - base.keys()


def test_the_locks_name_no_host_and_no_folder():
    """A lock says what is installed, never where its writer found it."""
    lines = [
        line
        for path in sorted((ROOT / "requirements").glob("*.lock"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert [line for line in lines if re.search(r"://|file:|^-|/home|/tmp", line)] == []
    pins = [line for line in lines if "==" in line and not line.startswith(" ")]
    assert all(line.endswith("\\") for line in pins), "every pin is followed by its hashes"


def test_make_help_names_every_target_that_is_meant_for_people():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.findall(r"^\.PHONY: (\S+)$", makefile, re.MULTILINE))
    explained = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
    assert phony
    assert phony == explained
