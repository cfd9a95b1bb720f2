"""The rules a generation's content must keep; every broken one is listed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from domains import checks
from domains.codec import Value
from domains.device.core.placement import check_placement
from domains.errors import FieldViolation, Reason
from domains.inference.types import (
    GenerationRequest,
    GenerationSettings,
    LoraWeight,
    RefinerMode,
    Scheduler,
    SigmaSpacing,
)
from domains.limits import LIMITS
from domains.model.types import Model, PredictionType
from domains.session.core.options import check_delivery, check_options

NOT_SDXL = "The model is no SDXL model."
MAX_SEED = int(LIMITS["GenerationSettings.seed"].maximum or 0)


def check_request(request: GenerationRequest) -> list[FieldViolation]:
    """Every rule `request` breaks, by field; an empty list when it breaks none."""
    violations = list(check_options(request.options, "options"))
    violations += check_settings(request.settings, "settings")
    violations += check_delivery(request.delivery, "delivery")
    violations += check_placement(request.placement, "placement.")
    return violations


def check_settings(settings: GenerationSettings, path: str) -> list[FieldViolation]:
    """Every rule `settings` breaks; `path` is where they stand in the request."""
    return [
        *_plain(settings, "GenerationSettings", path),
        *_plain(settings.scheduler, "SchedulerSettings", f"{path}.scheduler"),
        *_plain(settings.scheduler.ddim, "DdimOptions", f"{path}.scheduler.ddim"),
        *_plain(settings.guidance, "GuidanceSettings", f"{path}.guidance"),
        *_plain(settings.sdxl, "SdxlSettings", f"{path}.sdxl"),
        *check_refiner(settings, f"{path}.sdxl.refiner"),
        *_plain(settings.output, "OutputSettings", f"{path}.output"),
        *_seeds(settings, path),
        *check_lora_weights(settings.loras, f"{path}.loras"),
        *_start(settings, f"{path}.image_to_image"),
    ]


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
        others = ", ".join(other.name for other in fitting)
        violations.append(
            FieldViolation(
                f"{path}.scheduler.scheduler",
                Reason.FIELDS_CONFLICT,
                f"{scheduler.name} cannot draw with a model that predicts the picture itself;"
                f" these can: {others}.",
            )
        )
    asked, spacings = settings.scheduler.spacing, scheduler.facts.spacings
    if asked not in spacings:
        has = ", ".join(spacing.name for spacing in SigmaSpacing if spacing in spacings)
        violations.append(
            FieldViolation(
                f"{path}.scheduler.spacing",
                Reason.FIELDS_CONFLICT,
                f"{scheduler.name} does not have {asked.name}; it has {has}.",
            )
        )
    if settings.scheduler.ddim is not None and not scheduler.facts.takes_eta:
        others = ", ".join(other.name for other in Scheduler if other.facts.takes_eta)
        violations.append(
            FieldViolation(
                f"{path}.scheduler.ddim",
                Reason.FIELDS_CONFLICT,
                f"{scheduler.name} does not have these options; {others} has.",
            )
        )
    return violations


def check_model(settings: GenerationSettings, model: Model, path: str) -> list[FieldViolation]:
    """Rules that depend on which model the request comes to use."""
    if settings.sdxl is None or model.reads_second_prompt:
        return []
    return [FieldViolation(f"{path}.sdxl", Reason.FIELDS_CONFLICT, NOT_SDXL)]


def _found(violation: FieldViolation | None) -> list[FieldViolation]:
    return [] if violation is None else [violation]


# Why a number is refused, where it is not merely out of range; some have rules of their own.
_REASONS = {"width": Reason.DIMENSIONS_INVALID, "height": Reason.DIMENSIONS_INVALID}
_OF_THEIR_OWN = ("seed", "seeds", "loras")


def check_lora_weights(loras: Sequence[LoraWeight], path: str) -> Iterator[FieldViolation]:
    """Rules that LoRAs must keep whatever they are."""
    yield from _found(checks.elements(path, len(loras), LIMITS["GenerationSettings.loras"]))
    seen: dict[str, int] = {}
    for index, lora in enumerate(loras):
        yield from _plain(lora, "LoraWeight", f"{path}[{index}]")
        first = seen.setdefault(lora.model_id, index)
        if first != index:
            yield FieldViolation(
                f"{path}[{index}].model_id",
                Reason.FIELDS_CONFLICT,
                f"Names the same LoRA as loras[{first}]; name it once, with the sum of both "
                "weights.",
            )


def _plain(values: Value | None, message: str, path: str) -> Iterator[FieldViolation]:
    """Every text and number beyond its entry in the table of limits."""
    for name in () if values is None else values.__struct_fields__:
        limit, value = LIMITS.get(f"{message}.{name}"), getattr(values, name)
        if limit is None or value is None or name in _OF_THEIR_OWN:
            continue
        field = f"{path}.{name}"
        if isinstance(value, str):
            yield from _found(checks.prose(field, value, limit))
        else:
            reason = _REASONS.get(name, Reason.FIELD_OUT_OF_RANGE)
            yield from _found(checks.number(field, value, limit, reason=reason))


def check_refiner(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    """Rules that a refiner must keep whatever it is: it and the model before it have to have
    steps. Where the schedule is cut depends on the model, and is looked at where it runs."""
    refiner = settings.refiner
    broken = [
        *_plain(refiner, "Refiner", path),
        *_plain(refiner and refiner.guidance, "GuidanceSettings", f"{path}.guidance"),
    ]
    yield from broken
    if refiner is None or broken:
        return
    steps = settings.steps if refiner.steps is None else refiner.steps
    if refiner.mode is RefinerMode.HANDOVER and refiner.switch_at == 0:
        nothing = "Leaves no step to the model; must be greater than 0, or name the refiner as"
        why = f"{nothing} the model."
    elif refiner.mode is RefinerMode.HANDOVER and refiner.switch_at == 1:
        why = "Leaves no step to the refiner; must be less than 1, or leave the refiner out."
    elif refiner.mode is RefinerMode.IMAGE_TO_IMAGE and int(steps * refiner.strength) < 1:
        why = (
            f"Leaves no step of {steps} to the refiner; must be at most 1 minus 1 divided by "
            f"the steps ({1 - 1 / max(steps, 1):.3g}), or its steps more."
        )
    else:
        return
    yield FieldViolation(f"{path}.switch_at", Reason.FIELD_OUT_OF_RANGE, why)


def check_refining_model(
    settings: GenerationSettings,
    scheduler: Scheduler,
    refiner: Model | None,
    model: Model,
    path: str,
) -> list[FieldViolation]:
    """Rules that depend on which models the request comes to use."""
    if refiner is None:
        return []
    violations = []
    if refiner.model_id == model.model_id:
        violations.append(
            FieldViolation(
                f"{path}.sdxl.refiner.model_id",
                Reason.FIELDS_CONFLICT,
                f"{model.model_id} cannot refine its own picture; name another, or give it "
                "more steps.",
            )
        )
    if scheduler in schedulers_for(model) and scheduler not in schedulers_for(refiner):
        violations += check_scheduler(settings, scheduler, refiner, path)[:1]
    return violations


def _start(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    """The strength of image-to-image, which has to leave a step."""
    broken = list(_plain(settings.image_to_image, "ImageToImage", path))
    yield from broken
    if settings.image_to_image is None or broken or settings.steps_taken or settings.steps < 1:
        return
    yield FieldViolation(
        f"{path}.strength",
        Reason.FIELD_OUT_OF_RANGE,
        f"Leaves no step of {settings.steps}; must be at least 1 divided by the steps "
        f"({1 / settings.steps:.3g}), or the steps more.",
    )


def _seeds(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    limit = LIMITS["GenerationSettings.seed"]
    given = [(f"{path}.seed", settings.seed)] if settings.seed is not None else []
    given += [(f"{path}.seeds[{k}]", seed) for k, seed in enumerate(settings.seeds)]
    for field, seed in given:
        if seed is not None:
            yield from _found(checks.number(field, seed, limit, reason=Reason.SEED_INVALID))
    if settings.seed is not None and settings.seeds:
        yield FieldViolation(
            f"{path}.seeds", Reason.FIELDS_CONFLICT, "Set seed or seeds, not both."
        )
    yield from _found(
        checks.elements(
            f"{path}.seeds", len(settings.seeds), LIMITS["GenerationSettings.seeds"]
        )
    )
    count = settings.image_count
    if settings.seeds and count is not None and count != len(settings.seeds):
        yield FieldViolation(
            f"{path}.seeds",
            Reason.SEED_INVALID,
            f"Must have one seed for each of image_count pictures: {count}.",
        )
