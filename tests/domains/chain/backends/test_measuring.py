"""A step is measured as often as asked, on the same picture each time, and can be stopped."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image
from safetensors.torch import save_file

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.executor import Executor
from domains.chain.backends.finishing import Finishing
from domains.chain.backends.likeness import quality_of
from domains.chain.backends.measuring import measure_step, synthetic
from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.chain.core.cube import parse_cube
from domains.chain.core.rules import check_chain
from domains.chain.jobs import PictureQuality, StepBenchmarkJob, StepBenchmarkReport
from domains.chain.types import (
    AskedChain,
    CropStep,
    CubeFile,
    LutStep,
    SharpenStep,
    Step,
    Table,
    UpscalerModel,
    UpscaleStep,
    size_after,
)
from domains.errors import Cancelled, Unavailable
from domains.limits import LIMITS
from domains.picture.backends.colour import to_srgb
from domains.picture.types import PreparedPicture
from domains.postprocessing.core.measured_steps import INVERTING, MEASURED
from domains.session.types import Piece, PieceFinished
from domains.values import ModelPlace
from tests.domains.chain.backends.upscaling.files import CPU, small_compact
from tests.domains.chain.pictures import noise, same


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


@pytest.mark.parametrize("step", [make((64, 64)) for make in MEASURED.values()], ids=type)
def test_what_is_measured_of_each_step_changes_the_picture(step, tmp_path):
    canvas = synthetic(64)
    cubes = {}
    if isinstance(step, LutStep):
        cubes = {0: CubeFile(INVERTING)}
        cube = parse_cube(INVERTING)
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


def kept(canvas: Canvas, path: Path) -> PreparedPicture:
    data = canvas.whole().tobytes()
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return PreparedPicture(path, *canvas.size, digest, alpha=canvas.alpha is not None)


def against(step: Step, picture: Canvas, wanted: Canvas, folder: Path) -> StepBenchmarkReport:
    """Two runs on a picture, compared with another one."""
    reference = Canvas(np.asarray(to_srgb(wanted.image())))
    job = StepBenchmarkJob(
        step,
        picture.size[0],
        2,
        kept(picture, folder / "picture"),
        kept(reference, folder / "reference"),
    )
    return measure_step(job, UpscalerShelf(CPU), CPU, Context())


@pytest.mark.parametrize("alpha", [False, True])
def test_a_result_is_compared_with_the_reference_and_so_is_plain_enlarging(tmp_path, alpha):
    step = network(tmp_path)
    picture, wanted = noise(30, 24, alpha=alpha), noise(60, 48, seed=1)

    found = against(step, picture, wanted, tmp_path)

    shelf = UpscalerShelf(CPU)
    enlarged = Executor(Finishing(shelf, (step,), False, Context())).run(
        picture, (step,), Silent()
    )
    plain = picture.image().resize((60, 48), Image.Resampling.LANCZOS)
    assert found.quality == quality_of(np.asarray(to_srgb(enlarged.image())), wanted.pixels)
    assert found.baseline == quality_of(np.asarray(to_srgb(plain)), wanted.pixels)
    assert found.quality != found.baseline


def test_what_keeps_the_size_is_compared_with_the_picture_as_it_was(tmp_path):
    picture = noise(30, 24)
    sharper = Executor(None).run(picture, (SharpenStep(),), Silent())

    found = against(SharpenStep(), picture, sharper, tmp_path)

    assert found.quality == PictureQuality(100, 1)
    assert found.baseline == quality_of(picture.pixels, sharper.pixels)
    assert found.baseline.psnr_db < 100


def test_what_changes_the_size_otherwise_has_nothing_to_be_compared_with(tmp_path):
    picture = noise(30, 24)
    step = CropStep(0, 0, 15, 12)
    wanted = Executor(None).run(picture, (step,), Silent())

    found = against(step, picture, wanted, tmp_path)

    assert found.quality == PictureQuality(100, 1)
    assert found.baseline is None


def test_a_picture_without_a_reference_is_worked_on_and_not_compared(tmp_path):
    picture = kept(noise(30, 24), tmp_path / "picture")
    context = Context()

    found = measure_step(
        StepBenchmarkJob(SharpenStep(), 30, 1, picture), UpscalerShelf(CPU), CPU, context
    )

    assert (len(found.run), found.quality, found.baseline) == (1, None, None)


def test_a_picture_that_is_gone_ends_it(tmp_path):
    picture = kept(noise(30, 24), tmp_path / "picture")
    picture.path.unlink()
    with pytest.raises(Unavailable, match="picture"):
        measure_step(
            StepBenchmarkJob(SharpenStep(), 30, 1, picture), UpscalerShelf(CPU), CPU, Context()
        )
