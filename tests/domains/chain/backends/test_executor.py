"""Chains done step after step."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.executor import Executor
from domains.chain.backends.reading import read_canvas
from domains.chain.backends.steps.bands import Between
from domains.chain.types import (
    ColorStep,
    CropStep,
    DenoiseMethod,
    DenoiseStep,
    FaceRestoreStep,
    RemoveBackgroundStep,
    ResizeFilter,
    ResizeStep,
    SharpenStep,
    Step,
    UpscaleStep,
    WatermarkStep,
)
from domains.errors import Cancelled, Unavailable
from domains.picture.types import PreparedPicture
from tests.domains.chain.pictures import noise, same


class Doubling:
    """Enlarges in two tiles and turns colours around, without networks."""

    def enlarge(self, canvas: Canvas, step: UpscaleStep, between: Between) -> Canvas:
        between(1, 2)
        pixels = canvas.pixels.repeat(2, 0).repeat(2, 1)
        between(2, 2)
        return Canvas(pixels)

    def restore(self, canvas: Canvas, step: FaceRestoreStep, between: Between) -> Canvas:
        between(1, 1)
        return Canvas(255 - canvas.pixels, canvas.alpha)


@dataclass
class Heard:
    """Everything that a chain tells; stops it at the step of that number."""

    stop_at: int = 99
    told: list[tuple[str, int, int]] = field(default_factory=list)

    def piece(self, done: int, pieces: int) -> None:
        self.told.append(("piece", done, pieces))

    def step(self, done: int, steps: int) -> None:
        self.told.append(("step", done, steps))
        if done >= self.stop_at:
            raise Cancelled("enough")


ALL: tuple[Step, ...] = (
    CropStep(1, 1, 10, 8),
    RemoveBackgroundStep(),
    FaceRestoreStep(),
    DenoiseStep(),
    DenoiseStep(method=DenoiseMethod.NON_LOCAL_MEANS),
    SharpenStep(),
    ColorStep(saturation=1.5),
    WatermarkStep("x"),
    ResizeStep(30, 5, ResizeFilter.BICUBIC),
)


def test_steps_follow_one_another() -> None:
    canvas, heard = noise(12, 11, alpha=True), Heard()
    executor = Executor(Doubling())

    found = executor.run(canvas, (*ALL, UpscaleStep(factor=2)), heard)

    one_by_one = canvas
    for step in (*ALL, UpscaleStep(factor=2)):
        one_by_one = executor.run(one_by_one, (step,), Heard())
    assert same(found, one_by_one)
    assert found.size == (60, 10)
    assert [each for each in heard.told if each[0] == "step"] == [
        ("step", done, 10) for done in range(1, 11)
    ]
    assert heard.told[-3:] == [("piece", 1, 2), ("piece", 2, 2), ("step", 10, 10)]


def test_no_steps_change_nothing() -> None:
    canvas = noise(3, 2, alpha=True)

    assert Executor(Doubling()).run(canvas, (), Heard()) is canvas


def test_a_chain_stops_between_steps() -> None:
    heard = Heard(stop_at=2)

    with pytest.raises(Cancelled):
        Executor(Doubling()).run(noise(12, 11), ALL, heard)

    assert heard.told[-1] == ("step", 2, 9)


def test_no_step_changes_what_it_is_given() -> None:
    canvas = noise(12, 11, alpha=True)
    before = canvas.whole().copy()

    Executor(Doubling()).run(canvas, ALL, Heard())

    assert np.array_equal(canvas.whole(), before)


@pytest.mark.parametrize("alpha", [False, True])
def test_a_prepared_picture_is_read(alpha: bool, tmp_path: Path) -> None:
    canvas = noise(4, 3, alpha=alpha)
    data = canvas.whole().tobytes()
    path = tmp_path / "picture"
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    prepared = PreparedPicture(path, 4, 3, sha256, alpha=alpha)

    assert same(read_canvas(prepared), canvas)

    path.write_bytes(data[:-1])
    with pytest.raises(Unavailable):
        read_canvas(prepared)
