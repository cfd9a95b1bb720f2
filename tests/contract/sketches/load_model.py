"""Load a model with a progress bar."""

from __future__ import annotations

from collections.abc import Callable

import grpc.aio

from deviceops.v1.model_info_pb2 import LoadedModel
from deviceops.v1.model_pb2 import LoadModelRequest
from deviceops.v1.model_pb2_grpc import ModelServiceStub


async def load_model(
    channel: grpc.aio.Channel, model_id: str, progress: Callable[[str, float], None]
) -> LoadedModel:
    """Put the model on a device; `progress` gets the part that is read and the
    done share of the whole."""
    loaded = LoadedModel()
    request = LoadModelRequest(model_id=model_id)
    async for response in ModelServiceStub(channel).LoadModel(request):
        match response.event.WhichOneof("event"):
            case "completed":
                loaded = response.event.completed.loaded_model
            case "transfer_progress":
                moved = response.event.transfer_progress
                progress(moved.item, moved.done_bytes / moved.total_bytes)
    return loaded
