"""Bring a file to the server, and go on where it broke off."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from io import SEEK_END, BufferedIOBase

import grpc
import grpc.aio

from deviceops.v1.artifact_pb2 import (
    Artifact,
    ArtifactUpload,
    GetUploadRequest,
    UploadArtifactRequest,
)
from deviceops.v1.artifact_pb2_grpc import ArtifactServiceStub
from deviceops.v1.upload_pb2 import UploadCompletion, UploadHeader

CHUNK_BYTES = 1048576


async def upload(channel: grpc.aio.Channel, upload_id: str, file: BufferedIOBase) -> Artifact:
    """Send what the server does not have of the file yet; `upload_id` is the client's UUID."""
    artifacts = ArtifactServiceStub(channel)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    size_bytes = file.seek(0, SEEK_END)
    received = await received_bytes(channel, upload_id)

    async def parts() -> AsyncIterator[UploadArtifactRequest]:
        header = UploadHeader(
            upload_id=upload_id, offset_bytes=received, size_bytes=size_bytes, sha256=digest
        )
        yield UploadArtifactRequest(header=ArtifactUpload(upload=header))
        file.seek(received)
        while data := file.read(CHUNK_BYTES):
            yield UploadArtifactRequest(data=data)
        yield UploadArtifactRequest(completion=UploadCompletion(sha256=digest))

    return (await artifacts.UploadArtifact(parts())).artifact


async def received_bytes(channel: grpc.aio.Channel, upload_id: str) -> int:
    """How much of an upload is there; 0 when there is none."""
    try:
        answer = await ArtifactServiceStub(channel).GetUpload(
            GetUploadRequest(upload_id=upload_id)
        )
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return 0
    return answer.upload.received_bytes
