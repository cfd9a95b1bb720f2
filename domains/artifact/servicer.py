"""ArtifactService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import artifact_pb2, artifact_pb2_grpc
from domains.artifact import convert
from domains.artifact.core import ArtifactStore

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ArtifactServicer(artifact_pb2_grpc.ArtifactServiceServicer):
    """Reading, listing and deleting; uploads are answered by the generated base."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def DownloadArtifact(
        self, request: artifact_pb2.DownloadArtifactRequest, context: Context
    ) -> AsyncIterator[artifact_pb2.DownloadArtifactResponse]:
        total = self._store.get(request.artifact_id).size_bytes
        offset = request.offset_bytes
        chunks = self._store.read(
            request.artifact_id, offset=offset, length=request.length_bytes
        )
        async for data in chunks:
            yield artifact_pb2.DownloadArtifactResponse(
                offset_bytes=offset, total_bytes=total, data=data
            )
            offset += len(data)

    async def GetArtifact(
        self, request: artifact_pb2.GetArtifactRequest, context: Context
    ) -> artifact_pb2.GetArtifactResponse:
        artifact = await self._store.look(request.artifact_id)
        return artifact_pb2.GetArtifactResponse(artifact=convert.artifact_to_proto(artifact))

    async def ListArtifacts(
        self, request: artifact_pb2.ListArtifactsRequest, context: Context
    ) -> artifact_pb2.ListArtifactsResponse:
        found = await self._store.look_through(
            session_id=request.session_id,
            media_type_prefix=request.media_type_prefix,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        page = found.converted(convert.artifact_to_proto)
        usage = self._store.usage()
        return artifact_pb2.ListArtifactsResponse(
            artifacts=page.items,
            next_page_token=page.next_page_token,
            used_bytes=usage.used_bytes,
            quota_bytes=usage.quota_bytes,
        )

    async def DeleteArtifact(
        self, request: artifact_pb2.DeleteArtifactRequest, context: Context
    ) -> artifact_pb2.DeleteArtifactResponse:
        await self._store.delete(request.artifact_id)
        return artifact_pb2.DeleteArtifactResponse()
