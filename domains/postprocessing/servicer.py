"""PostprocessingService on the wire."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import postprocessing_pb2
from domains.postprocessing import convert
from domains.postprocessing.core import PostprocessorInventory
from domains.postprocessing.safety.servicer import SafetyCalls, SafetyParts

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class PostprocessingServicer(SafetyCalls):
    """Which postprocessors there are, and safety; the generated base answers the rest."""

    def __init__(self, inventory: PostprocessorInventory, safety: SafetyParts) -> None:
        SafetyCalls.__init__(self, safety)
        self._inventory = inventory

    async def ListPostprocessors(
        self, request: postprocessing_pb2.ListPostprocessorsRequest, context: Context
    ) -> postprocessing_pb2.ListPostprocessorsResponse:
        kind = convert.KINDS.optional_from_proto(request.kind, field="kind")
        entries = self._inventory.list(kind, ready_only=request.ready_only)
        return postprocessing_pb2.ListPostprocessorsResponse(
            postprocessors=[convert.postprocessor_to_proto(entry) for entry in entries]
        )
