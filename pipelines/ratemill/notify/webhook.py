"""Webhooks: signed JSON to a URL, which must not lead into a private network.

The host is resolved here, each of its addresses is looked at, and the connection goes to one that was looked at: a name
that answers otherwise the second time (DNS rebinding) changes nothing. Certificate and Host header are still of the
name. Redirects are not followed.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import socket
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from ratemill import __version__
from ratemill.identifiers import is_url
from ratemill.notify.outcomes import Outcome, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratemill.config import Webhook
    from ratemill.notify.messages import Message

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_GONE = 410
_MAY_PASS = frozenset({408, 421, 425, 429})
"""Statuses below 500 that may be another the next time."""
_ANSWER_BYTES = 300
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Patience:
    """How long a webhook may take."""

    attempts: int = 3
    """Attempts of one `ratemill alerts`; those of the next ones come later."""
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 4
    timeout_seconds: float = 5
    """For connecting, and for each piece of the answer."""
    deadline_seconds: float = 15
    """For the whole of one attempt."""


class _TryAgainError(Exception):
    """It may work another time."""


class _RefusedError(Exception):
    """It will not."""


def body_of(row: Mapping[str, Any]) -> bytes:
    """What is sent for one row of NOTIFICATIONS: the same bytes at each attempt.

    A URL that a customer gave is told of budgets alone, and finds what the dialect of its API has at the top as well.
    """
    payload: dict[str, Any] = {}
    data = json.loads(row["payload"])
    if row["kind"] == "budget" and is_url(row["address"]):
        threshold = data["threshold"].removesuffix("%")
        payload = {"invoice_start_date": f"{data['period']}-01T00:00:00Z", "threshold": int(threshold)}
    payload |= {
        "id": row["notification_id"],
        "event": row["kind"],
        "created_at": row["queued_at"].isoformat(timespec="seconds").replace("+00:00", "Z"),
        "idempotency_key": row["notification_id"],
        "data": data,
    }
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """HMAC-SHA256 over the timestamp, a dot and the body: ``t=…,v1=…``."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def post(message: Message, webhook: Webhook, secret: str, *, patience: Patience | None = None) -> Outcome:
    """Send a message to a webhook, at most ``patience.attempts`` times; without a secret it is not signed."""
    patience = patience or Patience()
    (row,) = message.rows
    body = body_of(row)
    retrying = Retrying(
        stop=stop_after_attempt(patience.attempts),
        wait=wait_exponential(multiplier=patience.first_wait_seconds, max=patience.longest_wait_seconds),
        retry=retry_if_exception_type(_TryAgainError),
    )
    try:
        retrying(_within, patience.deadline_seconds, lambda: _attempt(webhook, secret, body, row, patience))
    except RetryError as tired:
        return Outcome.later(message.message_id, str(tired.last_attempt.exception()))
    except _RefusedError as refusal:
        return Outcome.failed(message.message_id, str(refusal))
    return Outcome(message.message_id, "sent")


def _within(seconds: float, work: Callable[[], None]) -> None:
    """Do ``work``, but wait no longer than that for it: a server may send its answer letter by letter.

    Raises:
        _TryAgainError: it took too long; the thread ends with its connection, or with the program.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise _TryAgainError(f"no whole answer within {seconds:g} seconds")
    if raised:
        raise raised[0]


def _attempt(webhook: Webhook, secret: str, body: bytes, row: Mapping[str, Any], patience: Patience) -> None:
    url = httpx.URL(webhook.url)
    address = _address_of(url, allow_private=webhook.allow_private)
    timestamp = int(datetime.now(UTC).timestamp())
    headers = {
        "Host": url.netloc.decode("ascii"),
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": f"ratemill/{__version__}",
        "Idempotency-Key": row["notification_id"],
        "Ratemill-Event": row["kind"],
        "Ratemill-Timestamp": str(timestamp),
    }
    if secret:
        headers["Ratemill-Signature"] = signature(secret, timestamp, body)
    request = httpx.Request(
        "POST",
        url.copy_with(host=str(address)),
        headers=headers,
        content=body,
        extensions={"sni_hostname": url.host, "timeout": httpx.Timeout(patience.timeout_seconds).as_dict()},
    )
    try:
        with httpx.Client(trust_env=False, follow_redirects=False) as client:
            response = client.send(request, stream=True)
            try:
                _judge(response)
            finally:
                response.close()
    except httpx.TimeoutException:
        raise _TryAgainError(f"{url.host} did not answer within {patience.timeout_seconds:g} seconds") from None
    except httpx.HTTPError as error:
        raise _TryAgainError(f"{url.host}: {error or type(error).__name__}") from None


def _judge(response: httpx.Response) -> None:
    status = response.status_code
    if response.is_success:
        return
    told = f"HTTP {status} {response.reason_phrase}"
    if response.is_redirect:
        where = response.headers.get("location", "elsewhere")
        raise _RefusedError(f"{told}: it leads to {one_line(where)}, and redirects are not followed")
    told += f": {_beginning(response)}"
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _MAY_PASS:
        raise _TryAgainError(told)
    raise _RefusedError(f"{told}{' (gone: take it out of the subscriptions)' if status == _GONE else ''}")


def _beginning(response: httpx.Response) -> str:
    """The first words of an answer, for the person who looks for its reason."""
    read = b""
    try:
        for chunk in response.iter_bytes(_ANSWER_BYTES):
            read += chunk
            if len(read) >= _ANSWER_BYTES:
                break
    except httpx.HTTPError:
        pass
    return one_line(read[:_ANSWER_BYTES].decode("utf-8", "replace")) or "no further words"


# ------------------------------------------------------------------------------------------------------------ addresses


def _address_of(url: httpx.URL, *, allow_private: bool) -> IPAddress:
    """The address to connect to.

    Raises:
        _RefusedError: one of the host's addresses is of a private network: none of them is used.
        _TryAgainError: the host has no address now.
    """
    try:
        found = socket.getaddrinfo(url.host, url.port or {"https": 443}.get(url.scheme, 80), type=socket.SOCK_STREAM)
    except OSError as error:
        raise _TryAgainError(f"{url.host} has no address: {error.strerror or error}") from None
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    if not allow_private:
        for address in addresses:
            if not is_public(address):
                raise _RefusedError(
                    f"{url.host} is {address}, an address of a private network or of this machine"
                    " → if that is meant, set allow_private = true for this webhook"
                )
    return addresses[0]


def is_public(address: IPAddress) -> bool:
    """Whether an address is one of the internet, also where an IPv4 address is packed into it."""
    if isinstance(address, ipaddress.IPv6Address):
        packed = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if packed is None and address in _NAT64:
            packed = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if packed is not None:
            return is_public(packed)
    return address.is_global and not address.is_multicast
