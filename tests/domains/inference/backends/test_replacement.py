"""One model in place of another: what fails to load costs the loaded one nothing."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file, save_file

from domains.device.jobs import ReleaseJob
from domains.errors import Cancelled, DomainError, FailedPrecondition, Reason
from domains.inference.backends import denoise, loader
from domains.inference.backends.engine import Engine
from domains.inference.backends.room import check_possible, fits_beside
from domains.inference.jobs import GenerationJob
from domains.model.jobs import LoadJob
from domains.session.types import Phase, PhaseStarted, TransferProgress
from domains.values import ModelOrigin, ModelPlace
from tests.domains.model.disk import DEMO, copy_demo, edit, sketch_demo
from tests.fakes.jobs import Listener, changed

GOOD = LoadJob("good", ModelPlace.of(DEMO))


@pytest.fixture(scope="module")
def one() -> Iterator[Engine]:
    """One engine for all; what it holds is loaded again only where a test took it away."""
    engine = Engine("cpu")
    yield engine
    engine.unload()


@pytest.fixture
def own(one: Engine) -> Engine:
    """An engine with that model loaded and no other."""
    one.load(GOOD, Listener())
    others = {part.model_id for part in one.held()} - {"good"}
    if others:
        one.release(ReleaseJob(tuple(others)), Listener())
    return one


@pytest.fixture
def other(tmp_path: Path) -> LoadJob:
    return LoadJob("other", ModelPlace.of(copy_demo(tmp_path / "other")))


def one_tensor_more(folder: Path) -> None:
    file = next((folder / "vae").glob("*.safetensors"))
    tensors = load_file(file)
    tensors["stranger"] = next(iter(tensors.values())).clone()
    save_file(tensors, file)


def one_tensor_less(folder: Path) -> None:
    file = next((folder / "unet").glob("*.safetensors"))
    tensors = load_file(file)
    del tensors["time_embedding.linear_2.bias"]
    save_file(tensors, file)


def bad_configuration(folder: Path) -> None:
    edit(folder / "unet" / "config.json", act_fn=["silu"])


def bad_tokenizer(folder: Path) -> None:
    edit(folder / "tokenizer" / "tokenizer.json", decoder={"type": "Strip"})


def resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def assert_untouched(engine: Engine, model: Any, work: GenerationJob, before: int) -> None:
    """The model is the one from before, at no more memory, and draws without loading."""
    assert engine._model is model
    assert engine.loaded_path == DEMO
    assert {part.model_id for part in engine.held()} == {"good"}
    assert resident() < 1.05 * before
    heard = Listener()
    small = changed(work, steps=1, width=64, height=64, model_id="good")
    report = engine.generate(small, heard)
    assert report.timings.load == 0
    assert PhaseStarted(Phase.LOADING_MODEL) not in heard.events


@pytest.mark.parametrize(
    "damage",
    [one_tensor_more, one_tensor_less, bad_configuration, bad_tokenizer],
)
def test_a_model_that_cannot_be_loaded_leaves_the_old_one(
    own: Engine, other: LoadJob, work: GenerationJob, damage: Callable[[Path], None]
) -> None:
    damage(other.place.path)
    model, before = own._model, resident()
    heard = Listener()
    with pytest.raises(FailedPrecondition):
        own.load(other, heard)
    assert not any(isinstance(event, TransferProgress) for event in heard.events)
    assert_untouched(own, model, work, before)


def break_off(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def stop(_file: Path) -> None:
    raise Cancelled("stopped")


@pytest.mark.parametrize("act", [break_off, stop])
def test_a_load_that_breaks_off_leaves_the_old_one(
    own: Engine, other: LoadJob, work: GenerationJob, act: Callable[[Path], None]
) -> None:
    heard = Listener()
    file = next((other.place.path / "unet").glob("*.safetensors"))

    def act_after_bytes() -> None:
        if any(isinstance(event, TransferProgress) for event in heard.events):
            act(file)

    heard.check_stop = act_after_bytes
    model, before = own._model, resident()
    with pytest.raises(DomainError):
        own.load(other, heard)
    assert any(isinstance(event, TransferProgress) for event in heard.events)
    assert_untouched(own, model, work, before)


def test_with_room_for_both_both_stay(own: Engine, other: LoadJob, work: GenerationJob) -> None:
    report = own.load(other, Listener())
    assert {part.model_id for part in report.loaded} == {"other"}
    assert report.evicted_model_ids == ()
    # The one used last comes first.
    assert list(dict.fromkeys(part.model_id for part in own.held())) == ["other", "good"]
    for job in (GOOD, other):
        assert own.load(job, Listener()).origin is ModelOrigin.LOADED


def test_only_the_one_that_work_uses_is_in_use(
    own: Engine, other: LoadJob, work: GenerationJob
) -> None:
    own.load(other, Listener())
    seen: list[tuple[str, bool]] = []

    class Watching(Listener):
        def emit(self, event: Any) -> None:
            super().emit(event)
            seen.extend((part.model_id, part.in_use) for part in own.held())

    small = changed(work, steps=1, width=64, height=64, model_id="good", model_path=DEMO)
    own.generate(small, Watching())
    assert set(seen) == {("other", False), ("good", True)}
    assert not any(part.in_use for part in own.held())


def without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "fits_beside", lambda *_: False)


def test_without_room_for_both_the_old_one_goes_first(
    own: Engine, other: LoadJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_room(monkeypatch)
    before, old = resident(), weakref.ref(own._model)
    held: list[Any] = []
    heard = Listener(lambda: held.append(own.loaded_path))
    report = own.load(other, heard)
    # It stays for as long as there is something to check.
    assert held[0] == DEMO
    assert held[-1] is None
    assert own.loaded_path == other.place.path
    assert report.evicted_model_ids == ("good",)
    assert old() is None
    assert resident() < 1.05 * before


def test_the_least_recently_used_gives_way(
    one: Engine, other: LoadJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = LoadJob("third", ModelPlace.of(copy_demo(tmp_path / "third")))
    one.unload()
    for job in (GOOD, other, GOOD):
        one.load(job, Listener())
    free = [0]  # as soon as one has gone there is room

    def fits(_needed: int, _device: Any) -> bool:
        free[0] = 1 if len(one._loader.models) < 2 else free[0]
        return bool(free[0])

    monkeypatch.setattr(loader, "fits_beside", fits)
    report = one.load(third, Listener())
    assert report.evicted_model_ids == ("other",)
    assert {part.model_id for part in one.held()} == {"good", "third"}


def test_a_picture_too_large_beside_the_others_takes_their_room(
    own: Engine, other: LoadJob, work: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.load(other, Listener())
    without_room(monkeypatch)
    small = changed(work, steps=1, width=64, height=64, model_id="good", model_path=DEMO)
    assert own.generate(small, Listener()).origin is ModelOrigin.LOADED
    assert {part.model_id for part in own.held()} == {"good"}


def test_memory_that_runs_out_while_drawing_costs_the_others_first(
    own: Engine, other: LoadJob, work: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.load(other, Listener())
    real, calls = denoise.predict, []

    def short_once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise MemoryError
        return real(*arguments)

    monkeypatch.setattr(denoise, "predict", short_once)
    small = changed(work, steps=1, width=64, height=64, model_id="good", model_path=DEMO)
    own.generate(small, Listener())
    assert len(calls) == 2
    assert {part.model_id for part in own.held()} == {"good"}


def test_releasing_one_leaves_the_others(own: Engine, other: LoadJob) -> None:
    own.load(other, Listener())
    report = own.release(ReleaseJob(("good",)), Listener())
    assert {part.model_id for part in report.released} == {"good"}
    assert {part.model_id for part in own.held()} == {"other"}
    assert own.release(ReleaseJob(("good",)), Listener()).released == ()


def test_many_loads_and_unloads_leave_no_memory_behind(one: Engine, other: LoadJob) -> None:
    def cycle() -> None:
        one.load(other, Listener())
        one.unload()

    for _ in range(2):  # libraries and the allocator have what they keep
        cycle()
    before = resident()
    for _ in range(5):
        cycle()
    assert resident() < 1.05 * before


def test_what_is_refused_without_room_for_both_leaves_the_old_one_too(
    own: Engine, other: LoadJob, work: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_room(monkeypatch)
    one_tensor_more(other.place.path)
    model, before = own._model, resident()
    with pytest.raises(FailedPrecondition):
        own.load(other, Listener())
    assert_untouched(own, model, work, before)


def test_memory_that_runs_out_beside_the_old_one_costs_it(own: Engine, other: LoadJob) -> None:
    class Short(Listener):
        """Memory runs out once, in the middle of reading."""

        failed = False

        def emit(self, event: Any) -> None:
            super().emit(event)
            if isinstance(event, TransferProgress) and not self.failed:
                self.failed = True
                raise MemoryError

    heard = Short()
    report = own.load(other, heard)
    assert heard.failed
    assert {part.model_id for part in report.loaded} == {"other"}


def test_weights_larger_than_the_machine_are_refused_before_they_are_read(
    own: Engine, tmp_path: Path, work: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    from domains.inference.backends import room

    monkeypatch.setattr(room, "_host_bytes", lambda: 1 << 20)
    model, before = own._model, resident()
    with pytest.raises(DomainError) as caught:
        own.load(LoadJob("huge", ModelPlace.of(sketch_demo(tmp_path / "huge"))), Listener())
    assert caught.value.reason is Reason.HOST_OUT_OF_MEMORY
    assert int(caught.value.metadata["needed_bytes"]) > 1 << 20
    assert_untouched(own, model, work, before)


def test_room_is_what_the_machine_has_free(own: Engine) -> None:
    device = own._device
    assert fits_beside(1, device)
    assert not fits_beside(1 << 50, device)
    check_possible(1, device)
