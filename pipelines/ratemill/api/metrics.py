"""Figures for Prometheus: how many requests, how long they took, how they ended."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Of one process: with several workers, each answers with its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ["method", "route", "status"]
        self._requests = Counter(
            "ratemill_api_requests", "Requests that were answered", labels, registry=self._registry
        )
        self._seconds = Histogram(
            "ratemill_api_request_seconds", "Time from a request to its answer", ["route"], registry=self._registry
        )
        self.under_way = Gauge("ratemill_api_requests_under_way", "Requests being answered", registry=self._registry)

    def count(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer.

        ``route`` is the pattern of the path, never the path, and of methods only those that there are get a label of
        their own: each new label takes memory for good, and a client may send any word as its method.
        """
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
