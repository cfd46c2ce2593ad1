"""Hold an export against validators of others: ``make focus-check``.

    python check.py 1.4 FOLDER        CSV; run by the Python of an environment with focus-data-toolkit
    python check.py 1.2 FOLDER        Parquet; run by that of one with focus-validator

Prints every rule that fails, with the reason where allowed.toml has one; the exit code is 1 when one has none.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import tomllib
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path

ALLOWED = Path(__file__).with_name("allowed.toml")
DATASETS = {
    "Cost and Usage": "cost_and_usage",
    "Invoice Detail": "invoice_detail",
    "Billing Period": "billing_period",
    "Contract Commitment": "contract_commitment",
}
CRITERIA = (
    "ACCOUNT_NAMING_SUPPORTED", "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED", "COMMITMENT_DISCOUNT_SUPPORTED",
    "MULTIPLE_PRICING_CATEGORIES_SUPPORTED", "NEGOTIATED_PRICING_SUPPORTED",
    "PRICING_BILLING_CURRENCY_DIFFERENCES_SUPPORTED", "PUBLIC_PRICE_LIST_SUPPORTED", "REGION_SUPPORTED",
    "SUB_ACCOUNT_SUPPORTED", "TAGGING_SUPPORTED", "UNIT_PRICING_SUPPORTED", "USAGE_MEASUREMENT_SUPPORTED",
)  # fmt: skip
"""What a workspace can do, in the validator's words."""
FEWEST_CHECKS = 200
"""Fewer passed checks than this, and the validator did not look at the file."""


def toolkit_problems(folder: Path) -> list[str]:
    """What focus-data-toolkit finds in the CSV files of a FOCUS 1.4 export, each file alone and all together."""
    from focus_data_toolkit.model import validator as lint  # noqa: PLC0415 - only one of the two is installed
    from focus_data_toolkit.validate.bundle import validate_dataset_bundle  # noqa: PLC0415

    supported = [lint.COND_UNIT_PRICING, lint.COND_MULTIPLE_PRICING_CATEGORIES]
    bundle: dict[str, list[dict[str, str]]] = {}
    problems: list[str] = []
    for title, name in DATASETS.items():
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        if not rows:
            continue  # no commitments, for example; the toolkit calls a dataset without rows a mistake
        bundle[title] = rows
        problems += [
            f"{title}: {message}"
            for message in lint.lint_focus_1_4_structure(title, rows, supported_conditions=supported).messages()
        ]
    report = validate_dataset_bundle(bundle, invoice_detail_authoritative=True, rounding_tolerance=Decimal(0))
    if "reconcile_invoice_detail" not in report.checks_run:
        problems.append("Invoice Detail was not reconciled")
    return problems + [diagnostic.format() for diagnostic in report.diagnostics]


def validator_failures(folder: Path) -> dict[str, str]:
    """Rule → message, of what focus-validator finds in the Parquet file of a FOCUS 1.2 export."""
    import focus_validator  # type: ignore[import-not-found] # noqa: PLC0415

    site_packages = Path(focus_validator.__file__).parents[1]  # it looks for its own files from there
    ended = subprocess.run(
        [
            str(Path(sys.executable).with_name("focus-validator")),
            *("--data-file", str((folder / "cost_and_usage.parquet").resolve())),
            *("--validate-version", "1.2", "--block-download", "--applicability-criteria", ",".join(CRITERIA)),
        ],
        cwd=site_packages, capture_output=True, text=True, check=True,
    )  # fmt: skip
    total = re.search(r"Total: (\d+) \| Pass: (\d+) \| Fail: (\d+)", ended.stdout)
    if total is None or int(total[2]) < FEWEST_CHECKS:
        raise SystemExit(f"the validator checked nothing:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    found = dict(
        re.findall(r"❌ (\S+): FAIL +\(violations=\d+, (?:reason=.*?, )?msg=(.*)\)$", ended.stdout, re.MULTILINE)
    )
    if len(found) != int(total[3]):
        raise SystemExit(f"{total[3]} rules failed, {len(found)} were understood")
    print(total[0])
    return found


def reasons(failures: dict[str, str]) -> dict[str, str]:
    """Rule → why it may fail, of those that may."""
    entries = tomllib.loads(ALLOWED.read_text(encoding="utf-8"))["allowed"]
    found = {
        rule: " ".join(entry["reason"].split())
        for rule, message in failures.items()
        for entry in entries
        if any(fnmatchcase(rule, pattern) for pattern in entry["rules"]) and entry.get("only", "") in message
    }
    # A rule that is made of others fails with them.
    while True:
        made_of = {
            rule: children
            for rule, message in failures.items()
            if rule not in found
            and (children := re.findall(r"[A-Za-z]+-[CD]-\d{3}-[A-Z]", message.partition("failed child")[2]))
        }
        explained = [rule for rule, children in made_of.items() if set(children) <= set(found)]
        if not explained:
            return found
        found |= dict.fromkeys(explained, "made of rules that may fail")


def main(version: str, folder: Path) -> int:
    """Check one export."""
    if version == "1.4":
        problems = toolkit_problems(folder)
        print("\n".join(problems) or f"FOCUS 1.4, {folder}: nothing found by focus-data-toolkit")
        return min(1, len(problems))
    failures = validator_failures(folder)
    explained = reasons(failures)
    told: dict[str, list[str]] = {}
    for rule in sorted(explained):
        told.setdefault(explained[rule], []).append(rule)
    for reason, rules in told.items():
        print(f"allowed: {', '.join(rules)}\n    {reason}")
    unexplained = sorted(failures.keys() - explained.keys())
    for rule in unexplained:
        print(f"NOT ALLOWED: {rule}: {failures[rule]}")
    print(f"FOCUS 1.2, {folder}: {len(explained)} failed rules are explained, {len(unexplained)} are not")
    return min(1, len(unexplained))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
