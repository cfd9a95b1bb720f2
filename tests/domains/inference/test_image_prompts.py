"""Image prompts of a generation before any work: their rules, what reads their pictures, and
what becomes of those."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domains.errors import FailedPrecondition, Reason
from domains.inference.core import image_prompts
from domains.inference.types import (
    ControlInput,
    ControlNetGuidance,
    GenerationRequest,
    GenerationSettings,
    ImagePrompt,
    ImagePromptInput,
    ImageToImage,
    SecondPass,
)
from domains.model.types import Architecture, ModelType
from domains.picture.types import GREY, OWN_SIZE, Canvas, InputImage, PictureFile, ResizeFit
from domains.session.types import Accepted, Completed, Phase
from tests.domains.inference.conftest import MODEL, Bench, request

IMAGE = InputImage(inline=b"a file")
STORED = InputImage(artifact_id="d" * 64)
NAME = "settings.image_prompts[0]"
ENCODER = replace(MODEL, model_id="clip", type=ModelType.IMAGE_ENCODER, architecture=None)
OTHER = replace(ENCODER, model_id="bigger-clip")


@pytest.fixture
def encoded(bench: Bench) -> Bench:
    """With an image encoder in the catalogue."""
    bench.models.others[ENCODER.model_id] = ENCODER
    return bench


def prompted(
    prompt: dict[str, Any] | None = None,
    pictures: ImagePromptInput | None = None,
    count: int = 1,
    **settings: Any,
) -> GenerationRequest:
    prompts = (ImagePrompt(**{"model_id": "emoji", **(prompt or {})}),) * count
    return request(
        GenerationSettings(prompt="a cat", steps=2, image_prompts=prompts, **settings),
        image_prompts=(pictures or ImagePromptInput((IMAGE,)),) * count,
    )


async def test_pictures_come_in_their_own_sizes(encoded: Bench) -> None:
    wanted = prompted({"scale": 0.5, "end": 0.8}, ImagePromptInput((IMAGE, STORED)), 2)
    assert [e async for e in encoded.run(wanted)]

    assert encoded.pictures.asked == [
        (image, f"settings.image_prompts[{k}].images[{n}]", OWN_SIZE, ResizeFit.STRETCH)
        for k in (0, 1)
        for n, image in enumerate((IMAGE, STORED))
    ]
    assert encoded.pictures.controls == [None] * 4
    (job,) = encoded.pool.works
    assert [len(each.images) for each in job.image_prompts] == [2, 2]
    first = job.image_prompts[0]
    assert [(each.width, each.height, each.grey) for each in first.images] == [
        (400, 300, False)
    ] * 2
    assert first.masks == ()
    told = job.settings.image_prompts[0]
    assert told == ImagePrompt(
        "emoji",
        "clip",
        scale=0.5,
        end=0.8,
        images=(PictureFile("c" * 64, artifact=False), PictureFile("c" * 64, artifact=True)),
    )
    assert [(each.model_id, each.model_type) for each in job.companions] == [
        ("emoji", ModelType.IMAGE_PROMPT_ADAPTER),
        ("clip", ModelType.IMAGE_ENCODER),
    ]
    assert encoded.image_prompt_fits.checked == [("emoji", "emoji")] * 2


async def test_the_phase_and_the_time_in_which_they_are_read_are_told(encoded: Bench) -> None:
    events = [event.event async for event in encoded.run(prompted())]
    accepted, completed = events[0], events[-1]
    assert isinstance(accepted, Accepted)
    assert isinstance(completed, Completed)
    phases = accepted.expected_phases
    assert phases.index(Phase.PREPARING_INPUT) == phases.index(Phase.DENOISING) - 1
    assert Phase.PREPARING_INPUT in completed.timings


@pytest.mark.parametrize(
    ("scale", "sizes"), [(1.5, [(256, 320), (384, 480)]), (1.0, [(256, 320)])]
)
async def test_a_mask_is_grey_and_in_each_size_that_is_drawn(
    encoded: Bench, scale: float, sizes: list[tuple[int, int]]
) -> None:
    wanted = prompted(
        pictures=ImagePromptInput((IMAGE,), mask=STORED), second_pass=SecondPass(scale)
    )
    assert [e async for e in encoded.run(wanted)]
    assert encoded.pictures.asked[1:] == [
        (STORED, f"{NAME}.mask", Canvas(*size), ResizeFit.STRETCH) for size in sizes
    ]
    (job,) = encoded.pool.works
    (pictures,) = job.image_prompts
    assert encoded.pictures.controls[1:] == [GREY] * len(sizes)  # as those of ControlNets
    assert len(pictures.masks) == len(sizes)
    for each in job.settings.passes:
        mask = pictures.mask_of(each.size)
        assert mask is not None
        assert (mask.width, mask.height) == each.size
    assert pictures.mask_of((8, 8)) is None
    assert job.settings.image_prompts[0].mask == PictureFile("c" * 64, artifact=True)


async def test_a_masks_size_is_the_pictures_that_it_starts_from(encoded: Bench) -> None:
    wanted = prompted(
        pictures=ImagePromptInput((IMAGE,), mask=IMAGE), image_to_image=ImageToImage(0.5)
    )
    asked = request(wanted.settings, image=IMAGE, image_prompts=wanted.image_prompts)
    verdict = await encoded.generations.validate(asked)
    assert (verdict.violations, verdict.failure) == ((), None)
    assert verdict.settings is not None
    assert encoded.pictures.asked[-1][2] == Canvas(*verdict.settings.size)


async def test_they_go_with_control_nets(encoded: Bench) -> None:
    wanted = prompted(control_nets=(ControlNetGuidance("emoji"),))
    asked = request(
        wanted.settings, controls=(ControlInput(IMAGE),), image_prompts=wanted.image_prompts
    )
    assert [e async for e in encoded.run(asked)]
    (job,) = encoded.pool.works
    assert job.settings.control_nets[0].image is not None
    assert job.settings.image_prompts[0].images
    assert (len(job.controls), len(job.image_prompts)) == (1, 1)


@pytest.mark.parametrize(
    ("wanted", "field", "reason"),
    [
        (prompted({"model_id": ""}), ".model_id", Reason.REQUIRED_FIELD_MISSING),
        (prompted({"start": 0.6, "end": 0.5}), ".end", Reason.FIELDS_CONFLICT),
        (prompted({"start": -0.1}), ".start", Reason.FIELD_OUT_OF_RANGE),
        (prompted({"end": 1.1}), ".end", Reason.FIELD_OUT_OF_RANGE),
        (prompted({"scale": 2.1}), ".scale", Reason.FIELD_OUT_OF_RANGE),
        (prompted({"scale": -0.1}), ".scale", Reason.FIELD_OUT_OF_RANGE),
        (
            prompted(pictures=ImagePromptInput(mask=IMAGE)),
            ".images",
            Reason.REQUIRED_FIELD_MISSING,
        ),
        (
            prompted(pictures=ImagePromptInput((IMAGE,) * 9)),
            ".images",
            Reason.TOO_MANY_ELEMENTS,
        ),
        (
            prompted(pictures=ImagePromptInput((IMAGE, InputImage()))),
            ".images[1]",
            Reason.REQUIRED_FIELD_MISSING,
        ),
        (
            prompted(pictures=ImagePromptInput((IMAGE,), InputImage(artifact_id="x"))),
            ".mask.artifact_id",
            Reason.NAME_INVALID,
        ),
    ],
)
async def test_bad_ones_are_refused_before_a_picture_is_read(
    encoded: Bench, wanted: GenerationRequest, field: str, reason: Reason
) -> None:
    verdict = await encoded.generations.validate(wanted)
    assert [(v.field, v.reason) for v in verdict.violations] == [(f"{NAME}{field}", reason)]
    assert not encoded.pictures.asked


async def test_eight_of_eight_pictures_are_the_most(encoded: Bench) -> None:
    eight = ImagePromptInput((IMAGE,) * 8)
    found = await encoded.generations.validate(prompted(pictures=eight, count=8))
    assert (found.violations, found.failure) == ((), None)
    (violation,) = (await encoded.generations.validate(prompted(count=9))).violations
    assert (violation.field, violation.reason) == (
        "settings.image_prompts",
        Reason.TOO_MANY_ELEMENTS,
    )


async def test_all_pictures_together_have_a_bound(
    encoded: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_prompts, "_MOST_PIXELS", 3 * 400 * 300)
    pair = ImagePromptInput((IMAGE, IMAGE))
    assert not (await encoded.generations.validate(prompted(pictures=pair))).violations
    (violation,) = (
        await encoded.generations.validate(prompted(pictures=pair, count=2))
    ).violations
    assert violation.field == "settings.image_prompts[1].images[1]"
    assert violation.reason is Reason.IMAGE_TOO_LARGE


async def test_the_encoder_that_fits_is_found_among_others(encoded: Bench) -> None:
    encoded.models.others[OTHER.model_id] = OTHER
    encoded.image_prompt_fits.others = {OTHER.model_id}
    verdict = await encoded.generations.validate(prompted())
    assert verdict.settings is not None
    assert verdict.settings.image_prompts[0].image_encoder_model_id == "clip"


async def test_a_damaged_encoder_stands_in_no_others_way(encoded: Bench) -> None:
    encoded.models.others[OTHER.model_id] = OTHER
    error = FailedPrecondition("It is odd.", reason=Reason.MODEL_INCOMPLETE)
    encoded.image_prompt_fits.unreadable = {OTHER.model_id: error}
    verdict = await encoded.generations.validate(prompted())
    assert verdict.settings is not None
    assert verdict.settings.image_prompts[0].image_encoder_model_id == "clip"


async def test_a_named_encoder_is_taken_where_several_fit(encoded: Bench) -> None:
    encoded.models.others[OTHER.model_id] = OTHER
    wanted = prompted({"image_encoder_model_id": OTHER.model_id})
    assert [e async for e in encoded.run(wanted)]
    (job,) = encoded.pool.works
    assert job.settings.image_prompts[0].image_encoder_model_id == OTHER.model_id
    assert [each.model_id for each in job.companions] == ["emoji", OTHER.model_id]


@pytest.mark.parametrize(
    ("there", "of_other_width", "named", "reason", "words"),
    [
        ((), (), "", Reason.REQUIRED_FIELD_MISSING, ("emoji: there is none.",)),
        (
            (ENCODER, OTHER),
            (ENCODER, OTHER),
            "",
            Reason.REQUIRED_FIELD_MISSING,
            ("those at hand (bigger-clip, clip) do not", "into a model root"),
        ),
        (
            (ENCODER, OTHER),
            (),
            "",
            Reason.REQUIRED_FIELD_MISSING,
            ("Several", "must be one of bigger-clip, clip."),
        ),
        (
            (ENCODER, OTHER),
            (OTHER,),
            OTHER.model_id,
            Reason.FIELDS_CONFLICT,
            ("bigger-clip gives", "than emoji takes"),
        ),
    ],
)
async def test_an_encoder_that_is_not_clear_is_refused_for_each_prompt(
    bench: Bench,
    there: tuple[Any, ...],
    of_other_width: tuple[Any, ...],
    named: str,
    reason: Reason,
    words: tuple[str, ...],
) -> None:
    bench.models.others = {each.model_id: each for each in there}
    bench.image_prompt_fits.others = {each.model_id for each in of_other_width}
    wanted = prompted({"image_encoder_model_id": named}, count=2)
    verdict = await bench.generations.validate(wanted)
    assert [(v.field, v.reason) for v in verdict.violations] == [
        (f"settings.image_prompts[{k}].image_encoder_model_id", reason) for k in (0, 1)
    ]
    for word in words:
        assert word in verdict.violations[0].description
    assert not bench.pictures.asked


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ({"model_id": "none"}, "model_id"),
        ({"image_encoder_model_id": "none"}, "image_encoder_model_id"),
    ],
)
async def test_models_that_are_not_there_are_told_by_field(
    encoded: Bench, prompt: dict[str, str], name: str
) -> None:
    failure = (await encoded.generations.validate(prompted(prompt))).failure
    assert failure is not None
    assert failure.reason is Reason.MODEL_NOT_FOUND
    assert failure.metadata["field"] == f"{NAME}.{name}"
    assert not encoded.image_prompt_fits.checked


async def test_an_adapter_for_another_architecture_is_refused_with_both_names(
    encoded: Bench,
) -> None:
    encoded.models.others["adapter"] = replace(
        MODEL,
        model_id="adapter",
        type=ModelType.IMAGE_PROMPT_ADAPTER,
        architecture=Architecture.SD1,
    )
    verdict = await encoded.generations.validate(prompted({"model_id": "adapter"}))
    (violation,) = verdict.violations
    assert (violation.field, violation.reason) == (f"{NAME}.model_id", Reason.FIELDS_CONFLICT)
    assert "adapter is an IP-Adapter for SD1, and emoji is SDXL" in violation.description
    assert not encoded.image_prompt_fits.checked


@pytest.mark.parametrize("name", ["model_id", "image_encoder_model_id"])
async def test_what_files_say_against_them_is_told_by_field(encoded: Bench, name: str) -> None:
    error = FailedPrecondition("It is odd.", reason=Reason.MODEL_INCOMPATIBLE)
    named = {}
    if name == "model_id":
        encoded.image_prompt_fits.failure = error
    else:
        encoded.image_prompt_fits.unreadable["clip"] = error
        named = {name: "clip"}
    failure = (await encoded.generations.validate(prompted(named))).failure
    assert failure is not None
    assert failure.reason is Reason.MODEL_INCOMPATIBLE
    assert failure.metadata["field"] == f"{NAME}.{name}"
    assert not encoded.pictures.asked


async def test_without_them_nothing_is_looked_for(bench: Bench) -> None:
    assert [e async for e in bench.run(request())]
    assert not bench.image_prompt_fits.checked
    (job,) = bench.pool.works
    assert job.image_prompts == ()
