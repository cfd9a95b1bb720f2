"""When a drawing has its steps queued late: `StepFence` asks, and is tested by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from domains.inference.backends import drawing, refining
from domains.inference.backends.denoiser_use import SoleUse
from domains.inference.backends.engine import Engine
from domains.inference.backends.image_output import ImageOutput
from domains.inference.jobs import GenerationJob
from tests.domains.inference.backends.test_refiner import using
from tests.fakes.jobs import Listener, changed

LONG = 30.0
Asked = list[bool]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("cpu")


@pytest.fixture
def small(work: GenerationJob, tiny: Path) -> GenerationJob:
    return changed(work, model_path=tiny, model_id="tiny", width=64, height=64, steps=2)


def asking(monkeypatch: pytest.MonkeyPatch, module: Any, then: Callable[[], object]) -> Asked:
    """What the loops of that module are told as they begin; `then` comes after each."""
    asked: Asked = []
    real = module.denoise

    def noted(*given: Any, late: Callable[[], bool], **how: Any) -> Any:
        asked.append(late())
        then()
        return real(*given, late=late, **how)

    monkeypatch.setattr(module, "denoise", noted)
    return asked


def slow_files(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A picture's file is made once this is set."""
    real, goes_on = ImageOutput.encode, threading.Event()

    def encode(*given: Any) -> Any:
        assert goes_on.wait(LONG)
        return real(*given)

    monkeypatch.setattr(ImageOutput, "encode", encode)
    return goes_on


def test_not_while_the_file_of_the_picture_before_is_made(
    engine: Engine, small: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = slow_files(monkeypatch)
    asked: Asked = []
    asked = asking(monkeypatch, drawing, lambda: len(asked) > 1 and goes_on.set())
    engine.generate(changed(small, seeds=(7, 8)), Listener())
    assert asked == [True, False]


def test_not_where_others_calls_follow(
    engine: Engine, small: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SoleUse, "alone", False)
    asked = asking(monkeypatch, drawing, lambda: None)
    engine.generate(small, Listener())
    assert asked == [False]


def test_a_refiner_waits_for_the_same(
    work: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, goes_on = Engine("cpu"), slow_files(monkeypatch)
    asked: Asked = []
    asked = asking(monkeypatch, refining, lambda: len(asked) > 1 and goes_on.set())
    job = changed(work, width=64, height=64, steps=6, seeds=(7, 8), **using())
    engine.generate(job, Listener())
    engine.unload()
    assert asked == [True, False]
