"""One line per call: method, status, milliseconds, and the ids it dealt with."""

from __future__ import annotations

import time
from typing import Any

import grpc
import structlog

from domains.deadlines import deadline_of
from server.interceptors import (
    Context,
    Handler,
    Interceptor,
    behaviour_of,
    outcome,
    with_behaviour,
)

_log = structlog.get_logger("deviceops.calls")
_SERVER_FAULTS = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
)


class LogInterceptor(Interceptor):
    """Outermost. Messages themselves are never logged: they hold prompts and pictures."""

    def wrap(self, handler: Handler, method: str) -> Handler:
        inner = behaviour_of(handler)

        async def logged(request: Any, context: Context) -> Any:
            structlog.contextvars.clear_contextvars()
            structlog.contextvars.bind_contextvars(method=method)
            started = time.perf_counter()
            past_deadline = deadline_of(context)
            failure: BaseException | None = None
            try:
                return await inner(request, context)
            except BaseException as error:
                failure = error
                raise
            finally:
                code = outcome(context, failure, past_deadline)
                _write_line(method, code, time.perf_counter() - started)

        return with_behaviour(handler, logged)


def _write_line(method: str, code: grpc.StatusCode, seconds: float) -> None:
    write = _log.error if code in _SERVER_FAULTS else _log.info
    if method.startswith("/grpc.health.") and code is grpc.StatusCode.OK:
        write = _log.debug  # probes would drown the rest
    write("call", code=code.name, ms=round(seconds * 1000, 3))
