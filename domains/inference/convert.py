"""Generations between proto and domain values."""

from __future__ import annotations

from google.protobuf.message import Message

from deviceops.v1 import (
    common_pb2,
    event_pb2,
    generation_pb2,
    inference_pb2,
    model_info_pb2,
    sampling_pb2,
)
from domains.conversions import (
    EnumMap,
    digest,
    limit_to_proto,
    part_data_types,
    scalars_from,
    scalars_of,
)
from domains.device.convert import placement_from_proto
from domains.errors import MAX_VIOLATIONS
from domains.inference import types
from domains.inference.core.capabilities import UNBUILT, Capabilities
from domains.inference.core.generations import Verdict
from domains.model.convert import TYPES as MODEL_TYPES
from domains.picture.convert import FITS, image_from_proto, image_to_proto
from domains.picture.types import ResizeFit
from domains.session.convert import (
    FORMATS,
    PHASES,
    Reports,
    decision_to_proto,
    degradation_to_proto,
    delivery_from_proto,
    failure_to_proto,
    options_from_proto,
    violation_to_proto,
)
from domains.values import ImageFileFormat, ModelOrigin, OutputSettings

SCHEDULERS = EnumMap(types.Scheduler, sampling_pb2.Scheduler, "SCHEDULER_")
ORIGINS = EnumMap(ModelOrigin, model_info_pb2.ModelOrigin, "MODEL_ORIGIN_")
PRECISIONS = EnumMap(
    types.PrecisionMode,
    generation_pb2.PrecisionMode,
    "PRECISION_MODE_",
    zero=types.PrecisionMode.OPEN,
)
TOGGLES = EnumMap(types.Toggle, common_pb2.Toggle, "TOGGLE_", zero=types.Toggle.SERVER)
SPACINGS = EnumMap(
    types.SigmaSpacing,
    sampling_pb2.SigmaSpacing,
    "SIGMA_SPACING_",
    zero=types.SigmaSpacing.MODEL,
)

REFINER_MODES = EnumMap(
    types.RefinerMode,
    generation_pb2.RefinerMode,
    "REFINER_MODE_",
    zero=types.RefinerMode.HANDOVER,
)


def request_from_proto(message: inference_pb2.GenerateRequest) -> types.GenerationRequest:
    """One call of Generate, unchecked."""
    unbuilt = [f"settings.{field}" for field in UNBUILT if _is_set(message.settings, field)]
    if message.postprocessing:
        unbuilt.append("postprocessing")
    return types.GenerationRequest(
        settings=settings_from_proto(message.settings),
        options=options_from_proto(message.options),
        placement=placement_from_proto(message.placement),
        digest=digest(message),
        delivery=delivery_from_proto(message.delivery, "delivery"),
        image=image_from_proto(message.settings.image_to_image.image)
        if message.settings.HasField("image_to_image")
        else None,
        unbuilt=tuple(unbuilt),
    )


def settings_from_proto(message: generation_pb2.GenerationSettings) -> types.GenerationSettings:
    """What a client asks for, unchecked; absent fields are left to their defaults."""
    output = message.output
    return types.GenerationSettings(
        **scalars_from(message, types.GenerationSettings),
        guidance=_guidance_from_proto(message.guidance),
        scheduler=_scheduler_from_proto(message.scheduler),
        sdxl=_sdxl_from_proto(message.sdxl) if message.HasField("sdxl") else None,
        loras=tuple(
            types.LoraWeight(**scalars_from(lora, types.LoraWeight)) for lora in message.loras
        ),
        image_to_image=_start_from_proto(message.image_to_image)
        if message.HasField("image_to_image")
        else None,
        precision=PRECISIONS.from_proto(message.precision.mode, types.PrecisionMode.OPEN),
        vae_tiling=TOGGLES.from_proto(message.precision.vae_tiling, types.Toggle.SERVER),
        output=OutputSettings(
            **scalars_from(output, OutputSettings),
            format=FORMATS.from_proto(output.format, ImageFileFormat.PNG),
        ),
    )


