"""Prometheus figures: calls by method and status, their duration, and how many are open.

Labels hold method and status names, never a prompt, a path or a token.
"""

from __future__ import annotations

import time
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from domains.deadlines import deadline_of
from server.interceptors import (
    Context,
    Handler,
    Interceptor,
    behaviour_of,
    outcome,
    with_behaviour,
)

# From a health check to a long batch.
_BUCKETS_SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """The figures of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter(
            "deviceops_calls",
            "Finished calls.",
            ("method", "code"),
            registry=self.registry,
        )
        self._durations = Histogram(
            "deviceops_call_duration_seconds",
            "From the first byte to the status.",
            ("method",),
            buckets=_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self._open = Gauge(
            "deviceops_open_calls",
            "Calls that have not ended.",
            ("method",),
            registry=self.registry,
        )

    def begin(self, method: str) -> None:
        """A call was taken."""
        self._open.labels(method).inc()

    def finish(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """It ended."""
        self._open.labels(method).dec()
        self._calls.labels(method, code.name).inc()
        self._durations.labels(method).observe(seconds)


class MetricsInterceptor(Interceptor):
    """Counts methods the server has; invented names would make endless labels."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def wrap(self, handler: Handler, method: str) -> Handler:
        inner, metrics = behaviour_of(handler), self._metrics

        async def counted(request: Any, context: Context) -> Any:
            metrics.begin(method)
            started = time.perf_counter()
            past_deadline = deadline_of(context)
            failure: BaseException | None = None
            try:
                return await inner(request, context)
            except BaseException as error:
                failure = error
                raise
            finally:
                seconds = time.perf_counter() - started
                metrics.finish(method, outcome(context, failure, past_deadline), seconds)

        return with_behaviour(handler, counted)
