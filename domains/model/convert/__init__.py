"""Models between proto and domain values."""

from __future__ import annotations

from deviceops.v1 import errors_pb2, model_info_pb2, model_pb2, model_task_pb2
from domains.changes import Signal, Told
from domains.conversions import DATA_TYPES, REASONS, EnumMap, digest, timestamp
from domains.model.convert.device import REPORTS as ON_DEVICE
from domains.model.convert.device import benchmark_to_proto
from domains.model.convert.tasks import FORMATS
from domains.model.convert.tasks import REPORTS as OF_TASKS
from domains.model.errors import ModelUnusable
from domains.model.types import (
    Architecture,
    Component,
    ImportedFile,
    ImportRequest,
    Model,
    ModelNotes,
    ModelType,
    PredictionType,
    Problem,
)
from domains.model.views import (
    ModelEvent,
    ModelEventKind,
    ModelFilter,
    ModelMatch,
    ModelOptimization,
    ModelOrder,
    RefreshReport,
    RefreshRequest,
    UpdateRequest,
)
from domains.session.convert import Reports, options_from_proto
from domains.values import EvictionCause

TYPES = EnumMap(ModelType, model_info_pb2.ModelType, "MODEL_TYPE_")
ARCHITECTURES = EnumMap(Architecture, model_info_pb2.ModelArchitecture, "MODEL_ARCHITECTURE_")
PREDICTIONS = EnumMap(PredictionType, model_info_pb2.PredictionType, "PREDICTION_TYPE_")
ORDERS = EnumMap(ModelOrder, model_pb2.ModelOrder, "MODEL_ORDER_")
EVENTS = EnumMap(ModelEventKind, model_pb2.ModelEventKind, "MODEL_EVENT_KIND_")
CAUSES = EnumMap(EvictionCause, model_pb2.EvictionCause, "EVICTION_CAUSE_")

_MOST_IDS = 1_000
_MOST_PROBLEMS = 100


def list_filter_from_proto(message: model_pb2.ListModelsRequest) -> ModelFilter:
    """Which models a client wants listed."""
    return ModelFilter(
        type=TYPES.optional_from_proto(message.type, field="type"),
        architecture=ARCHITECTURES.optional_from_proto(
            message.architecture, field="architecture"
        ),
        format=FORMATS.optional_from_proto(message.format, field="format"),
        tags=tuple(message.tags),
        usable_only=message.usable_only,
        goes_with=message.compatible_with_model_id,
    )


def search_filter_from_proto(message: model_pb2.SearchModelsRequest) -> ModelFilter:
    """Among which models a client searches."""
    return ModelFilter(
        type=TYPES.optional_from_proto(message.type, field="type"),
        architecture=ARCHITECTURES.optional_from_proto(
            message.architecture, field="architecture"
        ),
        tags=tuple(message.tags),
    )


def problem_to_proto(problem: Problem | None) -> errors_pb2.Failure | None:
    """Why a model cannot be used."""
    if problem is None:
        return None
    return errors_pb2.Failure(
        status_code=ModelUnusable.code,
        reason=REASONS.to_proto(problem.reason),
        message=problem.message,
        metadata=problem.metadata,
    )


def model_to_proto(model: Model) -> model_info_pb2.ModelInfo:
    """Everything known about a model, but where it lies."""
    return model_info_pb2.ModelInfo(
        model_id=model.model_id,
        name=model.name,
        type=TYPES.to_proto(model.type),
        architecture=ARCHITECTURES.to_proto(model.architecture),
        format=FORMATS.to_proto(model.format),
        prediction_type=PREDICTIONS.to_proto(model.prediction_type),
        native_width=model.native_width,
        native_height=model.native_height,
        data_type=DATA_TYPES.to_proto(model.data_type),
        parameter_count=model.parameter_count,
        size_bytes=model.size_bytes,
        modify_time=timestamp(model.modified_at),
        description=model.description,
        license=model.license,
        tags=model.tags,
        trigger_words=model.trigger_words,
        header_metadata=model.metadata,
        scheduler_class=model.default_scheduler,
        is_default=model.is_default,
        usable=model.usable,
        problem=problem_to_proto(model.problem),
        zero_terminal_snr=model.zero_terminal_snr,
        inpainting=model.inpainting,
        distilled_steps=model.distilled_steps,
        lora_rank=model.lora_rank,
        lora_alpha=model.lora_alpha,
        kind=model.kind,
        remarks=model.remarks,
        sha256=model.sha256,
        aliases=model.aliases,
        read_only=model.read_only,
    )


