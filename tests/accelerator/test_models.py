"""Models on a card: loaded beside each other, switched in place, the same pictures after it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from domains.inference.backends import loader
from domains.inference.backends.engine import Engine
from domains.inference.backends.page_locks import _locked
from domains.inference.jobs import GenerationJob
from domains.inference.types import (
    GenerationSettings,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
)
from domains.model.backends.arena import Arena
from domains.model.jobs import BenchmarkJob, LoadJob
from domains.session.jobs import EncodedImage
from domains.values import CachedFile, CachedModel, ModelOrigin, ModelPlace
from tests.domains.model.disk import DEMO, copy_demo
from tests.fakes.jobs import Listener

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card")
_PAGE = 4096


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    made = Arena(1 << 30)
    yield made
    made.close()


@pytest.fixture(scope="module")
def kept(
    arena: Arena, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[ModelPlace, CachedModel]]:
    """Two models of the same networks, whole in main memory."""
    other = copy_demo(tmp_path_factory.mktemp("models") / "other")
    for file in other.rglob("*.safetensors"):
        save_file({name: each * 0.9 for name, each in load_file(file).items()}, file)
    found, end = {}, 0
    for name, folder in (("one", DEMO), ("two", other)):
        files = []
        for file in sorted(Path(folder).rglob("*.safetensors")):
            data = file.read_bytes()
            arena.memory[end : end + len(data)] = data
            inside = file.relative_to(folder).as_posix()
            files.append(CachedFile(inside, len(data), file.stat().st_mtime_ns, end))
            end += -(-len(data) // _PAGE) * _PAGE
        found[name] = (ModelPlace.of(folder), CachedModel(arena.name, arena.size, tuple(files)))
    return found


def picture(engine: Engine, name: str, place: ModelPlace) -> str:
    settings = GenerationSettings(
        model_id=name,
        prompt="a red apple",
        scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
        width=256,
        height=256,
        steps=4,
        seeds=(7,),
        precision=PrecisionMode.EXACT,
    )
    heard = Listener()
    engine.generate(GenerationJob(settings, place), heard)
    (image,) = (event for event in heard.events if isinstance(event, EncodedImage))
    return hashlib.sha256(image.data).hexdigest()


def test_there_and_back_is_the_same_on_a_card(
    kept: dict[str, tuple[ModelPlace, CachedModel]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine("cuda:0")
    (one, cached_one), (two, cached_two) = kept["one"], kept["two"]
    engine.load(LoadJob("one", one), Listener())
    before = picture(engine, "one", one)
    assert engine._model is not None
    unet = engine._model.networks["unet"]
    where = [tensor.data_ptr() for tensor in unet.parameters()]
    monkeypatch.setattr(loader, "missing_beside", lambda *_: 1 << 50)

    report = engine.load(LoadJob("two", two, cached_two), Listener())
    assert report.origin is ModelOrigin.CACHED
    switched = picture(engine, "two", two)
    assert engine.load(LoadJob("one", one, cached_one), Listener()).origin is ModelOrigin.CACHED

    assert [tensor.data_ptr() for tensor in unet.parameters()] == where
    assert picture(engine, "one", one) == before
    monkeypatch.undo()
    engine.unload()
    engine.load(LoadJob("two", two), Listener())
    assert picture(engine, "two", two) == switched


def test_main_memory_is_page_locked_for_the_card(
    kept: dict[str, tuple[ModelPlace, CachedModel]],
) -> None:
    place, cached = kept["one"]
    engine = Engine("cuda:0")
    job = BenchmarkJob("one", place, 256, 256, 2, cached)
    assert engine.benchmark(job, Listener()).switch
    names = {key[1].name for key in _locked if key[0] == cached.arena}
    assert names >= {file.name for file in cached.files}


def test_loads_and_unloads_leave_the_card_as_it_was(
    kept: dict[str, tuple[ModelPlace, CachedModel]],
) -> None:
    engine = Engine("cuda:0")
    place, cached = kept["one"]

    def cycle() -> int:
        engine.load(LoadJob("one", place, cached), Listener())
        engine.unload()
        return int(torch.cuda.memory_allocated("cuda:0"))

    first = cycle()
    assert {cycle() for _ in range(20)} == {first}
