"""PostprocessingService on the wire."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import postprocessing_pb2, postprocessing_pb2_grpc
from domains.postprocessing import convert
from domains.postprocessing.core import PostprocessorInventory

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class PostprocessingServicer(postprocessing_pb2_grpc.PostprocessingServiceServicer):
    """Which postprocessors there are; the rest is answered by the generated base."""

    def __init__(self, inventory: PostprocessorInventory) -> None:
        self._inventory = inventory

    async def ListPostprocessors(
        self, request: postprocessing_pb2.ListPostprocessorsRequest, context: Context
    ) -> postprocessing_pb2.ListPostprocessorsResponse:
        kind = convert.KINDS.optional_from_proto(request.kind, field="kind")
        entries = self._inventory.list(kind, ready_only=request.ready_only)
        return postprocessing_pb2.ListPostprocessorsResponse(
            postprocessors=[convert.postprocessor_to_proto(entry) for entry in entries]
        )
