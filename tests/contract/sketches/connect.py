"""A channel that names its client with every call, as an orchestrator makes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc.aio


class _Token:
    """Puts a token on a call; each form of call needs an interceptor of its own."""

    def __init__(self, token: str) -> None:
        self._header = ("authorization", f"Bearer {token}")

    def named(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), self._header)
        return details._replace(metadata=metadata)


class _UnaryUnary(_Token, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, go_on: Callable[..., Any], details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await go_on(self.named(details), request)


class _UnaryStream(_Token, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, go_on: Callable[..., Any], details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await go_on(self.named(details), request)


class _StreamUnary(_Token, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, go_on: Callable[..., Any], details: grpc.aio.ClientCallDetails, requests: Any
    ) -> Any:
        return await go_on(self.named(details), requests)


def connect(address: str, token: str) -> grpc.aio.Channel:
    """Connect with gRPC's default limits."""
    forms = (_UnaryUnary, _UnaryStream, _StreamUnary)
    return grpc.aio.insecure_channel(address, interceptors=[form(token) for form in forms])
