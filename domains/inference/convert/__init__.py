"""Generations between proto and domain values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from deviceops.v1 import (
    common_pb2,
    event_pb2,
    generation_pb2,
    inference_pb2,
    model_info_pb2,
)
from domains.chain.convert import chain_from_proto
from domains.conversions import (
    MODEL_PARTS,
    TOGGLES,
    EnumMap,
    byte_figure,
    digest,
    duration_statistics,
    limit_to_proto,
    part_data_types,
    scalars_from,
    scalars_of,
    timestamp,
    wished,
)
from domains.device.convert import placement_from_proto
from domains.errors import MAX_VIOLATIONS
from domains.inference import types
from domains.inference.convert.conditioning import (
    control_input,
    control_net_from_proto,
    control_net_to_proto,
    image_prompt_from_proto,
    image_prompt_input,
    image_prompt_to_proto,
)
from domains.inference.convert.passes import second_pass_from_proto, second_pass_to_proto
from domains.inference.convert.sampling import (
    SCHEDULERS,
    guidance_from_proto,
    guidance_to_proto,
    scheduler_capability,
    scheduler_from_proto,
    scheduler_to_proto,
    sdxl_from_proto,
    sdxl_to_proto,
)
from domains.inference.convert.start import (
    image_to_image_from_proto,
    images_from_proto,
    inpainting_from_proto,
    put_start,
)
from domains.inference.core.capabilities import UNBUILT, Capabilities
from domains.inference.core.combinations import Mode
from domains.inference.core.forecast import Forecast
from domains.inference.core.generations import Verdict
from domains.inference.core.statistics import Statistics, Timed
from domains.model.convert import TYPES as MODEL_TYPES
from domains.provenance.convert import output_from_proto, output_to_proto
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
from domains.session.core.durations import Durations
from domains.values import ModelOrigin, Toggle

MODES = EnumMap(Mode, generation_pb2.GenerationMode, "GENERATION_MODE_")
ORIGINS = EnumMap(ModelOrigin, model_info_pb2.ModelOrigin, "MODEL_ORIGIN_")
PRECISIONS = EnumMap(
    types.PrecisionMode,
    generation_pb2.PrecisionMode,
    "PRECISION_MODE_",
    zero=types.PrecisionMode.OPEN,
)
PROMPT_SYNTAXES = EnumMap(
    types.PromptSyntax,
    generation_pb2.PromptSyntax,
    "PROMPT_SYNTAX_",
)
KERNELS = EnumMap(types.AttentionKernel, event_pb2.AttentionKernel, "ATTENTION_KERNEL_")


def request_from_proto(message: inference_pb2.GenerateRequest) -> types.GenerationRequest:
    """One call of Generate, unchecked."""
    unbuilt = [
        where for field in UNBUILT for where in _asked(message.settings, field, "settings")
    ]
    image, mask = images_from_proto(message.settings)
    return types.GenerationRequest(
        settings=settings_from_proto(message.settings),
        options=options_from_proto(message.options),
        placement=placement_from_proto(message.placement),
        digest=digest(message),
        delivery=delivery_from_proto(message.delivery, "delivery"),
        image=image,
        mask=mask,
        controls=tuple(map(control_input, message.settings.control_nets)),
        image_prompts=tuple(map(image_prompt_input, message.settings.image_prompts)),
        chain=chain_from_proto(message.postprocessing, "postprocessing"),
        unbuilt=tuple(unbuilt),
    )


def settings_from_proto(message: generation_pb2.GenerationSettings) -> types.GenerationSettings:
    """What a client asks for, unchecked; absent fields are left to their defaults."""
    output = message.output
    scalars = scalars_from(message, types.GenerationSettings)
    if message.scheduler.sigmas:
        # One noise level for each, where nothing else is said.
        scalars.setdefault("steps", len(message.scheduler.sigmas))
    return types.GenerationSettings(
        **scalars,
        prompt_syntax=PROMPT_SYNTAXES.from_proto(
            message.prompt_syntax, types.PromptSyntax.PLAIN
        ),
        guidance=guidance_from_proto(message.guidance),
        scheduler=scheduler_from_proto(message.scheduler),
        sdxl=wished(message, "sdxl", sdxl_from_proto),
        loras=tuple(
            types.LoraWeight(**scalars_from(lora, types.LoraWeight)) for lora in message.loras
        ),
        image_to_image=image_to_image_from_proto(message),
        inpainting=inpainting_from_proto(message),
        second_pass=second_pass_from_proto(message.second_pass)
        if message.HasField("second_pass")
        else None,
        variation=types.SeedVariation(**scalars_from(message.variation, types.SeedVariation))
        if message.HasField("variation")
        else None,
        control_nets=tuple(map(control_net_from_proto, message.control_nets)),
        image_prompts=tuple(map(image_prompt_from_proto, message.image_prompts)),
        precision=PRECISIONS.from_proto(message.precision.mode, types.PrecisionMode.OPEN),
        vae_tiling=TOGGLES.from_proto(message.precision.vae_tiling, Toggle.SERVER),
        output=output_from_proto(output, "settings.output"),
    )


# What these fields ask for is what happens anyway.
_NO_CHANGE: dict[str, tuple[int, ...]] = {
    "attention_slicing": (common_pb2.TOGGLE_OFF,),
    "vae_slicing": (common_pb2.TOGGLE_ON,),
    "cpu_offload": (common_pb2.TOGGLE_OFF,),
}


def _asked(message: Message, path: str, where: str) -> Iterator[str]:
    """Where the field at `path` asks for something this version does not do; the message itself
    stands at `where`."""
    name, _, rest = path.partition(".")
    value, here = getattr(message, name), f"{where}.{name}"
    if rest:
        if isinstance(value, Message):
            yield from _asked(value, rest, here)
        else:
            for index, each in enumerate(value):
                yield from _asked(each, rest, f"{here}[{index}]")
        return
    is_set = any(field.name == name for field, _ in message.ListFields())
    if is_set and value not in _NO_CHANGE.get(name, (False,)):
        yield here


def settings_to_proto(settings: types.GenerationSettings) -> generation_pb2.GenerationSettings:
    """Settings as a client would send them; None becomes absent."""
    output = settings.output
    result = generation_pb2.GenerationSettings(
        **scalars_of(settings, generation_pb2.GenerationSettings),
        prompt_syntax=PROMPT_SYNTAXES.to_proto(settings.prompt_syntax),
        guidance=guidance_to_proto(settings.guidance),
        scheduler=scheduler_to_proto(settings.scheduler),
        precision=generation_pb2.Precision(
            mode=PRECISIONS.to_proto(settings.precision),
            vae_tiling=TOGGLES.to_proto(settings.vae_tiling),
        ),
        output=output_to_proto(output),
    )
    for lora in settings.loras:
        result.loras.add(
            model_id=lora.model_id,
            weight=lora.weight,
            text_encoder_weight=lora.text_encoder_weight,
        )
    result.control_nets.extend(map(control_net_to_proto, settings.control_nets))
    result.image_prompts.extend(map(image_prompt_to_proto, settings.image_prompts))
    put_start(settings.start, result)
    if settings.second_pass is not None:
        result.second_pass.CopyFrom(second_pass_to_proto(settings.second_pass))
    if settings.variation is not None:
        varied = scalars_of(settings.variation, generation_pb2.SeedVariation)
        result.variation.CopyFrom(generation_pb2.SeedVariation(**varied))
    if settings.sdxl is not None:
        result.sdxl.CopyFrom(sdxl_to_proto(settings.sdxl))
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
    )
    if verdict.forecast is not None:
        _tell(verdict.forecast, result)
    if verdict.settings is not None:
        result.effective_settings.CopyFrom(settings_to_proto(verdict.settings))
    return result


def _tell(forecast: Forecast, result: inference_pb2.ValidateGenerationResponse) -> None:
    """What is expected of time and memory."""
    result.memory.CopyFrom(byte_figure(forecast.memory))
    result.available_memory.CopyFrom(byte_figure(forecast.available))
    if forecast.seconds is not None:
        result.estimated_duration.FromMicroseconds(round(forecast.seconds * 1_000_000))
    if forecast.fits is not None:
        result.fits = forecast.fits
    for phase, needed in forecast.phases:
        result.phase_memory.add(phase=PHASES.to_proto(phase), needed=byte_figure(needed))


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
        software_versions=facts.software_versions,
        computed=_computation(facts.computed),
    )


def _computation(computed: types.Computation) -> event_pb2.Computation:
    return event_pb2.Computation(
        channels_last=map(MODEL_PARTS.to_proto, computed.channels_last),
        compiled=map(MODEL_PARTS.to_proto, computed.compiled),
        recorded=map(MODEL_PARTS.to_proto, computed.recorded),
        attention_kernels=map(KERNELS.to_proto, computed.attention_kernels),
        attention_sliced=computed.attention_sliced,
        vae_tiled=computed.vae_tiled,
        most_together=computed.most_together,
        decoded_beside=computed.decoded_beside,
    )


REPORTS: Reports = {types.GenerationFacts: facts_to_proto}


def statistics_to_proto(found: Statistics) -> inference_pb2.GetInferenceStatisticsResponse:
    """What generations came to."""
    return inference_pb2.GetInferenceStatisticsResponse(
        **_counts(found),
        text_cache_hits=found.text_cache_hits,
        since_time=timestamp(found.since),
        by_model=[
            inference_pb2.InferenceStatistics(
                device_id=device_id,
                model_id=model_id,
                since_time=timestamp(of_pair.since),
                **_counts(of_pair),
                **_times(of_pair, Timed.STEP, Timed.WORK),
            )
            for (device_id, model_id), of_pair in found.by_model().items()
        ],
        by_batch_size=[
            inference_pb2.BatchSizeStatistics(
                asked_image_count=size,
                **_counts(of_size),
                **_times(of_size, Timed.WORK, Timed.STEP, Timed.DECODE, Timed.ENCODE_IMAGE),
            )
            for size, of_size in found.by_batch_size().items()
        ],
        **_times(found, *Timed),
    )


def _counts(found: Statistics) -> dict[str, Any]:
    return {
        "completed_count": found.completed,
        "failed_count": found.failed,
        "cancelled_count": found.cancelled,
        "image_count": found.images,
    }


def _times(found: Statistics, *timed: Timed) -> dict[str, Any]:
    return {each.value: _durations_to_proto(found.of(each)) for each in timed}


def _durations_to_proto(times: Durations) -> common_pb2.DurationStatistics | None:
    return duration_statistics(times.newest, count=times.count, total=times.total)


def capabilities_to_proto(found: Capabilities) -> inference_pb2.GetCapabilitiesResponse:
    """What a model can do on a device."""
    return inference_pb2.GetCapabilitiesResponse(
        model_id=found.model_id,
        device_id=found.device_id,
        modes=[MODES.to_proto(mode) for mode in found.modes],
        schedulers=list(map(scheduler_capability, found.schedulers, found.most_steps)),
        default_scheduler=SCHEDULERS.to_proto(found.default_scheduler),
        native_width=found.native_width,
        native_height=found.native_height,
        limits=[limit_to_proto(limit) for limit in found.limits],
        features=[
            inference_pb2.FeatureAvailability(
                feature=f"GenerationSettings.{feature.field}",
                available=not feature.explanation,
                explanation=feature.explanation,
                excluded_features=[f"GenerationSettings.{each}" for each in feature.excluded],
            )
            for feature in found.features
        ]
        + [
            inference_pb2.FeatureAvailability(feature=value, available=not why, explanation=why)
            for value, why in found.values.items()
        ],
        output_formats=[FORMATS.to_proto(format_) for format_ in found.output_formats],
        precision_modes=[PRECISIONS.to_proto(mode) for mode in found.precision_modes],
    )
