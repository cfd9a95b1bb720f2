"""Load a model with a progress bar."""

from __future__ import annotations

from collections.abc import Callable

import grpc.aio

from deviceops.v1.model_pb2 import LoadedModel, LoadModelRequest
from deviceops.v1.model_pb2_grpc import ModelServiceStub


async def load_model(
    channel: grpc.aio.Channel, model_id: str, progress: Callable[[str, float], None]
) -> LoadedModel:
    """Put the model on the default device; `progress` gets the part and its done share."""
    loaded = LoadedModel()
    request = LoadModelRequest(model_id=model_id, warm_up=True)
    async for response in ModelServiceStub(channel).LoadModel(request):
        if response.WhichOneof("content") == "loaded":
            loaded = response.loaded
        elif response.event.WhichOneof("event") == "transfer_progress":
            moved = response.event.transfer_progress
            progress(moved.item, moved.done_bytes / moved.total_bytes)
    return loaded