def listed_model_to_proto(model: Model) -> model_info_pb2.ModelInfo:
    """A model without its header's metadata, which GetModel gives: pages stay long."""
    message = model_to_proto(model)
    message.ClearField("header_metadata")
    return message


def match_to_proto(match: ModelMatch) -> model_pb2.ModelMatch:
    """A model that a search found."""
    return model_pb2.ModelMatch(model=listed_model_to_proto(match.model), score=match.score)


def component_to_proto(component: Component) -> model_info_pb2.ModelComponent:
    """One network or tokenizer."""
    return model_info_pb2.ModelComponent(
        name=component.name,
        class_name=component.class_name,
        parameter_count=component.parameter_count,
        size_bytes=component.size_bytes,
        data_type=DATA_TYPES.to_proto(component.data_type),
    )


def update_from_proto(message: model_pb2.UpdateModelRequest) -> UpdateRequest:
    """What to say of a model, as a client sent it."""
    said = message.model
    notes = ModelNotes(said.name, said.description, tuple(said.tags), tuple(said.trigger_words))
    return UpdateRequest(said.model_id, notes, tuple(message.update_fields.paths))


def refresh_from_proto(message: model_pb2.RefreshModelsRequest) -> RefreshRequest:
    """How to look through the roots, as a client sent it."""
    return RefreshRequest(message.full, options_from_proto(message.options), digest(message))


def refreshed_to_proto(report: RefreshReport) -> model_info_pb2.RefreshReport:
    """What a look changed; the first ids of very many, and how many more."""
    ids = (report.added, report.changed, report.removed)
    added, changed, removed = (some[:_MOST_IDS] for some in ids)
    return model_info_pb2.RefreshReport(
        added_model_ids=added,
        changed_model_ids=changed,
        removed_model_ids=removed,
        total_count=report.total_count,
        problems=report.problems[:_MOST_PROBLEMS],
        ids_omitted=sum(max(len(some) - _MOST_IDS, 0) for some in ids),
    )


def told_to_proto(told: Told[ModelEvent]) -> model_pb2.WatchModelsResponse:
    """What a watcher is told: something that happened to a model, or a signal."""
    message = model_pb2.WatchModelsResponse(
        revision=told.revision, event_time=timestamp(told.event_time)
    )
    match told.what:
        case Signal.SNAPSHOT_END:
            message.kind = model_pb2.MODEL_EVENT_KIND_SNAPSHOT_END
        case Signal.HEARTBEAT:
            message.kind = model_pb2.MODEL_EVENT_KIND_HEARTBEAT
        case ModelEvent(kind, model, device_id, cause):
            message.kind = EVENTS.to_proto(kind)
            message.model.CopyFrom(listed_model_to_proto(model))
            message.device_id = device_id
            message.cause = CAUSES.to_proto(cause)
    return message


def optimization_to_proto(done: ModelOptimization) -> model_info_pb2.ModelOptimizationReport:
    """A smaller copy beside what it was made of."""
    return model_info_pb2.ModelOptimizationReport(
        model=model_to_proto(done.model),
        size_before_bytes=done.size_before_bytes,
        size_after_bytes=done.size_after_bytes,
        tensors_pruned=done.tensors_pruned,
        before=None if done.before is None else benchmark_to_proto(done.before),
        after=None if done.after is None else benchmark_to_proto(done.after),
        similarity_db=done.similarity_db,
    )


def import_from_proto(message: model_task_pb2.ImportModelRequest) -> ImportRequest:
    """What to import, as a client sent it."""
    return ImportRequest(
        model_id=message.model_id,
        format=FORMATS.optional_from_proto(message.format, field="format"),
        files=tuple(ImportedFile(f.relative_path, f.artifact_id) for f in message.files),
        options=options_from_proto(message.options),
        digest=digest(message),
    )


REPORTS: Reports = {
    **ON_DEVICE,
    **OF_TASKS,
    Model: model_to_proto,
    ModelOptimization: optimization_to_proto,
    RefreshReport: refreshed_to_proto,
}
"""What sessions of this domain report, as their messages."""
