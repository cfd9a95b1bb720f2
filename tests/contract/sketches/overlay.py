"""Items that share a template, one of them without the template's LoRAs."""

from __future__ import annotations

import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask

from deviceops.v1.conditioning_pb2 import LoraWeight
from deviceops.v1.generation_pb2 import GenerationOverlay, GenerationSettings
from deviceops.v1.inference_pb2 import GenerateBatchRequest, GenerationItem
from deviceops.v1.inference_pb2_grpc import InferenceServiceStub
from deviceops.v1.session_pb2 import ImageResult


def with_and_without() -> GenerateBatchRequest:
    """The request: "plain" has neither LoRAs nor a negative prompt, "both" has all."""
    return GenerateBatchRequest(
        template=GenerationSettings(
            prompt="a robot",
            negative_prompt="blurry",
            loras=[LoraWeight(model_id="watercolour", weight=0.7)],
        ),
        items=[
            GenerationItem(item_id="both"),
            GenerationItem(
                item_id="plain",
                overlay=GenerationOverlay(
                    settings=GenerationSettings(prompt="a dog"),
                    cleared_fields=FieldMask(paths=["loras", "negative_prompt"]),
                ),
            ),
        ],
    )


async def draw_items(channel: grpc.aio.Channel) -> dict[str, ImageResult]:
    """Each item's picture by the item's name."""
    pictures: dict[str, ImageResult] = {}
    async for response in InferenceServiceStub(channel).GenerateBatch(with_and_without()):
        if response.event.WhichOneof("event") == "image_finished":
            image = response.event.image_finished.image
            pictures[image.item_id] = image
    return pictures
