"""What chains are said to take of main memory, beside what the process really took; and what
does not fit is refused before a byte of it is taken."""

from __future__ import annotations

import ctypes
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from domains import heap
from domains.chain.backends import room
from domains.chain.backends.canvas import Canvas
from domains.chain.backends.executor import Executor
from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.chain.backends.upscaling.enlarging import enlarge, enlarge_alpha
from domains.chain.backends.upscaling.upscaler import Upscaler
from domains.chain.backends.work import process
from domains.chain.jobs.room import chain_bytes, enlarging_bytes, file_bytes, step_bytes
from domains.chain.types import (
    ColorStep,
    CropStep,
    DeblurStep,
    DenoiseStep,
    LutStep,
    PadStep,
    RemoveBackgroundStep,
    ResizeStep,
    RotateStep,
    SharpenStep,
    Step,
    Table,
    UpscalerModel,
    UpscaleStep,
    WatermarkStep,
    size_after,
)
from domains.device.backends.torch_gauge import stretch_on
from domains.errors import Reason, ResourceExhausted
from domains.model.core.enlarging import tile_bytes
from domains.picture.backends.encoding import encode_image
from domains.values import ImageFileFormat, ModelPlace, OutputSettings
from tests.domains.chain.backends.test_work import Context, job
from tests.domains.chain.backends.upscaling.files import CPU
from tests.domains.chain.backends.upscaling.test_enlarging import Nearest

