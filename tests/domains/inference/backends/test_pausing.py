"""Pausing a generation: the picture goes on from where it stopped, to the same bytes."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import save_file

from domains import paused_work
from domains.chain.backends import kept_chain
from domains.chain.types import DenoiseStep, SharpenStep, UpscaleStep
from domains.codec import decode, encode
from domains.inference.backends import kept_picture
from domains.inference.backends.engine import Engine
from domains.inference.backends.kept_picture import Kept, plain
from domains.inference.backends.kept_picture import kept as as_kept
from domains.inference.jobs import (
    Companion,
    GenerationJob,
    GenerationReport,
    PausedGeneration,
)
from domains.inference.types import (
    AncestralOptions,
    DdimOptions,
    GuidanceSettings,
    ImageToImage,
    LoraWeight,
    Scheduler,
    SchedulerSettings,
    SecondPass,
    SecondPassUpscale,
    SolverAlgorithm,
    SolverOptions,
)
from domains.model.types import ModelType
from domains.paused_work import NotKept
from domains.picture.types import PictureFile, PreparedPicture
from domains.session.jobs import EncodedImage, WorkPaused
from domains.session.types import (
    Phase,
    PhaseStarted,
    Piece,
    PieceFinished,
    Preview,
    PreviewSettings,
    StepFinished,
)
from domains.values import ModelPlace
from tests.domains.chain.backends.test_work import model as upscaler
from tests.domains.inference.backends.test_loras import UNET, random_pair
from tests.fakes.jobs import Listener, changed

STEPS = 4
Event = Any


class Pausing(Listener):
    """Asks the job to pause once `when` is true of the events so far, and from then on."""

    def __init__(self, when: Callable[[list[Event]], bool]) -> None:
        super().__init__(self._check)
        self._when = when

    def _check(self) -> None:
        if self._when(self.events):
            raise WorkPaused


def after(steps: int) -> Callable[[list[Event]], bool]:
    return lambda events: sum(isinstance(each, StepFinished) for each in events) >= steps


def in_phase(phase: Phase, index: int | None = None) -> Callable[[list[Event]], bool]:
    def begun(events: list[Event]) -> bool:
        phases = [each for each in events if isinstance(each, PhaseStarted)]
        return any((each.phase, each.image_index) == (phase, index) for each in phases)

    return begun


def images(heard: Listener) -> list[EncodedImage]:
    return [each for each in heard.events if isinstance(each, EncodedImage)]


def steps(heard: Listener) -> list[tuple[int, int]]:
    found = [each for each in heard.events if isinstance(each, StepFinished)]
    return [(each.image_index, each.step) for each in found]


def kept(heard: Listener) -> list[int]:
    found = [each for each in heard.events if isinstance(each, PhaseStarted)]
    return [each.kept_steps for each in found if each.phase is Phase.DENOISING]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("cpu")


@pytest.fixture
def small(work: GenerationJob, tiny: Path, tmp_path: Path) -> GenerationJob:
    job = changed(work, model_path=tiny, model_id="tiny", width=64, height=64, steps=STEPS)
    return replace(job, paused_file=tmp_path / "paused" / "one.paused")


class Turns:
    """A generation's turns, each with what the one before left."""

    def __init__(self, job: GenerationJob) -> None:
        self.job = self.job_as_begun = job
        self.images: list[EncodedImage] = []

    def pause(self, engine: Engine, when: Callable[[list[Event]], bool]) -> Listener:
        heard = Pausing(when)
        report = engine.generate(self.job, heard)
        assert isinstance(report, PausedGeneration)
        self.images += images(heard)
        self.job = replace(self.job, first_image=len(self.images), kept_steps=report.kept_steps)
        return heard

    def finish(self, engine: Engine) -> Listener:
        heard = Listener()
        assert isinstance(engine.generate(self.job, heard), GenerationReport)
        self.images += images(heard)
        return heard


def whole(engine: Engine, job: GenerationJob) -> list[bytes]:
    heard = Listener()
    engine.generate(job, heard)
    return [image.data for image in images(heard)]


