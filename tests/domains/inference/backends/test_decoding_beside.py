"""Pictures decoded beside the steps of the next ones: same bytes, failures, stops, pauses.

On a processor this is switched on here alone: a lane in which the other thread waits until the
main one has come to where a test wants it. What streams do is for a card to show.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from domains.errors import Cancelled, FailedPrecondition, Reason
from domains.inference.backends import beside as beside_the_main_thread
from domains.inference.backends import decoding, drawing, finishing, telling, through_vae
from domains.inference.backends.beside import one_at_a_time
from domains.inference.backends.device import Numerics
from domains.inference.backends.engine import Engine
from domains.inference.backends.precision import apply
from domains.inference.jobs import GenerationJob, GenerationReport, PausedGeneration
from domains.inference.types import GuidanceSettings, SecondPass, SecondPassUpscale, Toggle
from domains.session.jobs import EncodedImage, WorkPaused
from domains.session.types import (
    ImageDecoded,
    Phase,
    PhaseStarted,
    PreviewSettings,
    StepFinished,
)
from domains.values import DegradationKind
from tests.fakes.jobs import Listener, changed

STEPS = 3
LONG = 30.0
Event = Any


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("cpu")


@pytest.fixture
def small(work: GenerationJob, tiny: Path, tmp_path: Path) -> GenerationJob:
    job = changed(
        work,
        model_path=tiny,
        model_id="tiny",
        width=64,
        height=64,
        steps=STEPS,
        seeds=(7, 8, 9),
    )
    return replace(job, paused_file=tmp_path / "paused" / "one.paused")


class Gate(Listener):
    """A job's context and its lane: decodings beside begin once `when` is true of the events so
    far, or the job is stopped."""

    def __init__(
        self,
        when: Callable[[list[Event]], bool] = lambda _: True,
        stop: Callable[[list[Event]], BaseException | None] = lambda _: None,
    ) -> None:
        super().__init__(self._check)
        self._when, self._stop = when, stop
        self.open = threading.Event()
        self.opens_at_stop = True

    def emit(self, event: Event) -> None:
        super().emit(event)
        if self._when(self.events):
            self.open.set()

    def _check(self) -> None:
        assert threading.current_thread() is threading.main_thread()
        error = self._stop(self.events)
        if error is not None:
            if self.opens_at_stop:
                self.open.set()
            raise error

    @contextmanager
    def lane(self) -> Iterator[None]:
        assert threading.current_thread() is not threading.main_thread()
        assert self.open.wait(LONG)
        yield


@pytest.fixture
def decoded_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which thread each decoding was made in."""
    seen: list[str] = []
    real = through_vae.decode_pixels

    def noted(*inputs: Any, **how: Any) -> Any:
        main = threading.current_thread() is threading.main_thread()
        seen.append("main" if main else "beside")
        return real(*inputs, **how)

    monkeypatch.setattr(through_vae, "decode_pixels", noted)
    return seen


def beside(engine: Engine, job: GenerationJob, heard: Gate) -> Any:
    engine.lane = heard.lane
    try:
        return engine.generate(job, heard)
    finally:
        engine.lane = None


def in_turn(engine: Engine, job: GenerationJob) -> list[bytes]:
    heard = Listener()
    engine.generate(job, heard)
    return files(heard)


def files(heard: Listener) -> list[bytes]:
    return [event.data for event in heard.events if isinstance(event, EncodedImage)]


def step(index: int, number: int) -> Callable[[list[Event]], bool]:
    def over(events: list[Event]) -> bool:
        steps = (each for each in events if isinstance(each, StepFinished))
        return any((each.image_index, each.step) == (index, number) for each in steps)

    return over


def once(when: Callable[[list[Event]], bool], error: BaseException) -> Any:
    return lambda events: error if when(events) else None


def test_a_processor_does_one_thing_at_a_time() -> None:
    assert Engine("cpu").lane is None


