"""A second model for the last steps: what is refused before any work, and what is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deviceops.v1 import generation_pb2, inference_pb2
from domains.errors import Reason
from domains.inference import convert
from domains.inference.core.capabilities import UNBUILT
from domains.inference.core.resolution import effort_of, steps_of
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    ImageToImage,
    Inpainting,
    Refiner,
    RefinerMode,
    Scheduler,
    SchedulerSettings,
    SdxlSettings,
    SecondPass,
)
from domains.model.types import Architecture, ModelType, PredictionType
from domains.session.types import Accepted, Completed, Phase, StepFinished
from domains.values import ModelPlace
from tests.domains.inference.conftest import MODEL, Bench, request

FIELD = "settings.sdxl.refiner"
IMAGE_TO_IMAGE = RefinerMode.IMAGE_TO_IMAGE
FINE = replace(
    MODEL, model_id="fine", type=ModelType.REFINER, place=ModelPlace.of(Path("fine"))
)


def refining(settings: dict[str, Any] | None = None, **asked: Any) -> GenerationSettings:
    refiner = Refiner(**({"model_id": "fine"} | asked))
    usual: dict[str, Any] = {"prompt": "a cat", "seed": 1, "steps": 25}
    return GenerationSettings(sdxl=SdxlSettings(refiner=refiner), **(usual | (settings or {})))


@pytest.fixture
def refiner(bench: Bench) -> Bench:
    """A refiner is there as well."""
    bench.models.others["fine"] = FINE
    return bench


@pytest.mark.parametrize(
    ("settings", "asked", "steps"),
    [
        ({}, {}, (20, 5)),
        ({}, {"switch_at": 0.5, "steps": 40}, (12, 20)),
        ({"steps": 2}, {"switch_at": 0.1}, (1, 2)),
        ({"steps": 2}, {"switch_at": 0.9}, (2, 1)),
        ({}, {"mode": IMAGE_TO_IMAGE}, (25, 5)),
        ({}, {"mode": IMAGE_TO_IMAGE, "switch_at": 0.7, "steps": 10}, (25, 3)),
        ({"image_to_image": ImageToImage(0.6)}, {}, (10, 5)),
        ({"inpainting": Inpainting(0.6)}, {}, (10, 5)),
    ],
)
def test_steps_are_divided(settings: Any, asked: Any, steps: tuple[int, int]) -> None:
    assert steps_of(refining(settings, **asked)) == steps


def test_its_effort_is_told_apart() -> None:
    settings = refining(
        {"width": 256, "height": 256, "seeds": (1, 2), "seed": None},
        guidance=GuidanceSettings(1.0),
    )
    amounts = effort_of(settings).amounts
    assert amounts[Phase.DENOISING] == 20 * 2 * 2 * 256 * 256
    assert amounts[Phase.REFINING] == 5 * 2 * 256 * 256


@pytest.mark.parametrize(
    ("asked", "field", "reason"),
    [
        ({"switch_at": 0.0}, "switch_at", Reason.FIELD_OUT_OF_RANGE),
        ({"switch_at": 1.0}, "switch_at", Reason.FIELD_OUT_OF_RANGE),
        ({"switch_at": 1.5}, "switch_at", Reason.FIELD_OUT_OF_RANGE),
        ({"switch_at": float("nan")}, "switch_at", Reason.NON_FINITE_NUMBER),
        (
            {"switch_at": 0.97, "mode": IMAGE_TO_IMAGE},
            "switch_at",
            Reason.FIELD_OUT_OF_RANGE,
        ),
        ({"steps": 0}, "steps", Reason.FIELD_OUT_OF_RANGE),
        ({"steps": 151}, "steps", Reason.FIELD_OUT_OF_RANGE),
        ({"aesthetic_score": 0.5}, "aesthetic_score", Reason.FIELD_OUT_OF_RANGE),
        (
            {"negative_aesthetic_score": 10.5},
            "negative_aesthetic_score",
            Reason.FIELD_OUT_OF_RANGE,
        ),
        ({"guidance": GuidanceSettings(31.0)}, "guidance.scale", Reason.FIELD_OUT_OF_RANGE),
    ],
)
async def test_bad_numbers_are_named(
    refiner: Bench, asked: dict[str, Any], field: str, reason: Reason
) -> None:
    verdict = await refiner.generations.validate(request(refining(**asked)))

    (violation,) = verdict.violations
    assert (violation.field, violation.reason) == (f"{FIELD}.{field}", reason)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"architecture": Architecture.SD1}, "SD1"),
        ({"prediction_type": PredictionType.SAMPLE}, "cannot draw"),
        ({"model_id": "emoji"}, "its own picture"),
    ],
)
async def test_what_does_not_go_together_is_refused(
    refiner: Bench, changes: dict[str, Any], what: str
) -> None:
    refiner.models.others["fine"] = replace(FINE, **changes)
    euler_a = SchedulerSettings(Scheduler.EULER_ANCESTRAL_DISCRETE)
    verdict = await refiner.generations.validate(request(refining({"scheduler": euler_a})))

    (violation,) = verdict.violations
    assert violation.reason is Reason.FIELDS_CONFLICT
    assert what in violation.description


async def test_a_session_tells_its_phases_steps_and_models(refiner: Bench) -> None:
    events = [event.event async for event in refiner.run(request(refining()))]

    accepted, completed = events[0], events[-1]
    assert isinstance(accepted, Accepted)
    assert isinstance(completed, Completed)
    assert accepted.steps == 25
    phases = accepted.expected_phases
    assert phases.index(Phase.REFINING) == phases.index(Phase.DENOISING) + 1
    assert Phase.REFINING in completed.timings
    (job,) = refiner.pool.works
    assert [each.model_type for each in job.companions] == [ModelType.REFINER]
    assert set(job.places) == {"emoji", "fine"}
    assert refiner.models.used == ["emoji", "fine"]
    told = job.settings.refiner
    assert told is not None
    assert (told.steps, told.guidance) == (25, GuidanceSettings())
    assert any(isinstance(event, StepFinished) for event in events)


async def test_a_verdict_tells_what_is_meant(refiner: Bench) -> None:
    wanted = request(refining(switch_at=0.6, mode=IMAGE_TO_IMAGE))

    verdict = await refiner.generations.validate(wanted)

    assert verdict.settings is not None
    told = convert.settings_to_proto(verdict.settings).sdxl.refiner
    assert (told.model_id, told.switch_at, told.steps) == ("fine", 0.6, 25)
    assert told.mode == generation_pb2.REFINER_MODE_IMAGE_TO_IMAGE
    assert (told.aesthetic_score, told.negative_aesthetic_score) == (6, 2.5)


def test_a_request_is_read_whole() -> None:
    message = inference_pb2.GenerateRequest()
    message.settings.sdxl.refiner.model_id = "fine"
    message.settings.sdxl.refiner.guidance.rescale = 0.5
    wanted = convert.request_from_proto(message)

    assert wanted.unbuilt == ()
    assert wanted.settings.refiner == Refiner("fine", guidance=GuidanceSettings(rescale=0.5))
    assert "sdxl.refiner" not in UNBUILT
    assert Refiner(switch_at=0.8).strength == 0.2


async def test_it_follows_the_second_pass_and_has_of_it_what_it_leaves_open(
    refiner: Bench,
) -> None:
    second = SecondPass(strength=0.5, steps=20, guidance=GuidanceSettings(3.0))
    small = {"width": 256, "height": 256, "second_pass": second}
    events = [event.event async for event in refiner.run(request(refining(small)))]

    accepted = events[0]
    assert isinstance(accepted, Accepted)
    order = (Phase.DENOISING, Phase.SECOND_PASS, Phase.REFINING, Phase.DECODING)
    places = [accepted.expected_phases.index(phase) for phase in order]
    assert places == sorted(places)
    # 25, of the second pass's 20 from the half to 0.8, and the rest.
    assert accepted.steps == 25 + 6 + 4
    (job,) = refiner.pool.works
    first, last = job.settings.passes
    assert first.refiner is None
    assert last.refiner is not None
    assert (last.refiner.steps, last.refiner.guidance) == (20, GuidanceSettings(3.0))
    amounts = effort_of(job.settings).amounts
    assert amounts[Phase.REFINING] == 4 * 2 * 512 * 512
