"""ArtifactService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import artifact_pb2, artifact_pb2_grpc
from domains.artifact import convert
from domains.artifact.core import ArtifactStore, ArtifactUploads, Thumbnails
from domains.artifact.types import LabelChange
from domains.clients import caller
from domains.conversions import seconds, wished
from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.upload_conversions import (
    header_from_proto,
    opening,
    parts_from_proto,
    upload_to_proto,
)
from domains.uploads import Uploads

_NO_LENGTH = FieldViolation(
    "length_bytes", Reason.FIELD_OUT_OF_RANGE, "Must be at least 0 bytes; 0 is to the end."
)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ArtifactServicer(artifact_pb2_grpc.ArtifactServiceServicer):
    """Every RPC of the service."""

    def __init__(
        self,
        store: ArtifactStore,
        receiving: ArtifactUploads,
        uploads: Uploads,
        thumbnails: Thumbnails,
    ) -> None:
        self._thumbnails = thumbnails
        self._store = store
        self._receiving = receiving
        self._uploads = uploads

    async def UploadArtifact(
        self,
        request_iterator: AsyncIterator[artifact_pb2.UploadArtifactRequest],
        context: Context,
    ) -> artifact_pb2.UploadArtifactResponse:
        header: artifact_pb2.ArtifactUpload = await opening(request_iterator)
        retention = wished(header, "retention", seconds)
        artifact, existed = await self._receiving.receive(
            caller().name,
            header_from_proto(header.upload, "header.upload"),
            parts_from_proto(request_iterator),
            retention_seconds=retention,
            labels=LabelChange(dict(header.labels), path="header.labels"),
        )
        return artifact_pb2.UploadArtifactResponse(
            artifact=convert.artifact_to_proto(artifact), existed=existed
        )

    async def GetUpload(
        self, request: artifact_pb2.GetUploadRequest, context: Context
    ) -> artifact_pb2.GetUploadResponse:
        upload = self._uploads.get(caller().name, request.upload_id)
        return artifact_pb2.GetUploadResponse(upload=upload_to_proto(upload))

    async def DownloadArtifact(
        self, request: artifact_pb2.DownloadArtifactRequest, context: Context
    ) -> AsyncIterator[artifact_pb2.DownloadArtifactResponse]:
        artifact_id, offset = request.artifact_id, request.offset_bytes
        if request.length_bytes < 0:
            InvalidArgument.check(_NO_LENGTH)
        total = self._store.get(caller(), artifact_id).size_bytes
        async with aclosing(
            self._store.read(caller(), artifact_id, offset=offset, length=request.length_bytes)
        ) as chunks:
            async for data in chunks:
                yield artifact_pb2.DownloadArtifactResponse(
                    offset_bytes=offset, total_bytes=total, data=data
                )
                offset += len(data)

    async def GetArtifact(
        self, request: artifact_pb2.GetArtifactRequest, context: Context
    ) -> artifact_pb2.GetArtifactResponse:
        artifact = await self._store.look(caller(), request.artifact_id)
        return artifact_pb2.GetArtifactResponse(artifact=convert.artifact_to_proto(artifact))

    async def GetThumbnail(
        self, request: artifact_pb2.GetThumbnailRequest, context: Context
    ) -> artifact_pb2.GetThumbnailResponse:
        edge = wished(request, "edge_pixels")
        small = await self._thumbnails.get(caller(), request.artifact_id, edge)
        return artifact_pb2.GetThumbnailResponse(
            data=small.data, width=small.width, height=small.height, media_type="image/webp"
        )

    async def ListArtifacts(
        self, request: artifact_pb2.ListArtifactsRequest, context: Context
    ) -> artifact_pb2.ListArtifactsResponse:
        found = await self._store.look_through(
            caller(),
            convert.filter_from_proto(request),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        page = found.converted(convert.artifact_to_proto)
        return artifact_pb2.ListArtifactsResponse(
            artifacts=page.items, next_page_token=page.next_page_token
        )

    async def UpdateArtifact(
        self, request: artifact_pb2.UpdateArtifactRequest, context: Context
    ) -> artifact_pb2.UpdateArtifactResponse:
        artifact = await self._store.update(
            caller(),
            request.artifact_id,
            pinned=wished(request, "pinned"),
            retention_seconds=wished(request, "retention", seconds),
            labels=LabelChange(dict(request.labels), tuple(request.removed_labels)),
        )
        return artifact_pb2.UpdateArtifactResponse(artifact=convert.artifact_to_proto(artifact))

    async def DeleteArtifact(
        self, request: artifact_pb2.DeleteArtifactRequest, context: Context
    ) -> artifact_pb2.DeleteArtifactResponse:
        await self._store.delete(caller(), request.artifact_id)
        return artifact_pb2.DeleteArtifactResponse()
