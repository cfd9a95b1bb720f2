"""InferenceService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import inference_pb2, inference_pb2_grpc
from domains.errors import FeatureNotBuilt
from domains.inference import convert
from domains.inference.convert.batches import batch_from_proto
from domains.inference.core.batches import GenerationBatches
from domains.inference.core.capabilities import CapabilityInquiry
from domains.inference.core.generations import Generations
from domains.inference.core.statistics import StatisticsInquiry
from domains.picture.convert import control_request_from_proto, image_from_proto
from domains.picture.core import ControlImages
from domains.provenance.convert import verified_to_proto
from domains.provenance.core import Verification
from domains.session.convert import SessionStreams, Starters

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    """What is built; the rest is answered by the generated base."""

    def __init__(
        self,
        generations: Generations,
        batches: GenerationBatches,
        capabilities: CapabilityInquiry,
        control_images: ControlImages,
        verification: Verification,
        statistics: StatisticsInquiry,
        streams: SessionStreams,
    ) -> None:
        self._generations = generations
        self._batches = batches
        self._capabilities = capabilities
        self._control_images = control_images
        self._verification = verification
        self._statistics = statistics
        self._streams = streams

    def register(self, starters: Starters) -> None:
        """Have it known how requests that start sessions become those."""
        know = starters.know
        know(
            inference_pb2.GenerateRequest,
            convert.request_from_proto,
            self._generations.generate,
        )
        know(inference_pb2.GenerateBatchRequest, batch_from_proto, self._batches.generate)
        know(
            inference_pb2.PreviewControlImageRequest,
            control_request_from_proto,
            self._control_images.preview,
        )

    async def GetCapabilities(
        self, request: inference_pb2.GetCapabilitiesRequest, context: Context
    ) -> inference_pb2.GetCapabilitiesResponse:
        found = await self._capabilities.describe(request.model_id, request.device_id)
        return convert.capabilities_to_proto(found)

    async def GetInferenceStatistics(
        self, request: inference_pb2.GetInferenceStatisticsRequest, context: Context
    ) -> inference_pb2.GetInferenceStatisticsResponse:
        found = await self._statistics.describe(request.device_id, request.model_id)
        return convert.statistics_to_proto(found)

    async def ValidateGeneration(
        self, request: inference_pb2.ValidateGenerationRequest, context: Context
    ) -> inference_pb2.ValidateGenerationResponse:
        return await self.verdict(request.request)

    async def verdict(
        self, request: inference_pb2.GenerateRequest
    ) -> inference_pb2.ValidateGenerationResponse:
        """What Generate would make of a request."""
        try:
            asked = convert.request_from_proto(request)
        except FeatureNotBuilt as error:
            return convert.verdict_to_proto(self._generations.not_built(error))
        return convert.verdict_to_proto(await self._generations.validate(asked))

    def Generate(
        self, request: inference_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        return self._streams.start(request, context, inference_pb2.GenerateResponse)

    def GenerateBatch(
        self, request: inference_pb2.GenerateBatchRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateBatchResponse]:
        return self._streams.start(request, context, inference_pb2.GenerateBatchResponse)

    def PreviewControlImage(
        self, request: inference_pb2.PreviewControlImageRequest, context: Context
    ) -> AsyncIterator[inference_pb2.PreviewControlImageResponse]:
        return self._streams.start(request, context, inference_pb2.PreviewControlImageResponse)

    async def VerifyImage(
        self, request: inference_pb2.VerifyImageRequest, context: Context
    ) -> inference_pb2.VerifyImageResponse:
        found = await self._verification.verify(image_from_proto(request.image), "image")
        return verified_to_proto(found)
