"""Second pass, variation and seamless edges: what is refused before any work, and the rest."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from deviceops.v1 import generation_pb2
from domains.errors import Reason
from domains.inference import convert
from domains.inference.core.capabilities import UNBUILT
from domains.inference.core.combinations import excluded_by
from domains.inference.core.later_parts import resolved_part
from domains.inference.core.resolution import effort_of
from domains.inference.jobs import GenerationJob
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    ImageToImage,
    Inpainting,
    InpaintingFill,
    OutpaintingMargins,
    Scheduler,
    SchedulerSettings,
    SecondPass,
    SecondPassUpscale,
    SeedVariation,
)
from domains.picture.types import InputImage
from domains.session.types import Accepted, Completed, ImageResult, Phase, StepFinished
from domains.values import ImageFileFormat, ModelPlace
from tests.domains.inference.conftest import MODEL, Bench, request
from tests.domains.inference.test_second_pass_by_model import UPSCALER

FIELD = "settings.second_pass"


def twice(second: SecondPass | None = None, **settings: Any) -> GenerationSettings:
    usual = {"prompt": "a cat", "seed": 1, "steps": 10, "width": 256, "height": 256}
    return GenerationSettings(second_pass=second or SecondPass(), **(usual | settings))


async def violations_of(bench: Bench, settings: GenerationSettings) -> list[tuple[str, Reason]]:
    verdict = await bench.generations.validate(request(settings))
    assert bench.pool.works == []
    return [(each.field, each.reason) for each in verdict.violations]


@pytest.mark.parametrize(
    ("second", "field"),
    [
        (SecondPass(scale=0.9), "scale"),
        (SecondPass(scale=4.5), "scale"),
        (SecondPass(strength=1.01), "strength"),
        (SecondPass(strength=0.0), "strength"),
        (SecondPass(strength=0.09), "strength"),
        (SecondPass(strength=0.2, steps=4), "strength"),
        (SecondPass(steps=0), "steps"),
        (SecondPass(steps=151), "steps"),
        (SecondPass(guidance=GuidanceSettings(31.0)), "guidance.scale"),
        (SecondPass(guidance=GuidanceSettings(rescale=-0.1)), "guidance.rescale"),
    ],
)
async def test_what_no_second_pass_can_be_is_refused(
    bench: Bench, second: SecondPass, field: str
) -> None:
    found = await violations_of(bench, twice(second))
    assert found == [(f"{FIELD}.{field}", Reason.FIELD_OUT_OF_RANGE)]


@pytest.mark.parametrize(
    "variation", [SeedVariation(-1), SeedVariation(2**32), SeedVariation(2**63 - 1)]
)
async def test_a_variation_needs_a_seed_and_a_share(
    bench: Bench, variation: SeedVariation
) -> None:
    field = "settings.variation"
    assert await violations_of(bench, twice(variation=variation)) == [
        (f"{field}.seed", Reason.SEED_INVALID)
    ]
    for strength in (-0.1, 1.1):
        settings = twice(variation=SeedVariation(5, strength))
        assert await violations_of(bench, settings) == [
            (f"{field}.strength", Reason.FIELD_OUT_OF_RANGE)
        ]


async def test_what_is_no_number_is_refused_as_such(bench: Bench) -> None:
    second, variation = SecondPass(float("nan")), SeedVariation(5, float("inf"))
    assert await violations_of(bench, twice(second, variation=variation)) == [
        (f"{FIELD}.scale", Reason.NON_FINITE_NUMBER),
        ("settings.variation.strength", Reason.NON_FINITE_NUMBER),
    ]


@pytest.mark.parametrize(
    ("width", "height", "scale", "size"),
    [
        (256, 320, 2.0, (512, 640)),
        (256, 256, 1.0, (256, 256)),
        (264, 256, 1.3, (344, 336)),
        (264, 256, 1.5, (400, 384)),
        (512, 512, 4.0, (2048, 2048)),
        (1024, 256, 2.003, (2048, 512)),
    ],
)
def test_the_result_has_the_closest_multiple_of_eight(
    width: int, height: int, scale: float, size: tuple[int, int]
) -> None:
    second = SecondPass(scale, steps=10, guidance=GuidanceSettings())
    settings = twice(second, width=width, height=height, seeds=(1,))
    assert settings.result_size == size
    assert settings.size == (width, height)
    job = GenerationJob(settings, ModelPlace.of(MODEL.place.path))
    for pixels, accepted in ((size, True), ((size[0] + 8, size[1]), False)):
        image = ImageResult(0, 1, "a" * 64, ImageFileFormat.PNG, *pixels, 10)
        assert job.accepts(image) is accepted


@pytest.mark.parametrize(
    ("size", "scale"), [((1024, 1032), 2.0), ((2048, 256), 1.01), ((520, 512), 4.0)]
)
async def test_a_result_that_is_too_large_is_refused_with_the_greatest_scale(
    bench: Bench, size: tuple[int, int], scale: float
) -> None:
    settings = twice(SecondPass(scale), width=size[0], height=size[1])
    verdict = await bench.generations.validate(request(settings))
    (violation,) = verdict.violations
    assert violation.field == f"{FIELD}.scale"
    assert violation.reason is Reason.DIMENSIONS_INVALID
    most = float(violation.description.split("at most ")[-1].split(" ")[0])
    smaller = twice(SecondPass(most), width=size[0], height=size[1])
    assert await violations_of(bench, smaller) == []


async def test_the_models_own_size_counts_where_none_is_asked_for(bench: Bench) -> None:
    settings = twice(SecondPass(4.0), width=None, height=None)
    verdict = await bench.generations.validate(request(settings))
    assert verdict.violations == ()
    assert verdict.settings is not None
    assert verdict.settings.second_pass == SecondPass(
        4.0, steps=10, guidance=GuidanceSettings()
    )


@pytest.mark.parametrize("upscale", SecondPassUpscale)
@pytest.mark.parametrize("picture", [False, True])
async def test_steps_and_phases_are_told_beforehand(
    bench: Bench, upscale: SecondPassUpscale, picture: bool
) -> None:
    bench.models.others["twice"] = UPSCALER
    settings = twice(
        SecondPass(strength=0.3, upscale=upscale),
        image_to_image=ImageToImage(0.5) if picture else None,
    )
    image = InputImage(inline=b"a file") if picture else None
    events = [event.event async for event in bench.run(request(settings, image=image))]

    accepted = next(event for event in events if isinstance(event, Accepted))
    assert accepted.steps == (5 if picture else 10) + 3
    phases = [
        Phase.ENCODING_TEXT,
        *([Phase.PREPARING_INPUT] if picture else []),
        Phase.DENOISING,
        *([] if upscale is SecondPassUpscale.LATENT else [Phase.PREPARING_INPUT]),
        Phase.SECOND_PASS,
        Phase.DECODING,
        Phase.ENCODING_IMAGE,
    ]
    assert list(accepted.expected_phases[-len(phases) :]) == phases
    done = events[-1]
    assert isinstance(done, Completed)
    assert (Phase.PREPARING_INPUT in done.timings) == (Phase.PREPARING_INPUT in phases)
    assert [event for event in events if isinstance(event, StepFinished)]


async def test_a_part_that_is_drawn_enlarged_has_no_second_pass(bench: Bench) -> None:
    settings = twice(inpainting=Inpainting(crop_margin_pixels=8))
    image = InputImage(inline=b"a file")
    verdict = await bench.generations.validate(request(settings, image=image, mask=image))
    (violation,) = verdict.violations
    assert (violation.field, violation.reason) == (FIELD, Reason.FIELDS_CONFLICT)
    assert "crop_margin_pixels" in violation.description
    assert "inpainting.crop_margin_pixels" in excluded_by("second_pass")


async def test_inpainting_again_is_of_what_the_first_pass_drew(bench: Bench) -> None:
    margins = OutpaintingMargins(left_pixels=64)
    masked = Inpainting(0.6, InpaintingFill.NOISE, margins=margins)
    image = InputImage(inline=b"a file")
    wanted = request(twice(SecondPass(strength=0.3), inpainting=masked), image=image)
    assert [event async for event in bench.run(wanted)]
    (job,) = bench.pool.works
    first, last = job.settings.passes
    assert (first.size, last.size) == ((320, 256), (640, 512))
    assert (first.steps_taken, last.steps_taken) == (6, 3)
    assert last.inpainting is not None
    assert last.image_to_image is None
    assert last.inpainting.fill is InpaintingFill.ORIGINAL


def effort(second: SecondPass | None, **settings: Any) -> dict[Phase, float]:
    asked = twice(second, seeds=(1, 2), seed=None, **settings)
    if second is None:
        asked = replace(asked, second_pass=None)
    resolved = replace(
        asked,
        second_pass=resolved_part(asked.second_pass, asked),
        scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
    )
    return dict(effort_of(resolved).amounts)


def test_its_effort_counts_the_larger_picture() -> None:
    pixels = 256 * 256
    plain, second = effort(None), effort(SecondPass(strength=0.5))
    assert plain[Phase.DENOISING] == 2 * 2 * 10 * pixels
    assert second[Phase.DENOISING] == 2 * 2 * (10 + 4 * 5) * pixels
    assert second[Phase.DECODING] == second[Phase.ENCODING_IMAGE] == 2 * 4 * pixels
    assert Phase.PREPARING_INPUT not in second
    unguided = effort(SecondPass(strength=0.5, guidance=GuidanceSettings(1.0)))
    assert unguided[Phase.DENOISING] == 2 * (2 * 10 + 4 * 5) * pixels
    pixelwise = effort(SecondPass(upscale=SecondPassUpscale.PIXELS))
    assert pixelwise[Phase.PREPARING_INPUT] == 2 * 5 * pixels


def test_what_the_wire_leaves_open_has_defaults() -> None:
    message = generation_pb2.GenerationSettings()
    message.second_pass.SetInParent()
    message.variation.seed = 5
    settings = convert.settings_from_proto(message)
    assert settings.second_pass == SecondPass(2.0, SecondPassUpscale.LATENT, 0.5)
    assert settings.variation == SeedVariation(5, 0.1)
    assert convert.settings_from_proto(generation_pb2.GenerationSettings()).variation is None


def test_all_of_it_is_built() -> None:
    built = {
        "second_pass",
        "second_pass.postprocessor_id",
        "variation",
        "seamless_horizontally",
        "seamless_vertically",
    }
    assert not built & set(UNBUILT)
