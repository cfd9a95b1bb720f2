"""What the front refuses of schedules is what the device refuses, and is refused before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domains.errors import InvalidArgument, Reason
from domains.inference import convert
from domains.inference.backends.schedulers import build_scheduler
from domains.inference.convert.sampling import SCHEDULERS
from domains.inference.core.capabilities import CapabilityInquiry
from domains.inference.core.schedule_rules import check_schedules
from domains.inference.core.schedules import DISTILLED
from domains.inference.types import (
    GenerationSettings,
    ImageToImage,
    Refiner,
    Scheduler,
    SchedulerSettings,
    SdxlSettings,
    SecondPass,
    TimestepSpacing,
)
from domains.model.types import PredictionType
from tests.domains.inference.backends.test_finite_schedules import CONFIG
from tests.domains.inference.conftest import (
    MODEL,
    NO_MARKS,
    Bench,
    FakeDevices,
    FakeModels,
    request,
)

EULER, TRAILING = Scheduler.EULER_DISCRETE, TimestepSpacing.TRAILING
EPSILON = PredictionType.EPSILON


def is_refused_there(settings: SchedulerSettings, steps: int) -> bool:
    try:
        build_scheduler(settings, CONFIG, steps=steps)
    except InvalidArgument:
        return True
    return False


@pytest.mark.parametrize("steps", [1, 25, 60, 61, 103, 121, 122, 150])
def test_steps_that_cannot_trail(steps: int) -> None:
    how = SchedulerSettings(EULER, timestep_spacing=TRAILING)
    settings = GenerationSettings(steps=steps, scheduler=how)
    found = list(check_schedules(settings, EULER, MODEL, "s"))
    assert bool(found) is is_refused_there(how, steps)
    assert [(each.field, each.reason) for each in found] in (
        [],
        [("s.steps", Reason.FIELD_OUT_OF_RANGE)],
    )


async def test_every_pass_is_looked_at_before_anything_is_queued(bench: Bench) -> None:
    settings = GenerationSettings(
        prompt="a cat",
        steps=121,
        scheduler=SchedulerSettings(EULER, timestep_spacing=TRAILING),
        second_pass=SecondPass(steps=61),
    )
    verdict = await bench.generations.validate(request(settings))
    assert [each.field for each in verdict.violations] == [
        "settings.steps",
        "settings.second_pass.steps",
    ]
    assert "120 or 123" in verdict.violations[0].description
    assert not bench.pool.works
    refining = GenerationSettings(
        scheduler=settings.scheduler, sdxl=SdxlSettings(refiner=Refiner("fine", steps=61))
    )
    (found,) = check_schedules(refining, EULER, MODEL, "s", replace(MODEL, model_id="fine"))
    assert found.field == "s.sdxl.refiner.steps"


@pytest.mark.parametrize("distilled", [None, 25, 100, 500])
@pytest.mark.parametrize("scheduler", Scheduler)
async def test_capabilities_tell_the_most_steps_that_are_not_refused(
    scheduler: Scheduler, distilled: int | None
) -> None:
    own = {} if distilled is None else {"original_inference_steps": distilled}
    model = replace(MODEL, scheduler_config=MODEL.scheduler_config | own)
    told = await CapabilityInquiry(FakeDevices(), FakeModels(model), NO_MARKS).describe("", "")
    most = {
        each.scheduler: each.most_steps
        for each in convert.capabilities_to_proto(told).schedulers
    }[SCHEDULERS.to_proto(scheduler)]
    assert most == (min(distilled or 50, 150) if scheduler in DISTILLED else 150)
    refused = [
        bool(check_schedules(GenerationSettings(steps=steps), scheduler, model, "s"))
        for steps in (most, most + 1)
    ]
    # More than the contract's limit is another rule's.
    assert refused == [False, most < 150]


async def test_steps_that_no_model_does_are_refused_once(bench: Bench) -> None:
    settings = GenerationSettings(
        prompt="a cat",
        steps=51,
        scheduler=SchedulerSettings(Scheduler.LCM),
        second_pass=SecondPass(steps=52),
    )
    verdict = await bench.generations.validate(request(settings))
    assert [each.field for each in verdict.violations] == [
        "settings.steps",
        "settings.second_pass.steps",
    ]


@pytest.mark.parametrize("predicts", [None, *PredictionType])
@pytest.mark.parametrize("scheduler", [Scheduler.DDIM, Scheduler.LCM, Scheduler.TCD, EULER])
def test_a_division_by_nothing(scheduler: Scheduler, predicts: PredictionType | None) -> None:
    spacing = TRAILING if TRAILING in scheduler.facts.timestep_spacings else None
    how: dict[str, Any] = {"zero_terminal_snr": True}
    asked = SchedulerSettings(
        scheduler, timestep_spacing=spacing or TimestepSpacing.MODEL, **how
    )
    settings = GenerationSettings(steps=4, scheduler=asked)
    model = replace(MODEL, prediction_type=predicts)
    found = list(check_schedules(settings, scheduler, model, "s"))
    # Noise is what is predicted where nothing is said.
    assert bool(found) is (predicts in (None, EPSILON) and scheduler is not EULER)
    if found:
        assert found[0].field == "s.scheduler.zero_terminal_snr"
        assert is_refused_there(asked, 4)
        begun = GenerationSettings(steps=4, scheduler=asked, image_to_image=ImageToImage(0.5))
        assert not list(check_schedules(begun, scheduler, model, "s"))
        build_scheduler(asked, CONFIG, steps=4, skipped=2)
