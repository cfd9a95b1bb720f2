"""History, advice, models in memory and defragmentation between proto and domain values."""

from __future__ import annotations

from collections.abc import Sequence

from deviceops.v1 import memory_history_pb2, memory_info_pb2, memory_pb2
from domains.conversions import DATA_TYPES, EnumMap, byte_figure, digest, timestamp
from domains.memory.convert.leases import place_from_proto
from domains.memory.convert.status import place_to_proto
from domains.memory.core.defragment import (
    DefragmentAction,
    DefragmentReport,
    DefragmentRequest,
    Depth,
)
from domains.memory.core.model_memory import EvictionReport, EvictionRequest
from domains.memory.core.recommendations import Advice, Recommendation
from domains.memory.types import HeldComponent, History, HolderUsage, MemoryHolder, Place
from domains.session.convert import Reports, options_from_proto

DEPTHS = EnumMap(Depth, memory_info_pb2.DefragmentDepth, "DEFRAGMENT_DEPTH_")
ADVICE = EnumMap(Advice, memory_history_pb2.RecommendationKind, "RECOMMENDATION_KIND_")

ACTIONS = EnumMap(DefragmentAction, memory_info_pb2.DefragmentAction, "DEFRAGMENT_ACTION_")
HOLDERS = EnumMap(MemoryHolder, memory_history_pb2.MemoryHolder, "MEMORY_HOLDER_")


def history_to_proto(history: History) -> memory_history_pb2.MemoryHistory:
    """The history of one place."""
    return memory_history_pb2.MemoryHistory(
        place=place_to_proto(history.place),
        samples=[
            memory_history_pb2.MemorySample(
                sample_time=timestamp(sample.sample_time),
                used_bytes=sample.used_bytes,
                fragmentation=sample.fragmentation,
            )
            for sample in history.samples
        ],
        peak_bytes=history.peak_bytes,
        p50_bytes=history.p50_bytes,
        p95_bytes=history.p95_bytes,
        holders=[_usage(usage) for usage in history.holders],
        eviction_count=history.eviction_count,
        out_of_memory_count=history.out_of_memory_count,
    )


def _usage(usage: HolderUsage) -> memory_history_pb2.HolderUsage:
    message = memory_history_pb2.HolderUsage(
        mean_bytes=usage.mean_bytes, peak_bytes=usage.peak_bytes
    )
    if isinstance(usage.holder, MemoryHolder):
        message.kind = HOLDERS.to_proto(usage.holder)
    else:
        message.model_id = usage.holder
    return message


def recommendations_to_proto(
    found: Sequence[Recommendation],
) -> memory_history_pb2.GetMemoryRecommendationsResponse:
    """Advice, most gain first."""
    return memory_history_pb2.GetMemoryRecommendationsResponse(
        recommendations=[
            memory_history_pb2.MemoryRecommendation(
                kind=ADVICE.to_proto(one.kind),
                place=place_to_proto(one.place),
                description=one.description,
                evidence=one.evidence,
                expected_gain=byte_figure(one.expected_gain),
            )
            for one in found
        ]
    )


def component_to_proto(held: HeldComponent) -> memory_info_pb2.ComponentMemory:
    """A component in a place."""
    part = held.component
    return memory_info_pb2.ComponentMemory(
        model_id=part.model_id,
        component=part.component,
        place=place_to_proto(Place(held.device_id)),
        size=byte_figure(part.size),
        data_type=DATA_TYPES.to_proto(part.data_type),
        last_use_time=timestamp(part.last_use_time),
        in_use=part.in_use,
    )


def eviction_from_proto(message: memory_pb2.EvictModelsRequest) -> EvictionRequest:
    """What to free where, unchecked."""
    return EvictionRequest(
        place_from_proto(message.place),
        message.target_free_bytes,
        message.dry_run,
        options_from_proto(message.options),
        digest(message),
    )


def eviction_to_proto(report: EvictionReport) -> memory_info_pb2.ModelEvictionReport:
    """What was evicted."""
    return memory_info_pb2.ModelEvictionReport(
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


def defragment_to_proto(report: DefragmentReport) -> memory_info_pb2.DefragmentReport:
    """What was done and gained."""
    return memory_info_pb2.DefragmentReport(
        depth=DEPTHS.to_proto(report.depth),
        free_before=byte_figure(report.free_before),
        free_after=byte_figure(report.free_after),
        largest_free_before=byte_figure(report.largest_free_before),
        largest_free_after=byte_figure(report.largest_free_after),
        actions=map(ACTIONS.to_proto, report.done.actions),
        released=byte_figure(report.done.released),
        model_ids=report.done.model_ids,
        lost_allocation_bytes=report.done.lost_bytes,
    )


REPORTS: Reports = {
    EvictionReport: eviction_to_proto,
    DefragmentReport: defragment_to_proto,
}
"""What sessions of this domain report, as their messages."""
