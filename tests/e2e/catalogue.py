"""The models of a running server, as fixtures need them between tests."""

from __future__ import annotations

import grpc

from deviceops.v1 import (
    memory_info_pb2,
    memory_pb2,
    memory_pb2_grpc,
    model_cache_pb2,
    model_pb2,
    model_pb2_grpc,
)
from tests.running import RunningServer


class Catalogue:
    """Asks without an event loop."""

    def __init__(self, server: RunningServer) -> None:
        self._channel = grpc.insecure_channel(server.address)
        self._model = model_pb2_grpc.ModelServiceStub(self._channel)
        self._memory = memory_pb2_grpc.MemoryServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {server.token}"),)

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def refresh(self) -> None:
        """Have the folders looked at."""
        list(
            self._model.RefreshModels(model_pb2.RefreshModelsRequest(), metadata=self._metadata)
        )

    def forget_all(self) -> None:
        """Let go of every model in memory, on the device and in main memory."""
        evict = memory_pb2.EvictModelsRequest(
            place=memory_info_pb2.MemoryPlace(device_id="cpu"), target_free_bytes=1 << 40
        )
        list(self._memory.EvictModels(evict, metadata=self._metadata))
        cache = self._model.GetCacheStatus(
            model_cache_pb2.GetCacheStatusRequest(), metadata=self._metadata
        )
        for entry in cache.entries:
            request = model_cache_pb2.EvictModelRequest(model_id=entry.model_id)
            self._model.EvictModel(request, metadata=self._metadata)
