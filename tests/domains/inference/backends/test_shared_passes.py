"""Pictures that share passes: as those drawn alone, whoever their neighbours are."""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image
from safetensors.torch import save_file

from domains.errors import Cancelled, DomainError, Failure
from domains.inference.backends import pass_size, sharing, through_vae, together
from domains.inference.backends.compilation import undo
from domains.inference.backends.device import Numerics
from domains.inference.backends.engine import Engine
from domains.inference.backends.pass_size import PassSize
from domains.inference.backends.precision import apply
from domains.inference.backends.shared_job import SharedGeneration
from domains.inference.backends.sharing_rules import MOST_TOGETHER, in_groups
from domains.inference.backends.step_graphs import StepGraphs
from domains.inference.backends.together import Outcome, Together
from domains.inference.jobs import (
    Companion,
    GenerationJob,
    GenerationReport,
    PausedGeneration,
    SharedGenerationJob,
)
from domains.inference.types import (
    GuidanceSettings,
    LoraWeight,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
    SecondPass,
    SecondPassUpscale,
    SeedVariation,
)
from domains.model.types import ModelType
from domains.session.jobs import EncodedImage, PartEnded, WorkPaused
from domains.session.types import PhaseStarted, StepFinished, TextEncoded
from domains.values import DegradationKind, ModelPart, ModelPlace
from tests.domains.inference.backends.test_compiled import Shelf
from tests.domains.inference.backends.test_loras import UNET, random_pair
from tests.domains.inference.backends.test_step_graphs import Replaying
from tests.fakes.jobs import Listener, changed
from tests.fakes.tiny_models import save_lora, save_sdxl

