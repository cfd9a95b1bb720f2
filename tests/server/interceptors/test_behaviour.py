"""The common view of a handler that all interceptors share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from server.interceptors import behaviour_of


class LostCall:
    """A context whose client has left: fault injection for the write."""

    async def write(self, message: object) -> None:
        raise asyncio.CancelledError


async def test_generator_is_closed_before_a_lost_call_ends() -> None:
    """Not some time later, by the garbage collector: its `finally` may hold a device."""
    closed = False

    async def stream(request: object, context: object) -> AsyncIterator[str]:
        nonlocal closed
        try:
            yield "one"
        finally:
            await asyncio.sleep(0)
            closed = True

    behaviour = behaviour_of(grpc.unary_stream_rpc_method_handler(stream))
    context: Any = LostCall()
    with pytest.raises(asyncio.CancelledError):
        await behaviour(object(), context)
    assert closed