def test_a_picture_is_decoded_beside_the_steps_of_the_next_one(
    engine: Engine, small: GenerationJob, decoded_by: list[str]
) -> None:
    heard = Gate(step(1, 2))
    report = beside(engine, small, heard)
    assert decoded_by == ["beside", "beside", "main"]  # nothing follows the last one
    events = heard.events
    at = events.index(ImageDecoded(0))
    assert step(1, 2)(events[:at])
    assert events.index(PhaseStarted(Phase.DECODING, 0)) < at
    # One is out before the next one's decoding begins.
    second = events.index(PhaseStarted(Phase.DECODING, 1))
    assert at < second
    phases = [each for each in events if isinstance(each, PhaseStarted)]
    assert [each.image_index for each in phases if each.phase is Phase.ENCODING_IMAGE] == [2]
    assert [each.image_index for each in events if isinstance(each, EncodedImage)] == [0, 1, 2]
    assert files(heard) == in_turn(engine, small)
    assert report.timings.decode > 0
    assert report.degradations == ()
    assert report.computed.decoded_beside == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"seamless_horizontally": True, "previews": PreviewSettings(1)},
        {
            "second_pass": SecondPass(
                scale=2.0,
                upscale=SecondPassUpscale.PIXELS,
                strength=0.7,
                steps=STEPS,
                guidance=GuidanceSettings(2.0),
            )
        },
        {"vae_tiling": Toggle.ON, "width": 576, "height": 64},
    ],
    ids=["seamless with previews", "a second pass through pixels", "tiles"],
)
def test_whatever_else_goes_through_the_vae_the_bytes_are_the_same(
    engine: Engine,
    small: GenerationJob,
    decoded_by: list[str],
    changes: dict[str, Any],
) -> None:
    job = changed(small, **changes)
    wanted = in_turn(engine, job)
    for model in engine._loader.models:
        model.preview_matrix = None  # it is fitted anew, beside a decoding
    decoded_by.clear()
    heard = Gate()
    beside(engine, job, heard)
    assert files(heard) == wanted
    assert decoded_by.count("beside") == 2


