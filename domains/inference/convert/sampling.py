"""Samplers, guidance and what steers them, between proto and domain values."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum
from typing import Any, TypeVar

from msgspec.structs import replace

from deviceops.v1 import generation_pb2, inference_pb2, sampling_pb2
from domains.codec import Value
from domains.conversions import EnumMap, scalars_from, scalars_of, wished
from domains.inference import types

E = TypeVar("E", bound=Enum)
V = TypeVar("V", bound=int)

SCHEDULERS = EnumMap(types.Scheduler, sampling_pb2.Scheduler, "SCHEDULER_")
SPACINGS = EnumMap(
    types.SigmaSpacing,
    sampling_pb2.SigmaSpacing,
    "SIGMA_SPACING_",
    zero=types.SigmaSpacing.MODEL,
)
TIMESTEP_SPACINGS = EnumMap(
    types.TimestepSpacing,
    sampling_pb2.TimestepSpacing,
    "TIMESTEP_SPACING_",
    zero=types.TimestepSpacing.MODEL,
)
ALGORITHMS = EnumMap(
    types.SolverAlgorithm,
    sampling_pb2.SolverAlgorithm,
    "SOLVER_ALGORITHM_",
    zero=types.SolverAlgorithm.MODEL,
)

REFINER_MODES = EnumMap(types.RefinerMode, generation_pb2.RefinerMode, "REFINER_MODE_")


def scheduler_from_proto(message: sampling_pb2.SchedulerSettings) -> types.SchedulerSettings:
    """The sampler a client asks for and its options, unchecked."""
    chosen = message.WhichOneof("options")
    options: dict[str, Any] = {}
    if chosen is not None:
        kind = types.OPTIONS[chosen]
        options[chosen] = kind(**scalars_from(getattr(message, chosen), kind))
    if message.HasField("solver"):
        algorithm = ALGORITHMS.from_proto(message.solver.algorithm, types.SolverAlgorithm.MODEL)
        options["solver"] = replace(options["solver"], algorithm=algorithm)
    return types.SchedulerSettings(
        **scalars_from(message, types.SchedulerSettings),
        **options,
        scheduler=SCHEDULERS.optional_from_proto(message.scheduler),
        spacing=SPACINGS.from_proto(message.spacing, types.SigmaSpacing.MODEL),
        timestep_spacing=TIMESTEP_SPACINGS.from_proto(
            message.timestep_spacing, types.TimestepSpacing.MODEL
        ),
    )


def scheduler_to_proto(settings: types.SchedulerSettings) -> sampling_pb2.SchedulerSettings:
    """The same as a client would send it."""
    result = sampling_pb2.SchedulerSettings(
        **scalars_of(settings, sampling_pb2.SchedulerSettings),
        scheduler=SCHEDULERS.to_proto(settings.scheduler),
        spacing=SPACINGS.to_proto(settings.spacing),
        timestep_spacing=TIMESTEP_SPACINGS.to_proto(settings.timestep_spacing),
    )
    for name in types.OPTIONS:
        options: Value | None = getattr(settings, name)
        if options is not None:
            message = getattr(result, name)
            message.SetInParent()
            message.MergeFrom(type(message)(**scalars_of(options, type(message))))
    if settings.solver is not None:
        result.solver.algorithm = ALGORITHMS.to_proto(settings.solver.algorithm)
    return result


def sdxl_from_proto(message: generation_pb2.SdxlSettings) -> types.SdxlSettings:
    """What only SDXL models have, unchecked."""
    sizes: dict[str, Any] = {
        name: _sizes_from_proto(getattr(message, name))
        for name in ("size", "negative_size")
        if message.HasField(name)
    }
    return types.SdxlSettings(
        **scalars_from(message, types.SdxlSettings),
        **sizes,
        refiner=wished(message, "refiner", _refiner_from_proto),
    )


def _refiner_from_proto(message: generation_pb2.Refiner) -> types.Refiner:
    return types.Refiner(
        **scalars_from(message, types.Refiner),
        mode=REFINER_MODES.from_proto(message.mode, types.RefinerMode.HANDOVER),
        guidance=guidance_from_proto(message.guidance)
        if message.HasField("guidance")
        else None,
    )


def guidance_from_proto(message: sampling_pb2.GuidanceSettings) -> types.GuidanceSettings:
    """How strongly prompts pull, unchecked."""
    return types.GuidanceSettings(**scalars_from(message, types.GuidanceSettings))


def guidance_to_proto(guidance: types.GuidanceSettings) -> sampling_pb2.GuidanceSettings:
    """The same as a client would send it."""
    return sampling_pb2.GuidanceSettings(**scalars_of(guidance, sampling_pb2.GuidanceSettings))


def _sizes_from_proto(message: generation_pb2.SizeConditioning) -> types.SizeConditioning:
    given: dict[str, Any] = {
        field.name: _SIZES[field.name](**scalars_from(value, _SIZES[field.name]))
        for field, value in message.ListFields()
    }
    return types.SizeConditioning(**given)


_SIZES: dict[str, type[Value]] = {
    "original_size": types.ConditioningSize,
    "target_size": types.ConditioningSize,
    "crop_top_left": types.ConditioningPoint,
}


def sdxl_to_proto(settings: types.SdxlSettings) -> generation_pb2.SdxlSettings:
    """What only SDXL models have, as a client would send it."""
    return generation_pb2.SdxlSettings(
        **scalars_of(settings, generation_pb2.SdxlSettings),
        size=_sizes_to_proto(settings.size),
        negative_size=_sizes_to_proto(settings.negative_size),
        refiner=None if settings.refiner is None else _refiner_to_proto(settings.refiner),
    )


def _refiner_to_proto(refiner: types.Refiner) -> generation_pb2.Refiner:
    return generation_pb2.Refiner(
        **scalars_of(refiner, generation_pb2.Refiner),
        mode=REFINER_MODES.to_proto(refiner.mode),
        guidance=None if refiner.guidance is None else guidance_to_proto(refiner.guidance),
    )


def _sizes_to_proto(
    sizes: types.SizeConditioning | None,
) -> generation_pb2.SizeConditioning | None:
    if sizes is None:
        return None
    result = generation_pb2.SizeConditioning()
    for name in _SIZES:
        value: Value | None = getattr(sizes, name)
        if value is not None:
            message = getattr(result, name)
            message.SetInParent()
            message.MergeFrom(type(message)(**scalars_of(value, type(message))))
    return result


def scheduler_capability(
    scheduler: types.Scheduler, most_steps: int
) -> inference_pb2.SchedulerCapability:
    """What a scheduler can be asked for, and how many steps at most."""
    facts = scheduler.facts
    return inference_pb2.SchedulerCapability(
        scheduler=SCHEDULERS.to_proto(scheduler),
        class_name=scheduler.value,
        spacings=_beside_the_own(SPACINGS, types.SigmaSpacing, facts.spacings),
        timestep_spacings=_beside_the_own(
            TIMESTEP_SPACINGS, types.TimestepSpacing, facts.timestep_spacings
        ),
        options=facts.options_field,
        option_fields=facts.options,
        algorithms=_beside_the_own(ALGORITHMS, types.SolverAlgorithm, facts.algorithms),
        takes_sigmas=facts.takes_sigmas,
        most_steps=most_steps,
        stochastic=facts.stochastic,
        calls_per_step=facts.calls_per_step,
    )


def _beside_the_own(
    numbers: EnumMap[E, V], members: Iterable[E], has: Collection[E]
) -> list[V]:
    """Those of a scheduler in the contract's order, without the one that stands for unset."""
    told = (numbers.to_proto(member) for member in members if member in has)
    return [number for number in told if number]
