"""How long a step takes on a device, and what it needs there."""

from __future__ import annotations

import time

import numpy as np
import torch

from domains.chain.backends.canvas import Canvas, Pixels
from domains.chain.backends.executor import Executor
from domains.chain.backends.finishing import Finishing
from domains.chain.backends.likeness import quality_of
from domains.chain.backends.reading import read_canvas
from domains.chain.backends.steps.bands import Between
from domains.chain.backends.steps.resize import resize
from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.chain.jobs import StepBenchmarkJob, StepBenchmarkReport
from domains.chain.types import (
    FaceRestoreStep,
    RemoveBackgroundStep,
    ResizeStep,
    Size,
    Step,
    UpscaleStep,
)
from domains.device.backends.torch_gauge import stretch_on
from domains.picture.backends.carried.figure import figure
from domains.picture.backends.colour import to_srgb
from domains.picture.backends.prepared import read_pixels
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted, Piece, PieceFinished

_BLOCK = 16
_NOISE = 8


def measure_step(
    job: StepBenchmarkJob, shelf: UpscalerShelf, device: torch.device, context: JobContext
) -> StepBenchmarkReport:
    """Do a step on a picture, once to warm up and then as often as asked; and compare what the
    last run made of it with what it should look like.

    Raises:
        Unavailable: STORAGE_UNAVAILABLE, where a prepared picture is gone.
        DomainError: As `Executor.run`; what the context's `check_stop` raises.
        Exception: As torch raises it.
    """
    finishing = Finishing(shelf, (job.step,), False, context)
    canvas = _given(job) if job.picture is None else read_canvas(job.picture)
    hearing = _Hearing(context)
    finishing.begin(PhaseStarted(Phase.MEASURING))
    # The first reads the network, fills caches and picks kernels.
    result = Executor(finishing).run(canvas, finishing.steps, hearing)
    stretch = stretch_on(device)
    seconds = []
    for run in range(1, job.runs + 1):
        began = time.perf_counter()
        result = Executor(finishing).run(canvas, finishing.steps, hearing)
        seconds.append(time.perf_counter() - began)
        context.emit(PieceFinished(0, Piece.STEP, run, job.runs))
    peak = stretch.peak()
    if job.reference is None:
        return StepBenchmarkReport(tuple(seconds), peak)
    reference = read_pixels(job.reference)
    plain = _untouched(canvas, job.step, result.size, hearing.piece)
    return StepBenchmarkReport(
        tuple(seconds),
        peak,
        quality_of(_on_white(result), reference, context.check_stop),
        None if plain is None else quality_of(_on_white(plain), reference, context.check_stop),
    )


def _given(job: StepBenchmarkJob) -> Canvas:
    """What is worked on where nothing is given: what finds faces and people needs some."""
    if isinstance(job.step, FaceRestoreStep | RemoveBackgroundStep):
        return Canvas(figure(job.input_pixels))
    return synthetic(job.input_pixels)


def _untouched(canvas: Canvas, step: Step, size: Size, between: Between) -> Canvas | None:
    """The picture in the result's size without what the step does for it; None where there is
    no such picture."""
    if isinstance(step, UpscaleStep):
        return resize(canvas, ResizeStep(*size), between)
    return canvas if canvas.size == size else None


def _on_white(canvas: Canvas) -> Pixels:
    return np.asarray(to_srgb(canvas.image()))


def synthetic(edge: int) -> Canvas:
    """A square picture with flat parts, edges and noise; the same each time."""
    random = np.random.default_rng(1)
    count = -(-edge // _BLOCK)
    blocks = random.integers(0, 256, (count, count, 3))
    picture = blocks.repeat(_BLOCK, 0).repeat(_BLOCK, 1)[:edge, :edge]
    noisy = picture + random.integers(-_NOISE, _NOISE + 1, picture.shape)
    return Canvas(np.clip(noisy, 0, 255).astype(np.uint8))


class _Hearing:
    """Tells of tiles, so that long runs are seen to go on; the runs themselves are told
    outside."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    def piece(self, done: int, pieces: int) -> None:
        self._context.emit(PieceFinished(0, Piece.TILE, done, pieces))
        self._context.check_stop()

    def step(self, done: int, steps: int) -> None:
        self._context.check_stop()
