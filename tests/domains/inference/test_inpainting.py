"""Redrawing a part of a picture: what is refused before any work, what becomes of the rest."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from msgspec.structs import replace

from deviceops.v1 import generation_pb2, inference_pb2
from domains.errors import Reason
from domains.inference import convert
from domains.inference.types import (
    GenerationRequest,
    GenerationSettings,
    Inpainting,
    InpaintingFill,
    OutpaintingMargins,
)
from domains.picture.types import Canvas, InputImage, ResizeFit
from domains.session.types import Phase
from tests.domains.inference.conftest import MODEL, Bench, request

IMAGE, MASK = InputImage(inline=b"a file"), InputImage(inline=b"a mask")
FIELD = "settings.inpainting"


def asked(
    start: Inpainting | None = None, mask: InputImage | None = MASK, **settings: Any
) -> GenerationRequest:
    start = start or Inpainting(0.5)
    wanted = GenerationSettings(prompt="a cat", seed=1, steps=10, inpainting=start, **settings)
    return request(wanted, image=IMAGE, mask=mask)


async def test_mask_and_picture_are_prepared_alike_and_go_with_the_job(bench: Bench) -> None:
    wanted = asked(Inpainting(0.5, fit=ResizeFit.COVER), width=512)
    [event async for event in bench.run(wanted)]

    assert bench.pictures.asked == [
        (IMAGE, f"{FIELD}.image", Canvas(512, None, 256, 320), ResizeFit.COVER),
        (MASK, f"{FIELD}.mask", Canvas(512, 384, 512, 384), ResizeFit.COVER),
    ]
    (job,) = bench.pool.works
    assert job.picture is not None
    assert job.mask is not None
    assert (job.picture.grey, job.mask.grey) == (False, True)


@pytest.mark.parametrize(
    ("start", "mask", "field", "reason"),
    [
        (Inpainting(), None, "mask", Reason.REQUIRED_FIELD_MISSING),
        (Inpainting(0.05), MASK, "strength", Reason.FIELD_OUT_OF_RANGE),
        (Inpainting(1.5), MASK, "strength", Reason.FIELD_OUT_OF_RANGE),
        (
            Inpainting(mask_blur_pixels=65),
            MASK,
            "mask_blur_pixels",
            Reason.FIELD_OUT_OF_RANGE,
        ),
        (
            Inpainting(crop_margin_pixels=513),
            MASK,
            "crop_margin_pixels",
            Reason.FIELD_OUT_OF_RANGE,
        ),
        (
            Inpainting(margins=OutpaintingMargins(top_pixels=1025)),
            None,
            "margins.top_pixels",
            Reason.FIELD_OUT_OF_RANGE,
        ),
        (
            Inpainting(margins=OutpaintingMargins(left_pixels=-8)),
            None,
            "margins.left_pixels",
            Reason.FIELD_OUT_OF_RANGE,
        ),
    ],
)
async def test_what_cannot_be_is_refused_before_a_picture_is_read(
    bench: Bench, start: Inpainting, mask: InputImage | None, field: str, reason: Reason
) -> None:
    verdict = await bench.generations.validate(asked(start, mask))

    (broken,) = verdict.violations
    assert (broken.field, broken.reason) == (f"{FIELD}.{field}", reason)
    assert not bench.pictures.asked


@pytest.mark.parametrize(
    ("left", "top"), [(4, 0), (0, 12), (1024, 0)], ids=["odd", "odd height", "too large"]
)
async def test_margins_that_leave_the_limits_are_refused(
    bench: Bench, left: int, top: int
) -> None:
    margins = OutpaintingMargins(left_pixels=left, top_pixels=top)
    wanted = asked(Inpainting(margins=margins), None, width=1088, height=256)
    verdict = await bench.generations.validate(wanted)

    (broken,) = verdict.violations
    assert (broken.field, broken.reason) == (f"{FIELD}.margins", Reason.DIMENSIONS_INVALID)


async def test_a_mask_of_another_size_is_refused(bench: Bench) -> None:
    bench.pictures.mask_size = (300, 400)
    (broken,) = (await bench.generations.validate(asked())).violations

    assert (broken.field, broken.reason) == (f"{FIELD}.mask", Reason.IMAGE_SIZE_MISMATCH)
    assert "300x400" in broken.description
    assert "400x300" in broken.description


@pytest.mark.parametrize(
    ("values", "inverted", "refused"),
    [
        ((0, 0), False, True),
        ((255, 255), True, True),
        ((255, 255), False, False),
        ((0, 0), True, False),
        ((0, 3), False, False),
    ],
)
async def test_a_mask_that_redraws_nothing_is_refused(
    bench: Bench, values: tuple[int, int], inverted: bool, refused: bool
) -> None:
    bench.pictures.mask_range = values
    start = Inpainting(0.5, invert_mask=inverted)
    verdict = await bench.generations.validate(asked(start))

    fields = [broken.field for broken in verdict.violations]
    assert fields == ([f"{FIELD}.mask"] if refused else [])
    margins = replace(start, margins=OutpaintingMargins(left_pixels=8))
    assert not (await bench.generations.validate(asked(margins))).violations


async def test_a_model_for_masks_does_nothing_else(bench: Bench) -> None:
    bench.models.model = dataclasses.replace(MODEL, inpainting=True)
    (broken,) = (await bench.generations.validate(request())).violations

    assert (broken.field, broken.reason) == ("settings.model_id", Reason.FIELDS_CONFLICT)
    assert not (await bench.generations.validate(asked())).violations


async def test_a_verdict_tells_everything_of_it(bench: Bench) -> None:
    start = Inpainting(
        0.5,
        InpaintingFill.BLUR,
        invert_mask=True,
        mask_blur_pixels=0,
        crop_margin_pixels=8,
        keep_unmasked_pixels=True,
        margins=OutpaintingMargins(8, 16, 24, 32),
    )
    verdict = await bench.generations.validate(asked(start, width=256, height=256))

    assert verdict.settings is not None
    assert verdict.settings.size == (288, 304)
    assert Phase.PREPARING_INPUT in verdict.phases
    told = convert.settings_to_proto(verdict.settings)
    assert (told.width, told.height) == (256, 256)
    assert convert.settings_from_proto(told).inpainting == start


def test_a_request_is_read_whole() -> None:
    message = inference_pb2.GenerateRequest()
    message.settings.inpainting.image.inline = b"a file"
    message.settings.inpainting.fill = generation_pb2.INPAINTING_FILL_EMPTY
    wanted = convert.request_from_proto(message)

    assert (wanted.image, wanted.mask, wanted.unbuilt) == (IMAGE, None, ())
    assert wanted.settings.inpainting == Inpainting(fill=InpaintingFill.EMPTY)
    message.settings.inpainting.mask.inline = b"a mask"
    assert convert.request_from_proto(message).mask == MASK
