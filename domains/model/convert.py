"""Models between proto and domain values."""

from __future__ import annotations

from deviceops.v1 import errors_pb2, model_info_pb2, model_pb2, model_task_pb2
from domains.conversions import (
    DATA_TYPES,
    REASONS,
    EnumMap,
    byte_figure,
    digest,
    part_data_types,
    timestamp,
)
from domains.device.convert import placement_from_proto
from domains.model.core.checking import ValidationReport
from domains.model.errors import ModelUnusable
from domains.model.jobs import Finding
from domains.model.types import (
    Architecture,
    Component,
    ConversionRequest,
    LoadRequest,
    Model,
    ModelFilter,
    ModelFormat,
    ModelMatch,
    ModelOnDevice,
    ModelOrder,
    ModelType,
    PredictionType,
    Problem,
    ValidationDepth,
    ValidationRequest,
)
from domains.session.convert import Reports, options_from_proto
from domains.values import ByteFigure, ModelOrigin, ModelPart, PartDataType

TYPES = EnumMap(ModelType, model_info_pb2.ModelType, "MODEL_TYPE_")
ARCHITECTURES = EnumMap(Architecture, model_info_pb2.ModelArchitecture, "MODEL_ARCHITECTURE_")
FORMATS = EnumMap(ModelFormat, model_info_pb2.ModelFormat, "MODEL_FORMAT_")
PREDICTIONS = EnumMap(PredictionType, model_info_pb2.PredictionType, "PREDICTION_TYPE_")
ORDERS = EnumMap(ModelOrder, model_pb2.ModelOrder, "MODEL_ORDER_")
DEPTHS = EnumMap(ValidationDepth, model_task_pb2.ValidationDepth, "VALIDATION_DEPTH_")
ORIGINS = EnumMap(ModelOrigin, model_info_pb2.ModelOrigin, "MODEL_ORIGIN_")

# Parts that compute, by the name of a model's component.
_PARTS = {
    "unet": ModelPart.DENOISER,
    "vae": ModelPart.VAE,
    "text_encoder": ModelPart.TEXT_ENCODER,
    "text_encoder_2": ModelPart.TEXT_ENCODER_2,
}

# Fields of a load that this version refuses when they are set.
UNBUILT_LOAD = ("data_types", "warm_up", "dry_run")


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
        lora_rank=model.lora_rank,
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


def load_from_proto(message: model_pb2.LoadModelRequest) -> LoadRequest:
    """What to load where, as a client sent it."""
    return LoadRequest(
        model_id=message.model_id,
        placement=placement_from_proto(message.placement),
        options=options_from_proto(message.options),
        digest=digest(message),
        unbuilt=tuple(field for field in UNBUILT_LOAD if getattr(message, field)),
    )


def loaded_to_proto(loaded: ModelOnDevice) -> model_info_pb2.LoadedModel:
    """A model on its device; which sessions use it is not known."""
    parts = loaded.components
    sizes = [part.size.value for part in parts if part.size.value is not None]
    size = ByteFigure.unknown("the worker has not measured every component")
    if parts and len(sizes) == len(parts):
        size = ByteFigure.measured(sum(sizes), parts[0].size.source)
    return model_info_pb2.LoadedModel(
        model_id=loaded.model_id,
        device_id=loaded.device_id,
        size=byte_figure(size),
        data_types=part_data_types(
            PartDataType(_PARTS[part.component], part.data_type)
            for part in parts
            if part.component in _PARTS and part.data_type is not None
        ),
        load_time=timestamp(loaded.load_time),
        last_use_time=timestamp(max((part.last_use_time for part in parts), default=None)),
        origin=ORIGINS.to_proto(loaded.origin),
    )


def validation_from_proto(message: model_task_pb2.ValidateModelRequest) -> ValidationRequest:
    """What to check, as a client sent it."""
    return ValidationRequest(
        model_id=message.model_id,
        depth=DEPTHS.from_proto(message.depth, ValidationDepth.HEADER, field="depth"),
        device_id=message.device_id,
        options=options_from_proto(message.options),
        digest=digest(message),
    )


def conversion_from_proto(message: model_task_pb2.ConvertModelRequest) -> ConversionRequest:
    """What to convert, as a client sent it."""
    return ConversionRequest(
        model_id=message.model_id,
        target_model_id=message.target_model_id,
        data_type=DATA_TYPES.optional_from_proto(message.data_type, field="data_type"),
        format=FORMATS.from_proto(message.format, ModelFormat.SAFETENSORS, field="format"),
        options=options_from_proto(message.options),
        digest=digest(message),
    )


def validation_to_proto(report: ValidationReport) -> model_info_pb2.ModelValidationReport:
    """What a check found."""
    return model_info_pb2.ModelValidationReport(
        valid=report.valid,
        findings=map(finding_to_proto, report.findings),
        findings_omitted=report.findings_omitted,
        sha256=report.sha256,
    )


def finding_to_proto(finding: Finding) -> model_info_pb2.ModelFinding:
    """Something wrong with a model."""
    return model_info_pb2.ModelFinding(
        reason=REASONS.to_proto(finding.reason),
        component=finding.component,
        tensor=finding.tensor,
        description=finding.description,
    )


REPORTS: Reports = {
    Model: model_to_proto,
    ModelOnDevice: loaded_to_proto,
    ValidationReport: validation_to_proto,
}
"""What sessions of this domain report, as their messages."""
