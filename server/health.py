"""grpc.health.v1: one entry per service, and the empty name for the server as a whole."""

from __future__ import annotations

import grpc.aio
from grpc_health.v1 import (  # type: ignore[import-untyped]
    health,
    health_pb2,
    health_pb2_grpc,
)

from server.app import SERVICE_NAMES

SERVICE_NAME: str = health.SERVICE_NAME


class Health:
    """SERVING between `serving` and `draining`, NOT_SERVING before and after."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def starting(self) -> None:
        """The port is bound, calls are not answered yet."""
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def serving(self) -> None:
        """Every service answers."""
        await self._set(health_pb2.HealthCheckResponse.SERVING)

    async def draining(self) -> None:
        """No new work is taken; there is no way back."""
        await self._servicer.enter_graceful_shutdown()

    async def _set(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", *SERVICE_NAMES):
            await self._servicer.set(name, status)
