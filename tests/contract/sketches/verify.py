"""Whether a picture was made by a model, by its marks."""

from __future__ import annotations

import grpc.aio

from deviceops.v1.common_pb2 import InputImage
from deviceops.v1.inference_pb2 import VerifyImageRequest, VerifyImageResponse
from deviceops.v1.inference_pb2_grpc import InferenceServiceStub


async def verify(channel: grpc.aio.Channel, artifact_id: str) -> VerifyImageResponse:
    """What the marks say: a signed manifest, an invisible mark, the parameters."""
    request = VerifyImageRequest(image=InputImage(artifact_id=artifact_id))
    return await InferenceServiceStub(channel).VerifyImage(request)
