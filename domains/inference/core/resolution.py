"""From what a client asked for to work with nothing left open."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from domains.inference.core.later_parts import own_steps, resolved_part
from domains.inference.core.validation import MAX_SEED
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    RefinerMode,
    Scheduler,
    asked_together,
    resolved,
    steps_by_strength,
)
from domains.limits import default_of
from domains.model.types import Model
from domains.session.core.speeds import Effort
from domains.session.types import Phase

# A ControlNet is the first half of a UNet and its middle.
_CONTROL_SHARE = 0.5
FALLBACK_SCHEDULER = Scheduler.DPM_SOLVER_MULTISTEP


def scheduler_of(settings: GenerationSettings, model: Model) -> Scheduler:
    """The scheduler asked for, or the model's own, or DPM-Solver++ 2M."""
    if settings.scheduler.scheduler is not None:
        return settings.scheduler.scheduler
    named = {scheduler.value: scheduler for scheduler in Scheduler}
    return named.get(model.default_scheduler, FALLBACK_SCHEDULER)


def seeds_of(settings: GenerationSettings, random_seed: Callable[[], int]) -> tuple[int, ...]:
    """A seed for each picture: those given, or counting up from the first."""
    if settings.seeds:
        return settings.seeds
    first = random_seed() if settings.seed is None else settings.seed
    count = settings.image_count
    if count is None:
        count = int(default_of("GenerationSettings.image_count"))
    return tuple((first + k) % (MAX_SEED + 1) for k in range(count))


def resolve(
    settings: GenerationSettings,
    model: Model,
    random_seed: Callable[[], int],
) -> GenerationSettings:
    """Checked settings with nothing left open, so that the same are the same picture.

    Args:
        settings: What the client asked for, without violations, its companions by their ids.
        model: The model it names.
        random_seed: Gives a fresh seed from 0 to 2^32 - 1.
    """
    seeds = seeds_of(settings, random_seed)
    scheduler = scheduler_of(settings, model)
    return replace(
        settings,
        model_id=model.model_id,
        width=settings.width or model.native_width,
        height=settings.height or model.native_height,
        scheduler=replace(settings.scheduler, scheduler=scheduler),
        image_count=len(seeds),
        seed=None,
        seeds=seeds,
        second_pass=resolved_part(settings.second_pass, settings),
        sdxl=settings.sdxl
        and replace(settings.sdxl, refiner=resolved_part(settings.refiner, settings)),
        loras=tuple(
            lora
            if lora.text_encoder_weight is not None
            else replace(lora, text_encoder_weight=lora.weight)
            for lora in settings.loras
        ),
    )


def steps_of(settings: GenerationSettings) -> tuple[int, int]:
    """Steps of one pass of each picture that the model does, and that its refiner does.

    Where a schedule is handed over depends on the model's timesteps: they are taken as evenly
    spread, which those of most models are.
    """
    refiner, taken = settings.refiner, settings.steps_taken
    if refiner is None:
        return taken, 0
    steps = own_steps(refiner, settings)
    if refiner.mode is RefinerMode.IMAGE_TO_IMAGE:
        return taken, steps_by_strength(steps, refiner.strength)
    done = round(settings.steps * refiner.switch_at) - settings.skipped_steps
    return max(done, 1), max(steps - round(steps * refiner.switch_at), 1)


def steps_of_all(settings: GenerationSettings) -> int:
    """Steps of all passes of each picture, its refiner's too."""
    return sum(sum(steps_of(each)) for each in settings.passes)


def effective(asked: GenerationSettings, resolved: GenerationSettings) -> GenerationSettings:
    """The resolved settings, with seeds only where the client chose them."""
    return replace(resolved, seed=asked.seed, seeds=asked.seeds)


def expected_phases(
    before: tuple[Phase, ...], settings: GenerationSettings, *, finished: bool = False
) -> tuple[Phase, ...]:
    """What a generation goes through.

    Args:
        before: Those until its model is on the device.
        settings: Resolved.
        finished: Whether a chain follows.
    """
    again, prepared = settings.second_pass, (Phase.PREPARING_INPUT,)
    return (
        Phase.QUEUED,
        *before,
        Phase.ENCODING_TEXT,
        *(prepared if settings.start or settings.image_prompts else ()),
        Phase.DENOISING,
        *(prepared if again and again.through_pixels else ()),
        *((Phase.SECOND_PASS,) if again else ()),
        *((Phase.REFINING,) if settings.refiner else ()),
        Phase.DECODING,
        *((Phase.POSTPROCESSING,) if finished else ()),
        Phase.ENCODING_IMAGE,
    )


def effort_of(settings: GenerationSettings) -> Effort:
    """How much work resolved settings are: UNet calls, decodings and files, by pixels."""
    images, again = len(settings.seeds), settings.second_pass
    drawn, result = (width * height for width, height in (settings.size, settings.result_size))
    prepared = drawn if settings.start else 0
    if again and again.through_pixels:
        prepared += images * (drawn + result)
    return Effort(
        settings.model_id,
        _manner(settings),
        drawn,
        {
            Phase.ENCODING_TEXT: 1.0,
            **({Phase.PREPARING_INPUT: prepared} if prepared else {}),
            Phase.DENOISING: images * sum(map(_pixels_predicted, settings.passes)),
            **(
                {Phase.REFINING: images * _pixels_refined(settings.passes[-1])}
                if settings.refiner
                else {}
            ),
            Phase.DECODING: images * result,
            Phase.ENCODING_IMAGE: images * result,
        },
    )


def _manner(settings: GenerationSettings) -> str:
    """Work of which manners is comparable. How long an upscaler takes is its own matter."""
    again, precision = settings.second_pass, settings.precision.value
    if again is None or not again.postprocessor_id:
        return precision
    return f"{precision}, enlarged by {again.postprocessor_id}"


def _pixels_predicted(settings: GenerationSettings) -> float:
    """Pixels of a picture, as often as the UNet sees them in one pass."""
    own, refined = steps_of(settings)
    calls = _calls(settings, settings.guidance, 0, own, own + refined * _hands_over(settings))
    return calls * (1 + _CONTROL_SHARE * len(asked_together(settings.control_nets)))


def _pixels_refined(settings: GenerationSettings) -> float:
    """The same of its refiner's UNet."""
    refiner, (own, refined) = resolved(settings.refiner), steps_of(settings)
    first = own * _hands_over(settings)
    guidance = refiner.guidance or settings.guidance
    return _calls(settings, guidance, first, first + refined, first + refined)


def _hands_over(settings: GenerationSettings) -> bool:
    """Whether the refiner goes on with the model's own steps."""
    return settings.refiner is not None and settings.refiner.mode is RefinerMode.HANDOVER


def _calls(
    settings: GenerationSettings, guidance: GuidanceSettings, first: int, last: int, steps: int
) -> float:
    """Pixels that the steps from `first` to before `last` of so many see."""
    width, height = settings.size
    scheduler = settings.scheduler.scheduler
    # With the prompt, and where guidance is on without it as well.
    calls = last - first + guidance.guided_steps(first, last, steps)
    calls *= 1 if scheduler is None else scheduler.facts.calls_per_step
    return float(calls * width * height)
