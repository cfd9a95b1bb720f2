"""Models on devices between proto and domain values: loading, unloading, where they are."""

from __future__ import annotations

from deviceops.v1 import common_pb2, model_info_pb2, model_pb2, model_task_pb2
from domains.conversions import (
    DATA_TYPES,
    MODEL_PARTS,
    EnumMap,
    byte_figure,
    digest,
    duration,
    duration_statistics,
    given,
    part_data_types,
    timestamp,
    wished,
)
from domains.device.convert import placement_from_proto
from domains.errors import FieldViolation, Reason
from domains.model.errors import InvalidLoad
from domains.model.types import (
    LoadRequest,
    ModelEstimate,
    ModelOnDevice,
    UnloadReport,
    UnloadRequest,
)
from domains.model.views import BenchmarkRequest, ModelBenchmark
from domains.session.convert import Reports, options_from_proto
from domains.values import NETWORK_PARTS, ByteFigure, ModelOrigin, PartDataType

ORIGINS = EnumMap(ModelOrigin, model_info_pb2.ModelOrigin, "MODEL_ORIGIN_")


def load_from_proto(message: model_pb2.LoadModelRequest) -> LoadRequest:
    """What to load where, as a client sent it."""
    return LoadRequest(
        model_id=message.model_id,
        placement=placement_from_proto(message.placement),
        options=options_from_proto(message.options),
        digest=digest(message),
        data_types=tuple(
            _part_from_proto(each, f"data_types[{k}]")
            for k, each in enumerate(message.data_types)
        ),
        warm_up=message.warm_up,
        dry_run=message.dry_run,
    )


def _part_from_proto(message: common_pb2.PartDataType, path: str) -> PartDataType:
    """The data type that a client chose for a part.

    Raises:
        InvalidArgument: REQUIRED_FIELD_MISSING, ENUM_VALUE_UNKNOWN.
    """
    part = MODEL_PARTS.optional_from_proto(message.part, field=f"{path}.part")
    data_type = DATA_TYPES.optional_from_proto(message.data_type, field=f"{path}.data_type")
    if part is None or data_type is None:
        missing = f"{path}.part" if part is None else f"{path}.data_type"
        rule = FieldViolation(missing, Reason.REQUIRED_FIELD_MISSING, "Must be set.")
        raise InvalidLoad.of(rule)
    return PartDataType(part, data_type)


def unload_from_proto(message: model_pb2.UnloadModelRequest) -> UnloadRequest:
    """What to take off which devices, as a client sent it."""
    return UnloadRequest(
        model_id=message.model_id,
        device_ids=tuple(message.device_ids),
        keep_cached=message.keep_cached,
        options=options_from_proto(message.options),
        digest=digest(message),
    )


def loaded_to_proto(loaded: ModelOnDevice) -> model_info_pb2.LoadedModel:
    """A model on its device, or what a dry run found."""
    parts = loaded.components
    estimate = loaded.estimate
    size = ByteFigure.unknown("the worker has not measured every component")
    sizes = [part.size.value for part in parts if part.size.value is not None]
    if parts and len(sizes) == len(parts):
        size = ByteFigure.measured(sum(sizes), parts[0].size.source)
    elif estimate is not None:
        size = estimate.weights
    return model_info_pb2.LoadedModel(
        model_id=loaded.model_id,
        device_id=loaded.device_id,
        size=byte_figure(size),
        data_types=part_data_types(
            PartDataType(NETWORK_PARTS[part.component], part.data_type)
            for part in parts
            if part.component in NETWORK_PARTS and part.data_type is not None
        ),
        load_time=timestamp(loaded.load_time),
        last_use_time=timestamp(max((part.last_use_time for part in parts), default=None)),
        session_ids=loaded.session_ids,
        origin=ORIGINS.to_proto(loaded.origin),
        evicted_model_ids=loaded.evicted_model_ids,
        estimate=None if estimate is None else estimate_to_proto(estimate),
    )


def estimate_to_proto(estimate: ModelEstimate) -> model_info_pb2.ModelEstimate:
    """What a model needs on a device."""
    return model_info_pb2.ModelEstimate(
        device_id=estimate.device_id,
        weights=byte_figure(estimate.weights),
        peak=byte_figure(estimate.peak),
        fits=estimate.fits,
        step=duration(estimate.step_seconds),
        load=duration(estimate.load_seconds),
    )


def unload_to_proto(report: UnloadReport) -> model_info_pb2.ModelUnloadReport:
    """Where a model was unloaded."""
    return model_info_pb2.ModelUnloadReport(
        device_ids=report.device_ids, freed=byte_figure(report.freed), cached=report.cached
    )


def benchmark_from_proto(message: model_task_pb2.BenchmarkModelRequest) -> BenchmarkRequest:
    """What to measure where, as a client sent it."""
    return BenchmarkRequest(
        model_id=message.model_id,
        placement=placement_from_proto(message.placement),
        width=wished(message, "width"),
        height=wished(message, "height"),
        steps=int(given(message, "steps")),
        options=options_from_proto(message.options),
        digest=digest(message),
    )


def benchmark_to_proto(found: ModelBenchmark) -> model_info_pb2.ModelBenchmark:
    """Figures of a model on a device."""
    return model_info_pb2.ModelBenchmark(
        model_id=found.model_id,
        device_id=found.device_id,
        load=duration_statistics(found.load),
        switch=duration_statistics(found.switch),
        encode=duration_statistics(found.encode),
        step=duration_statistics(found.step),
        decode=duration_statistics(found.decode),
        peak_memory=byte_figure(found.peak_memory),
        data_types=part_data_types(found.data_types),
        channels_last=found.channels_last,
    )


REPORTS: Reports = {
    ModelOnDevice: loaded_to_proto,
    UnloadReport: unload_to_proto,
    ModelBenchmark: benchmark_to_proto,
}
"""What sessions of loading, unloading and measuring report, as their messages."""
