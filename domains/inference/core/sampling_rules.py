"""The rules that samplers, their options and guidance must keep; every broken one is listed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import pairwise

from domains import checks
from domains.codec import Value
from domains.errors import FieldViolation, Reason
from domains.inference.core.plain_rules import found, plain
from domains.inference.types import (
    OPTIONS,
    ChurnOptions,
    GenerationSettings,
    GuidanceSettings,
    Scheduler,
    SchedulerSettings,
    SigmaSpacing,
    SolverAlgorithm,
    TimestepSpacing,
)
from domains.limits import LIMITS
from domains.model.types import Model, PredictionType


def check_sampling(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    """Rules that hold whichever scheduler the request comes to use."""
    asked = settings.scheduler
    yield from plain(asked, "SchedulerSettings", f"{path}.scheduler")
    for name, kind in OPTIONS.items():
        yield from plain(getattr(asked, name), kind.__name__, f"{path}.scheduler.{name}")
    yield from _churn(asked.churn, f"{path}.scheduler.churn")
    yield from _sigmas(settings, path)
    yield from check_guidance(settings.guidance, f"{path}.guidance")


def check_guidance(guidance: GuidanceSettings | None, path: str) -> Iterator[FieldViolation]:
    """Its numbers, and that it begins before it ends."""
    yield from plain(guidance, "GuidanceSettings", path)
    if guidance is not None:
        yield from _interval(guidance, path)


def schedulers_for(model: Model) -> tuple[Scheduler, ...]:
    """The schedulers that can draw with a model."""
    samples = model.prediction_type is PredictionType.SAMPLE
    return tuple(each for each in Scheduler if each.facts.reads_samples or not samples)


def check_scheduler(
    settings: GenerationSettings, scheduler: Scheduler, model: Model, path: str
) -> list[FieldViolation]:
    """Rules that depend on which scheduler the request comes to use, and with which model."""
    violations = []
    fitting = schedulers_for(model)
    if scheduler not in fitting:
        violations.append(
            FieldViolation(
                f"{path}.scheduler.scheduler",
                Reason.FIELDS_CONFLICT,
                f"{scheduler.name} cannot draw with a model that predicts the picture itself;"
                f" these can: {_names(fitting)}.",
            )
        )
    violations += _spacings(settings.scheduler, scheduler, f"{path}.scheduler")
    violations += _options(settings.scheduler, scheduler, f"{path}.scheduler")
    return violations


def _spacings(
    asked: SchedulerSettings, scheduler: Scheduler, path: str
) -> Iterator[FieldViolation]:
    facts = scheduler.facts
    yield from _one_of("spacing", asked.spacing, SigmaSpacing, facts.spacings, scheduler, path)
    yield from _one_of(
        "timestep_spacing",
        asked.timestep_spacing,
        TimestepSpacing,
        facts.timestep_spacings,
        scheduler,
        path,
    )
    if asked.sigmas and not facts.takes_sigmas:
        others = _names(other for other in Scheduler if other.facts.takes_sigmas)
        yield FieldViolation(
            f"{path}.sigmas",
            Reason.FIELDS_CONFLICT,
            f"{scheduler.name} cannot be told its noise levels; {others} can.",
        )


def _options(
    asked: SchedulerSettings, scheduler: Scheduler, path: str
) -> Iterator[FieldViolation]:
    """What is set of another sampler's options, or of those that this one does not read."""
    facts = scheduler.facts
    for name in OPTIONS:
        options: Value | None = getattr(asked, name)
        if options is None:
            continue
        if name != facts.options_field:
            others = _names(other for other in Scheduler if other.facts.options_field == name)
            yield FieldViolation(
                f"{path}.{name}",
                Reason.FIELDS_CONFLICT,
                f"{scheduler.name} does not have these options; those are of {others}.",
            )
            continue
        unset = type(options)()
        for field in options.__struct_fields__:
            option = f"{name}.{field}"
            is_set = getattr(options, field) != getattr(unset, field)
            if is_set and option not in facts.options:
                others = _names(other for other in Scheduler if option in other.facts.options)
                yield FieldViolation(
                    f"{path}.{option}",
                    Reason.FIELDS_CONFLICT,
                    f"{scheduler.name} does not read it; {others} does.",
                )
    if asked.solver is not None and "solver.algorithm" in facts.options:
        yield from _one_of(
            "algorithm",
            asked.solver.algorithm,
            SolverAlgorithm,
            facts.algorithms,
            scheduler,
            f"{path}.solver",
        )


def _one_of(
    field: str,
    asked: Enum,
    members: Iterable[Enum],
    has: frozenset[Enum],
    scheduler: Scheduler,
    path: str,
) -> Iterator[FieldViolation]:
    """One that the scheduler does not have."""
    if asked not in has:
        yield FieldViolation(
            f"{path}.{field}",
            Reason.FIELDS_CONFLICT,
            f"{scheduler.name} does not have {asked.name}; it has "
            f"{_names(member for member in members if member in has)}.",
        )


def _churn(churn: ChurnOptions | None, path: str) -> Iterator[FieldViolation]:
    """Its noise levels, of which there must be some."""
    if churn is None or churn.greatest_sigma is None:
        return
    if churn.greatest_sigma < churn.least_sigma:
        yield FieldViolation(
            f"{path}.greatest_sigma",
            Reason.FIELD_OUT_OF_RANGE,
            f"Must not be below least_sigma ({churn.least_sigma:g}).",
        )


def _sigmas(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    """A request's own noise levels: as many as the steps, falling, none of them nothing."""
    asked, field = settings.scheduler, f"{path}.scheduler.sigmas"
    if not asked.sigmas:
        return
    limit = LIMITS["SchedulerSettings.sigmas"]
    broken = [
        *found(checks.elements(field, len(asked.sigmas), limit)),
        *(
            violation
            for index, sigma in enumerate(asked.sigmas)
            for violation in found(checks.number(f"{field}[{index}]", sigma, limit))
        ),
    ]
    if broken:
        yield from broken
        return
    if asked.sigmas[-1] <= 0:
        yield FieldViolation(
            f"{field}[{len(asked.sigmas) - 1}]",
            Reason.FIELD_OUT_OF_RANGE,
            "Must be above 0: the last step goes to 0 by itself; leave it out.",
        )
    for index, (sooner, later) in enumerate(pairwise(asked.sigmas), 1):
        if later >= sooner:
            yield FieldViolation(
                f"{field}[{index}]",
                Reason.FIELD_OUT_OF_RANGE,
                f"Must be below the one before it ({sooner:g}): noise levels fall.",
            )
    if settings.steps != len(asked.sigmas):
        yield FieldViolation(
            field,
            Reason.FIELDS_CONFLICT,
            f"Must be one for each of the {settings.steps} steps; there are "
            f"{len(asked.sigmas)}. Leave steps out, and there are as many.",
        )
    for name in ("spacing", "timestep_spacing"):
        if getattr(asked, name).value != "model":
            yield FieldViolation(
                f"{path}.scheduler.{name}",
                Reason.FIELDS_CONFLICT,
                "Noise levels are listed in sigmas; leave one of both out.",
            )


def _interval(guidance: GuidanceSettings, path: str) -> Iterator[FieldViolation]:
    if guidance.end < guidance.start:
        yield FieldViolation(
            f"{path}.end",
            Reason.FIELD_OUT_OF_RANGE,
            f"Must not be below start ({guidance.start:g}).",
        )


def _names(members: Iterable[Enum]) -> str:
    return ", ".join(member.name for member in members)
