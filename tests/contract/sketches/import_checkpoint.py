"""Bring a checkpoint's file to the server, going on where it broke off, and have it
catalogued."""

from __future__ import annotations

from io import BufferedIOBase

import grpc.aio

from deviceops.v1.model_info_pb2 import MODEL_FORMAT_SAFETENSORS, ModelInfo
from deviceops.v1.model_pb2_grpc import ModelServiceStub
from deviceops.v1.model_task_pb2 import ImportModelRequest, ModelFile
from tests.contract.sketches.upload import upload


async def import_checkpoint(
    channel: grpc.aio.Channel, model_id: str, upload_id: str, file: BufferedIOBase
) -> ModelInfo:
    """Send what the server does not have of the file yet; return the catalogued model."""
    artifact = await upload(channel, upload_id, file)
    request = ImportModelRequest(
        model_id=model_id,
        format=MODEL_FORMAT_SAFETENSORS,
        files=[
            ModelFile(relative_path=f"{model_id}.safetensors", artifact_id=artifact.artifact_id)
        ],
    )
    model = ModelInfo()
    async for response in ModelServiceStub(channel).ImportModel(request):
        if response.event.WhichOneof("event") == "completed":
            model = response.event.completed.model
    return model
