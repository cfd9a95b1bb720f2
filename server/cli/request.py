"""From the options of `generate` to the contract's request."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path

from deviceops.v1 import (
    common_pb2,
    conditioning_pb2,
    generation_pb2,
    inference_pb2,
    sampling_pb2,
    session_pb2,
)
from server.cli.chain_steps import parse_step
from server.cli.choices import (
    FORMATS,
    PRECISIONS,
    PRIORITIES,
    REFINER_MODES,
    SEAMLESS,
    UPSCALES,
    UnusableOptions,
    choose,
    duration_in,
)
from server.cli.control import ControlOptions, put_control_nets
from server.cli.field_values import Picture, set_field
from server.cli.image_prompts import put_image_prompts
from server.cli.input_image import input_image
from server.cli.likeness import Likeness
from server.cli.placing import placement
from server.cli.sampler import SamplerOptions, sampler_settings
from server.cli.start import StartOptions, put_start

# Bits of the contract's fields, whose numbers are signed; their ranges are the server's affair.
_WHOLE_NUMBERS = {
    "width": 32,
    "height": 32,
    "steps": 32,
    "clip_skip": 32,
    "count": 32,
    "quality": 32,
    "preview_every": 32,
    "seed": 64,
    "variation_seed": 64,
}


@dataclass(frozen=True)
class GenerationOptions:
    """What a person asked for; None means that they said nothing about it.

    Ranges are the server's to judge: it knows the model and reports every violation at
    once.
    """

    prompt: str | None
    negative: str | None = None
    weighted: bool = False
    model: str | None = None
    vae: str | None = None
    refiner: str | None = None
    refiner_switch: float | None = None
    refiner_mode: str | None = None
    devices: tuple[str, ...] = ()
    kinds: str = ""
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    guidance_rescale: float | None = None
    seed: int | None = None
    seeds: tuple[int, ...] = ()
    count: int | None = None
    sampler: SamplerOptions = field(default_factory=SamplerOptions)
    clip_skip: int | None = None
    precision: str | None = None
    vae_tiling: bool | None = None
    format: str | None = None
    quality: int | None = None
    preview_every: int | None = None
    request_id: str | None = None
    queue_timeout: str | None = None
    run_timeout: str | None = None
    priority: str | None = None
    detach: bool = False
    no_data: bool = False
    tags: tuple[str, ...] = ()
    loras: tuple[str, ...] = ()
    embeddings: tuple[str, ...] = ()
    variation_seed: int | None = None
    variation_strength: float | None = None
    seamless: str | None = None
    second_pass: float | None = None
    upscaler: str | None = None
    start: StartOptions = field(default_factory=StartOptions)
    control: ControlOptions = field(default_factory=ControlOptions)
    image_prompts: tuple[str, ...] = ()
    finish: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()
    like: Likeness | None = None


def generate_request(
    options: GenerationOptions, picture: Picture = input_image, *, prompted: bool = False
) -> inference_pb2.GenerateRequest:
    """The request; a missing request id becomes a fresh UUID, so that it may be repeated.

    Args:
        options: What a person asked for.
        picture: Makes a picture that they name one that the request takes.
        prompted: Whether a prompt may be said elsewhere.

    Raises:
        UnusableOptions: A name is unknown, a number does not fit its field, or a picture
            cannot be read.
    """
    if options.prompt is None and options.like is None and not prompted:
        raise UnusableOptions("say what to draw: a PROMPT, or a picture with --like")
    for name, bits in _WHOLE_NUMBERS.items():
        _check_number(name, getattr(options, name), bits)
    for seed in options.seeds:
        _check_number("seeds", seed, 64)
    try:
        settings = _settings(options)
        put_start(settings, options.start, picture)
        put_control_nets(settings, options.control, picture)
        put_image_prompts(settings, options.image_prompts, picture)
        for assignment in options.assignments:
            set_field(settings, assignment, picture)
        return inference_pb2.GenerateRequest(
            settings=settings,
            postprocessing=[parse_step(step, picture, "--finish") for step in options.finish],
            options=_session_options(options),
            delivery=_delivery(options),
            placement=placement(options.devices, options.kinds),
        )
    except UnusableOptions:
        raise
    except ValueError as error:  # text or a time that its field cannot hold
        raise UnusableOptions(str(error)) from error


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds separated by commas or blanks; none for empty text. Raises UnusableOptions."""
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise UnusableOptions(f"--seeds: {text!r} is no list of numbers") from None


def parse_lora(text: str) -> conditioning_pb2.LoraWeight:
    """A LoRA as `ID`, `ID:X` or `ID:X:Y`, Y for text encoders. Raises UnusableOptions."""
    name, *weights = text.split(":")
    try:
        numbers = [float(weight) for weight in weights]
    except ValueError:
        numbers = []
    if not name or len(weights) > 2 or len(numbers) != len(weights):
        form = "ID, ID:WEIGHT or ID:WEIGHT:TEXT_ENCODER_WEIGHT"
        raise UnusableOptions(f"--lora: {text!r} is not {form}")
    return conditioning_pb2.LoraWeight(
        model_id=name,
        weight=numbers[0] if numbers else None,
        text_encoder_weight=numbers[1] if len(numbers) > 1 else None,
    )


def format_of_suffix(path: Path) -> str | None:
    """The picture format that a file's ending names; None for folders and other endings."""
    suffix = path.suffix.lower().removeprefix(".")
    return suffix if suffix in FORMATS else None


def _check_number(name: str, value: int | None, bits: int) -> None:
    """Whether the contract's field can hold it at all."""
    if value is not None and not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        option = "--" + name.replace("_", "-")
        raise UnusableOptions(f"{option}: {value} does not fit into {bits} bits")


