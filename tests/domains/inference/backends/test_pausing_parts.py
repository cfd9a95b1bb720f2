"""Pausing while parts are at work: each goes on to the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from domains.inference.jobs import GenerationJob
from domains.inference.types import (
    Inpainting,
    Scheduler,
    SchedulerSettings,
    SecondPassUpscale,
)
from domains.session.types import Phase
from tests.domains.inference.backends.test_control_nets import edges, random_net
from tests.domains.inference.backends.test_pausing import Turns, after, in_phase, whole
from tests.domains.inference.backends.test_refiner import using
from tests.domains.inference.backends.test_together import (
    HANDOVER,
    IMAGE_TO_IMAGE,
    LARGE,
    SIDE,
    SMALL,
    again,
    file_of,
    masked,
    prepared,
    with_larger,
)
from tests.fakes.jobs import changed

__all__ = ["file_of", "masked", "prepared", "random_net"]

# It draws fresh noise in each step.
SAMPLER = SchedulerSettings(Scheduler.EULER_ANCESTRAL_DISCRETE)


@pytest.fixture
def parts(random_net: Path, file_of: Any, masked: Any) -> dict[str, dict[str, Any]]:
    net = (random_net, edges(0, SIDE), {"start": 0.2})
    return {
        "control": with_larger(file_of, net, edges(1, LARGE)),
        "inpainting": {**masked, "inpainting": Inpainting(0.8)},
        "hand-over": using(mode=HANDOVER, switch_at=0.7, steps=4),
        "refiner": using(mode=IMAGE_TO_IMAGE, switch_at=0.5, steps=4),
        "second pass": {"second_pass": again(strength=0.75)},
        "pixels": {"second_pass": again(strength=0.75, upscale=SecondPassUpscale.PIXELS)},
    }


@pytest.mark.parametrize(
    "names",
    [
        ("control", "inpainting", "hand-over", "pixels"),
        *(
            pytest.param(names, marks=pytest.mark.demonstration)
            for names in (
                ("hand-over",),
                ("inpainting", "refiner"),
                ("second pass", "hand-over"),
                ("control", "inpainting", "refiner", "second pass"),
            )
        ),
    ],
    ids="+".join,
)
def test_it_goes_on_to_the_same_bytes_from_every_loop(
    engine: Any,
    work: GenerationJob,
    parts: dict[str, dict[str, Any]],
    names: tuple[str, ...],
    tmp_path: Path,
) -> None:
    settings: dict[str, Any] = {}
    companions: tuple[Any, ...] = ()
    for name in names:
        settings |= parts[name]
        companions += parts[name].get("companions", ())
    settings["companions"] = companions
    job = changed(work, **(SMALL | settings), scheduler=SAMPLER)
    job = replace(job, paused_file=tmp_path / "paused" / "one.paused")
    wanted, turns = whole(engine, job), Turns(job)
    turns.pause(engine, after(2))
    assert turns.job.kept_steps == 2
    for name, phase in (
        ("second pass", Phase.SECOND_PASS),
        ("pixels", Phase.SECOND_PASS),
        ("refiner", Phase.REFINING),
        ("hand-over", Phase.REFINING),
    ):
        if name in names:
            turns.pause(engine, in_phase(phase, 0))
            before = turns.job.kept_steps
            turns.pause(engine, after(1))
            assert turns.job.kept_steps == before + 1
    turns.finish(engine)
    assert [image.data for image in turns.images] == wanted
    assert len(wanted) == 1
