"""Steps with LoRAs by recordings: the bits of plain steps, and a recording for each form."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from domains.device.jobs import ReleaseJob
from domains.inference.backends import lora_hooks, lora_places, step_graphs, through_vae
from domains.inference.backends.engine import Engine
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.lora_hooks import LayerChange, change_of, in_places
from domains.inference.backends.lora_places import LoraPlaces
from domains.inference.backends.step_graphs import StepGraphs
from domains.inference.jobs import Companion, GenerationJob
from domains.inference.types import LoraWeight
from domains.model.backends.lora.endings import Algorithm
from domains.model.backends.lora.layers import UNET, Layer
from domains.model.backends.lora.targets import Target
from domains.model.types import ModelType
from domains.values import ModelPart, ModelPlace
from tests.fakes.jobs import Listener, changed
from tests.fakes.tapes import StaleMemory, Taping
from tests.fakes.tiny_models import save_sdxl

LINEAR = (".to_q", ".to_k", ".to_v", ".ff.net.2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sdxl(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def tiny_engine() -> Iterator[Engine]:
    engine = Engine("cpu")
    yield engine
    engine.unload()


@pytest.fixture
def plain(work: GenerationJob, folder: Path) -> GenerationJob:
    return changed(work, model_path=folder, model_id="tiny", width=64, height=64, steps=2)


@pytest.fixture
def model(tiny_engine: Engine, plain: GenerationJob) -> Iterator[LoadedModel]:
    """With nothing recorded before nor afterwards."""
    tiny_engine.generate(plain, Listener())
    model = tiny_engine._model
    assert model is not None
    kept = model.graphs
    yield model
    model.graphs = kept


@pytest.fixture
def recorder(model: LoadedModel) -> Taping:
    recorder = Taping()
    model.graphs, model.lora_places = StepGraphs(recorder, model.device), LoraPlaces()
    return recorder


@pytest.fixture
def latents_of(
    tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> Callable[[GenerationJob], torch.Tensor]:
    """The final latents of a job's picture."""
    seen: list[torch.Tensor] = []
    decode = through_vae.decode_pixels

    def keep(vae: Any, final: torch.Tensor, **how: Any) -> Any:
        seen.append(final.clone())
        return decode(vae, final, **how)

    monkeypatch.setattr(through_vae, "decode_pixels", keep)

    def draw(job: GenerationJob) -> torch.Tensor:
        tiny_engine.generate(job, Listener())
        return seen.pop()

    return draw


@pytest.fixture
def plainly(
    model: LoadedModel, latents_of: Callable[[GenerationJob], torch.Tensor]
) -> Callable[[GenerationJob], torch.Tensor]:
    """The same where nothing is recorded."""

    def draw(job: GenerationJob) -> torch.Tensor:
        kept, model.graphs = model.graphs, StepGraphs(None, model.device)
        try:
            return latents_of(job)
        finally:
            model.graphs = kept

    return draw


def lora_of(
    model: LoadedModel, path: Path, seed: int, rank: int = 2, size: float = 0.2
) -> Path:
    """A file with every kind of change: pairs for linear layers and convolutions, a whole
    difference, one whose magnitude depends on the model's weights, and biases; of numbers of
    about that size."""
    noise = torch.Generator().manual_seed(seed)

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=noise) * size

    tensors: dict[str, torch.Tensor] = {}
    for name, module in model.networks[UNET].named_modules():
        if not isinstance(module, (nn.Linear, nn.Conv2d)):
            continue
        shape, layer = tuple(module.weight.shape), f"lora_unet_{name.replace('.', '_')}"
        if name.endswith(LINEAR) or name.endswith("conv1"):
            tensors[f"{layer}.lora_down.weight"] = made(rank, *shape[1:])
            tensors[f"{layer}.lora_up.weight"] = made(shape[0], rank, *(1 for _ in shape[2:]))
            tensors[f"{layer}.alpha"] = torch.tensor(1 + float(made(1)))
        if name.endswith(("conv1", ".ff.net.2")):
            tensors[f"{layer}.diff_b"] = made(shape[0])
        if name.endswith("conv2"):
            tensors[f"{layer}.diff"] = made(*shape)
        if name.endswith(".ff.net.2"):
            norm = torch.linalg.vector_norm(module.weight.detach(), dim=1, keepdim=True)
            tensors[f"{layer}.dora_scale"] = norm * 1.5
    save_file(tensors, path)
    return path


def using(job: GenerationJob, path: Path, weight: float = 1.0) -> GenerationJob:
    """The job with that LoRA at work on its denoiser."""
    return changed(
        job,
        loras=(LoraWeight(path.stem, weight, 0.0),),
        companions=(Companion(path.stem, ModelType.LORA, ModelPlace.of(path)),),
    )


