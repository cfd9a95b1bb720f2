"""A job for whichever card is free."""

from __future__ import annotations

import grpc.aio

from deviceops.v1.device_info_pb2 import (
    DEVICE_KIND_CUDA,
    DeviceChoice,
    DevicePlacement,
    PlacementDecision,
)
from deviceops.v1.inference_pb2 import GenerateRequest
from deviceops.v1.inference_pb2_grpc import InferenceServiceStub


async def draw_on_a_card(
    channel: grpc.aio.Channel, request: GenerateRequest
) -> tuple[PlacementDecision, PlacementDecision]:
    """Draw on the card that will be done first; where it was placed, and where it ran."""
    request.placement.CopyFrom(DevicePlacement(any=DeviceChoice(kinds=[DEVICE_KIND_CUDA])))
    placed = ran = PlacementDecision()
    async for response in InferenceServiceStub(channel).Generate(request):
        match response.event.WhichOneof("event"):
            case "accepted":
                placed = response.event.accepted.placement
            case "completed":
                ran = response.event.completed.placement
    return placed, ran