DECIBELS = 40.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sdxl(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def tiny(work: GenerationJob, folder: Path) -> GenerationJob:
    return changed(work, model_path=folder, model_id="tiny", width=64, height=64, steps=3)


@pytest.fixture(scope="module")
def tiny_engine() -> Iterator[Engine]:
    engine = Engine("cpu")
    yield engine
    engine.unload()


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For how many pictures each pass was made for more than one."""
    seen: list[int] = []
    call = sharing.call_together

    def count(network: Any, calls: Sequence[Any]) -> list[Any]:
        seen.append(len(calls))
        return call(network, calls)

    monkeypatch.setattr(sharing, "call_together", count)
    return seen


def images(heard: Listener) -> list[EncodedImage]:
    found = [each for each in heard.events if isinstance(each, EncodedImage)]
    return sorted(found, key=lambda each: each.image_index)


def alone(engine: Engine, job: GenerationJob) -> list[bytes]:
    heard = Listener()
    assert isinstance(engine.generate(job, heard), GenerationReport)
    return [each.data for each in images(heard)]


def side_by_side(
    engine: Engine, jobs: Sequence[GenerationJob]
) -> tuple[list[Outcome], list[Listener]]:
    heard = [Listener() for _ in jobs]
    pairs = zip(jobs, heard, strict=True)
    return engine.generate_together([Together(*each) for each in pairs]), heard


def assert_alike(one: bytes, other: bytes) -> None:
    """Pictures of the same size, whose difference is noise nobody sees."""
    first, second = (
        np.asarray(Image.open(io.BytesIO(each)), dtype=np.float64) for each in (one, other)
    )
    assert first.shape == second.shape
    error = float(np.mean((first - second) ** 2))
    assert error == 0 or 10 * np.log10(255**2 / error) >= DECIBELS


def assert_all_alike(engine: Engine, jobs: Sequence[GenerationJob]) -> None:
    outcomes, heard = side_by_side(engine, jobs)
    assert all(isinstance(each, GenerationReport) for each in outcomes), outcomes
    for job, listener in zip(jobs, heard, strict=True):
        found, expected = images(listener), alone(engine, job)
        assert [each.seed for each in found] == list(job.settings.seeds)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one.data, other)


def some_job(tiny: GenerationJob, chance: random.Random) -> GenerationJob:
    """A picture that is like no other."""
    samplers = (
        Scheduler.EULER_DISCRETE,
        Scheduler.DPM_SOLVER_MULTISTEP,
        Scheduler.DDIM,
        Scheduler.HEUN_DISCRETE,
        Scheduler.EULER_ANCESTRAL_DISCRETE,
    )
    return changed(
        tiny,
        prompt=chance.choice(("a red apple", "a blue bird", "word " * 90)),
        steps=chance.randint(1, 4),
        guidance=GuidanceSettings(chance.choice((1.0, 5.0)), end=chance.choice((0.5, 1.0))),
        scheduler=SchedulerSettings(chance.choice(samplers)),
        seeds=tuple(chance.sample(range(1_000), chance.randint(1, 2))),
        width=chance.choice((64, 96)),
    )


def test_pictures_come_out_as_alone_whoever_is_beside_them(
    tiny_engine: Engine, tiny: GenerationJob
) -> None:
    """Of several sizes, samplers, steps and texts."""
    chance = random.Random(0)
    assert_all_alike(tiny_engine, [some_job(tiny, chance) for _ in range(4)])


@pytest.mark.demonstration
@pytest.mark.parametrize("seed", range(1, 5))
def test_pictures_come_out_as_alone_in_a_crowd(
    tiny_engine: Engine, tiny: GenerationJob, seed: int
) -> None:
    """More of them than go side by side."""
    chance = random.Random(seed)
    jobs = [some_job(tiny, chance) for _ in range(MOST_TOGETHER + 4)]
    assert_all_alike(tiny_engine, jobs)


@pytest.mark.demonstration
def test_a_trained_model_keeps_the_tolerance(engine: Engine, work: GenerationJob) -> None:
    jobs = [
        changed(work, seeds=(3,), scheduler=SchedulerSettings(Scheduler.DPM_SOLVER_MULTISTEP)),
        changed(work, seeds=(4,), steps=6),
        changed(work, seeds=(5,), prompt="a cat", guidance=GuidanceSettings(1.0)),
        work,
    ]
    assert_all_alike(engine, jobs)


def test_passes_are_shared_and_it_is_told(
    tiny_engine: Engine, tiny: GenerationJob, sizes: list[int]
) -> None:
    jobs = [changed(tiny, seeds=(seed,), steps=2 + seed % 2) for seed in range(4)]
    outcomes, heard = side_by_side(tiny_engine, jobs)
    # Two steps for all, a third for those that have one.
    assert sizes == [4, 4, 2]
    for job, outcome, listener in zip(jobs, outcomes, heard, strict=True):
        assert isinstance(outcome, GenerationReport)
        assert outcome.computed.most_together == 4
        assert outcome.computed.attention_kernels
        assert outcome.degradations == ()
        steps = [each for each in listener.events if isinstance(each, StepFinished)]
        assert [each.step for each in steps] == list(range(1, job.settings.steps + 1))
        assert {each.steps for each in steps} == {job.settings.steps}


def test_all_are_decoded_by_the_thread_of_the_passes(
    tiny_engine: Engine, tiny: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread of its own would begin with workers and a heap of its own."""
    threads: list[threading.Thread] = []
    decode = through_vae.decode_pixels

    def noted(*args: Any, **how: Any) -> Any:
        threads.append(threading.current_thread())
        return decode(*args, **how)

    monkeypatch.setattr(through_vae, "decode_pixels", noted)
    side_by_side(tiny_engine, [changed(tiny, seeds=(seed,)) for seed in range(3)])
    assert threads == [threading.current_thread()] * 3


def test_a_picture_takes_the_place_of_one_that_is_finished(
    tiny_engine: Engine, tiny: GenerationJob, sizes: list[int]
) -> None:
    jobs = [changed(tiny, seeds=(n,), steps=1 + n % 2) for n in range(MOST_TOGETHER + 4)]
    side_by_side(tiny_engine, jobs)
    assert sizes == [MOST_TOGETHER, MOST_TOGETHER, 2]


def test_times_are_shares(tiny_engine: Engine, tiny: GenerationJob) -> None:
    """The pictures' seconds add up to what passed, not to as many times that."""
    jobs = [changed(tiny, seeds=(seed,), steps=4) for seed in range(6)]
    began = time.perf_counter()
    outcomes, heard = side_by_side(tiny_engine, jobs)
    passed = time.perf_counter() - began
    spent = [each.timings.denoise for each in outcomes if isinstance(each, GenerationReport)]
    told = sum(
        each.seconds
        for listener in heard
        for each in listener.events
        if isinstance(each, StepFinished)
    )
    assert min(spent) > 0
    assert sum(spent) <= passed
    assert 0 < told <= passed


def test_a_job_with_no_other_like_it_has_the_bits_of_one_alone(
    tiny_engine: Engine, tiny: GenerationJob, sizes: list[int]
) -> None:
    seamless = changed(tiny, seamless_horizontally=True)
    (plain, other), heard = side_by_side(tiny_engine, [tiny, seamless])
    assert sizes == []
    assert isinstance(plain, GenerationReport)
    assert isinstance(other, GenerationReport)
    assert plain.computed.most_together == 0
    for job, listener in zip((tiny, seamless), heard, strict=True):
        assert [each.data for each in images(listener)] == alone(tiny_engine, job)


def test_the_last_one_left_has_the_bits_of_one_alone(
    tiny_engine: Engine, tiny: GenerationJob, sizes: list[int]
) -> None:
    """A neighbour of another size shares no pass with it."""
    wide = changed(tiny, width=96)
    _, heard = side_by_side(tiny_engine, [tiny, wide])
    assert sizes == []
    for job, listener in zip((tiny, wide), heard, strict=True):
        assert [each.data for each in images(listener)] == alone(tiny_engine, job)


def test_several_pictures_of_one_job_speak_of_what_is_all_theirs_once(
    tiny_engine: Engine, tiny: GenerationJob, sizes: list[int]
) -> None:
    job = changed(tiny, seeds=(3, 4, 5))
    (report,), (heard,) = side_by_side(tiny_engine, [job])
    assert isinstance(report, GenerationReport)
    assert set(sizes) == {3}
    assert sum(isinstance(each, TextEncoded) for each in heard.events) == 1
    started = [each for each in heard.events if isinstance(each, PhaseStarted)]
    assert len(started) == len(set(started))
    for one, other in zip(images(heard), alone(tiny_engine, job), strict=True):
        assert_alike(one.data, other)


def test_second_passes_and_varied_seeds(tiny_engine: Engine, tiny: GenerationJob) -> None:
    larger = SecondPass(
        scale=1.5,
        strength=0.6,
        upscale=SecondPassUpscale.LATENT,
        steps=2,
        guidance=GuidanceSettings(4.0),
    )
    jobs = [
        changed(tiny, second_pass=larger),
        changed(tiny, seeds=(8,), second_pass=larger),
        changed(tiny, variation=SeedVariation(seed=3, strength=0.4)),
    ]
    assert_all_alike(tiny_engine, jobs)


def test_loras_work_once_for_all(
    tiny_engine: Engine, tiny: GenerationJob, tmp_path: Path, sizes: list[int]
) -> None:
    lora = tmp_path / "noise.safetensors"
    save_file(random_pair(UNET, (8, 8, 3, 3), 4, None, seed=1), lora)
    beside = (Companion("noise", ModelType.LORA, ModelPlace.of(lora)),)
    plain = alone(tiny_engine, tiny)
    with_lora = [
        changed(tiny, companions=beside, loras=(LoraWeight("noise", 1.0, 1.0),), seeds=(seed,))
        for seed in (7, 8)
    ]
    jobs = [with_lora[0], tiny, with_lora[1], changed(tiny, seeds=(9,))]
    assert_all_alike(tiny_engine, jobs)
    assert set(sizes) == {2}
    assert alone(tiny_engine, tiny) == plain


def test_shared_passes_run_plainly_to_their_end(
    tiny_engine: Engine, tiny: GenerationJob, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    """Compiling for every number of pictures would take minutes each."""
    fast = changed(tiny, precision=PrecisionMode.FASTEST)
    alone(tiny_engine, fast)
    model, shelf = tiny_engine._model, Shelf()
    monkeypatch.setattr(model, "code", shelf)
    jobs = [changed(fast, seeds=(seed,), steps=1 + seed) for seed in range(1, 5)]
    outcomes, _ = side_by_side(tiny_engine, jobs)
    assert tiny_engine._model is model
    assert all(isinstance(each, GenerationReport) for each in outcomes), outcomes
    assert set(sizes) == {2, 3, 4}
    assert [order.part for order in shelf.asked if order.part != "decoder"] == []
    monkeypatch.undo()
    undo(model.networks["unet"])  # type: ignore[union-attr]
    undo(model.networks["vae"])  # type: ignore[union-attr]


def test_a_picture_that_fails_leaves_its_neighbours_alone(
    tiny_engine: Engine, tiny: GenerationJob
) -> None:
    jobs = [tiny, changed(tiny, seeds=(8,), clip_skip=8), changed(tiny, seeds=(9,))]
    (first, failed, last), heard = side_by_side(tiny_engine, jobs)
    assert isinstance(failed, DomainError)
    assert "clip_skip" in failed.message
    assert isinstance(first, GenerationReport)
    assert isinstance(last, GenerationReport)
    assert [len(images(each)) for each in heard] == [1, 0, 1]


def stopping(error: BaseException, after: int) -> Listener:
    """Somebody who stops the work once so many steps are over."""
    heard = Listener()

    def check_stop() -> None:
        if sum(isinstance(each, StepFinished) for each in heard.events) >= after:
            raise error

    heard.check_stop = check_stop
    return heard


def test_one_is_cancelled_and_the_others_go_on(
    tiny_engine: Engine, tiny: GenerationJob, sizes: list[int]
) -> None:
    heard = [Listener(), stopping(Cancelled("Stopped."), 1), Listener()]
    outcomes = tiny_engine.generate_together(
        [Together(changed(tiny, seeds=(n,)), each) for n, each in enumerate(heard)]
    )
    assert [type(each) for each in outcomes] == [GenerationReport, Cancelled, GenerationReport]
    assert sizes == [3, 2, 2]


def test_one_is_told_as_soon_as_it_has_ended(
    tiny_engine: Engine, tiny: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four, two at a time; one fails."""
    monkeypatch.setattr(tiny_engine, "_pass_size", PassSize(torch.device("cpu"), most=2))
    said: list[str] = []
    jobs = [changed(tiny, seeds=(seed,), steps=2) for seed in range(3)]
    jobs.insert(1, changed(tiny, clip_skip=12, seeds=(8, 9)))

    class Steps(Listener):
        def emit(self, event: Any) -> None:
            if isinstance(event, StepFinished):
                said.append("step")

    outcomes = tiny_engine.generate_together(
        [
            Together(job, Steps(), ended=partial(lambda n, end: said.append(f"{n}"), number))
            for number, job in enumerate(jobs)
        ]
    )
    assert isinstance(outcomes[1], DomainError)
    assert said.index("1") == 0
    assert said.index("0") < said.index("3")
    assert said[said.index("2") :].count("step") > 0, "the last one has steps to do"
    assert sorted(each for each in said if each != "step") == ["0", "1", "2", "3"]


def test_a_shared_job_tells_each_end_and_at_last_which_were_paused(
    tiny_engine: Engine, tiny: GenerationJob
) -> None:
    job = SharedGenerationJob(
        (
            changed(tiny, steps=1),
            changed(tiny, seeds=(3, 4), steps=4),
            changed(tiny, clip_skip=12),
        )
    )
    heard = stopping(WorkPaused(), 4)
    report = SharedGeneration(tiny_engine.generate_together).run(job, heard)
    ends = {each.part: each.outcome for each in heard.events if isinstance(each, PartEnded)}
    assert isinstance(ends[0], GenerationReport)
    assert isinstance(ends[2], Failure)
    assert [each.part for each in report.paused] == [1]
    assert set(ends) == job.due_parts(report)


def test_what_stops_all_ends_nothing_that_was_not_finished(
    tiny_engine: Engine, tiny: GenerationJob
) -> None:
    job = SharedGenerationJob((changed(tiny, steps=1), changed(tiny, steps=4)))
    heard = stopping(Cancelled("Stopped."), 3)
    with pytest.raises(Cancelled):
        SharedGeneration(tiny_engine.generate_together).run(job, heard)
    assert [each.part for each in heard.events if isinstance(each, PartEnded)] == [0]


def test_nothing_is_lost_over_a_pause(tiny_engine: Engine, tiny: GenerationJob) -> None:
    job = changed(tiny, seeds=(3, 4), steps=2)
    quick = changed(tiny, seeds=(5,), steps=1)
    pausing = stopping(WorkPaused(), 2)
    first, second = tiny_engine.generate_together(
        [Together(job, pausing), Together(quick, Listener())]
    )
    assert isinstance(first, PausedGeneration)
    assert first.kept_steps == 0
    assert isinstance(second, GenerationReport)
    out = images(pausing)
    heard = Listener()
    (again,) = tiny_engine.generate_together(
        [Together(job, heard, frozenset(each.image_index for each in out))]
    )
    assert isinstance(again, GenerationReport)
    together = {each.image_index: each.data for each in (*out, *images(heard))}
    for index, expected in enumerate(alone(tiny_engine, job)):
        assert_alike(together[index], expected)


def test_memory_that_runs_out_halves_what_is_tried(
    tiny_engine: Engine, tiny: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    call = sharing.call_together

    def short(network: Any, calls: Sequence[Any]) -> list[Any]:
        seen.append(len(calls))
        if len(calls) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return call(network, calls)

    monkeypatch.setattr(sharing, "call_together", short)
    monkeypatch.setattr(tiny_engine, "_pass_size", PassSize(torch.device("cpu")))
    jobs = [changed(tiny, seeds=(seed,), steps=2) for seed in range(5)]
    outcomes, _ = side_by_side(tiny_engine, jobs)
    assert seen == [5, 2, 2, 2, 2]
    for each in outcomes[:4]:
        assert isinstance(each, GenerationReport)
        assert each.computed.most_together == 2
        assert [one.kind for one in each.degradations] == [DegradationKind.SHARED_LESS]


def test_what_is_tried_grows_back() -> None:
    size = PassSize(torch.device("cpu"))
    size.fell_short(8)
    assert size.now == 4
    size.fell_short(4)
    size.fell_short(2)
    assert size.now == 1
    for _ in range(200):
        size.went_well(size.now)
    assert size.now == MOST_TOGETHER


def test_fewer_are_tried_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pass_size, "missing_beside", lambda needed, _: needed - 3 * 2**20)
    config = {"block_out_channels": (64,), "down_block_types": ("DownBlock2D",)}
    sample = torch.zeros(1, 4, 16, 16)
    # 16 * 64 * 256 * 2 * 4 bytes for each: 2 MiB.
    assert PassSize(torch.device("cpu")).fitting(config, sample, 2) == 1
    assert PassSize(torch.device("cpu")).fitting(config, sample, 1) == 2


def test_a_picture_that_overflows_is_drawn_alone(
    tiny: GenerationJob, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine("cpu")
    engine.generate(tiny, Listener())
    model = engine._model
    assert model is not None
    model.unet_numerics = Numerics(torch.bfloat16)
    apply(model.networks["unet"], model.unet_numerics)
    call = sharing.call_together

    def overflowing(network: Any, calls: Sequence[Any]) -> list[Any]:
        found = call(network, calls)
        return [(found[0][0] * torch.inf,), *found[1:]]

    monkeypatch.setattr(sharing, "call_together", overflowing)
    jobs = [changed(tiny, seeds=(seed,)) for seed in (7, 8, 9)]
    outcomes, heard = side_by_side(engine, jobs)
    assert all(isinstance(each, GenerationReport) for each in outcomes), outcomes
    kinds = [{one.kind for one in each.degradations} for each in outcomes]  # type: ignore[union-attr]
    assert kinds[0] == {DegradationKind.SHARED_LESS}
    assert kinds[1] == kinds[2] == set()
    assert [len(images(each)) for each in heard] == [1, 1, 1]
    engine.unload()


def test_a_device_for_one_thread_draws_one_by_one(
    tiny_engine: Engine, tiny: GenerationJob, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    monkeypatch.setattr(together, "single_threaded", lambda _: True)
    jobs = [tiny, changed(tiny, seeds=(8,))]
    outcomes, heard = side_by_side(tiny_engine, jobs)
    assert sizes == []
    for job, outcome, listener in zip(jobs, outcomes, heard, strict=True):
        assert isinstance(outcome, GenerationReport)
        assert [one.kind for one in outcome.degradations] == [DegradationKind.SHARED_LESS]
        assert [each.data for each in images(listener)] == alone(tiny_engine, job)


def test_a_defect_in_a_pass_ends_all_of_them(
    tiny_engine: Engine, tiny: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(sharing, "call_together", broken)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        side_by_side(tiny_engine, [tiny, changed(tiny, seeds=(8,))])
    assert threading.active_count() == before
    monkeypatch.undo()
    assert_all_alike(tiny_engine, [tiny])


def test_what_goes_together(tiny: GenerationJob) -> None:
    other = replace(tiny, place=ModelPlace.of(tiny.place.path.parent))
    jobs = [
        tiny,
        changed(tiny, loras=(LoraWeight("a", 1.0, 1.0),)),
        changed(tiny, prompt="b", steps=9, seeds=(1,), width=96, clip_skip=1),
        changed(tiny, loras=(LoraWeight("a", 0.5, 1.0),)),
        other,
        changed(tiny, loras=(LoraWeight("a", 1.0, 1.0),), seeds=(2,)),
        changed(tiny, seamless_vertically=True),
    ]
    assert in_groups(jobs) == [[0, 2], [1, 5], [3], [4], [6]]


@pytest.mark.parametrize("with_lora", [False, True])
def test_shared_passes_are_replayed_where_the_device_records(
    tiny_engine: Engine,
    tiny: GenerationJob,
    sizes: list[int],
    folder: Path,
    tmp_path: Path,
    with_lora: bool,
) -> None:
    """The first pass of a number of rows runs plainly, from the second on they are replayed."""
    changes: dict[str, Any] = {}
    if with_lora:
        path = save_lora(tmp_path / "lora.safetensors", folder)
        changes = {
            "loras": (LoraWeight("lora", 1.0, 0.5),),
            "companions": (Companion("lora", ModelType.LORA, ModelPlace.of(path)),),
        }
    jobs = [changed(tiny, seeds=(seed,), steps=4, **changes) for seed in (1, 2)]
    expected = [alone(tiny_engine, job) for job in jobs]
    model = tiny_engine._model
    assert model is not None
    recorder = Replaying()
    model.graphs = StepGraphs(recorder, model.device)

    outcomes, heard = side_by_side(tiny_engine, jobs)

    assert sizes == [2] * 4
    assert (recorder.recorded, recorder.replayed) == (1, 3)
    for outcome in outcomes:
        assert isinstance(outcome, GenerationReport)
        assert outcome.computed.recorded == (ModelPart.DENOISER,)
    for listener, (data,) in zip(heard, expected, strict=True):
        assert_alike(images(listener)[0].data, data)