# A process that has done other things takes more or less of what they left.
_SPREAD = 32 * 1024 * 1024
_M_MMAP_THRESHOLD = -3
EDGE = 4096
STEPS: tuple[Step, ...] = (
    SharpenStep(radius_pixels=10.0),
    ColorStep(contrast=1.2, saturation=1.2, auto_contrast=True, auto_white_balance=True),
    ResizeStep(EDGE, 2 * EDGE),
    ResizeStep(EDGE // 2, EDGE // 2),
    CropStep(1, 1, EDGE - 1, EDGE - 1),
    WatermarkStep(text="hello", scale=0.9),
    RotateStep(degrees=30.0),
    RotateStep(),
    PadStep(9, 9, 9, 9),
    LutStep(),
    RemoveBackgroundStep(),
    DeblurStep(iterations=1),
)


class NoNetworks:
    """There are none."""

    def enlarge(self, canvas: Canvas, step: UpscaleStep, between: object) -> Canvas:
        raise AssertionError("it was to be refused before")

    restore = enlarge


class Silent:
    """Hears nothing."""

    def piece(self, done: int, pieces: int) -> None: ...

    def step(self, done: int, steps: int) -> None: ...


def canvas(width: int, height: int, *, alpha: bool = False) -> Canvas:
    """Blocks of colours."""
    random = np.random.default_rng(1)
    few = random.integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    pixels = np.ascontiguousarray(few.repeat(8, 0).repeat(8, 1)[:height, :width])
    return Canvas(pixels, np.ascontiguousarray(pixels[..., 0]) if alpha else None)


def table(folder: Path) -> Table:
    path = folder / "table"
    path.write_bytes(np.linspace(0, 1, 3 * 17**3, dtype="<f4").tobytes())
    return Table(path, 17, True, (0.0,) * 3, (1.0,) * 3)


class Peak:
    """The most that the process takes beyond what it had.

    glibc keeps ever larger blocks for itself in a process that has freed large ones, and then
    needs more at once than a worker does: here all but small ones come from the system.
    """

    def __init__(self) -> None:
        if hasattr(libc := ctypes.CDLL(None), "mallopt"):
            libc.mallopt(_M_MMAP_THRESHOLD, 1024 * 1024)
        heap.collect_and_trim()
        self._before = psutil.Process().memory_info().rss
        self._stretch = stretch_on(CPU)

    def bytes(self) -> int | None:
        """None on a system that does not tell a peak for a stretch."""
        peak = self._stretch.peak().value
        return None if peak is None else peak - self._before - _SPREAD


Apart = Callable[..., int]


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    """Measures in a process where nothing else is at work or has left anything."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:

        def measured(work: Callable[..., int | None], *of: object) -> int:
            peak = processes.submit(work, *of).result()
            if peak is None:
                pytest.skip("this system does not tell a peak for a stretch")
            return peak

        yield measured


def peak_of_step(step: Step) -> int | None:
    given = canvas(EDGE, EDGE, alpha=True)
    peak = Peak()
    Executor(NoNetworks()).run(given, (step,), Silent())  # type: ignore[arg-type]
    return peak.bytes()


def peak_of_file(edge: int, format: ImageFileFormat) -> int | None:
    pixels = canvas(edge, edge, alpha=True).whole()
    peak = Peak()
    encode_image(pixels, OutputSettings(format=format))
    return peak.bytes()


def nearest(by_network: int) -> Upscaler:
    numbers = 9 * by_network**2
    network = Nearest(by_network)
    return Upscaler(network, "test", by_network, 3, 1, numbers, CPU, torch.float32, False)


def peak_of_enlargement(
    edge: int,
    factor: float,
    by_network: int,
    alpha: bool,
) -> int | None:
    upscaler, given = nearest(by_network), canvas(edge, edge, alpha=alpha)
    peak = Peak()
    enlarged = enlarge(upscaler, given.pixels, factor)
    if given.alpha is not None:
        enlarge_alpha(upscaler, given.alpha, factor)
    assert enlarged.shape[0] == edge * factor
    return peak.bytes()


@pytest.mark.demonstration
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.field)
def test_a_step_takes_no_more_than_is_said(step: Step, apart: Apart, tmp_path: Path) -> None:
    if isinstance(step, LutStep):
        step = LutStep(table=table(tmp_path))
    assert apart(peak_of_step, step) <= step_bytes(step, (EDGE, EDGE), alpha=True)


@pytest.mark.demonstration
@pytest.mark.parametrize("format", ImageFileFormat)
def test_a_file_takes_no_more_than_is_said(format: ImageFileFormat, apart: Apart) -> None:
    edge = 1536 if format is ImageFileFormat.AVIF else EDGE  # which takes its time
    assert apart(peak_of_file, edge, format) <= file_bytes((edge, edge), format)


@pytest.mark.demonstration
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(("factor", "by_network"), [(2.0, 4), (1.5, 8), (3.0, 2), (2.0, 2)])
def test_an_enlargement_takes_no_more_than_is_said(
    factor: float, by_network: int, alpha: bool, apart: Apart
) -> None:
    edge, tile = 1536, 192
    numbers = nearest(by_network).numbers_per_pixel
    own = tile_bytes((tile, tile), 2 * edge, by_network, numbers, 4)
    said = enlarging_bytes((edge, edge), factor, by_network, alpha=alpha)
    assert apart(peak_of_enlargement, edge, factor, by_network, alpha) <= said + 2 * own


def test_what_does_not_fit_is_refused_before_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an enlargement too, before its network is read."""
    model = UpscalerModel("up", ModelPlace.of(Path("/nowhere/up")), 8)
    monkeypatch.setattr(room, "ASKED_FROM", 0)
    for step in (UpscaleStep(factor=1.5, model=model), DeblurStep(), CropStep(0, 0, 9, 9)):
        given = canvas(200, 100)
        needed = step_bytes(step, given.size, alpha=False)
        monkeypatch.setattr(room, "free_host_bytes", lambda needed=needed: needed - 1)
        with pytest.raises(ResourceExhausted) as caught:
            Executor(NoNetworks()).run(given, (step,), Silent())  # type: ignore[arg-type]
        assert caught.value.reason is Reason.HOST_OUT_OF_MEMORY
        facts = {"needed_bytes": str(needed), "free_bytes": str(needed - 1)}
        assert caught.value.metadata == facts
    monkeypatch.setattr(room, "free_host_bytes", lambda: needed)
    found = Executor(NoNetworks()).run(given, (step,), Silent())  # type: ignore[arg-type]
    assert found.size == (9, 9)


def test_a_file_that_does_not_fit_is_not_begun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = job(tmp_path, (), (24, 20))
    monkeypatch.setattr(room, "ASKED_FROM", 0)
    monkeypatch.setattr(room, "free_host_bytes", lambda: 24 * 20 * 17 - 1)
    with pytest.raises(ResourceExhausted) as caught:
        process(given, UpscalerShelf(CPU), Context())
    assert caught.value.reason is Reason.HOST_OUT_OF_MEMORY


def test_what_is_small_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_host_bytes", lambda: 0)
    room.check_host(room.ASKED_FROM - 1)
    with pytest.raises(ResourceExhausted):
        room.check_host(room.ASKED_FROM)


def test_the_most_of_a_chain_is_what_it_takes() -> None:
    """Each step beside what it is given, and the file beside the result."""
    png, size = ImageFileFormat.PNG, (100, 50)
    assert chain_bytes((), size, png, alpha=False) == 5000 * (3 + 17)
    assert chain_bytes((DeblurStep(),), size, png, alpha=False) == 5000 * (3 + 28)
    small = (DeblurStep(), ResizeStep(10, 5))
    assert chain_bytes(small, size, png, alpha=True) == 5000 * (4 + 28)
    larger = (PadStep(left=100), DeblurStep())
    assert chain_bytes(larger, size, png, alpha=False) == 10_000 * (4 + 28)
    assert size_after(larger[0], size) == (200, 50)
    assert step_bytes(DenoiseStep(), size, alpha=False) < step_bytes(
        SharpenStep(), (200, 50), alpha=False
    )