def paused_after_each_step(engine: Engine, job: GenerationJob) -> None:
    wanted, turns = whole(engine, job), Turns(job)
    for step in range(1, STEPS + 1):
        heard = turns.pause(engine, after(1))
        assert (kept(heard), steps(heard)) == ([step - 1], [(0, step)])
    assert steps(turns.finish(engine)) == []
    assert [image.data for image in turns.images] == wanted


def scheduled(job: GenerationJob, scheduler: Scheduler) -> GenerationJob:
    ddim = DdimOptions(0.5) if scheduler is Scheduler.DDIM else None
    settings = replace(job.settings, scheduler=SchedulerSettings(scheduler, ddim=ddim))
    return replace(job, settings=settings)


@pytest.mark.parametrize("scheduler", [Scheduler.UNIPC_MULTISTEP, Scheduler.HEUN_DISCRETE])
def test_a_picture_paused_after_any_step_comes_out_the_same(
    engine: Engine, small: GenerationJob, scheduler: Scheduler
) -> None:
    paused_after_each_step(engine, scheduled(small, scheduler))


@pytest.mark.parametrize(
    "scheduler",
    [Scheduler.EULER_ANCESTRAL_DISCRETE, Scheduler.KDPM2_ANCESTRAL_DISCRETE, Scheduler.TCD],
)
def test_a_share_of_new_noise_is_taken_up_too(
    engine: Engine, small: GenerationJob, scheduler: Scheduler
) -> None:
    how = SchedulerSettings(scheduler, ancestral=AncestralOptions(eta=0.5))
    paused_after_each_step(
        engine, replace(small, settings=replace(small.settings, scheduler=how))
    )


@pytest.mark.demonstration
@pytest.mark.parametrize("scheduler", Scheduler)
def test_every_scheduler_is_taken_up_where_it_was(
    engine: Engine, small: GenerationJob, scheduler: Scheduler
) -> None:
    paused_after_each_step(engine, scheduled(small, scheduler))


@pytest.mark.demonstration
def test_a_solver_that_adds_noise_and_looks_far_back_is_taken_up_too(
    engine: Engine, small: GenerationJob
) -> None:
    how = SchedulerSettings(
        Scheduler.DPM_SOLVER_MULTISTEP,
        solver=SolverOptions(order=3, algorithm=SolverAlgorithm.SDE_DPMSOLVER_PP),
    )
    paused_after_each_step(
        engine, replace(small, settings=replace(small.settings, scheduler=how))
    )


def test_one_step_alone_can_be_left_for_later(engine: Engine, small: GenerationJob) -> None:
    """A pause in the middle, not after each step: what the scheduler holds is from several."""
    turns = Turns(scheduled(small, Scheduler.DPM_SOLVER_MULTISTEP))
    turns.pause(engine, after(3))
    assert turns.job.kept_steps == 3
    turns.finish(engine)
    assert [image.data for image in turns.images] == whole(engine, turns.job_as_begun)


@pytest.mark.parametrize(
    ("phase", "index", "finished", "kept_steps"),
    [
        (Phase.LOADING_MODEL, None, 0, 0),
        (Phase.ENCODING_TEXT, None, 0, 0),
        (Phase.DENOISING, 0, 0, 0),
        (Phase.DECODING, 0, 0, 2),
        (Phase.DENOISING, 1, 1, 0),
        (Phase.DECODING, 1, 1, 2),
    ],
)
def test_it_pauses_in_every_phase_and_a_new_worker_goes_on(
    engine: Engine,
    small: GenerationJob,
    phase: Phase,
    index: int | None,
    finished: int,
    kept_steps: int,
) -> None:
    settings = replace(small.settings, steps=2, seeds=(7, 8))
    turns = Turns(replace(small, settings=settings))
    first = Engine("cpu") if phase is Phase.LOADING_MODEL else engine
    turns.pause(first, in_phase(phase, index))
    assert (len(turns.images), turns.job.kept_steps) == (finished, kept_steps)
    turns.finish(Engine("cpu") if phase is Phase.DECODING and index else engine)
    assert [image.data for image in turns.images] == whole(engine, turns.job_as_begun)


