"""A client that knows a field which the server does not."""

from __future__ import annotations

import grpc.aio

from deviceops.v1.inference_pb2 import GenerateRequest
from deviceops.v1.inference_pb2_grpc import InferenceServiceStub

# Field 500 of GenerationSettings, a whole number: as a later contract may have it.
LATER_FIELD = b"\xa0\x1f\x01"


async def draw_with_a_later_field(channel: grpc.aio.Channel, request: GenerateRequest) -> None:
    """Draw with it."""
    request.settings.MergeFromString(LATER_FIELD)
    async for _ in InferenceServiceStub(channel).Generate(request):
        pass