def test_one_recording_serves_every_lora_of_a_form_however_strong(
    model, recorder, latents_of, plainly, plain, tmp_path
):
    one, other = (lora_of(model, tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2))
    jobs = [
        *(plain, using(plain, one), plain, using(plain, one), using(plain, one, -0.37)),
        *(using(plain, other, 0.81), plain, using(plain, one)),
    ]
    found, recorded = [], []
    for job in jobs:
        found.append(latents_of(job))
        recorded.append(recorder.recorded)
    expected = [plainly(job) for job in jobs]

    assert recorded == [1, *[2] * 7]
    assert recorder.replayed == model.graphs.replays == 2 * len(jobs) - 2
    assert all(map(torch.equal, found, expected))
    assert len({each.numpy().tobytes() for each in found}) == 4


def test_it_is_told(model, recorder, tiny_engine, plain, tmp_path):
    path = lora_of(model, tmp_path / "a.safetensors", 1)
    report = tiny_engine.generate(using(plain, path), Listener())
    assert report.computed.recorded == (ModelPart.DENOISER,)


def test_another_form_is_recorded_by_itself(
    model, recorder, latents_of, plainly, plain, tmp_path
):
    jobs = [
        using(plain, lora_of(model, tmp_path / f"{rank}.safetensors", 1, rank))
        for rank in (2, 3)
    ]
    both = changed(
        plain,
        loras=jobs[0].settings.loras + jobs[1].settings.loras,
        companions=jobs[0].companions + jobs[1].companions,
    )
    jobs.append(both)
    for _ in range(2):
        assert all(torch.equal(latents_of(job), plainly(job)) for job in jobs)
    assert recorder.recorded == model.graphs.count == 3


def test_one_that_is_given_away_leaves_nothing_stale(
    model, recorder, latents_of, plainly, plain, tiny_engine, tmp_path
):
    paths = [lora_of(model, tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2)]
    expected = [plainly(using(plain, path)) for path in paths]
    for path, wanted in zip(paths * 2, expected * 2, strict=True):
        assert torch.equal(latents_of(using(plain, path)), wanted)
        tiny_engine.release(ReleaseJob((path.stem,)), Listener())
        assert path.stem not in [one.model_id for one in tiny_engine.held()]
        gc.collect()
    assert recorder.recorded == 1


def test_a_recording_keeps_its_places_and_nothing_else_does(
    model, recorder, latents_of, plainly, plain, tmp_path
):
    job = using(plain, lora_of(model, tmp_path / "a.safetensors", 1))
    wanted = plainly(job)
    latents_of(job)
    (places,) = model.lora_places._idle.values()
    place = weakref.ref(places)
    del places
    gc.collect()
    assert place() is not None
    model.graphs.let_go()
    gc.collect()
    assert place() is None
    assert torch.equal(latents_of(job), wanted)
    assert recorder.recorded == 2


def test_the_tapes_of_these_tests_know_stale_memory(model, recorder, latents_of, plain):
    latents_of(plain)
    (recorded,) = model.graphs._recorded.values()
    weight = next(iter(model.networks[UNET].parameters()))
    weight.data = weight.data.clone()
    with pytest.raises(StaleMemory):
        recorded.replay()


def test_another_checkpoint_in_the_place_of_one_is_used_at_once(
    model, recorder, latents_of, plainly, plain, tmp_path
):
    """By what depends on its weights as well."""
    job = using(plain, lora_of(model, tmp_path / "a.safetensors", 1))
    before = latents_of(job)
    weights = list(model.networks[UNET].parameters())
    originals = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.mul_(0.9)
        try:
            for each in (job, plain, job):
                assert torch.equal(latents_of(each), plainly(each))
            assert not torch.equal(latents_of(job), before)
        finally:
            for weight, original in zip(weights, originals, strict=True):
                weight.copy_(original)
    assert torch.equal(latents_of(job), before)
    assert recorder.recorded == 2


@pytest.mark.parametrize("short", ["more than it may", "no memory"])
def test_what_has_no_places_is_drawn_plainly(
    model, recorder, latents_of, plainly, plain, tmp_path, monkeypatch, short
):
    job = using(plain, lora_of(model, tmp_path / "a.safetensors", 1))

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    if short == "no memory":
        monkeypatch.setattr(lora_places, "FilledPlaces", full)
    else:
        monkeypatch.setattr(lora_hooks, "MOST_PLACED_BYTES", 1_000)
    for _ in range(2):
        assert torch.equal(latents_of(job), plainly(job))
    assert recorder.recorded == 0
    latents_of(plain)
    assert recorder.recorded == 1


