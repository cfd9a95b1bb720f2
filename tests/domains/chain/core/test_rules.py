"""What steps are refused for, by field, and which sizes a chain comes to."""

from __future__ import annotations

import math

import pytest
from google.protobuf.message import Message

from deviceops.v1 import common_pb2
from deviceops.v1 import finishing_pb2 as pb
from domains.chain.convert import chain_from_proto
from domains.chain.core.rules import check_chain
from domains.chain.core.sizes import check_format, sizes_of
from domains.chain.types import (
    Anchor,
    ColorStep,
    CropStep,
    DeblurStep,
    DenoiseMethod,
    DenoiseStep,
    FaceRestoreStep,
    LutStep,
    PadMode,
    PadStep,
    RemoveBackgroundStep,
    ResizeFilter,
    ResizeStep,
    RotateStep,
    SafetyStep,
    SharpenStep,
    UpscaleStep,
    WatermarkStep,
)
from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.limits import LIMITS
from domains.picture.types import InputImage, ResizeFit
from domains.values import ImageFileFormat

LIMIT = LIMITS["ProcessImageRequest.steps"]
KINDS = {
    field.name: field.message_type
    for field in pb.PostprocessingStep.DESCRIPTOR.fields
    if field.message_type is not None
}


def refused(**step: Message) -> list[FieldViolation]:
    """What the second step of a chain is refused for."""
    messages = [pb.PostprocessingStep(crop=pb.CropStep(width=1, height=1))]
    messages.append(pb.PostprocessingStep(**step))  # type: ignore[arg-type]
    return list(check_chain(chain_from_proto(messages, "steps"), "steps", LIMIT))


def test_an_empty_step_of_each_kind_has_the_contracts_defaults() -> None:
    steps = [pb.PostprocessingStep() for _ in KINDS]
    for step, name in zip(steps, KINDS, strict=True):
        getattr(step, name).SetInParent()

    chain = chain_from_proto(steps, "steps")

    assert chain.steps == (
        UpscaleStep("", 4.0, 0, 16),
        FaceRestoreStep("", 1.0, 0.5),
        SharpenStep(1.0, 1.0, 0),
        DenoiseStep(0.5, DenoiseMethod.BILATERAL),
        ColorStep(1.0, 1.0, 1.0, 1.0, False, 0.0, 0.0, 0.0, False),
        ResizeStep(0, 0, ResizeFilter.LANCZOS, ResizeFit.STRETCH),
        CropStep(0, 0, 0, 0),
        WatermarkStep("", Anchor.BOTTOM_RIGHT, 0.5, 0.05, 16),
        SafetyStep(""),
        RotateStep(90.0, False, ""),
        PadStep(0, 0, 0, 0, PadMode.FILL, ""),
        LutStep(1.0),
        DeblurStep(1.0, 10),
        RemoveBackgroundStep(""),
    )


def test_what_is_set_arrives() -> None:
    steps = [
        pb.PostprocessingStep(
            resize=pb.ResizeStep(
                width=9,
                height=8,
                filter=pb.RESIZE_FILTER_NEAREST,
                fit=common_pb2.RESIZE_FIT_COVER,
            )
        ),
        pb.PostprocessingStep(
            watermark=pb.WatermarkStep(
                image=common_pb2.InputImage(artifact_id="b" * 64),
                anchor=pb.ANCHOR_TILED,
                opacity=0.25,
                scale=0.5,
                margin_pixels=0,
            )
        ),
        pb.PostprocessingStep(color=pb.ColorStep(gamma=2.0, auto_contrast=True)),
        pb.PostprocessingStep(rotate=pb.RotateStep(degrees=0.0, mirror=True, fill="#fff0ff")),
        pb.PostprocessingStep(pad=pb.PadStep(left=1, mode=pb.PAD_MODE_REFLECT)),
    ]

    chain = chain_from_proto(steps, "steps")

    assert chain.steps == (
        ResizeStep(9, 8, ResizeFilter.NEAREST, ResizeFit.COVER),
        WatermarkStep("", Anchor.TILED, 0.25, 0.5, 0),
        ColorStep(gamma=2.0, auto_contrast=True),
        RotateStep(0.0, True, "#fff0ff"),
        PadStep(left=1, mode=PadMode.REFLECT),
    )
    assert chain.marks == {1: InputImage(artifact_id="b" * 64)}


def test_a_step_that_says_nothing_is_refused_by_its_place() -> None:
    with pytest.raises(InvalidArgument) as caught:
        chain_from_proto([pb.PostprocessingStep()], "postprocessing")

    [violation] = caught.value.violations
    assert (violation.field, violation.reason) == (
        "postprocessing[0]",
        Reason.REQUIRED_FIELD_MISSING,
    )


