"""How long a step takes on a device, and what it needs there."""

from __future__ import annotations

import time

import numpy as np
import torch

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.executor import Executor
from domains.chain.backends.finishing import Finishing
from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.chain.jobs import StepBenchmarkJob, StepBenchmarkReport
from domains.chain.types import FaceRestoreStep, RemoveBackgroundStep
from domains.device.backends.torch_gauge import stretch_on
from domains.picture.backends.carried.figure import figure
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted, Piece, PieceFinished

_BLOCK = 16
_NOISE = 8


def measure_step(
    job: StepBenchmarkJob, shelf: UpscalerShelf, device: torch.device, context: JobContext
) -> StepBenchmarkReport:
    """Do a step on a synthetic picture, once to warm up and then as often as asked.

    Raises:
        DomainError: As `Executor.run`; what the context's `check_stop` raises.
        Exception: As torch raises it.
    """
    finishing = Finishing(shelf, (job.step,), False, context)
    # What finds faces and people needs some.
    drawn = isinstance(job.step, FaceRestoreStep | RemoveBackgroundStep)
    edge = job.input_pixels
    canvas = Canvas(figure(edge)) if drawn else synthetic(edge)
    hearing = _Hearing(context)
    context.emit(PhaseStarted(Phase.MEASURING))
    # The first reads the network, fills caches and picks kernels.
    Executor(finishing).run(canvas, finishing.steps, hearing)
    stretch = stretch_on(device)
    seconds = []
    for run in range(1, job.runs + 1):
        began = time.perf_counter()
        Executor(finishing).run(canvas, finishing.steps, hearing)
        seconds.append(time.perf_counter() - began)
        context.emit(PieceFinished(0, Piece.STEP, run, job.runs))
    return StepBenchmarkReport(tuple(seconds), stretch.peak())


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
