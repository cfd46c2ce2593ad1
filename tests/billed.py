"""What was issued, summed so that it can be compared with the reference: all of a month, corrections of it included."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from reference.rating import rate_month

if TYPE_CHECKING:
    import duckdb

    from reference.model import World

THING = (
    "account_id",
    "project_id",
    "sku_id",
    "region",
    "price_id",
    "source_id",
    "tax_code",
    "tax_category",
    "tax_rate",
)
"""What a customer is billed for, and how it is taxed: the finest that a correction keeps."""
SUMS = ("subtotal", "discount", "commitment", "credit", "untaxed", "tax", "total", "prepaid", "due")


def rows(connection: duckdb.DuckDBPyConnection, query: str, **values: Any) -> list[dict[str, Any]]:
    """Rows of a query, by name."""
    result = connection.execute(query, values) if values else connection.execute(query)
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def issued_for(warehouse: duckdb.DuckDBPyConnection, month: str) -> dict[tuple[Any, ...], Decimal]:
    """Payer, currency and thing → Σ net amounts before credits, of all that runs issued for the month or to correct it."""
    query = f"""
        SELECT billing_account_id, currency, {", ".join(f"lines.{name}" for name in THING)},
            sum(amount + lines.discount_amount + lines.commitment_amount) AS net
        FROM billing.invoice_lines AS lines JOIN billing.invoices USING (invoice_id)
        WHERE status = 'issued' AND origin = 'run'
            AND coalesce(lines.corrects_period, period) = $month
        GROUP BY ALL HAVING net <> 0
    """
    return {tuple(row.values())[:-1]: row["net"] for row in rows(warehouse, query, month=month)}


def expected_for(world: World) -> dict[tuple[Any, ...], Decimal]:
    """The same by the reference."""
    bill = rate_month(world)
    heads = {row.invoice_id: (row.billing_account_id, row.currency) for row in bill.invoices}
    sums: dict[tuple[Any, ...], Decimal] = defaultdict(Decimal)
    for line in bill.lines:
        key = (*heads[line.invoice_id], *(getattr(line, name) for name in THING))
        sums[key] += line.amount + line.discount_amount + line.commitment_amount
    return {key: net for key, net in sums.items() if net}


def differences_of(found: dict[tuple[Any, ...], Decimal], expected: dict[tuple[Any, ...], Decimal]) -> list[str]:
    """What was billed otherwise than it should be, a line each."""
    return [
        f"{' '.join(str(part) for part in key)}: billed {found.get(key, Decimal(0))}, right is {expected.get(key, Decimal(0))}"
        for key in sorted({*found, *expected}, key=repr)
        if found.get(key, Decimal(0)) != expected.get(key, Decimal(0))
    ]