@pytest.mark.parametrize(
    ("step", "field"),
    [
        (pb.PostprocessingStep(resize=pb.ResizeStep(filter=77)), "steps[0].resize.filter"),  # type: ignore[arg-type]
        (pb.PostprocessingStep(resize=pb.ResizeStep(fit=77)), "steps[0].resize.fit"),  # type: ignore[arg-type]
        (
            pb.PostprocessingStep(watermark=pb.WatermarkStep(anchor=77)),  # type: ignore[arg-type]
            "steps[0].watermark.anchor",
        ),
        (pb.PostprocessingStep(denoise=pb.DenoiseStep(method=77)), "steps[0].denoise.method"),  # type: ignore[arg-type]
        (pb.PostprocessingStep(pad=pb.PadStep(mode=77)), "steps[0].pad.mode"),  # type: ignore[arg-type]
    ],
)
def test_values_of_a_newer_contract_are_refused(
    step: pb.PostprocessingStep, field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        chain_from_proto([step], "steps")

    assert caught.value.reason is Reason.ENUM_VALUE_UNKNOWN
    assert caught.value.violations[0].field == field


_NUMBERS = [
    (name, part.name, part.cpp_type == part.CPPTYPE_INT32)
    for name, kind in KINDS.items()
    for part in kind.fields
    if (limit := LIMITS.get(f"{kind.name}.{part.name}")) and limit.minimum is not None
]


@pytest.mark.parametrize(("name", "part", "whole"), _NUMBERS)
def test_every_number_has_its_bounds(name: str, part: str, whole: bool) -> None:
    limit = LIMITS[f"{KINDS[name].name}.{part}"]
    assert limit.minimum is not None and limit.maximum is not None  # noqa: PT018

    def reason_of(value: float) -> Reason | None:
        step = pb.PostprocessingStep()
        setattr(getattr(step, name), part, int(value) if whole else value)
        chain = chain_from_proto([step], "steps")
        found = {one.field: one.reason for one in check_chain(chain, "steps", LIMIT)}
        return found.get(f"steps[0].{name}.{part}")

    for value in (limit.minimum - 1, limit.maximum + 1):
        assert reason_of(value) in (Reason.FIELD_OUT_OF_RANGE, Reason.DIMENSIONS_INVALID)
    for value in () if whole else (math.nan, math.inf, -math.inf):
        assert reason_of(value) is Reason.NON_FINITE_NUMBER
    assert reason_of(limit.minimum) is None
    assert reason_of(limit.maximum) is None


@pytest.mark.parametrize(
    ("step", "field", "reason"),
    [
        ({"upscale": pb.UpscaleStep(tile_pixels=44)}, "tile_pixels", "FIELD_OUT_OF_RANGE"),
        (
            {"upscale": pb.UpscaleStep(tile_pixels=32, tile_overlap_pixels=16)},
            "tile_overlap_pixels",
            "FIELDS_CONFLICT",
        ),
        ({"crop": pb.CropStep(left=-1, width=1, height=1)}, "left", "DIMENSIONS_INVALID"),
        ({"crop": pb.CropStep(top=-9, width=1, height=1)}, "top", "DIMENSIONS_INVALID"),
        ({"resize": pb.ResizeStep(width=5)}, "height", "DIMENSIONS_INVALID"),
        ({"rotate": pb.RotateStep(fill="red")}, "fill", "TEXT_INVALID"),
        ({"rotate": pb.RotateStep(fill="#1234567")}, "fill", "TEXT_INVALID"),
        ({"rotate": pb.RotateStep(fill="#12345678\n")}, "fill", "TEXT_INVALID"),
        ({"pad": pb.PadStep(fill="#12345g")}, "fill", "TEXT_INVALID"),
        (
            {"pad": pb.PadStep(mode=pb.PAD_MODE_EDGE, fill="#123456")},
            "fill",
            "FIELDS_CONFLICT",
        ),
        ({"lut": pb.LutStep(artifact_id="x")}, "artifact_id", "NAME_INVALID"),
        ({"lut": pb.LutStep(cube=bytes(1_048_577))}, "cube", "FIELD_OUT_OF_RANGE"),
        ({"watermark": pb.WatermarkStep()}, "text", "REQUIRED_FIELD_MISSING"),
        ({"watermark": pb.WatermarkStep(text=" ")}, "text", "REQUIRED_FIELD_MISSING"),
        ({"watermark": pb.WatermarkStep(text="a" * 201)}, "text", "TEXT_TOO_LONG"),
        ({"watermark": pb.WatermarkStep(text="a\nb")}, "text", "TEXT_INVALID"),
        ({"watermark": pb.WatermarkStep(text="año")}, "text", "TEXT_INVALID"),
        (
            {"watermark": pb.WatermarkStep(image=common_pb2.InputImage(artifact_id="x"))},
            "image.artifact_id",
            "NAME_INVALID",
        ),
        (
            {"watermark": pb.WatermarkStep(image=common_pb2.InputImage())},
            "image",
            "REQUIRED_FIELD_MISSING",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    step: dict[str, Message], field: str, reason: str
) -> None:
    [name] = step

    [violation] = refused(**step)

    assert (violation.field, violation.reason) == (f"steps[1].{name}.{field}", reason)


def test_a_table_must_be_there() -> None:
    [violation] = refused(lut=pb.LutStep())

    assert (violation.field, violation.reason) == (
        "steps[1].lut",
        Reason.REQUIRED_FIELD_MISSING,
    )


def test_good_steps_break_no_rule() -> None:
    assert not refused(upscale=pb.UpscaleStep(tile_pixels=40, tile_overlap_pixels=16))
    assert not refused(rotate=pb.RotateStep(fill="#12aBcD"))
    assert not refused(pad=pb.PadStep(mode=pb.PAD_MODE_FILL, fill="#12aBcD80"))
    assert not refused(watermark=pb.WatermarkStep(text="© “2026” - no, … yes"))


def test_more_than_sixteen_steps_are_refused() -> None:
    step = pb.PostprocessingStep(denoise=pb.DenoiseStep())

    [violation] = check_chain(chain_from_proto([step] * 17, "steps"), "steps", LIMIT)

    assert (violation.field, violation.reason) == ("steps", Reason.TOO_MANY_ELEMENTS)
    assert not list(check_chain(chain_from_proto([step] * 16, "steps"), "steps", LIMIT))


# Sizes.


def test_sizes_follow_from_step_to_step() -> None:
    steps = (
        UpscaleStep(factor=1.5),
        CropStep(1, 2, 8, 6),
        SharpenStep(),
        ResizeStep(40, 40, fit=ResizeFit.CONTAIN),
        ResizeStep(5, 7, fit=ResizeFit.COVER),
        UpscaleStep(factor=8),
        RotateStep(),
        RotateStep(-180.0),
        PadStep(1, 2, 3, 4),
    )

    found = sizes_of(steps, (7, 5), "steps")

    assert found.violation is None
    assert found.sizes == (
        (11, 8),
        (8, 6),
        (8, 6),
        (40, 30),
        (5, 7),
        (40, 56),
        (56, 40),
        (56, 40),
        (60, 46),
    )
    assert sizes_of((), (3, 4), "steps").sizes == ()


@pytest.mark.parametrize(
    ("size", "wanted", "result"),
    [
        ((16_384, 1), (10, 10), (10, 1)),
        ((1, 16_384), (10, 10), (1, 10)),
        ((3, 3), (7, 9), (7, 7)),
        ((100, 99), (50, 50), (50, 50)),
        ((640, 480), (64, 16_384), (64, 48)),
    ],
)
def test_a_contained_picture_keeps_its_shape_and_a_pixel(
    size: tuple[int, int], wanted: tuple[int, int], result: tuple[int, int]
) -> None:
    step = ResizeStep(*wanted, fit=ResizeFit.CONTAIN)

    assert sizes_of((step,), size, "steps").sizes == (result,)


@pytest.mark.parametrize(
    "step",
    [
        CropStep(0, 0, 11, 1),
        CropStep(0, 0, 1, 9),
        CropStep(10, 0, 1, 1),
        CropStep(2**31 - 1, 0, 16_384, 1),
        CropStep(0, 2**31 - 1, 1, 1),
    ],
)
def test_a_box_that_does_not_lie_inside_is_refused(step: CropStep) -> None:
    found = sizes_of((SharpenStep(), step), (10, 8), "steps")

    assert found.sizes == ((10, 8),)
    assert found.violation is not None
    assert found.violation.field == "steps[1].crop"
    assert found.violation.reason is Reason.DIMENSIONS_INVALID
    assert "10x8" in found.violation.description


def test_a_picture_that_becomes_too_large_is_refused_by_its_step() -> None:
    found = sizes_of((UpscaleStep(factor=8), UpscaleStep(factor=8)), (200, 200), "steps")

    assert found.sizes == ((1_600, 1_600),)
    assert found.violation is not None
    assert found.violation.field == "steps[1].upscale"
    assert "12800x12800" in found.violation.description
    long = sizes_of((UpscaleStep(factor=8),), (5_000, 1), "steps")
    assert long.violation is not None
    assert sizes_of((ResizeStep(16_384, 4_096),), (1, 1), "steps").violation is None
    assert sizes_of((ResizeStep(16_384, 4_097),), (1, 1), "steps").violation is not None
    assert sizes_of((RotateStep(45.0),), (8_192, 8_192), "steps").violation is not None
    assert sizes_of((PadStep(16_384, 0, 16_384),), (1, 1), "steps").violation is not None


def test_a_format_has_its_longest_edge() -> None:
    [violation] = check_format((16_384, 1), ImageFileFormat.WEBP, "output.format")

    assert (violation.field, violation.reason) == ("output.format", Reason.FIELDS_CONFLICT)
    assert not check_format((16_383, 1), ImageFileFormat.WEBP, "output.format")
    assert not check_format((32_768, 1), ImageFileFormat.JPEG, "output.format")
