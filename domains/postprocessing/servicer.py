"""PostprocessingService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import postprocessing_pb2
from domains.chain.core.statistics import StepStatistics
from domains.postprocessing import convert
from domains.postprocessing.core.benchmarks import StepBenchmarks
from domains.postprocessing.core.inventory import PostprocessorInventory
from domains.postprocessing.core.processing import Processing
from domains.postprocessing.safety.servicer import SafetyCalls, SafetyParts
from domains.session.convert import SessionStreams, Starters

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class PostprocessingServicer(SafetyCalls):
    """Which postprocessors there are, chains of them, and safety; the generated base answers
    the rest."""

    def __init__(
        self,
        inventory: PostprocessorInventory,
        processing: Processing,
        benchmarks: StepBenchmarks,
        statistics: StepStatistics,
        streams: SessionStreams,
        safety: SafetyParts,
    ) -> None:
        SafetyCalls.__init__(self, safety)
        self._inventory = inventory
        self._processing = processing
        self._benchmarks = benchmarks
        self._statistics = statistics
        self._streams = streams

    def register(self, starters: Starters) -> None:
        """Have it known how requests that start sessions become those."""
        starters.know(
            postprocessing_pb2.ProcessImageRequest,
            convert.image_request_from_proto,
            self._processing.process,
        )
        starters.know(
            postprocessing_pb2.ProcessImagesRequest,
            convert.images_request_from_proto,
            self._processing.process,
        )

        starters.know(
            postprocessing_pb2.BenchmarkPostprocessorRequest,
            convert.benchmark_from_proto,
            self._benchmarks.benchmark,
        )

    async def ListPostprocessors(
        self, request: postprocessing_pb2.ListPostprocessorsRequest, context: Context
    ) -> postprocessing_pb2.ListPostprocessorsResponse:
        kind = convert.KINDS.optional_from_proto(request.kind, field="kind")
        entries = await self._inventory.list(kind, ready_only=request.ready_only)
        return postprocessing_pb2.ListPostprocessorsResponse(
            postprocessors=[convert.postprocessor_to_proto(entry) for entry in entries]
        )

    def ProcessImage(
        self, request: postprocessing_pb2.ProcessImageRequest, context: Context
    ) -> AsyncIterator[postprocessing_pb2.ProcessImageResponse]:
        return self._streams.start(request, context, postprocessing_pb2.ProcessImageResponse)

    def ProcessImages(
        self, request: postprocessing_pb2.ProcessImagesRequest, context: Context
    ) -> AsyncIterator[postprocessing_pb2.ProcessImagesResponse]:
        return self._streams.start(request, context, postprocessing_pb2.ProcessImagesResponse)

    def BenchmarkPostprocessor(
        self, request: postprocessing_pb2.BenchmarkPostprocessorRequest, context: Context
    ) -> AsyncIterator[postprocessing_pb2.BenchmarkPostprocessorResponse]:
        return self._streams.start(
            request, context, postprocessing_pb2.BenchmarkPostprocessorResponse
        )

    async def GetPostprocessingStatistics(
        self, request: postprocessing_pb2.GetPostprocessingStatisticsRequest, context: Context
    ) -> postprocessing_pb2.GetPostprocessingStatisticsResponse:
        found = self._statistics.describe(request.postprocessor_id, request.device_id)
        return convert.statistics_to_proto(found)
