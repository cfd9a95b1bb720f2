"""Bring a checkpoint's file to the server, and go on when it broke off."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from io import BufferedIOBase

import grpc
import grpc.aio

from deviceops.v1.model_pb2 import (
    MODEL_FORMAT_SAFETENSORS,
    GetModelRequest,
    ImportModelHeader,
    ImportModelRequest,
    Model,
)
from deviceops.v1.model_pb2_grpc import ModelServiceStub
from tests.contract.sketches.failures import error_info

CHUNK_BYTES = 1048576


async def import_checkpoint(
    channel: grpc.aio.Channel, model_id: str, file: BufferedIOBase
) -> Model:
    """Send what the server does not have of the file yet; return the catalogued model."""
    models = ModelServiceStub(channel)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    size_bytes = file.tell()
    received = 0
    try:
        return (await models.GetModel(GetModelRequest(model_id=model_id))).model
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        received = int(error_info(error).metadata.get("received_bytes", "0"))

    async def parts() -> AsyncIterator[ImportModelRequest]:
        yield ImportModelRequest(
            header=ImportModelHeader(
                model_id=model_id,
                format=MODEL_FORMAT_SAFETENSORS,
                size_bytes=size_bytes,
                sha256=digest,
                resume=received > 0,
            )
        )
        file.seek(received)
        while data := file.read(CHUNK_BYTES):
            yield ImportModelRequest(data=data)
        yield ImportModelRequest(completion_sha256=digest)

    return (await models.ImportModel(parts())).model
