"""A step is measured as often as asked, on the same picture each time, and can be stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from safetensors.torch import save_file

from domains.chain.backends.executor import Executor
from domains.chain.backends.measuring import measure_step, synthetic
from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.chain.core.cube import parse_cube
from domains.chain.core.rules import check_chain
from domains.chain.jobs import StepBenchmarkJob
from domains.chain.types import (
    AskedChain,
    CubeFile,
    LutStep,
    SharpenStep,
    Step,
    Table,
    UpscalerModel,
    UpscaleStep,
    size_after,
)
from domains.errors import Cancelled
from domains.limits import LIMITS
from domains.postprocessing.core.benchmarks import _INVERTING, _MEASURED
from domains.session.types import Piece, PieceFinished
from domains.values import ModelPlace
from tests.domains.chain.backends.upscaling.files import CPU, small_compact
from tests.domains.chain.pictures import same


class Silent:
    """Hears a chain's progress and forgets it."""

    def piece(self, done: int, pieces: int) -> None: ...

    def step(self, done: int, steps: int) -> None: ...


class Context:
    """Keeps what it hears, and stops at so many questions."""

    def __init__(self, most: int = 1_000) -> None:
        self.heard: list[object] = []
        self.left = most

    def emit(self, event: object) -> None:
        self.heard.append(event)

    def check_stop(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Cancelled("stop")


def network(folder: Path) -> Step:
    path = folder / "small.safetensors"
    save_file(small_compact(), path)
    return UpscaleStep(factor=2.0, model=UpscalerModel("small", ModelPlace.of(path)))


@pytest.mark.parametrize("kind", ["network", "classical"])
def test_every_run_is_measured_but_the_first(tmp_path, kind):
    step = network(tmp_path) if kind == "network" else SharpenStep()
    context = Context()
    job = StepBenchmarkJob(step, 72, 4)
    report = measure_step(job, UpscalerShelf(CPU), CPU, context)
    assert len(report.run) == 4
    assert all(seconds > 0 for seconds in report.run)
    runs = [
        (each.done, each.total)
        for each in context.heard
        if isinstance(each, PieceFinished) and each.piece is Piece.STEP
    ]
    assert runs == [(1, 4), (2, 4), (3, 4), (4, 4)]
    model = job.model
    assert (model is None) == (kind == "classical")


@pytest.mark.parametrize("step", [make(64) for make in _MEASURED.values()], ids=type)
def test_what_is_measured_of_each_step_changes_the_picture(step, tmp_path):
    canvas = synthetic(64)
    cubes = {}
    if isinstance(step, LutStep):
        cubes = {0: CubeFile(_INVERTING)}
        cube = parse_cube(_INVERTING)
        (tmp_path / "table").write_bytes(cube.colours)
        table = Table(tmp_path / "table", cube.entries, True, cube.low, cube.high)
        step = replace(step, table=table)
    assert not list(
        check_chain(
            AskedChain((step,), cubes=cubes), "steps", LIMITS["ProcessImageRequest.steps"]
        )
    )

    found = Executor(None).run(canvas, (step,), Silent())

    assert found.size == size_after(step, canvas.size)
    assert not same(found, canvas)


def test_it_stops_between_pieces(tmp_path):
    context = Context(most=3)
    with pytest.raises(Cancelled):
        measure_step(StepBenchmarkJob(SharpenStep(), 64, 50), UpscalerShelf(CPU), CPU, context)


def test_the_picture_is_the_same_each_time():
    one, other = synthetic(65), synthetic(65)
    assert one.pixels.shape == (65, 65, 3)
    assert np.array_equal(one.pixels, other.pixels)
    assert np.ptp(one.pixels) > 200
