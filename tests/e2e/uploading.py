"""Bytes brought to a server over a real channel."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator

from deviceops.v1 import artifact_pb2, upload_pb2
from tests.running import Client


async def uploaded(client: Client, data: bytes) -> str:
    """The artifact's id of these bytes."""

    def messages() -> Iterator[artifact_pb2.UploadArtifactRequest]:
        header = upload_pb2.UploadHeader(upload_id=str(uuid.uuid4()), size_bytes=len(data))
        upload = artifact_pb2.ArtifactUpload(upload=header)
        yield artifact_pb2.UploadArtifactRequest(header=upload)
        yield artifact_pb2.UploadArtifactRequest(data=data)
        completion = upload_pb2.UploadCompletion(sha256=hashlib.sha256(data).hexdigest())
        yield artifact_pb2.UploadArtifactRequest(completion=completion)

    answer = await client.artifact.UploadArtifact(messages(), metadata=client.metadata)
    return answer.artifact.artifact_id
