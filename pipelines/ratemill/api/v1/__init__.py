"""The API's own dialect, ``/v1``: one module per resource."""

from __future__ import annotations

from ratemill.api.v1 import (
    budgets,
    charges,
    consumption,
    deals,
    documents,
    explanations,
    invoices,
    organizations,
    prices,
    quotes,
)

_RESOURCES = (
    organizations, consumption, charges, documents, explanations, invoices, prices, deals, budgets, quotes,
)  # fmt: skip
"""Paths of parts of an invoice before that of the invoice, whose id takes what is left of a path."""
ROUTERS = tuple(resource.router for resource in _RESOURCES)
