"""UUIDs of what has names of its own: the same for ever, since each is made of the seller and the name alone.

The dialect's clients want UUIDs, and the book names accounts, projects and invoices as its users do. A UUID is of
version 5 (SHA-1 of a namespace and a name), so no table of them has to be kept, and none can be lost; the way back goes
over what the caller may see (:class:`ratemill.api.scaleway.directory.Directory`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import NAMESPACE_URL, UUID, uuid5

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_LARGEST_NUMBER = 2**31 - 1
"""Clients in Go hold the number of an invoice in 32 bits."""


@dataclass(frozen=True)
class Ids:
    """UUIDs of one seller's things."""

    namespace: UUID

    @classmethod
    def of(cls, seller: str) -> Ids:
        """Those of a seller, by name."""
        return cls(uuid5(NAMESPACE_URL, f"https://ratemill.dev/sellers/{seller}"))

    def organization(self, account_id: str) -> str:
        """An account: the organization that pays, or the one that consumes."""
        return self._uuid("account", account_id)

    def project(self, account_id: str, project_id: str | None) -> str:
        """A project at an account; what is for no project is in the account's default project, which has its UUID.

        Two customers may call a project alike, so the account is part of it.
        """
        return self.organization(account_id) if project_id is None else self._uuid("project", account_id, project_id)

    def invoice(self, invoice_id: str) -> str:
        """An invoice or credit note, draft or issued."""
        return self._uuid("invoice", invoice_id)

    def discount(self, kind: str, row_id: str) -> str:
        """A row of the book's discounts or credits."""
        return self._uuid(kind, row_id)

    def principal(self, name: str) -> str:
        """A person or key of the members."""
        return self._uuid("principal", name)

    def policy(self, name: str, organization_id: str) -> str:
        """What one member may do at one organization."""
        return self._uuid("policy", name, organization_id)

    def rule(self, *parts: str) -> str:
        """One rule of a policy."""
        return self._uuid("rule", *parts)

    def permission_set(self, name: str) -> str:
        """A permission set."""
        return self._uuid("permission_set", name)

    def product(self, *parts: str) -> str:
        """A price of the catalogue."""
        return self._uuid("product", *parts)

    def _uuid(self, *parts: str) -> str:
        # A separator that no id contains: control characters are refused in the book and in usage.
        return str(uuid5(self.namespace, "\x1f".join(parts)))


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID as clients write it."""
    return _UUID.fullmatch(text) is not None


def invoice_number(number: str | None) -> int:
    """An invoice's number as a whole number: its digits, ``2026-00012`` is 202600012; 0 of a draft.

    Where that takes more than 32 bits, the last digits that belong together: of ``2026-11-000012``, 12.
    """
    if number is None:
        return 0
    groups = re.findall(r"[0-9]+", number)
    whole = int("".join(groups) or 0)
    return whole if whole <= _LARGEST_NUMBER else int(groups[-1]) % (_LARGEST_NUMBER + 1)
