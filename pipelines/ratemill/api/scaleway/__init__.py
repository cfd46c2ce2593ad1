"""The Scaleway dialect of the Billing API, over the same ledger; see docs/api-scaleway.md."""

from __future__ import annotations

from ratemill.api.scaleway import (
    budgets,
    catalogue,
    consumption,
    discounts,
    electronic,
    errors,
    iam,
    invoices,
    projects,
)

__all__ = ["PREFIXES", "ROUTERS", "errors"]

ROUTERS = tuple(
    module.router for module in (consumption, invoices, discounts, budgets, electronic, projects, iam, catalogue)
)
PREFIXES = ("/billing/", "/account/", "/iam/", "/product-catalog/")
"""What its paths begin with: whatever goes wrong there is told in its words."""
