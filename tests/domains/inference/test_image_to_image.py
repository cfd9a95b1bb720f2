"""Starting from a picture: what is refused before any work, and what becomes of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from deviceops.v1 import common_pb2, generation_pb2, inference_pb2
from domains.errors import NotFound, Reason
from domains.inference import convert
from domains.inference.core.capabilities import UNBUILT
from domains.inference.errors import InvalidGeneration
from domains.inference.types import GenerationSettings, ImageToImage
from domains.picture.errors import InvalidPicture
from domains.picture.types import Canvas, InputImage, ResizeFit
from domains.session.types import Accepted, Completed, Phase
from tests.domains.inference.conftest import Bench, request

IMAGE = InputImage(inline=b"a file")
FIELD = "settings.image_to_image.image"


def starting(strength: float = 0.5, **settings: Any) -> GenerationSettings:
    return GenerationSettings(
        prompt="a cat",
        seed=1,
        image_to_image=ImageToImage(strength, ResizeFit.COVER),
        **({"steps": 10} | settings),
    )


@pytest.mark.parametrize(
    ("strength", "steps", "taken"),
    [(1.0, 10, 10), (0.5, 10, 5), (0.99, 10, 9), (0.29, 100, 28), (0.1, 10, 1), (0.0, 10, 0)],
)
def test_steps_are_rounded_down_as_diffusers_does(strength: float, steps: int, taken: int):
    settings = starting(strength, steps=steps)
    assert settings.steps_taken == taken
    assert settings.skipped_steps == steps - taken


@pytest.mark.parametrize(
    ("strength", "steps", "field"),
    [
        (0.0, 25, "strength"),
        (0.03, 25, "strength"),
        (0.99, 1, "strength"),
        (-0.1, 25, "strength"),
        (1.1, 25, "strength"),
    ],
)
async def test_a_strength_that_leaves_no_step_is_refused_before_the_picture_is_read(
    bench: Bench, strength: float, steps: int, field: str
) -> None:
    verdict = await bench.generations.validate(
        request(starting(strength, steps=steps), image=IMAGE)
    )

    (violation,) = verdict.violations
    assert violation.field == f"settings.image_to_image.{field}"
    assert violation.reason is Reason.FIELD_OUT_OF_RANGE
    assert bench.pictures.asked == []


async def test_steps_out_of_range_are_named_and_not_the_strength(bench: Bench) -> None:
    with pytest.raises(InvalidGeneration) as refused:
        await bench.generations.generate(request(starting(steps=0), image=IMAGE)).prepare()

    assert [broken.field for broken in refused.value.violations] == ["settings.steps"]


async def test_the_session_tells_the_steps_that_are_done_and_its_phases(bench: Bench) -> None:
    events = [event.event async for event in bench.run(request(starting(), image=IMAGE))]

    accepted, completed = events[0], events[-1]
    assert isinstance(accepted, Accepted)
    assert isinstance(completed, Completed)
    assert accepted.steps == 5
    phases = accepted.expected_phases
    assert phases.index(Phase.PREPARING_INPUT) == phases.index(Phase.DENOISING) - 1
    assert Phase.PREPARING_INPUT in completed.timings
    (job,) = bench.pool.works
    assert job.picture is not None
    assert job.settings.size == (job.picture.width, job.picture.height) == (344, 256)


async def test_the_picture_is_asked_for_in_the_size_that_is_set(bench: Bench) -> None:
    await bench.generations.validate(request(starting(width=512), image=IMAGE))

    assert bench.pictures.asked == [
        (IMAGE, FIELD, Canvas(512, None, 256, 320), ResizeFit.COVER)
    ]


async def test_a_verdict_tells_size_strength_and_an_artifact(bench: Bench) -> None:
    wanted = request(starting(), image=InputImage(artifact_id="c" * 64))

    verdict = await bench.generations.validate(wanted)

    assert verdict.settings is not None
    settings = convert.settings_to_proto(verdict.settings)
    start = settings.image_to_image
    assert (start.strength, start.fit) == (0.5, common_pb2.RESIZE_FIT_COVER)
    assert start.image.artifact_id == "c" * 64
    assert settings.width > settings.height > 0


async def test_an_inline_picture_does_not_come_back(bench: Bench) -> None:
    verdict = await bench.generations.validate(request(starting(), image=IMAGE))

    assert verdict.settings is not None
    start = convert.settings_to_proto(verdict.settings).image_to_image
    assert not start.HasField("image")


async def test_a_bad_picture_is_a_violation_and_a_missing_one_a_failure(bench: Bench) -> None:
    bench.pictures.failure = InvalidPicture.at(FIELD, Reason.IMAGE_UNREADABLE, "Cut short.")
    verdict = await bench.generations.validate(request(starting(), image=IMAGE))
    assert [broken.field for broken in verdict.violations] == [FIELD]

    bench.pictures.failure = NotFound("no such artifact", reason=Reason.ARTIFACT_NOT_FOUND)
    verdict = await bench.generations.validate(request(starting(), image=IMAGE))
    assert verdict.failure is not None
    assert verdict.failure.reason is Reason.ARTIFACT_NOT_FOUND


def test_a_request_is_read_whole():
    message = inference_pb2.GenerateRequest(
        settings=generation_pb2.GenerationSettings(
            image_to_image=generation_pb2.ImageToImage(
                image=common_pb2.InputImage(
                    session_image=common_pb2.SessionImage(session_id="s", image_index=2)
                )
            )
        )
    )
    wanted = convert.request_from_proto(message)
    assert wanted.image == InputImage(session_id="s", image_index=2)
    assert wanted.settings.image_to_image == ImageToImage(0.8, ResizeFit.STRETCH)
    assert wanted.unbuilt == ()
    assert "image_to_image" not in UNBUILT
