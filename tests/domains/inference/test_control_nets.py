"""ControlNets of a generation before any work: their rules, and what becomes of pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from domains.errors import Reason
from domains.inference.core.resolution import effort_of
from domains.inference.types import (
    ControlInput,
    ControlNetGuidance,
    GenerationRequest,
    GenerationSettings,
    GuidanceSettings,
    ImageToImage,
    Inpainting,
    SecondPass,
    asked_together,
)
from domains.picture.types import (
    CannyOptions,
    Canvas,
    ControlPreprocessor,
    GreyOptions,
    InputImage,
    PictureFile,
    ResizeFit,
)
from domains.values import PROMAX, UNION, ControlNetType
from tests.domains.inference.conftest import MODEL, Bench, request

IMAGE = InputImage(inline=b"a file")
CANNY = ControlPreprocessor(CannyOptions())
NAME = "settings.control_nets[0]"


def following(
    net: dict[str, Any] | None = None,
    pictures: ControlInput | None = None,
    count: int = 1,
    **settings: Any,
) -> GenerationRequest:
    nets = (ControlNetGuidance("emoji", **(net or {})),) * count
    return request(
        GenerationSettings(prompt="a cat", steps=2, control_nets=nets, **settings),
        controls=(pictures or ControlInput(IMAGE),) * count,
    )


async def test_pictures_come_in_the_size_that_is_drawn(bench: Bench) -> None:
    net = {"preprocessor": CANNY, "fit": ResizeFit.COVER}
    events = [e async for e in bench.run(following(net, ControlInput(IMAGE, mask=IMAGE), 2))]

    assert events
    fields = [
        f"settings.control_nets[{k}].{name}" for k in (0, 1) for name in ("image", "mask")
    ]
    assert bench.pictures.asked == [
        (IMAGE, field, Canvas(256, 320), ResizeFit.COVER) for field in fields
    ]
    assert bench.pictures.controls == [CANNY, ControlPreprocessor(GreyOptions())] * 2
    (job,) = bench.pool.works
    assert [len(each.images) for each in job.controls] == [1, 1]
    assert all(each.mask for each in job.controls)
    told = job.settings.control_nets[0]
    assert told.image is not None
    assert not told.image.artifact
    assert [each.model_id for each in job.companions] == ["emoji"]


async def test_the_size_is_the_pictures_that_it_starts_from(bench: Bench) -> None:
    wanted = following(image_to_image=ImageToImage(0.5))
    verdict = await bench.generations.validate(
        request(wanted.settings, image=IMAGE, controls=wanted.controls)
    )
    assert verdict.violations == ()
    drawn = verdict.settings.size if verdict.settings else ()
    assert bench.pictures.asked[1][2] == Canvas(*drawn)


@pytest.mark.parametrize(
    ("wanted", "field", "reason"),
    [
        (following({"start": 0.6, "end": 0.5}), ".end", Reason.FIELDS_CONFLICT),
        (following({"start": -0.1}), ".start", Reason.FIELD_OUT_OF_RANGE),
        (
            following({"conditioning_scale": 2.1}),
            ".conditioning_scale",
            Reason.FIELD_OUT_OF_RANGE,
        ),
        (
            following({"guess_mode": True}, guidance=GuidanceSettings(1.0)),
            ".guess_mode",
            Reason.FIELDS_CONFLICT,
        ),
        (
            following({"preprocessor": ControlPreprocessor(CannyOptions(9, 8))}),
            ".preprocessor.canny.low",
            Reason.FIELDS_CONFLICT,
        ),
        (
            following({"preprocessor": ControlPreprocessor(GreyOptions(), 2049)}),
            ".preprocessor.resolution_pixels",
            Reason.FIELD_OUT_OF_RANGE,
        ),
        (following(pictures=ControlInput()), ".image", Reason.REQUIRED_FIELD_MISSING),
        (
            following(pictures=ControlInput(IMAGE, (IMAGE,))),
            ".images",
            Reason.FIELDS_CONFLICT,
        ),
        (
            following(pictures=ControlInput(images=(IMAGE,) * 2), image_count=3),
            ".images",
            Reason.FIELDS_CONFLICT,
        ),
    ],
)
async def test_bad_ones_are_refused_before_a_picture_is_read(
    bench: Bench, wanted: GenerationRequest, field: str, reason: Reason
) -> None:
    verdict = await bench.generations.validate(wanted)
    assert [(v.field, v.reason) for v in verdict.violations] == [(f"{NAME}{field}", reason)]
    assert not bench.pictures.asked


async def test_a_part_drawn_alone_has_them_of_the_whole_picture(bench: Bench) -> None:
    wanted = following(inpainting=Inpainting(crop_margin_pixels=32))
    asked = request(wanted.settings, image=IMAGE, mask=IMAGE, controls=wanted.controls)
    verdict = await bench.generations.validate(asked)
    assert (verdict.violations, verdict.failure) == ((), None)
    assert verdict.settings is not None
    assert bench.pictures.asked[-1][2] == Canvas(*verdict.settings.size)


@pytest.mark.parametrize(
    ("scale", "sizes"), [(1.5, [(256, 320), (384, 480)]), (1.0, [(256, 320)])]
)
async def test_a_second_pass_has_them_in_its_size(
    bench: Bench, scale: float, sizes: list[tuple[int, int]]
) -> None:
    """From the original: where the size is the same, they are the same."""
    wanted = following(
        {"preprocessor": CANNY}, ControlInput(IMAGE, mask=IMAGE), second_pass=SecondPass(scale)
    )
    assert [e async for e in bench.run(wanted)]
    asked = [
        (field, (canvas.width, canvas.height)) for _, field, canvas, _ in bench.pictures.asked
    ]
    assert asked == [(f"{NAME}.{name}", size) for name in ("image", "mask") for size in sizes]
    (job,) = bench.pool.works
    (control,) = job.controls
    for each in job.settings.passes:
        found = control.of_size(each.size)
        assert found.mask is not None
        for picture in (*found.images, found.mask):
            assert (picture.width, picture.height) == each.size


async def test_sixteen_are_the_most(bench: Bench) -> None:
    assert not (await bench.generations.validate(following(count=16))).violations
    (violation,) = (await bench.generations.validate(following(count=17))).violations
    assert violation.reason is Reason.TOO_MANY_ELEMENTS


async def test_a_picture_for_each_that_is_drawn(bench: Bench) -> None:
    wanted = following(pictures=ControlInput(images=(IMAGE,) * 3), seeds=(1, 2, 3))
    assert not (await bench.generations.validate(wanted)).violations
    assert [field for _, field, *_ in bench.pictures.asked] == [
        f"{NAME}.images[{k}]" for k in range(3)
    ]


@pytest.mark.parametrize(
    ("kind", "control_type", "reason", "words"),
    [
        (UNION, None, Reason.REQUIRED_FIELD_MISSING, "one of POSE, DEPTH, SOFT_EDGE"),
        (PROMAX, None, Reason.REQUIRED_FIELD_MISSING, "NORMAL, SEGMENT, TILE, REPAINT."),
        (UNION, ControlNetType.TILE, Reason.FIELDS_CONFLICT, "does not know TILE"),
        ("", ControlNetType.EDGE, Reason.FIELDS_CONFLICT, "leave EDGE out, or choose a union"),
    ],
)
async def test_what_a_network_does_not_take_a_picture_for(
    bench: Bench,
    kind: str,
    control_type: ControlNetType | None,
    reason: Reason,
    words: str,
) -> None:
    bench.models.model = replace(MODEL, kind=kind)
    verdict = await bench.generations.validate(following({"control_type": control_type}))
    (violation,) = verdict.violations
    assert (violation.field, violation.reason) == (f"{NAME}.control_type", reason)
    assert words in violation.description
    assert "emoji" in violation.description
    assert not bench.pictures.asked


@pytest.mark.parametrize("control_type", ControlNetType)
async def test_a_union_is_told_what_it_takes_a_picture_for(
    bench: Bench, control_type: ControlNetType
) -> None:
    bench.models.model = replace(MODEL, kind=PROMAX)
    assert [e async for e in bench.run(following({"control_type": control_type}))]
    (job,) = bench.pool.works
    assert job.settings.control_nets[0].control_type is control_type


def test_a_unions_pictures_are_one_call_where_they_work_alike() -> None:
    union = ControlNetGuidance("union", control_type=ControlNetType.POSE)
    mask = PictureFile("0" * 64, artifact=False)
    nets = [
        union,
        ControlNetGuidance("plain"),
        changed(union, control_type=ControlNetType.EDGE, end=0.5),
        ControlNetGuidance("plain"),
        changed(union, guess_mode=True),
        changed(union, mask=mask),
        changed(union, model_id="another"),
        changed(union, mask=mask, fit=ResizeFit.COVER),  # which is another mask
        changed(union, fit=ResizeFit.COVER),
    ]
    assert asked_together(nets) == [[0, 2, 8], [1], [3], [4], [5], [6], [7]]
    settings = GenerationSettings(width=64, height=64, seeds=(1,), control_nets=(union, union))
    one = changed(settings, control_nets=(union,))
    assert effort_of(settings) == effort_of(one)