def test_what_cannot_be_recorded_is_drawn_plainly_and_needs_no_places(
    model, recorder, latents_of, plainly, plain, tmp_path, monkeypatch
):
    job = using(plain, lora_of(model, tmp_path / "a.safetensors", 1))
    record = recorder.record

    def fail(_run: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(recorder, "record", fail)
    for _ in range(2):
        assert torch.equal(latents_of(job), plainly(job))
    assert not model.lora_places._idle
    monkeypatch.setattr(recorder, "record", record)
    latents_of(plain)
    assert recorder.recorded == 1


def test_what_is_wrong_with_places_beside_memory_is_told(
    model, recorder, latents_of, plain, tmp_path, monkeypatch
):
    def wrong(*_: Any) -> Any:
        raise RuntimeError("an illegal form")

    monkeypatch.setattr(lora_places, "FilledPlaces", wrong)
    with pytest.raises(RuntimeError, match="an illegal form"):
        latents_of(using(plain, lora_of(model, tmp_path / "a.safetensors", 1)))
    assert not any(each._forward_hooks for each in model.networks[UNET].modules())


def test_places_of_many_forms_are_bounded(
    model, recorder, latents_of, plain, tmp_path, monkeypatch
):
    """Those used longest ago go with their recordings; what has none stays."""
    jobs = [
        using(plain, lora_of(model, tmp_path / f"{rank}.safetensors", 1, rank))
        for rank in (2, 3, 4)
    ]
    latents_of(plain)
    latents_of(jobs[0])
    ((first),) = model.lora_places._idle.values()
    monkeypatch.setattr(step_graphs, "MOST_PLACED_BYTES", int(first.size_bytes * 2.5))
    del first
    for job in (*jobs, plain):
        latents_of(job)
    gc.collect()
    assert len(model.lora_places._idle) == 2
    assert (recorder.recorded, model.graphs.count) == (4, 3)
    latents_of(jobs[2])
    latents_of(plain)
    assert recorder.recorded == 4
    latents_of(jobs[0])
    assert recorder.recorded == 5


PAIR = {"down": (2, 6), "up": (5, 2)}
KERNELS = {"down": (2, 6, 3, 3), "up": (5, 2, 1, 1)}
CHANGES = {
    "linear": (nn.Linear(6, 5), PAIR, Algorithm.LORA),
    "linear, biases": (
        nn.Linear(6, 5),
        PAIR | {"up_bias": (5,), "diff_b": (5,)},
        Algorithm.LORA,
    ),
    "convolution": (nn.Conv2d(6, 5, 3, padding=1), KERNELS, Algorithm.LORA),
    "convolution, factored": (
        nn.Conv2d(6, 5, 3, padding=1),
        {"down": (2, 6), "mid": (2, 2, 3, 3), "up": (5, 2), "diff_b": (5,)},
        Algorithm.LORA,
    ),
    "whole": (nn.Linear(6, 5), {"diff": (5, 6)}, Algorithm.FULL),
    "whole convolution": (
        nn.Conv2d(6, 5, 3, padding=1),
        {"diff": (5, 6, 3, 3), "diff_b": (5,)},
        Algorithm.FULL,
    ),
    "a bias alone": (nn.Linear(6, 5), {"diff_b": (5,)}, Algorithm.FULL),
}


def change(kind: str, data_type: torch.dtype, strength: float, seed: int = 3) -> LayerChange:
    """One of a layer with random numbers."""
    module, shapes, algorithm = CHANGES[kind]
    noise = torch.Generator().manual_seed(seed)
    parts = {name: torch.randn(shape, generator=noise) for name, shape in shapes.items()}
    target = Target(Layer(UNET, "layer"), algorithm, {})
    return change_of(target, parts, module.to(data_type), strength)


@pytest.mark.parametrize("data_type", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", CHANGES)
def test_factors_in_memory_give_the_bits_of_numbers(kind: str, data_type: torch.dtype) -> None:
    noise = torch.Generator().manual_seed(4)
    lender, spatial = LoraPlaces(), kind.count("convolution") * (8, 8)
    given = torch.randn(*((2, 6, *spatial) if spatial else (2, 9, 6)), generator=noise)
    given = given.to(data_type)
    for number in range(20):
        strength = float(torch.randn(1, generator=noise, dtype=torch.float64))
        one = change(kind, data_type, strength, number)
        with torch.no_grad(), in_places([one], lender) as (placed,):
            result = one.module(given)
            assert placed.places is not None
            assert isinstance(placed.strength, torch.Tensor)
            wanted = one(one.module, (given,), result.clone())
            found = placed(one.module, (given,), result.clone())
            again = placed(one.module, (given,), result.clone())
        assert wanted.dtype is data_type
        assert torch.equal(found, wanted)
        assert torch.equal(again, wanted)
        assert not torch.equal(found, result)


def test_places_at_work_are_nobody_elses() -> None:
    lender = LoraPlaces()
    one, other = (change("linear", torch.float32, strength) for strength in (0.5, 2.0))
    given, result = torch.randn(2, 6), torch.zeros(2, 5)
    with torch.no_grad(), ExitStack() as both:
        hooks = [
            both.enter_context(in_places([replace(each)], lender))[0] for each in (one, other)
        ]
        for hook, each in zip(hooks, (one, other), strict=True):
            wanted = each(each.module, (given,), result)
            assert torch.equal(hook(each.module, (given,), result), wanted)
        assert hooks[0].places is not hooks[1].places


def test_tensors_that_were_put_into_places_are_let_go() -> None:
    hooks = [change("linear", torch.float16, 1.0)]  # converted, so that nobody else has them
    converted = weakref.ref(hooks[0].tensors["down"])
    with in_places(hooks, LoraPlaces()):
        gc.collect()
        assert converted() is None
