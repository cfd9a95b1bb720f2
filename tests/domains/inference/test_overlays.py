"""Settings laid over a template, one by one and in every combination."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from deviceops.v1 import common_pb2, conditioning_pb2, generation_pb2, inference_pb2
from domains.errors import InvalidArgument, Reason
from domains.inference.convert.batches import batch_from_proto
from domains.inference.convert.overlays import Layer, laid_over
from domains.inference.types import ImageToImage
from domains.inference.types.batches import BatchComputation

Settings = generation_pb2.GenerationSettings
Overlay = generation_pb2.GenerationOverlay


def item(name: str, *cleared: str, **settings: Any) -> inference_pb2.GenerationItem:
    """One that sets and clears fields."""
    return inference_pb2.GenerationItem(
        item_id=name,
        overlay=Overlay(settings=Settings(**settings), cleared_fields=FieldMask(paths=cleared)),
    )


def matrix(*axes: list[dict[str, Any]], **runs: int) -> generation_pb2.GenerationMatrix:
    """Axes of settings."""
    return generation_pb2.GenerationMatrix(
        axes=[
            generation_pb2.MatrixAxis(values=[Overlay(settings=Settings(**v)) for v in values])
            for values in axes
        ],
        **runs,
    )


def broken(message: inference_pb2.GenerateBatchRequest) -> list[tuple[str, Reason]]:
    """What is wrong with it."""
    with pytest.raises(InvalidArgument) as refused:
        batch_from_proto(message)
    return [(each.field, each.reason) for each in refused.value.violations]


def test_what_an_overlay_sets_replaces_lists_and_messages_whole() -> None:
    template = Settings(
        prompt="a robot",
        steps=9,
        loras=[conditioning_pb2.LoraWeight(model_id="watercolour")],
        output=common_pb2.OutputSettings(quality=50, format=common_pb2.IMAGE_FILE_FORMAT_JPEG),
    )
    overlay = Overlay(
        settings=Settings(
            prompt="",
            loras=[conditioning_pb2.LoraWeight(model_id="ink")],
            output=common_pb2.OutputSettings(format=common_pb2.IMAGE_FILE_FORMAT_WEBP),
        )
    )
    laid, origins = laid_over(template, [Layer(overlay, "items[0].overlay")])

    assert laid == Settings(
        prompt="",
        steps=9,
        loras=[conditioning_pb2.LoraWeight(model_id="ink")],
        output=common_pb2.OutputSettings(format=common_pb2.IMAGE_FILE_FORMAT_WEBP),
    )
    assert set(origins) == {"prompt", "loras", "output"}
    assert template.prompt == "a robot", "the template stays for the next item"


def test_what_is_cleared_is_as_if_the_template_had_not_said_it() -> None:
    template = Settings(prompt="a robot", negative_prompt="blurry", clip_skip=1)
    cleared = Overlay(cleared_fields=FieldMask(paths=["negative_prompt", "clip_skip"]))
    laid, _ = laid_over(template, [Layer(cleared, "")])
    assert laid == Settings(prompt="a robot")


@pytest.mark.parametrize(
    ("template", "own"),
    [
        (Settings(seed=1), Settings(seeds=[2, 3])),
        (Settings(seeds=[2, 3]), Settings(seed=1)),
        (
            Settings(image_to_image=generation_pb2.ImageToImage(strength=0.5)),
            Settings(inpainting=generation_pb2.Inpainting(strength=0.5)),
        ),
    ],
)
def test_what_stands_for_one_another_is_replaced_by_either(
    template: generation_pb2.GenerationSettings, own: generation_pb2.GenerationSettings
) -> None:
    laid, origins = laid_over(template, [Layer(Overlay(settings=own), "here")])
    assert laid == own
    assert len(origins) == 2, "an error about either is an error about what was set here"


def test_a_matrix_is_every_combination_the_last_axis_fastest() -> None:
    request = batch_from_proto(
        inference_pb2.GenerateBatchRequest(
            template=Settings(prompt="a cat", steps=5),
            matrix=matrix(
                [{"prompt": "a cat"}, {"prompt": "a dog"}],
                [{"steps": 1}, {"steps": 2}, {"steps": 3}],
            ),
        )
    )
    drawn = [
        (one.item_id, one.request.settings.prompt, one.request.settings.steps)
        for one in request.items
    ]
    assert drawn == [
        ("0-0", "a cat", 1),
        ("0-1", "a cat", 2),
        ("0-2", "a cat", 3),
        ("1-0", "a dog", 1),
        ("1-1", "a dog", 2),
        ("1-2", "a dog", 3),
    ]
    assert request.field == "matrix"
    assert request.items[4].origin("settings.steps") == (
        "matrix.axes[1].values[1].settings.steps"
    )
    assert request.items[4].origin("settings.width") == "template.width"
    assert request.items[4].origin("options.request_id") == "options.request_id"


def test_runs_count_on_from_the_seeds_of_the_run_before() -> None:
    request = batch_from_proto(
        inference_pb2.GenerateBatchRequest(
            template=Settings(image_count=2),
            matrix=matrix([{"seed": 2**32 - 3}, {"seeds": [5, 8]}, {}], runs=3),
        )
    )
    seeds = {
        one.item_id: (one.request.settings.seed, one.request.settings.seeds)
        for one in request.items
    }
    assert seeds == {
        "0-0": (2**32 - 3, ()),
        "0-1": (2**32 - 1, ()),
        "0-2": (1, ()),
        "1-0": (None, (5, 8)),
        "1-1": (None, (7, 10)),
        "1-2": (None, (9, 12)),
        "2-0": (None, ()),
        "2-1": (None, ()),
        "2-2": (None, ()),
    }


def test_a_matrix_without_axes_is_runs_of_the_template() -> None:
    request = batch_from_proto(inference_pb2.GenerateBatchRequest(matrix=matrix(runs=2)))
    assert [one.item_id for one in request.items] == ["0", "1"]


def test_a_picture_goes_with_the_settings_that_name_it() -> None:
    named = generation_pb2.ImageToImage(image=common_pb2.InputImage(inline=b"x"))
    request = batch_from_proto(
        inference_pb2.GenerateBatchRequest(
            template=Settings(prompt="a cat"),
            items=[item("without"), item("with", image_to_image=named)],
            computation=generation_pb2.BATCH_COMPUTATION_THROUGHPUT,
        )
    )
    without, with_it = (one.request for one in request.items)
    assert (without.image, without.settings.image_to_image) == (None, None)
    assert with_it.image is not None
    assert isinstance(with_it.settings.image_to_image, ImageToImage)
    assert request.computation is BatchComputation.THROUGHPUT


MANY = [{"steps": step} for step in range(1, 10)]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            inference_pb2.GenerateBatchRequest(items=[item("a"), item(""), item("a")]),
            [
                ("items[1].item_id", Reason.REQUIRED_FIELD_MISSING),
                ("items[2].item_id", Reason.FIELDS_CONFLICT),
            ],
        ),
        (
            inference_pb2.GenerateBatchRequest(items=[item("a\nb"), item("c" * 129)]),
            [
                ("items[0].item_id", Reason.TEXT_INVALID),
                ("items[1].item_id", Reason.TEXT_TOO_LONG),
            ],
        ),
        (
            inference_pb2.GenerateBatchRequest(items=[item(str(k)) for k in range(65)]),
            [("items", Reason.TOO_MANY_ELEMENTS)],
        ),
        (
            inference_pb2.GenerateBatchRequest(items=[item("a")], matrix=matrix(MANY)),
            [("matrix", Reason.FIELDS_CONFLICT)],
        ),
        (
            inference_pb2.GenerateBatchRequest(
                items=[item("a", "promt", "seed", seed=1), item("b", *["prompt"] * 33)]
            ),
            [
                ("items[0].overlay.cleared_fields[0]", Reason.UNKNOWN_FIELD),
                ("items[0].overlay.cleared_fields[1]", Reason.FIELDS_CONFLICT),
                ("items[1].overlay.cleared_fields", Reason.TOO_MANY_ELEMENTS),
            ],
        ),
        (
            inference_pb2.GenerateBatchRequest(matrix=matrix(MANY, MANY)),
            [("matrix", Reason.TOO_MANY_ELEMENTS)],
        ),
        (
            inference_pb2.GenerateBatchRequest(matrix=matrix(MANY, runs=0)),
            [("matrix.runs", Reason.FIELD_OUT_OF_RANGE)],
        ),
        (
            inference_pb2.GenerateBatchRequest(matrix=matrix(MANY, runs=2**31 - 1)),
            [("matrix.runs", Reason.FIELD_OUT_OF_RANGE)],
        ),
        (
            inference_pb2.GenerateBatchRequest(matrix=matrix(*[MANY[:1]] * 7)),
            [("matrix.axes", Reason.TOO_MANY_ELEMENTS)],
        ),
    ],
)
def test_unclear_items_are_refused_by_field(
    message: inference_pb2.GenerateBatchRequest, expected: list[tuple[str, Reason]]
) -> None:
    assert broken(message) == expected
