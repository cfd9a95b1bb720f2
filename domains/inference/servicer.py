"""InferenceService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import inference_pb2, inference_pb2_grpc
from domains.inference import convert
from domains.inference.convert.batches import batch_from_proto
from domains.inference.core.batches import GenerationBatches
from domains.inference.core.capabilities import CapabilityInquiry
from domains.inference.core.generations import Generations
from domains.inference.core.statistics import StatisticsInquiry
from domains.picture.convert import control_request_from_proto
from domains.picture.core import ControlImages
from domains.session.convert import SessionStreams

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    """What is built; the rest is answered by the generated base."""

    def __init__(
        self,
        generations: Generations,
        batches: GenerationBatches,
        capabilities: CapabilityInquiry,
        control_images: ControlImages,
        statistics: StatisticsInquiry,
        streams: SessionStreams,
    ) -> None:
        self._generations = generations
        self._batches = batches
        self._capabilities = capabilities
        self._control_images = control_images
        self._statistics = statistics
        self._streams = streams

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
        verdict = await self._generations.validate(convert.request_from_proto(request.request))
        return convert.verdict_to_proto(verdict)

    def Generate(
        self, request: inference_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        wanted = self._generations.generate(convert.request_from_proto(request))
        return self._streams.run(
            wanted, context, inference_pb2.GenerateResponse, request.delivery
        )

    def GenerateBatch(
        self, request: inference_pb2.GenerateBatchRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateBatchResponse]:
        wanted = self._batches.generate(batch_from_proto(request))
        return self._streams.run(
            wanted, context, inference_pb2.GenerateBatchResponse, request.delivery
        )

    def PreviewControlImage(
        self, request: inference_pb2.PreviewControlImageRequest, context: Context
    ) -> AsyncIterator[inference_pb2.PreviewControlImageResponse]:
        wanted = self._control_images.preview(control_request_from_proto(request))
        return self._streams.run(
            wanted, context, inference_pb2.PreviewControlImageResponse, request.delivery
        )