@pytest.mark.parametrize("step", [2, 5])
def test_a_second_pass_goes_on_from_either(
    engine: Engine, small: GenerationJob, step: int
) -> None:
    second = SecondPass(
        scale=2.0,
        upscale=SecondPassUpscale.PIXELS,
        strength=0.5,
        steps=STEPS,
        guidance=GuidanceSettings(2.0),
    )
    job = replace(small, settings=replace(small.settings, second_pass=second))
    turns = Turns(job)
    turns.pause(engine, after(step))
    assert turns.job.kept_steps == step
    turns.finish(engine)
    assert [image.data for image in turns.images] == whole(engine, job)


def test_a_pause_before_anything_new_keeps_what_was_kept(
    engine: Engine, small: GenerationJob
) -> None:
    turns = Turns(small)
    turns.pause(engine, after(2))
    turns.pause(engine, in_phase(Phase.ENCODING_TEXT))
    assert turns.job.kept_steps == 2
    assert kept(turns.finish(engine)) == [2]
    assert [image.data for image in turns.images] == whole(engine, small)


def test_loras_pictures_and_previews_go_on_too(
    engine: Engine, small: GenerationJob, tmp_path: Path
) -> None:
    lora = tmp_path / "noise.safetensors"
    save_file(random_pair(UNET, (8, 8, 3, 3), 4, None, seed=1), lora)
    pixels = bytes(range(256)) * 48
    (tmp_path / "64.rgb").write_bytes(pixels)
    sha256 = hashlib.sha256(pixels).hexdigest()
    settings = replace(
        small.settings,
        loras=(LoraWeight("noise", 0.8, 0.5),),
        image_to_image=ImageToImage(strength=0.8, image=PictureFile(sha256, artifact=False)),
    )
    job = replace(
        scheduled(replace(small, settings=settings), Scheduler.EULER_ANCESTRAL_DISCRETE),
        companions=(Companion("noise", ModelType.LORA, ModelPlace.of(lora)),),
        picture=PreparedPicture(tmp_path / "64.rgb", 64, 64, sha256),
        previews=PreviewSettings(every_steps=1),
    )
    plain = whole(engine, small)
    turns = Turns(job)
    turns.pause(engine, after(1))
    assert whole(engine, small) == plain  # nothing of it is left in the model
    turns.pause(engine, after(1))
    heard = turns.finish(engine)
    assert [image.data for image in turns.images] == whole(engine, job)
    assert [each.step for each in heard.events if isinstance(each, Preview)] == [3]
    assert whole(engine, small) == plain


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def a_pickle(path: Path) -> None:
    path.write_bytes(b"\x80\x04N.")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "cut off": cut,
    "a bit is wrong": flip,
    "empty": lambda path: os.truncate(path, 0),
    "a pickle": a_pickle,
    "a folder": a_folder,
}
if hasattr(os, "mkfifo"):
    DAMAGES["a pipe"] = a_pipe


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_kept_and_is_no_good_any_more_is_drawn_anew(
    engine: Engine,
    small: GenerationJob,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = replace(small.settings, steps=2)
    turns = Turns(replace(small, settings=settings))
    turns.pause(engine, after(1))
    assert turns.job.paused_file is not None
    DAMAGES[damage](turns.job.paused_file)
    heard = turns.finish(engine)
    assert (kept(heard), steps(heard)) == ([0], [(0, 1), (0, 2)])
    assert "picture 0 of a paused session is drawn anew: its file is" in caplog.text
    assert [image.data for image in turns.images] == whole(engine, turns.job_as_begun)


@pytest.mark.parametrize(
    "other", [{"prompt": "a dog"}, {"seeds": (8,)}, {"guidance": GuidanceSettings(2.0)}]
)
def test_what_was_kept_of_other_work_is_not_taken_up(
    engine: Engine, small: GenerationJob, other: dict[str, Any]
) -> None:
    turns = Turns(small)
    turns.pause(engine, after(1))
    mixed = replace(turns.job, settings=replace(small.settings, **other))
    heard = Listener()
    engine.generate(mixed, heard)
    assert kept(heard) == [0]
    assert [image.data for image in images(heard)] == whole(engine, mixed)


def test_a_disk_that_refuses_costs_steps_and_nothing_else(
    engine: Engine,
    small: GenerationJob,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(path: Path) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    turns = Turns(small)
    turns.pause(engine, after(1))
    monkeypatch.setattr(paused_work, "whole_file", full)
    turns.pause(engine, after(1))
    assert turns.job.kept_steps == 1  # the one that was kept before
    assert "cannot be written: No space left on device" in caplog.text
    monkeypatch.undo()
    assert kept(turns.finish(engine)) == [1]
    assert [image.data for image in turns.images] == whole(engine, small)


def test_a_kept_picture_is_private_and_small(engine: Engine, small: GenerationJob) -> None:
    turns = Turns(small)
    turns.pause(engine, after(1))
    file = turns.job.paused_file
    assert file is not None
    assert file.stat().st_size < 200_000
    if os.name == "posix":
        assert file.stat().st_mode & 0o077 == 0
        assert file.parent.stat().st_mode & 0o077 == 0


def test_values_of_every_kind_come_back_as_they_were() -> None:
    held = {
        "half": torch.arange(4, dtype=torch.float16).reshape(2, 2),
        "brain": torch.tensor(1.5, dtype=torch.bfloat16),
        "none": torch.zeros(0, 3),
        "strided": torch.arange(6.0).reshape(2, 3).t(),
        "numbers": [1, 2.5, None, True, "x", [float("inf")]],
    }
    again = {
        name: plain(decode(Kept, encode(as_kept(value))), torch.device("cpu"))
        for name, value in held.items()
    }
    for name, value in held.items():
        if isinstance(value, torch.Tensor):
            assert again[name].dtype is value.dtype
            assert torch.equal(again[name], value)
            assert again[name].stride() == value.stride()
        else:
            assert again[name] == value
    with pytest.raises(NotKept, match="holds a function"):
        as_kept(after)


def pieces(heard: Listener) -> list[tuple[Piece, int]]:
    found = [each for each in heard.events if isinstance(each, PieceFinished)]
    return [(each.piece, each.done) for each in found]


@pytest.fixture
def finished(small: GenerationJob, tmp_path: Path) -> GenerationJob:
    """With a chain of a step, an upscaling of 16 tiles, and another step."""
    steps = (
        SharpenStep(2.0),
        UpscaleStep(factor=2, tile_pixels=16, tile_overlap_pixels=0, model=upscaler(tmp_path)),
        DenoiseStep(0.5),
    )
    return replace(small, steps=steps, finished_width=128, finished_height=128)


def test_a_pause_in_its_chain_keeps_steps_and_tiles(
    engine: Engine, finished: GenerationJob
) -> None:
    alone = Listener()
    engine.generate(finished, alone)
    for count in range(1, len(pieces(alone)), 3):

        def amid(events: list[Event], count: int = count) -> bool:
            return sum(isinstance(each, PieceFinished) for each in events) >= count

        turns = Turns(finished)
        heard = turns.pause(engine, amid)
        again = turns.finish(engine)
        assert kept(again) == [STEPS]
        ended = [done for piece, done in pieces(heard) if piece is Piece.STEP]
        begun = [each for each in again.events if isinstance(each, PhaseStarted)]
        chain = [each.kept_steps for each in begun if each.phase is Phase.POSTPROCESSING]
        assert chain == [len(ended)]
        tiles = [done for piece, done in pieces(alone) if piece is Piece.TILE]
        both = [*pieces(heard), *pieces(again)]
        # Of the steps around the upscaling those that were at work began anew.
        assert both.count((Piece.TILE, 9)) == tiles.count(9) == 1
        assert [image.data for image in turns.images] == [image.data for image in images(alone)]


def test_a_chain_that_does_not_fit_leaves_the_steps_before_it(
    engine: Engine, finished: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = whole(engine, finished)
    monkeypatch.setattr(kept_chain, "MOST_BYTES", 0)
    monkeypatch.setattr(kept_picture, "MOST_BYTES", 60_000)  # 128 x 128 pixels have 49,152
    turns = Turns(finished)
    turns.pause(engine, lambda events: any(isinstance(e, PieceFinished) for e in events))
    again = turns.finish(engine)
    assert kept(again) == [STEPS]
    assert (Piece.STEP, 1) in pieces(again)
    assert [image.data for image in turns.images] == wanted
