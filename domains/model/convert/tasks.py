"""Checks and copies of models between proto and values."""

from __future__ import annotations

from deviceops.v1 import model_info_pb2, model_task_pb2
from domains.conversions import DATA_TYPES, REASONS, EnumMap, digest
from domains.device.convert import placement_from_proto
from domains.model.convert.device import estimate_to_proto
from domains.model.core.checking import ValidationReport
from domains.model.jobs import Finding
from domains.model.types import ModelFormat
from domains.model.views import (
    ConversionRequest,
    OptimizationRequest,
    ValidationDepth,
    ValidationRequest,
)
from domains.session.convert import Reports, options_from_proto
from domains.values import TensorDataType

FORMATS = EnumMap(ModelFormat, model_info_pb2.ModelFormat, "MODEL_FORMAT_")
DEPTHS = EnumMap(ValidationDepth, model_task_pb2.ValidationDepth, "VALIDATION_DEPTH_")


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


def optimization_from_proto(
    message: model_task_pb2.OptimizeModelRequest,
) -> OptimizationRequest:
    """What copy to make, as a client sent it."""
    return OptimizationRequest(
        model_id=message.model_id,
        target_model_id=message.target_model_id,
        data_type=DATA_TYPES.from_proto(
            message.data_type, TensorDataType.FLOAT16, field="data_type"
        ),
        vae_data_type=DATA_TYPES.optional_from_proto(
            message.vae_data_type, field="vae_data_type"
        ),
        prune=message.prune,
        placement=placement_from_proto(message.placement)
        if message.HasField("placement")
        else None,
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
        estimate=None if report.estimate is None else estimate_to_proto(report.estimate),
    )


def finding_to_proto(finding: Finding) -> model_info_pb2.ModelFinding:
    """Something wrong with a model."""
    return model_info_pb2.ModelFinding(
        reason=REASONS.to_proto(finding.reason),
        component=finding.component,
        tensor=finding.tensor,
        description=finding.description,
    )


REPORTS: Reports = {ValidationReport: validation_to_proto}
"""What checks report, as their message."""
