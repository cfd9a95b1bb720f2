"""The enums that cross the worker link, each beside its proto enum."""

from __future__ import annotations

from deviceops.v1 import common_pb2, device_pb2, inference_pb2, session_pb2
from domains.conversions import DATA_TYPES, QUALITIES, REASONS, EnumMap
from domains.device.types import OptimizationProfile
from domains.inference.types import PrecisionMode, Scheduler, SigmaSpacing
from domains.session.types import Phase
from domains.values import DegradationKind, ImageFormat

__all__ = ["DATA_TYPES", "DEGRADATIONS", "FORMATS", "PHASES", "PRECISIONS", "REASONS"]
__all__ += ["PROFILES", "QUALITIES", "SCHEDULERS", "spacing_from_proto", "spacing_to_proto"]

DEGRADATIONS = EnumMap(DegradationKind, common_pb2.DegradationKind, "DEGRADATION_KIND_")
FORMATS = EnumMap(ImageFormat, common_pb2.ImageFormat, "IMAGE_FORMAT_")
PHASES = EnumMap(Phase, session_pb2.Phase, "PHASE_")
PRECISIONS = EnumMap(
    PrecisionMode, inference_pb2.PrecisionMode, "PRECISION_MODE_", zero=PrecisionMode.OPEN
)
PROFILES = EnumMap(OptimizationProfile, device_pb2.OptimizationProfile, "OPTIMIZATION_PROFILE_")
SCHEDULERS = EnumMap(Scheduler, inference_pb2.Scheduler, "SCHEDULER_")


def spacing_to_proto(spacing: SigmaSpacing) -> inference_pb2.SigmaSpacing.ValueType:
    """The model's own spacing is the proto's UNSPECIFIED."""
    name = "UNSPECIFIED" if spacing is SigmaSpacing.MODEL else spacing.name
    return inference_pb2.SigmaSpacing.Value(f"SIGMA_SPACING_{name}")


def spacing_from_proto(number: int) -> SigmaSpacing:
    """The inverse; KeyError or ValueError for a number that means nothing."""
    if number == 0:
        return SigmaSpacing.MODEL
    name = inference_pb2.SigmaSpacing.Name(inference_pb2.SigmaSpacing.ValueType(number))
    return SigmaSpacing[name.removeprefix("SIGMA_SPACING_")]