def _scheduler_from_proto(message: sampling_pb2.SchedulerSettings) -> types.SchedulerSettings:
    return types.SchedulerSettings(
        scheduler=SCHEDULERS.optional_from_proto(message.scheduler),
        spacing=SPACINGS.from_proto(message.spacing, types.SigmaSpacing.MODEL),
        ddim=types.DdimOptions(**scalars_from(message.ddim, types.DdimOptions))
        if message.HasField("ddim")
        else None,
    )


def _guidance_from_proto(message: sampling_pb2.GuidanceSettings) -> types.GuidanceSettings:
    return types.GuidanceSettings(**scalars_from(message, types.GuidanceSettings))


def _guidance_to_proto(guidance: types.GuidanceSettings) -> sampling_pb2.GuidanceSettings:
    return sampling_pb2.GuidanceSettings(**scalars_of(guidance, sampling_pb2.GuidanceSettings))


def _sdxl_from_proto(message: generation_pb2.SdxlSettings) -> types.SdxlSettings:
    refiner = message.refiner
    return types.SdxlSettings(
        **scalars_from(message, types.SdxlSettings),
        refiner=types.Refiner(
            **scalars_from(refiner, types.Refiner),
            mode=REFINER_MODES.from_proto(refiner.mode, types.RefinerMode.HANDOVER),
            guidance=_guidance_from_proto(refiner.guidance)
            if refiner.HasField("guidance")
            else None,
        )
        if message.HasField("refiner")
        else None,
    )


def _sdxl_to_proto(settings: types.SdxlSettings) -> generation_pb2.SdxlSettings:
    result = generation_pb2.SdxlSettings(**scalars_of(settings, generation_pb2.SdxlSettings))
    refiner = settings.refiner
    if refiner is not None:
        result.refiner.CopyFrom(
            generation_pb2.Refiner(
                **scalars_of(refiner, generation_pb2.Refiner),
                mode=REFINER_MODES.to_proto(refiner.mode),
                guidance=None
                if refiner.guidance is None
                else _guidance_to_proto(refiner.guidance),
            )
        )
    return result


def _start_from_proto(message: generation_pb2.ImageToImage) -> types.ImageToImage:
    return types.ImageToImage(
        **scalars_from(message, types.ImageToImage),
        fit=FITS.from_proto(message.fit, ResizeFit.STRETCH),
    )


# What these fields ask for is what happens anyway.
_NO_CHANGE: dict[str, tuple[int, ...]] = {
    "prompt_syntax": (generation_pb2.PROMPT_SYNTAX_PLAIN,),
    "attention_slicing": (common_pb2.TOGGLE_OFF,),
    "vae_slicing": (common_pb2.TOGGLE_ON,),
    "cpu_offload": (common_pb2.TOGGLE_OFF,),
}


def _is_set(message: Message, path: str) -> bool:
    """Whether the field at `path` asks for something this version does not do."""
    name, _, rest = path.partition(".")
    if rest:
        return _is_set(getattr(message, name), rest)
    if not any(field.name == name for field, _ in message.ListFields()):
        return False
    return getattr(message, name) not in _NO_CHANGE.get(name, (False,))


def settings_to_proto(settings: types.GenerationSettings) -> generation_pb2.GenerationSettings:
    """Settings as a client would send them; None becomes absent."""
    scheduler, output = settings.scheduler, settings.output
    result = generation_pb2.GenerationSettings(
        **scalars_of(settings, generation_pb2.GenerationSettings),
        guidance=_guidance_to_proto(settings.guidance),
        scheduler=sampling_pb2.SchedulerSettings(
            scheduler=SCHEDULERS.to_proto(scheduler.scheduler),
            spacing=SPACINGS.to_proto(scheduler.spacing),
        ),
        precision=generation_pb2.Precision(
            mode=PRECISIONS.to_proto(settings.precision),
            vae_tiling=TOGGLES.to_proto(settings.vae_tiling),
        ),
        output=common_pb2.OutputSettings(
            **scalars_of(output, common_pb2.OutputSettings),
            format=FORMATS.to_proto(output.format),
        ),
    )
    for lora in settings.loras:
        result.loras.add(
            model_id=lora.model_id,
            weight=lora.weight,
            text_encoder_weight=lora.text_encoder_weight,
        )
    if scheduler.ddim is not None:
        result.scheduler.ddim.eta = scheduler.ddim.eta
    if settings.image_to_image is not None:
        start = settings.image_to_image
        result.image_to_image.CopyFrom(
            generation_pb2.ImageToImage(
                image=image_to_proto(start.image),
                strength=start.strength,
                fit=FITS.to_proto(start.fit),
            )
        )
    if settings.sdxl is not None:
        result.sdxl.CopyFrom(_sdxl_to_proto(settings.sdxl))
    return result