def test_without_memory_for_both_it_is_done_in_turn(
    engine: Engine,
    small: GenerationJob,
    decoded_by: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def full(needed: int, _: torch.device) -> bool:
        asked.append(needed)
        return False

    monkeypatch.setattr(finishing, "fits_beside", full)
    heard = Gate()
    beside(engine, small, heard)
    assert decoded_by == ["main"] * 3
    assert len(asked) == 2
    # At least the five copies of the VAE's last block.
    assert min(asked) > 5 * 8 * 64 * 64 * 4
    assert files(heard) == in_turn(engine, small)


def test_where_memory_runs_out_the_main_thread_decodes(
    engine: Engine,
    small: GenerationJob,
    decoded_by: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = in_turn(engine, small)
    decoded_by.clear()
    real = decoding.decode

    def short(*inputs: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return real(*inputs)

    monkeypatch.setattr(decoding, "decode", short)
    heard = Gate()
    report = beside(engine, small, heard)
    assert decoded_by == ["beside", "main", "beside", "main", "main"]
    assert report.computed.decoded_beside == 0
    assert files(heard) == wanted
    assert report.degradations == ()


def test_a_vae_that_overflows_is_widened_by_the_main_thread(
    small: GenerationJob, decoded_by: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine("cpu")
    wanted = in_turn(engine, small)
    decoded_by.clear()
    model = engine._model
    assert model is not None
    model.vae_numerics = Numerics(torch.float16)
    apply(model.networks["vae"], model.vae_numerics)
    real = decoding.decode

    def overflowing(vae: Any, latents: Any, config: Any, numerics: Numerics) -> Any:
        if numerics.data_type is torch.float16:
            return torch.full((1, 3, 64, 64), float("inf"))
        return real(vae, latents, config, numerics)

    monkeypatch.setattr(decoding, "decode", overflowing)
    heard = Gate()
    report = beside(engine, small, heard)
    # In float32 from then on.
    assert decoded_by == ["beside", "main", "beside", "main"]
    assert [each.kind for each in report.degradations] == [DegradationKind.DATA_TYPE]
    assert len(files(heard)) == len(wanted)


def test_pixels_that_are_not_finite_end_the_job(
    engine: Engine, small: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "decode", lambda *_: torch.full((1, 3, 8, 8), float("nan")))
    heard = Gate(step(1, 1))
    with pytest.raises(FailedPrecondition) as refused:
        beside(engine, small, heard)
    assert refused.value.reason is Reason.NON_FINITE_OUTPUT
    assert refused.value.metadata["stage"] == "decoding"
    assert files(heard) == []
    assert not step(2, 1)(heard.events)


def test_what_else_goes_wrong_there_ends_the_job(
    engine: Engine, small: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a defect")

    monkeypatch.setattr(decoding, "decode", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        beside(engine, small, Gate())


def test_a_picture_that_is_drawn_is_out_before_the_next_one_fails(
    engine: Engine, small: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = in_turn(engine, small)
    real, calls = drawing.denoise, [0]

    def breaking(*inputs: Any, **how: Any) -> Any:
        calls[0] += 1
        latents = real(*inputs, **how)
        return torch.full_like(latents, float("nan")) if calls[0] == 2 else latents

    monkeypatch.setattr(drawing, "denoise", breaking)
    heard = Gate(step(1, STEPS))
    with pytest.raises(FailedPrecondition) as refused:
        beside(engine, small, heard)
    assert refused.value.reason is Reason.NON_FINITE_OUTPUT
    assert files(heard) == wanted[:1]


def test_cancelling_drops_what_is_being_decoded(
    engine: Engine, small: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Gate(lambda _: False, once(step(1, 1), Cancelled("stop")))
    real = beside_the_main_thread.wait

    def waits(futures: Any) -> Any:
        heard.open.set()
        return real(futures)

    monkeypatch.setattr(beside_the_main_thread, "wait", waits)
    monkeypatch.setattr(heard, "opens_at_stop", False)
    with pytest.raises(Cancelled):
        beside(engine, small, heard)
    assert heard.open.is_set()
    assert ImageDecoded(0) not in heard.events
    assert files(heard) == []
    # Nothing is left of it: the next job draws what it should.
    assert len(in_turn(engine, small)) == 3


@pytest.mark.parametrize("short", [False, True], ids=["beside", "by the main thread"])
def test_a_pause_waits_for_what_is_being_decoded(
    engine: Engine, small: GenerationJob, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    wanted = in_turn(engine, small)
    real = decoding.decode

    def decode(*inputs: Any) -> Any:
        if short and threading.current_thread() is not threading.main_thread():
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return real(*inputs)

    monkeypatch.setattr(decoding, "decode", decode)
    heard = Gate(lambda _: False, once(step(1, 2), WorkPaused()))
    report = beside(engine, small, heard)
    assert isinstance(report, PausedGeneration)
    assert report.kept_steps == 2
    assert files(heard) == wanted[:1]
    again = replace(small, first_image=1, kept_steps=2)
    goes_on = Gate()
    rest = beside(engine, again, goes_on)
    assert isinstance(rest, GenerationReport)
    assert (report.computed | rest.computed).decoded_beside == (0 if short else 2)
    assert files(heard) + files(goes_on) == wanted
    assert not step(1, 1)(goes_on.events)


def test_one_picture_alone_needs_no_thread(
    engine: Engine, small: GenerationJob, decoded_by: list[str]
) -> None:
    heard = Gate()
    report = beside(engine, changed(small, seeds=(7,)), heard)
    assert report.computed.decoded_beside == 0
    assert decoded_by == ["main"]
    assert PhaseStarted(Phase.ENCODING_IMAGE, 0) in heard.events


def test_making_room_waits_for_what_is_being_decoded(
    engine: Engine, small: GenerationJob
) -> None:
    in_turn(engine, small)
    model = engine._model
    assert model is not None
    held, order = threading.Event(), []

    def decode() -> None:
        with one_at_a_time:
            held.set()
            threading.Event().wait(0.1)
            order.append("decoded")

    other = threading.Thread(target=decode)
    other.start()
    assert held.wait(LONG)
    model.make_room()
    order.append("room")
    other.join()
    assert order == ["decoded", "room"]


def test_two_threads_never_go_through_a_vae_at_once(
    engine: Engine, small: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seamless pictures change its convolutions for as long as one goes through."""
    job = changed(small, seeds=(7, 8), previews=PreviewSettings(1))
    wanted = in_turn(engine, job)
    model, inside, order = engine._model, threading.Event(), list[str]()
    assert model is not None
    real, fit = decoding.decode, telling.fit_preview_matrix

    def decode(*inputs: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            threading.Event().wait(0.1)
            order.append("decoded")
        return real(*inputs)

    def fitted(vae: Any) -> Any:
        if inside.is_set():
            order.append("fitted")
        return fit(vae)

    def begins(events: list[Event]) -> bool:
        if events[-1] == PhaseStarted(Phase.DENOISING, 1):
            assert inside.wait(LONG)
            model.preview_matrix = None
        return True

    monkeypatch.setattr(decoding, "decode", decode)
    monkeypatch.setattr(telling, "fit_preview_matrix", fitted)
    heard = Gate(begins)
    beside(engine, job, heard)
    assert order == ["decoded", "fitted"]
    assert files(heard) == wanted
