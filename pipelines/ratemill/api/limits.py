"""How often one may ask: requests of a key, wrong keys from an address, wrong coupons. Counted in each process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from ratemill.api.problems import Problem

if TYPE_CHECKING:
    from ratemill.api.access import Principal

_WRONG_COUPONS = 20
"""Of an organization within an hour: people make up codes, so whoever may try many finds one."""


class Limits:
    """Sliding minutes and hours, in memory."""

    def __init__(self, requests_per_minute: int, failures_per_minute: int) -> None:
        self._requests = RateLimitItemPerMinute(requests_per_minute, namespace="requests")
        self._failures = RateLimitItemPerMinute(failures_per_minute, namespace="failures")
        self._coupons = RateLimitItemPerHour(_WRONG_COUPONS, namespace="coupons")
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def count_request(self, principal: Principal) -> None:
        """Count a request of a key.

        Raises:
            Problem: there were too many within a minute (429).
        """
        if not self._limiter.hit(self._requests, principal.key_id):
            raise Problem.too_many(
                f"the key {principal.key_id} asked more than {self._requests.amount} times within a minute",
                retry_after=self._seconds(self._requests, principal.key_id),
            )

    def count_failure(self, address: str) -> None:
        """Count a wrong key from an address."""
        self._limiter.hit(self._failures, address)

    def refuse_after_failures(self, address: str) -> None:
        """Go on unless too many wrong keys came from an address; keys that were proven before are not asked again.

        Raises:
            Problem: so it is (429).
        """
        if not self._limiter.test(self._failures, address):
            raise Problem.too_many(
                f"more than {self._failures.amount} wrong keys came from {address} within a minute",
                retry_after=self._seconds(self._failures, address),
            )

    def count_wrong_coupon(self, organization: str) -> None:
        """Count a code that is none."""
        self._limiter.hit(self._coupons, organization)

    def refuse_after_wrong_coupons(self, organization: str) -> None:
        """Go on unless an organization tried too many codes that are none.

        Raises:
            Problem: so it is (429).
        """
        if not self._limiter.test(self._coupons, organization):
            raise Problem.too_many(
                f"more than {_WRONG_COUPONS} codes that are no coupon's were tried within an hour",
                retry_after=self._seconds(self._coupons, organization),
            )

    def _seconds(self, item: RateLimitItem, who: str) -> int:
        return int(self._limiter.get_window_stats(item, who).reset_time - time.time()) + 1
