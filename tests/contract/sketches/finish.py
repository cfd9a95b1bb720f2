"""Upscale a finished picture and have it checked."""

from __future__ import annotations

import grpc.aio

from deviceops.v1.common_pb2 import IMAGE_FILE_FORMAT_WEBP, InputImage, OutputSettings
from deviceops.v1.finishing_pb2 import (
    PostprocessingStep,
    SafetyStep,
    SharpenStep,
    UpscaleStep,
)
from deviceops.v1.postprocessing_pb2 import ProcessImageRequest
from deviceops.v1.postprocessing_pb2_grpc import PostprocessingServiceStub
from deviceops.v1.session_pb2 import DeliveryOptions, ImageResult
from tests.contract.sketches.pictures import Pictures


async def upscale_and_check(channel: grpc.aio.Channel, artifact_id: str) -> ImageResult:
    """The enlarged picture with its safety verdict; its bytes stay on the server."""
    pictures = Pictures()
    request = ProcessImageRequest(
        image=InputImage(artifact_id=artifact_id),
        steps=[
            PostprocessingStep(upscale=UpscaleStep(factor=4)),
            PostprocessingStep(sharpen=SharpenStep(amount=0.4)),
            PostprocessingStep(safety=SafetyStep(policy_id="gallery")),
        ],
        output=OutputSettings(format=IMAGE_FILE_FORMAT_WEBP, quality=90),
        delivery=DeliveryOptions(omit_image_data=True),
    )
    async for response in PostprocessingServiceStub(channel).ProcessImage(request):
        pictures.add(response.event)
    return pictures.results[0]
