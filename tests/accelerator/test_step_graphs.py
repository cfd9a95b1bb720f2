"""Recorded steps on a card: the bits of plain ones, with LoRAs too, and no stale weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from domains.device.jobs import ReleaseJob
from domains.inference.backends import through_vae
from domains.inference.backends.engine import Engine
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.lora_hooks import in_places
from domains.inference.backends.lora_places import LoraPlaces
from domains.inference.backends.step_graphs import StepGraphs
from domains.inference.jobs import Companion, GenerationJob, GenerationReport
from domains.inference.types import (
    GenerationSettings,
    LoraWeight,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
)
from domains.model.types import ModelType
from domains.session.jobs import EncodedImage
from domains.values import ModelPart, ModelPlace
from tests.domains.inference.backends.test_recorded_loras import CHANGES, change, lora_of
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


def the_model(engine: Engine) -> LoadedModel:
    model = engine._model
    assert model is not None
    return model


def plainly(engine: Engine, job: GenerationJob) -> None:
    model = the_model(engine)
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

    assert the_model(engine).graphs.count >= 1
    assert torch.equal(latents[0], latents[2])
    assert torch.equal(latents[1], latents[2])


def using(path: Path, weight: float, **changes: Any) -> GenerationJob:
    """The work with a LoRA."""
    return changed(
        WORK,
        loras=(LoraWeight(path.stem, weight, 0.8),),
        companions=(Companion(path.stem, ModelType.LORA, ModelPlace.of(path)),),
        **changes,
    )


def drawn(engine: Engine, job: GenerationJob) -> tuple[bytes, bool]:
    """A picture's file, and whether steps were replayed for it."""
    heard = Listener()
    report = engine.generate(job, heard)
    (image,) = (each for each in heard.events if isinstance(each, EncodedImage))
    assert isinstance(report, GenerationReport)
    return image.data, report.computed.recorded == (ModelPart.DENOISER,)


@pytest.mark.parametrize(
    "scheduler",
    [
        Scheduler.EULER_DISCRETE,
        Scheduler.EULER_ANCESTRAL_DISCRETE,
        Scheduler.DPM_SOLVER_MULTISTEP,
        Scheduler.DDIM,
    ],
)
def test_steps_with_a_lora_are_replayed_with_the_bits_of_plain_ones(
    engine: Engine, latents: list[torch.Tensor], scheduler: Scheduler
) -> None:
    plain = changed(WORK, scheduler=SchedulerSettings(scheduler))
    lined = using(LINES, 0.8, scheduler=SchedulerSettings(scheduler))
    before, _ = drawn(engine, plain)
    for _ in range(2):
        assert drawn(engine, lined)[1]
    assert drawn(engine, plain) == (before, True)
    plainly(engine, lined)
    without, first, second, _, wanted = latents

    assert torch.equal(first, wanted)
    assert torch.equal(second, wanted)
    assert not torch.equal(without, wanted)


def test_a_lora_works_and_leaves_nothing(engine: Engine, latents: list[torch.Tensor]) -> None:
    lined = using(LINES, 0.8)
    for job in (WORK, lined, WORK):
        engine.generate(job, Listener())
    plainly(engine, lined)

    assert torch.equal(latents[0], latents[2])
    assert torch.equal(latents[1], latents[3])
    assert not torch.equal(latents[0], latents[1])


def test_another_lora_and_another_weight_need_no_new_recording(
    engine: Engine, latents: list[torch.Tensor], tmp_path: Path
) -> None:
    """Wherever the tensors of those before have gone."""
    model = the_model(engine)
    model.graphs.let_go()
    one, other = (
        lora_of(model, tmp_path / f"{seed}.safetensors", seed, size=0.01) for seed in (1, 2)
    )
    jobs = [
        *(WORK, using(one, 0.8), using(other, 1.0), WORK, using(one, -0.33)),
        *(using(other, 0.1), using(one, 0.8), WORK),
    ]
    counts, occupied = [], []
    for job in jobs:
        engine.generate(job, Listener())
        counts.append(model.graphs.count)
        engine.release(ReleaseJob((one.stem, other.stem)), Listener())
        occupied.append(torch.full((4 << 20,), 7.0, device="cuda:0", dtype=torch.float16))
    for job in jobs:
        plainly(engine, job)

    assert the_model(engine) is model
    assert counts == [1, *[2] * 7]
    assert all(map(torch.equal, latents[:8], latents[8:]))
    assert len({each.cpu().numpy().tobytes() for each in latents}) == 5


def test_the_fastest_numbers_are_replayed_with_loras_too(
    engine: Engine, latents: list[torch.Tensor]
) -> None:
    fast = using(LINES, 0.8, precision=PrecisionMode.FASTEST)
    for _ in range(2):
        assert drawn(engine, fast)[1]
    plainly(engine, fast)
    assert torch.equal(latents[0], latents[2])
    assert torch.equal(latents[1], latents[2])


@pytest.mark.parametrize("data_type", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", CHANGES)
def test_factors_in_memory_give_the_bits_of_numbers(kind: str, data_type: torch.dtype) -> None:
    noise = torch.Generator().manual_seed(4)
    lender, module = LoraPlaces(), CHANGES[kind][0]
    shape = (2, 6, 16, 16) if isinstance(module, torch.nn.Conv2d) else (2, 256, 6)
    try:
        module.to("cuda:0")
        given = torch.randn(shape, generator=noise).to("cuda:0", data_type)
        for number in range(20):
            strength = float(torch.randn(1, generator=noise, dtype=torch.float64))
            one = change(kind, data_type, strength, number)
            with torch.no_grad(), in_places([one], lender) as (placed,):
                result = one.module(given)
                wanted = one(one.module, (given,), result.clone())
                found = placed(one.module, (given,), result.clone())
            assert placed.places is not None
            assert torch.equal(found, wanted)
    finally:
        module.cpu()


def test_memory_that_is_short_is_had_by_letting_graphs_go(
    engine: Engine, latents: list[torch.Tensor]
) -> None:
    for _ in range(2):
        engine.generate(WORK, Listener())
    model = the_model(engine)
    model.make_room()
    assert model.graphs.count == 0
    engine.generate(WORK, Listener())
    assert torch.equal(latents[0], latents[2])
