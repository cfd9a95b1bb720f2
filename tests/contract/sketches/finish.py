"""Upscale a finished picture and have it checked."""

from __future__ import annotations

import grpc.aio

from deviceops.v1.common_pb2 import IMAGE_FORMAT_WEBP, ImageSource, OutputSettings
from deviceops.v1.postprocessing_pb2 import (
    PostprocessingStep,
    ProcessRequest,
    SafetyStep,
    SharpenStep,
    UpscaleStep,
)
from deviceops.v1.postprocessing_pb2_grpc import PostprocessingServiceStub
from deviceops.v1.session_pb2 import ImageResult
from tests.contract.sketches.pictures import Pictures


async def upscale_and_check(channel: grpc.aio.Channel, artifact_id: str) -> ImageResult:
    """The enlarged picture with its safety verdict; its bytes stay on the server."""
    pictures = Pictures()
    request = ProcessRequest(
        image=ImageSource(artifact_id=artifact_id),
        steps=[
            PostprocessingStep(upscale=UpscaleStep(factor=4)),
            PostprocessingStep(sharpen=SharpenStep(amount=0.4)),
            PostprocessingStep(safety=SafetyStep(policy_id="gallery")),
        ],
        output=OutputSettings(format=IMAGE_FORMAT_WEBP, quality=90),
        omit_image_data=True,
    )
    async for response in PostprocessingServiceStub(channel).Process(request):
        pictures.add(response.event)
    return pictures.results[0]