def verdict_to_proto(verdict: Verdict) -> inference_pb2.ValidateGenerationResponse:
    """What Generate would make of a request."""
    valid = not verdict.violations and verdict.failure is None
    result = inference_pb2.ValidateGenerationResponse(
        valid=valid,
        violations=[violation_to_proto(v) for v in verdict.violations[:MAX_VIOLATIONS]],
        violations_omitted=max(len(verdict.violations) - MAX_VIOLATIONS, 0),
        expected_phases=[PHASES.to_proto(phase) for phase in verdict.phases],
        placement=decision_to_proto(verdict.placement),
        queue_position=verdict.queue_position,
        failure=None if verdict.failure is None else failure_to_proto(verdict.failure),
        degradations=map(degradation_to_proto, verdict.degradations),
        memory=common_pb2.ByteFigure(
            quality=common_pb2.FIGURE_QUALITY_UNKNOWN,
            source="no estimate is made in this version",
        ),
    )
    if verdict.settings is not None:
        result.effective_settings.CopyFrom(settings_to_proto(verdict.settings))
    return result


def facts_to_proto(facts: types.GenerationFacts) -> event_pb2.GenerationFacts:
    """What drew the pictures of a session."""
    return event_pb2.GenerationFacts(
        effective_settings=settings_to_proto(facts.settings),
        data_types=part_data_types(facts.data_types),
        models=[
            event_pb2.ModelUse(
                model_id=used.model_id,
                type=MODEL_TYPES.to_proto(used.type),
                sha256=used.sha256,
            )
            for used in facts.models
        ],
        model_origin=ORIGINS.to_proto(facts.origin),
        channels_last=facts.channels_last,
        software_versions=facts.software_versions,
    )


REPORTS: Reports = {types.GenerationFacts: facts_to_proto}


def capabilities_to_proto(found: Capabilities) -> inference_pb2.GetCapabilitiesResponse:
    """What a model can do on a device."""
    return inference_pb2.GetCapabilitiesResponse(
        model_id=found.model_id,
        device_id=found.device_id,
        modes=[
            generation_pb2.GENERATION_MODE_TEXT_TO_IMAGE,
            generation_pb2.GENERATION_MODE_IMAGE_TO_IMAGE,
        ],
        schedulers=[
            inference_pb2.SchedulerCapability(
                scheduler=SCHEDULERS.to_proto(scheduler),
                class_name=scheduler.value,
                spacings=[
                    SPACINGS.to_proto(spacing)
                    for spacing in types.SigmaSpacing
                    if spacing in scheduler.facts.spacings
                    and spacing is not types.SigmaSpacing.MODEL
                ],
                options="ddim" if scheduler.facts.takes_eta else "",
                stochastic=scheduler.facts.stochastic,
                calls_per_step=scheduler.facts.calls_per_step,
            )
            for scheduler in found.schedulers
        ],
        default_scheduler=SCHEDULERS.to_proto(found.default_scheduler),
        native_width=found.native_width,
        native_height=found.native_height,
        limits=[limit_to_proto(limit) for limit in found.limits],
        features=[
            inference_pb2.FeatureAvailability(
                feature=f"GenerationSettings.{feature.field}",
                available=False,
                explanation=feature.explanation,
            )
            for feature in found.unbuilt
        ],
        output_formats=[FORMATS.to_proto(format_) for format_ in found.output_formats],
        precision_modes=[PRECISIONS.to_proto(mode) for mode in found.precision_modes],
    )