def _settings(options: GenerationOptions) -> generation_pb2.GenerationSettings:
    settings = generation_pb2.GenerationSettings(
        prompt=options.prompt,
        negative_prompt=options.negative,
        prompt_syntax=generation_pb2.PROMPT_SYNTAX_WEIGHTED if options.weighted else None,
        model_id=options.model,
        vae_model_id=options.vae,
        width=options.width,
        height=options.height,
        steps=options.steps,
        clip_skip=options.clip_skip,
        image_count=options.count,
        seed=options.seed,
        seeds=options.seeds,
        loras=map(parse_lora, options.loras),
        embedding_model_ids=options.embeddings,
    )
    if options.guidance is not None or options.guidance_rescale is not None:
        settings.guidance.CopyFrom(
            sampling_pb2.GuidanceSettings(
                scale=options.guidance, rescale=options.guidance_rescale
            )
        )
    if options.sampler.said:
        usual = None if options.like is None else options.like.settings.scheduler.scheduler
        settings.scheduler.CopyFrom(sampler_settings(options.sampler, usual))
    if options.refiner or options.refiner_switch is not None or options.refiner_mode:
        settings.sdxl.refiner.CopyFrom(_refiner(options))
    if options.vae_tiling is not None:
        on, off = common_pb2.TOGGLE_ON, common_pb2.TOGGLE_OFF
        settings.precision.vae_tiling = on if options.vae_tiling else off
    if options.precision:
        settings.precision.mode = choose(
            generation_pb2.PrecisionMode, "PRECISION_MODE_", options.precision, PRECISIONS
        )
    if options.format or options.quality is not None:
        settings.output.CopyFrom(_output(options))
    _set_variations(settings, options)
    if options.like is not None:
        settings = _over(options.like.settings, settings)
    if options.upscaler is not None:
        _enlarge_with(options.upscaler, settings)
    return settings


def _over(
    like: generation_pb2.GenerationSettings, asked: generation_pb2.GenerationSettings
) -> generation_pb2.GenerationSettings:
    """What a picture was drawn with, with what is asked for in its place."""
    result = generation_pb2.GenerationSettings()
    result.CopyFrom(like)
    if asked.seeds:
        result.ClearField("seed")
    for of_asked, _ in asked.ListFields():
        if of_asked.is_repeated:  # or the lists would be joined
            del getattr(result, of_asked.name)[:]
    if asked.scheduler.scheduler:
        result.ClearField("scheduler")  # options and spacings are another's
    result.MergeFrom(asked)
    return result


def _refiner(options: GenerationOptions) -> generation_pb2.Refiner:
    refiner = generation_pb2.Refiner(
        model_id=options.refiner or "", switch_at=options.refiner_switch
    )
    if options.refiner_mode:
        refiner.mode = choose(
            generation_pb2.RefinerMode, "REFINER_MODE_", options.refiner_mode, REFINER_MODES
        )
    return refiner


def _set_variations(
    settings: generation_pb2.GenerationSettings, options: GenerationOptions
) -> None:
    """Noise between seeds, edges that continue, a second pass."""
    if options.variation_strength is not None and options.variation_seed is None:
        raise UnusableOptions("--variation-strength needs --variation-seed")
    if options.variation_seed is not None:
        settings.variation.CopyFrom(
            generation_pb2.SeedVariation(
                seed=options.variation_seed, strength=options.variation_strength
            )
        )
    if options.seamless is not None:
        if options.seamless not in SEAMLESS:
            raise UnusableOptions(
                f"--seamless: {options.seamless!r} is none of {', '.join(SEAMLESS)}"
            )
        settings.seamless_horizontally, settings.seamless_vertically = SEAMLESS[
            options.seamless
        ]
    if options.second_pass is not None:
        settings.second_pass.scale = options.second_pass


def _enlarge_with(name: str, settings: generation_pb2.GenerationSettings) -> None:
    """Let the second pass enlarge so; what names no way of it is a model's id."""
    if not settings.HasField("second_pass"):
        raise UnusableOptions("--upscaler needs --second-pass")
    way, model_id = (name, "") if name in UPSCALES else ("model", name)
    settings.second_pass.upscale = choose(
        generation_pb2.SecondPassUpscale, "SECOND_PASS_UPSCALE_", way, UPSCALES
    )
    settings.second_pass.postprocessor_id = model_id


def _output(options: GenerationOptions) -> common_pb2.OutputSettings:
    output = common_pb2.OutputSettings(quality=options.quality)
    if options.format:
        output.format = choose(
            common_pb2.ImageFileFormat, "IMAGE_FILE_FORMAT_", options.format, FORMATS
        )
    return output


def _delivery(options: GenerationOptions) -> session_pb2.DeliveryOptions | None:
    if not options.preview_every and not options.no_data:
        return None
    delivery = session_pb2.DeliveryOptions(omit_image_data=options.no_data)
    if options.preview_every:
        delivery.previews.every_steps = options.preview_every
    return delivery


def _session_options(options: GenerationOptions) -> session_pb2.WorkOptions:
    session = session_pb2.WorkOptions(
        request_id=options.request_id or str(uuid.uuid4()), tags=options.tags
    )
    if options.priority:
        session.priority = choose(
            session_pb2.Priority, "PRIORITY_", options.priority, PRIORITIES
        )
    if options.queue_timeout is not None:
        session.queue_timeout.CopyFrom(duration_in("--queue-timeout", options.queue_timeout))
    if options.run_timeout is not None:
        session.run_timeout.CopyFrom(duration_in("--run-timeout", options.run_timeout))
    if options.detach:
        session.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    return session
