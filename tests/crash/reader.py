"""An analyst who never stops looking: opens the published database again and again, until stdin ends.

Every look must find whole invoices: charges, lines and totals that agree, all of one run. Prints a JSON object: how
many looks there were, which runs they saw, and what was wrong.
"""

from __future__ import annotations

import json
import select
import sys
from collections import Counter
from pathlib import Path

import duckdb

CHECK = """
WITH charged AS (SELECT invoice_id, sum(cost) AS amount FROM charges GROUP BY ALL),
lined AS (SELECT invoice_id, sum(net_amount) AS amount FROM invoice_lines GROUP BY ALL)
SELECT
    (SELECT string_agg(DISTINCT run_id, ' ' ORDER BY run_id) FROM charges) AS charged_by,
    (SELECT string_agg(run_id, ' ' ORDER BY run_id) FROM runs) AS run_ids,
    count(*) AS invoices,
    count(*) FILTER (
        charged.amount = invoices.untaxed_amount
        AND lined.amount = invoices.untaxed_amount
        AND invoices.untaxed_amount + invoices.tax_amount = invoices.total_amount
    ) AS whole
FROM invoices
LEFT JOIN charged USING (invoice_id)
LEFT JOIN lined USING (invoice_id)
"""


def look(database: Path) -> tuple[str, str | None]:
    """The run that is seen, and what is wrong with it."""
    with duckdb.connect(str(database), read_only=True) as connection:
        charged_by, run_ids, invoices, whole = connection.execute(CHECK).fetchone() or ("", "", 0, 0)
    if charged_by != run_ids or not invoices or whole != invoices:
        return run_ids, f"{whole} of {invoices} invoices are whole, charges are of {charged_by}, runs are {run_ids}"
    return run_ids, None


def main() -> None:
    """Look until there is no more stdin."""
    database = Path(sys.argv[1])
    seen: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    print("looking", flush=True)
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        try:
            run, problem = look(database)
        except duckdb.Error as error:
            run, problem = "none", str(error)
        seen[run] += 1
        if problem:
            wrong[problem] += 1
    print(json.dumps({"seen": seen, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main()
