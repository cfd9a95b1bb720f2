"""One model in place of another: from main memory into the modules that are there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from domains.device.types import OptimizationProfile
from domains.inference.backends import loader, page_locks, switching
from domains.inference.backends.device import Numerics
from domains.inference.backends.engine import Engine
from domains.inference.backends.page_locks import _give_up, _lock, _locked
from domains.inference.backends.precision import apply
from domains.inference.backends.profiles import PROFILES
from domains.inference.backends.weight_source import WeightSource
from domains.inference.jobs import GenerationJob
from domains.model.backends.arena import Arena
from domains.model.jobs import BenchmarkJob, LoadJob
from domains.session.jobs import EncodedImage
from domains.session.types import TransferProgress
from domains.values import CachedFile, CachedModel, ModelOrigin, ModelPlace
from tests.domains.model.disk import DEMO, copy_demo
from tests.fakes.jobs import Listener, changed

_PAGE = 4096


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    made = Arena(1 << 30)
    yield made
    made.close()


@pytest.fixture(scope="module")
def keep(arena: Arena) -> Callable[[Path], CachedModel]:
    """Puts a model's weights into the arena, as the front does."""
    end = [0]

    def put(folder: Path) -> CachedModel:
        files = []
        for file in sorted(folder.rglob("*.safetensors")):
            data, state = file.read_bytes(), file.stat()
            arena.memory[end[0] : end[0] + len(data)] = data
            name = file.relative_to(folder).as_posix()
            files.append(CachedFile(name, len(data), state.st_mtime_ns, end[0]))
            end[0] += -(-len(data) // _PAGE) * _PAGE
        return CachedModel(arena.name, arena.size, tuple(files))

    return put


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with other numbers."""
    folder = copy_demo(tmp_path_factory.mktemp("models") / "other")
    for file in folder.rglob("*.safetensors"):
        tensors = {name: tensor * 0.5 for name, tensor in load_file(file).items()}
        save_file(tensors, file)
    return folder


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for one model."""
    monkeypatch.setattr(loader, "missing_beside", lambda *_: 1 << 50)


def job_of(name: str, folder: Path, keep: Callable[[Path], CachedModel] | None) -> LoadJob:
    cached = None if keep is None else keep(folder)
    return LoadJob(name, ModelPlace.of(folder), cached)


def picture(engine: Engine, work: GenerationJob, name: str, folder: Path) -> str:
    heard = Listener()
    small = changed(work, steps=2, width=64, height=64, model_id=name, model_path=folder)
    assert engine.generate(small, heard).origin is ModelOrigin.LOADED
    (image,) = (event for event in heard.events if isinstance(event, EncodedImage))
    return hashlib.sha256(image.data).hexdigest()


def addresses(engine: Engine) -> dict[str, int]:
    assert engine._model is not None
    return {
        f"{name}.{key}": tensor.data_ptr()
        for name, network in engine._model.networks.items()
        for key, tensor in network.state_dict().items()
    }


def test_there_and_back_is_the_same_model_at_the_same_addresses(
    crowded: None, keep: Callable[[Path], CachedModel], other: Path, work: GenerationJob
) -> None:
    engine = Engine("cpu")
    engine.load(job_of("one", DEMO, None), Listener())
    before, where = picture(engine, work, "one", DEMO), addresses(engine)

    heard = Listener()
    report = engine.load(job_of("two", other, keep), heard)
    assert report.origin is ModelOrigin.CACHED
    assert report.evicted_model_ids == ("one",)
    assert {part.model_id for part in engine.held()} == {"two"}
    moved = [event for event in heard.events if isinstance(event, TransferProgress)]
    assert moved[-1].done_bytes == moved[-1].total_bytes
    assert addresses(engine) == where
    switched = picture(engine, work, "two", other)
    assert switched != before

    assert engine.load(job_of("one", DEMO, keep), Listener()).origin is ModelOrigin.CACHED
    assert addresses(engine) == where
    assert picture(engine, work, "one", DEMO) == before

    fresh = Engine("cpu")
    fresh.load(job_of("two", other, None), Listener())
    assert picture(fresh, work, "two", other) == switched


def test_what_was_settled_for_the_modules_stays(
    crowded: None, keep: Callable[[Path], CachedModel], other: Path
) -> None:
    engine = Engine("cpu")
    engine._loader.settings = PROFILES[OptimizationProfile.FAST]
    engine.load(job_of("one", DEMO, None), Listener())
    model = engine._model
    assert model is not None
    numerics = Numerics(torch.bfloat16, channels_last=True)
    apply(model.networks["unet"], numerics)
    model.unet_numerics, model.measured = numerics, True
    where = addresses(engine)

    assert engine.load(job_of("two", other, keep), Listener()).origin is ModelOrigin.CACHED
    assert engine._model is model
    assert model.model_id == "two"
    assert (model.measured, model.unet_numerics) == (True, numerics)
    assert addresses(engine) == where
    weights = load_file(next((other / "unet").glob("*.safetensors")))
    name, stored = next((n, t) for n, t in weights.items() if t.ndim == 4)
    switched = model.networks["unet"].state_dict()[name]
    # As a fresh load: first the exact type, then the one that was measured.
    assert torch.equal(switched, stored.to(torch.float32).to(torch.bfloat16))
    assert switched.is_contiguous(memory_format=torch.channels_last)


def test_what_main_memory_has_is_read_from_there_beside_the_others(
    keep: Callable[[Path], CachedModel], other: Path, work: GenerationJob
) -> None:
    engine = Engine("cpu")
    assert engine.load(job_of("two", other, keep), Listener()).origin is ModelOrigin.CACHED
    kept = picture(engine, work, "two", other)
    assert engine.load(job_of("one", DEMO, None), Listener()).origin is ModelOrigin.DISK
    assert {part.model_id for part in engine.held()} == {"one", "two"}
    engine.unload()
    assert engine.load(job_of("two", other, None), Listener()).origin is ModelOrigin.DISK
    assert picture(engine, work, "two", other) == kept


@pytest.mark.parametrize("what", ["size", "time", "arena", "missing"])
def test_what_is_not_the_file_on_disk_is_read_from_disk(
    crowded: None,
    keep: Callable[[Path], CachedModel],
    other: Path,
    what: str,
) -> None:
    cached = keep(other)
    first, *rest = cached.files
    wrong = {
        "size": CachedModel(
            cached.arena,
            cached.arena_bytes,
            (CachedFile(first.name, first.size_bytes - 1, first.modified_ns, 0), *rest),
        ),
        "time": CachedModel(
            cached.arena,
            cached.arena_bytes,
            (CachedFile(first.name, first.size_bytes, 1, first.offset_bytes), *rest),
        ),
        "arena": CachedModel("/proc/self/fd/9999", cached.arena_bytes, cached.files),
        "missing": CachedModel(cached.arena, cached.arena_bytes, tuple(rest)),
    }[what]
    engine = Engine("cpu")
    engine.load(job_of("one", DEMO, None), Listener())
    report = engine.load(LoadJob("two", ModelPlace.of(other), wrong), Listener())
    assert report.origin is ModelOrigin.DISK


def test_a_switch_that_fails_in_the_middle_leaves_no_half_model(
    crowded: None,
    keep: Callable[[Path], CachedModel],
    other: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine("cpu")
    engine.load(job_of("one", DEMO, None), Listener())
    real, calls = switching._copy, []

    def failing(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 20:
            raise RuntimeError("a defect")
        real(*arguments)

    monkeypatch.setattr(switching, "_copy", failing)
    with pytest.raises(RuntimeError, match="defect"):
        engine.load(job_of("two", other, keep), Listener())
    assert engine.held() == ()


def test_a_benchmark_measures_the_switch_where_main_memory_has_the_model(
    keep: Callable[[Path], CachedModel],
) -> None:
    engine = Engine("cpu")
    job = BenchmarkJob("one", ModelPlace.of(DEMO), 256, 256, 1, keep(DEMO))
    report = engine.benchmark(job, Listener())
    assert len(report.switch) >= 3
    assert engine.held() == ()


class Runtime:
    """A driver that can lock memory; refuses what it may only read where it is told to."""

    def __init__(self, refused: int = 0) -> None:
        self.locked: dict[int, int] = {}
        self._refused = refused

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:
        if flags & self._refused:
            return 801
        self.locked[address] = size
        return 0

    def cudaHostUnregister(self, address: int) -> int:
        del self.locked[address]
        return 0


@pytest.mark.parametrize("refused", [0, 8])
def test_ranges_are_locked_once_and_given_up_for_other_files(
    arena: Arena, refused: int
) -> None:
    _locked.clear()
    runtime = Runtime(refused)
    one = CachedFile("a", 2 * _PAGE, 1, 0)
    two = CachedFile("b", _PAGE, 1, 2 * _PAGE)
    first = WeightSource(CachedModel(arena.name, arena.size, (one, two)))
    forgotten: list[int] = []

    def lock(source: WeightSource) -> None:
        _lock(source, runtime, lambda: forgotten.append(1))

    lock(first)
    lock(first)
    assert len(forgotten) == (2 if refused else 0)
    assert sorted(runtime.locked.values()) == [_PAGE, 2 * _PAGE]
    # Another file lies where the first one lay: the old pages must not be fetched.
    later = CachedFile("a", _PAGE, 2, _PAGE)
    lock(WeightSource(CachedModel(arena.name, arena.size, (later,))))
    assert sorted(key[1].name for key in _locked) == ["a", "b"]
    assert sorted(runtime.locked.values()) == [_PAGE, _PAGE]
    _give_up("another arena", later, runtime)
    assert not runtime.locked


def test_what_the_front_has_evicted_is_given_up(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    _locked.clear()
    runtime = Runtime(0)
    monkeypatch.setattr(page_locks, "_runtime", lambda: runtime)
    begin = 64 * _PAGE
    one, two = (CachedFile(n, 2 * _PAGE, 1, begin + k * 2 * _PAGE) for k, n in enumerate("ab"))
    arena.memory[begin : begin + 4 * _PAGE] = bytes([1]) * 4 * _PAGE
    _lock(WeightSource(CachedModel(arena.name, arena.size, (one, two))), runtime, lambda: None)
    assert page_locks.lock_problem() == ""

    page_locks.give_up_evicted()
    assert [key[1].name for key in _locked] == ["a", "b"]
    arena.give_back(one.offset_bytes, 2 * _PAGE)
    page_locks.give_up_evicted()
    assert [key[1].name for key in _locked] == ["b"]
    arena.give_back(two.offset_bytes, 2 * _PAGE)
    page_locks.give_up_evicted()

    assert not _locked
    assert not runtime.locked


def test_a_driver_that_cannot_lock_changes_nothing(arena: Arena) -> None:
    _locked.clear()
    runtime = Runtime(refused=1)
    kept = CachedModel(arena.name, arena.size, (CachedFile("a", _PAGE, 1, 0),))
    _lock(WeightSource(kept), runtime, lambda: None)
    assert not _locked


def test_other_networks_are_not_taken_over(
    crowded: None, keep: Callable[[Path], CachedModel], other: Path
) -> None:
    engine = Engine("cpu")
    engine.load(job_of("one", DEMO, None), Listener())
    assert engine._model is not None
    # A decoder that overflowed once computes in numbers of its own.
    engine._model.networks["vae"].to(torch.bfloat16)
    where = addresses(engine)
    assert engine.load(job_of("two", other, keep), Listener()).origin is ModelOrigin.CACHED
    assert addresses(engine) != where
