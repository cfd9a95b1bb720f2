"""Recorded steps on a card: the bits of plain ones, and no stale weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from domains.inference.backends import through_vae
from domains.inference.backends.engine import Engine
from domains.inference.backends.step_graphs import StepGraphs
from domains.inference.jobs import Companion, GenerationJob
from domains.inference.types import (
    GenerationSettings,
    LoraWeight,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
)
from domains.model.types import ModelType
from domains.values import ModelPlace
from tests.domains.model.disk import DEMO
from tests.fakes.jobs import Listener, changed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card")
LINES = DEMO.parent / "line-art.safetensors"
WORK = GenerationJob(
    GenerationSettings(
        model_id="one",
        prompt="a red apple",
        width=256,
        height=256,
        steps=4,
        seeds=(7,),
        scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
        precision=PrecisionMode.EXACT,
    ),
    ModelPlace.of(DEMO),
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine("cuda:0")
    engine.generate(WORK, Listener())
    yield engine
    engine.unload()


@pytest.fixture
def latents(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    decode = through_vae.decode_pixels

    def keep(vae: Any, final: torch.Tensor, **how: Any) -> Any:
        seen.append(final.clone())
        return decode(vae, final, **how)

    monkeypatch.setattr(through_vae, "decode_pixels", keep)
    return seen


def plainly(engine: Engine, job: GenerationJob) -> None:
    model = engine._model
    assert model is not None
    kept, model.graphs = model.graphs, StepGraphs(None, model.device)
    engine.generate(job, Listener())
    model.graphs = kept


@pytest.mark.parametrize("scheduler", Scheduler)
def test_every_scheduler_gives_the_bits_of_plain_steps(
    engine: Engine, latents: list[torch.Tensor], scheduler: Scheduler
) -> None:
    job = changed(WORK, scheduler=SchedulerSettings(scheduler))
    engine.generate(job, Listener())
    engine.generate(job, Listener())
    plainly(engine, job)

    assert engine._model is not None
    assert engine._model.graphs.count >= 1
    assert torch.equal(latents[0], latents[2])
    assert torch.equal(latents[1], latents[2])


def test_a_lora_works_and_leaves_nothing(engine: Engine, latents: list[torch.Tensor]) -> None:
    lined = changed(
        WORK,
        loras=(LoraWeight("lines", 0.8, 0.8),),
        companions=(Companion("lines", ModelType.LORA, ModelPlace.of(LINES)),),
    )
    for job in (WORK, lined, WORK):
        engine.generate(job, Listener())
    plainly(engine, lined)

    assert torch.equal(latents[0], latents[2])
    assert torch.equal(latents[1], latents[3])
    assert not torch.equal(latents[0], latents[1])


def test_memory_that_is_short_is_had_by_letting_graphs_go(
    engine: Engine, latents: list[torch.Tensor]
) -> None:
    for _ in range(2):
        engine.generate(WORK, Listener())
    model = engine._model
    assert model is not None
    model.make_room()
    assert model.graphs.count == 0
    engine.generate(WORK, Listener())
    assert torch.equal(latents[0], latents[2])
