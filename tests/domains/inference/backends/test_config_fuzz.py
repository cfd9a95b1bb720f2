"""Damaged model folders: refused with a reason, or drawn with; never a fault of the server."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.engine import Engine
from domains.inference.jobs import GenerationJob
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
)
from domains.model.backends.disk_scanner import DiskScanner
from domains.session.types import PreviewSettings
from domains.values import ModelPlace
from tests.domains.inference.backends.mutations import Bench, Mutator, scheduler_of
from tests.fakes.jobs import Listener
from tests.fakes.tiny_models import save_sd1, save_sdxl

SEED = 20
OF_MODELS = {reason for reason in Reason if reason.value.startswith("MODEL_")}
ALLOWED = {*OF_MODELS, Reason.NON_FINITE_OUTPUT, None}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sound")
    return {"sdxl": save_sdxl(folder / "sdxl"), "sd1": save_sd1(folder / "sd1")}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """One of its own: the shared one keeps its model."""
    engine = Engine("cpu")
    yield engine
    engine.unload()


def work(folder: Path, scheduler: Scheduler) -> GenerationJob:
    settings = GenerationSettings(
        model_id=folder.name,
        prompt="an apple <|endoftext|> 123 \N{GRINNING FACE}",
        width=64,
        height=64,
        steps=2,
        guidance=GuidanceSettings(3.0),
        scheduler=SchedulerSettings(scheduler),
        seeds=(7,),
        precision=PrecisionMode.EXACT,
    )
    return GenerationJob(settings, ModelPlace.of(folder), PreviewSettings(1, 64))


def judged(scanner: DiskScanner, folder: Path) -> Reason | None:
    """What the scan says of one model; the others stay usable."""
    models = {model.model_id: model for model in scanner.scan().models}
    assert [name for name, model in models.items() if not model.usable] in ([], [folder.name])
    problem = models[folder.name].problem
    return None if problem is None else problem.reason


def drawn(engine: Engine, folder: Path, scheduler: Scheduler) -> Reason | None:
    """What a request comes to; None for a picture."""
    try:
        engine.generate(work(folder, scheduler), Listener())
    except FailedPrecondition as error:
        return error.reason
    return None


def fuzz(
    models: dict[str, Path], work: Path, engine: Engine, count: int, draw_one_in: int
) -> Counter[str]:
    """Damage models so often; draw with one in so many of those that the scan takes."""
    bench, scanner = Bench(models, work), DiskScanner([work])
    pick, seen = random.Random(SEED), Counter[str]()
    for mutation in Mutator(models, SEED).mutations(count):
        folder = bench.apply(mutation)
        try:
            reason = judged(scanner, folder)
            if reason is None and pick.randrange(draw_one_in) == 0:
                own = scheduler_of(folder)
                reason = drawn(engine, folder, pick.choice([own, own, *Scheduler]))
                seen["drawn" if reason is None else f"late {reason.name}"] += 1
            else:
                seen["taken" if reason is None else reason.name] += 1
            assert reason in ALLOWED
        except Exception as unexpected:
            raise AssertionError(f"{mutation.model}/{mutation.file}: {mutation.what}") from (
                unexpected
            )
        finally:
            bench.restore(mutation)
    return seen


def test_sound_models_are_drawn_with(models: dict[str, Path], engine: Engine) -> None:
    scanner = DiskScanner([models["sd1"].parent])
    for folder in models.values():
        assert judged(scanner, folder) is None
        assert drawn(engine, folder, scheduler_of(folder)) is None


@pytest.mark.filterwarnings("ignore")
def test_a_hundred_damages(models: dict[str, Path], tmp_path: Path, engine: Engine) -> None:
    seen = fuzz(models, tmp_path, engine, 100, draw_one_in=8)
    # It is no test where everything is refused, or nothing.
    assert seen["drawn"] > 1
    assert seen["MODEL_CONFIG_INVALID"] > 20


@pytest.mark.demonstration
@pytest.mark.filterwarnings("ignore")
def test_five_thousand_damages(models: dict[str, Path], tmp_path: Path, engine: Engine) -> None:
    seen = fuzz(models, tmp_path, engine, 5000, draw_one_in=50)
    assert seen["drawn"] > 20
