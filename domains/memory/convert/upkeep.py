"""History, advice, models in memory and defragmentation between proto and domain values."""

from __future__ import annotations

from collections.abc import Sequence

from deviceops.v1 import memory_pb2
from domains.conversions import DATA_TYPES, EnumMap, byte_figure, digest, timestamp
from domains.memory.convert.leases import place_from_proto
from domains.memory.convert.status import place_to_proto
from domains.memory.core.defragment import DefragmentReport, DefragmentRequest, Depth
from domains.memory.core.model_memory import EvictionReport, EvictionRequest
from domains.memory.core.recommendations import Advice, Recommendation
from domains.memory.types import HeldComponent, History, Place
from domains.session.convert import Reports, options_from_proto

DEPTHS = EnumMap(Depth, memory_pb2.DefragmentDepth, "DEFRAGMENT_DEPTH_")
ADVICE = EnumMap(Advice, memory_pb2.RecommendationKind, "RECOMMENDATION_KIND_")


def history_to_proto(history: History) -> memory_pb2.MemoryHistory:
    """The history of one place."""
    return memory_pb2.MemoryHistory(
        place=place_to_proto(history.place),
        samples=[
            memory_pb2.MemorySample(
                sample_time=timestamp(sample.sample_time),
                used_bytes=sample.used_bytes,
                fragmentation=sample.fragmentation,
            )
            for sample in history.samples
        ],
        peak_bytes=history.peak_bytes,
        p50_bytes=history.p50_bytes,
        p95_bytes=history.p95_bytes,
        owners=[
            memory_pb2.OwnerUsage(
                owner=usage.owner, mean_bytes=usage.mean_bytes, peak_bytes=usage.peak_bytes
            )
            for usage in history.owners
        ],
        eviction_count=history.eviction_count,
        out_of_memory_count=history.out_of_memory_count,
    )


def recommendations_to_proto(
    found: Sequence[Recommendation],
) -> memory_pb2.GetMemoryRecommendationsResponse:
    """Advice, most gain first."""
    return memory_pb2.GetMemoryRecommendationsResponse(
        recommendations=[
            memory_pb2.MemoryRecommendation(
                kind=ADVICE.to_proto(one.kind),
                place=place_to_proto(one.place),
                description=one.description,
                evidence=one.evidence,
                expected_gain=byte_figure(one.expected_gain),
            )
            for one in found
        ]
    )


def component_to_proto(held: HeldComponent) -> memory_pb2.ComponentMemory:
    """A component in a place."""
    part = held.component
    return memory_pb2.ComponentMemory(
        model_id=part.model_id,
        component=part.component,
        place=place_to_proto(Place(held.device_id)),
        size=byte_figure(part.size),
        data_type=DATA_TYPES.to_proto(part.data_type),
        last_use_time=timestamp(part.last_use_time),
        in_use=part.in_use,
    )


def eviction_from_proto(message: memory_pb2.OptimizeModelMemoryRequest) -> EvictionRequest:
    """What to free where, unchecked."""
    return EvictionRequest(
        place_from_proto(message.place),
        message.target_free_bytes,
        message.dry_run,
        options_from_proto(message.options),
        digest(message),
    )


def eviction_to_proto(report: EvictionReport) -> memory_pb2.ModelEvictionReport:
    """What was evicted."""
    return memory_pb2.ModelEvictionReport(
        evicted=[component_to_proto(one) for one in report.evicted],
        free_before=byte_figure(report.free_before),
        free_after=byte_figure(report.free_after),
        target_reached=report.target_reached,
    )


def defragment_from_proto(message: memory_pb2.DefragmentRequest) -> DefragmentRequest:
    """Where and how far, unchecked."""
    return DefragmentRequest(
        message.device_id,
        DEPTHS.from_proto(message.depth, Depth.RELEASE, field="depth"),
        options_from_proto(message.options),
        digest(message),
    )


def defragment_to_proto(report: DefragmentReport) -> memory_pb2.DefragmentReport:
    """What was done and gained."""
    return memory_pb2.DefragmentReport(
        depth=DEPTHS.to_proto(report.depth),
        free_before=byte_figure(report.free_before),
        free_after=byte_figure(report.free_after),
        largest_free_before=byte_figure(report.largest_free_before),
        largest_free_after=byte_figure(report.largest_free_after),
        actions=report.actions,
    )


REPORTS: Reports = {
    EvictionReport: eviction_to_proto,
    DefragmentReport: defragment_to_proto,
}
"""What sessions of this domain report, as their messages."""
