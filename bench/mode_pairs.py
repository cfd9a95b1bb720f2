"""Each mode of generation with the engine, beside what it is compared with."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.mode_inputs import (
    CLIP_SKIP,
    LORAS,
    SCALE,
    STRENGTH,
    SWITCH_AT,
    VARIATION,
    Shape,
    inputs_of,
    prepared,
)
from bench.mode_pipelines import Pipelines
from bench.peer import Listener
from bench.work import MODEL_ID, MODEL_PATH, work_of_round
from domains.inference.backends.engine import Engine
from domains.inference.jobs import Companion, ControlPictures, GenerationJob
from domains.inference.types import (
    ControlNetGuidance,
    GenerationSettings,
    GuidanceSettings,
    ImageToImage,
    Inpainting,
    LoraWeight,
    PrecisionMode,
    Refiner,
    Scheduler,
    SchedulerSettings,
    SdxlSettings,
    SecondPass,
    SecondPassUpscale,
)
from domains.model.types import ModelType
from domains.session.jobs import EncodedImage
from domains.session.types import PreviewSettings
from domains.values import ModelPlace

Draw = Callable[[int], bytes]
"""Draw the picture of a round: its PNG file."""
Pair = tuple[Draw, Draw]
_OF_JOB = ("picture", "mask", "previews", "controls", "companions")


def pairs(shape: Shape, folder: Path) -> dict[str, Pair]:
    """By mode: what the engine does, and what it is compared with.

    Args:
        shape: Of the pictures.
        folder: Where the engine's input pictures are put; they stay there.
    """
    engine, inputs = Engine("cpu"), inputs_of(shape.edge)
    theirs = Pipelines(shape, inputs)
    start, mask, edges = (
        prepared(image, folder) for image in (inputs.start, inputs.mask, inputs.edges)
    )

    def ours(**changes: Any) -> Draw:
        return lambda number: _drawn(engine, _job(number, shape, **changes))

    guidance = GuidanceSettings(work_of_round(0, shape.steps).guidance_scale)
    latent, pixels = (
        SecondPass(SCALE, upscale, STRENGTH, shape.steps, guidance)
        for upscale in (SecondPassUpscale.LATENT, SecondPassUpscale.PIXELS)
    )
    refiner = Refiner(
        "emoji-refiner", switch_at=SWITCH_AT, steps=shape.steps, guidance=guidance
    )
    return {
        "text-to-image": (ours(), _png(theirs.text_to_image)),
        "image-to-image": (
            ours(image_to_image=ImageToImage(STRENGTH), picture=start),
            _png(theirs.image_to_image),
        ),
        "inpainting": (
            ours(inpainting=Inpainting(STRENGTH, mask_blur_pixels=0), picture=start, mask=mask),
            _png(theirs.inpainting),
        ),
        "ControlNet": (
            ours(
                control_nets=(ControlNetGuidance("emoji-canny"),),
                controls=(ControlPictures((edges,)),),
                companions=(_companion("emoji-canny", ModelType.CONTROL_NET),),
            ),
            _png(theirs.control_net),
        ),
        "two LoRAs": (
            ours(
                loras=tuple(LoraWeight(name, one, one) for name, one in LORAS.items()),
                companions=tuple(
                    _companion(name, ModelType.LORA, ".safetensors") for name in LORAS
                ),
            ),
            _png(theirs.two_loras),
        ),
        "refiner": (
            ours(
                sdxl=SdxlSettings(refiner=refiner),
                companions=(_companion("emoji-refiner", ModelType.REFINER),),
            ),
            _png(theirs.refiner),
        ),
        "clip skip": (ours(clip_skip=CLIP_SKIP), _png(theirs.clip_skip)),
        "second pass, latent": (ours(second_pass=latent), _png(theirs.larger_latents)),
        "second pass, pixels": (ours(second_pass=pixels), _png(theirs.larger_pixels)),
        "variation seed": (ours(variation=VARIATION), _png(theirs.varied)),
        "seamless, both edges": (
            ours(seamless_horizontally=True, seamless_vertically=True),
            _png(theirs.seamless),
        ),
        "previews at every step, against none": (
            ours(previews=PreviewSettings(every_steps=1)),
            ours(),
        ),
    }


def _companion(name: str, type: ModelType, suffix: str = "") -> Companion:
    return Companion(name, type, ModelPlace.of(MODEL_PATH.parent / f"{name}{suffix}"))


def _job(number: int, shape: Shape, **changes: Any) -> GenerationJob:
    """That of a round; changes are of the job or of its settings."""
    work = work_of_round(number, shape.steps)
    beside = {name: changes.pop(name) for name in _OF_JOB if name in changes}
    settings = GenerationSettings(
        model_id=MODEL_ID,
        prompt=work.prompt,
        width=shape.edge,
        height=shape.edge,
        steps=work.steps,
        guidance=GuidanceSettings(work.guidance_scale),
        scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
        seeds=(work.seed,),
        precision=PrecisionMode.EXACT,
        **changes,
    )
    return GenerationJob(settings, ModelPlace.of(MODEL_PATH), **beside)


def _drawn(engine: Engine, job: GenerationJob) -> bytes:
    heard = Listener()
    engine.generate(job, heard)
    (image,) = (event for event in heard.events if isinstance(event, EncodedImage))
    return image.data


def _png(draw: Callable[[int], Any]) -> Draw:
    def call(number: int) -> bytes:
        file = io.BytesIO()
        draw(number)[0].save(file, "PNG", compress_level=1)
        return file.getvalue()

    return call
