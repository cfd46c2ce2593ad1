"""Projects and members of an organization from an Account and IAM API, through its Python client: an extra.

``pip install 'ratemill[scaleway]'``. The client has neither time limits nor an end to its pages; both are added here.
"""

from __future__ import annotations

import importlib
import threading
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from ratemill.book.pulled import Remote, RemoteGrant, RemoteProject, principal_name, strongest
from ratemill.errors import TemporaryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

EXTRA = "pip install 'ratemill[scaleway]'"
VARIABLES = ("SCW_ACCESS_KEY", "SCW_SECRET_KEY")
ROLES = {
    "BillingManager": "billing_manager",
    "OrganizationManager": "billing_manager",
    "BillingReadOnly": "billing_reader",
    "OrganizationReadOnly": "billing_reader",
}
"""Permission set → what it lets one see of bills; the others have nothing to do with them."""
PAGE_SIZE = 100
_MOST_PAGES = 10_000
_NOT_FOUND = 404
_REFUSED = {401: "does not know this key", 403: "does not let this key read"}


class ScalewayAccount:
    """An account, opened with the environment's credentials."""

    def __init__(self, environment: Mapping[str, str], *, seconds: float = 30.0) -> None:
        """Nothing is asked yet.

        Args:
            environment: SCW_ACCESS_KEY, SCW_SECRET_KEY, SCW_API_URL, SCW_DEFAULT_ORGANIZATION_ID.
            seconds: for each answer.

        Raises:
            UsageError: the client is not installed, or the credentials are missing or none.
        """
        try:
            core, account, iam = (
                importlib.import_module(name)
                for name in ("scaleway_core.client", "scaleway.account.v3", "scaleway.iam.v1alpha1")
            )
        except ImportError:
            raise UsageError(f"the client of the API is not installed → run: {EXTRA}") from None
        missing = [name for name in VARIABLES if not environment.get(name)]
        if missing:
            raise UsageError(f"{' and '.join(missing)} are not set: they hold the key that reads the account")
        self.organization = environment.get("SCW_DEFAULT_ORGANIZATION_ID") or ""
        self.url = (environment.get("SCW_API_URL") or "https://api.scaleway.com").rstrip("/")
        self._seconds = seconds
        client = core.Client(
            access_key=environment["SCW_ACCESS_KEY"],
            secret_key=environment["SCW_SECRET_KEY"],
            api_url=self.url,
            default_organization_id=self.organization or None,
        )
        try:
            client.validate()
        except ValueError:  # its message holds the secret
            raise UsageError(
                "SCW_* are not as they should be: an access key is SCW and 17 letters and digits, a secret and an"
                f" organization are UUIDs, and SCW_API_URL ({self.url}) is a URL"
            ) from None
        self._projects = account.AccountV3ProjectAPI(client)
        self._iam = iam.IamV1Alpha1API(client)

    def organization_of(self, organization: str, account_id: str, *, members: bool = True) -> Remote:
        """Projects of an organization, and what its members may see of its bills.

        Raises:
            UsageError: the key is refused, or there is no such API at this URL.
            TemporaryError: it does not answer, or with something else than it should.
        """
        projects = tuple(
            RemoteProject(one.id, one.name)
            for one in self._all("projects", self._projects.list_projects, organization_id=organization)
        )
        if not projects:  # every organization has its default one: else all of the book's would end
            raise UsageError(
                f"{self.url} shows no project of organization {organization}; nothing was changed → check"
                " SCW_DEFAULT_ORGANIZATION_ID or --organization, and the permissions of the key"
            )
        grants: tuple[RemoteGrant, ...] = ()
        if members:
            grants = strongest(self._grants(organization, {project.project_id for project in projects}))
        return Remote(account_id, projects, grants)

    def _grants(self, organization: str, projects: set[str]) -> Iterator[RemoteGrant]:
        of = {"organization_id": organization}
        names = {one.id: principal_name(one.email) for one in self._all("users", self._iam.list_users, **of)}
        for one in self._all("applications", self._iam.list_applications, **of):
            names[one.id] = principal_name(one.name)
        groups = {
            one.id: [*one.user_ids, *one.application_ids] for one in self._all("groups", self._iam.list_groups, **of)
        }
        for policy in self._all("policies", self._iam.list_policies, **of):
            told = [policy.user_id, policy.application_id, *groups.get(policy.group_id, ())]
            principals = sorted({names[one] for one in told if one in names})
            if not principals:
                continue
            for rule in self._all("rules", self._iam.list_rules, policy_id=policy.id):
                roles = {ROLES[name] for name in rule.permission_set_names or () if name in ROLES}
                whole = rule.organization_id == organization
                scopes = [""] if whole else sorted(set(rule.project_ids or ()) & projects)
                yield from (RemoteGrant(*one) for one in product(principals, roles, scopes))

    def _all(self, key: str, listing: Callable[..., Any], **arguments: Any) -> list[Any]:
        """Every page of a list; one that never ends is told of."""
        found: dict[str, Any] = {}
        for page in range(1, _MOST_PAGES + 1):
            asked = partial(listing, page=page, page_size=PAGE_SIZE, **arguments)
            items = getattr(self._asked(key, asked), key)
            fresh = {one.id: one for one in items if one.id not in found}
            if items and not fresh:
                break
            found |= fresh
            if len(items) < PAGE_SIZE:
                return list(found.values())
        raise TemporaryError(f"{self.url} sends the same page of {key} again and again; nothing was changed")

    def _asked(self, what: str, ask: Callable[[], Any]) -> Any:
        """An answer within the time there is."""
        answers: list[Any] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                answers.append(ask())
            except BaseException as error:  # noqa: BLE001 - told by the caller
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(self._seconds)
        if thread.is_alive():
            raise TemporaryError(f"{self.url} sends no {what} within {self._seconds:g} seconds; nothing was changed")
        if errors:
            raise self._explained(what, errors[0]) from None
        return answers[0]

    def _explained(self, what: str, error: BaseException) -> Exception:
        status = getattr(error, "status_code", None)
        if status in _REFUSED:
            return UsageError(
                f"{self.url} {_REFUSED[status]} {what} (HTTP {status}) → check SCW_ACCESS_KEY, SCW_SECRET_KEY and the"
                " permissions of the key (projects and IAM, read-only), and SCW_DEFAULT_ORGANIZATION_ID"
            )
        if status == _NOT_FOUND:
            return UsageError(f"{self.url} knows no {what} (HTTP 404) → check SCW_API_URL")
        if status is not None:
            return TemporaryError(f"{self.url} failed to send {what} (HTTP {status}); nothing was changed → try again")
        if isinstance(error, (ValueError, KeyError, TypeError, AttributeError)):
            return TemporaryError(
                f"{self.url} sent {what} in a form that can't be read; nothing was changed → try again"
            )
        if isinstance(error, OSError):  # what requests raises
            return TemporaryError(f"{self.url} can't be reached for {what}; nothing was changed → check SCW_API_URL, or"
                                  " try again")  # fmt: skip
        return error if isinstance(error, Exception) else RuntimeError(repr(error))


def organizations_of(texts: Iterable[str], default: str) -> dict[str, str]:
    """Organization → the account of the book that it is, of ``UUID`` and ``UUID=ACCOUNT``.

    Raises:
        UsageError: none is given.
    """
    found = {}
    for text in list(texts) or [default]:
        organization, _, account = text.partition("=")
        found[organization.lower()] = account or organization
    if "" in found:
        raise UsageError("no organization is named → give --organization UUID, or set SCW_DEFAULT_ORGANIZATION_ID")
    return found
