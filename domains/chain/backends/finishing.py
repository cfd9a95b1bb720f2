"""A chain as part of a job: with networks from the shelf, its progress told, its time kept."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.executor import Executor
from domains.chain.backends.previews import ChainPreviews
from domains.chain.backends.restoring.restoring import restore
from domains.chain.backends.safeguard import Withheld
from domains.chain.backends.steps.bands import Between
from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.chain.backends.upscaling.enlarging import enlarge, enlarge_alpha
from domains.chain.types import FaceRestoreStep, Steps, UpscaleStep
from domains.safety import SafetyVerdict
from domains.safety.verdict import harshest
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted, Piece, PieceFinished, PreviewSettings


@dataclass(frozen=True)
class Finished:
    """A picture after its steps, None where one of them withholds it; and the harshest verdict
    of the safety steps, None where there are none."""

    canvas: Canvas | None
    verdict: SafetyVerdict | None = None


@dataclass
class Finishing:
    """Does a chain on the pictures of a job.

    Attributes:
        shelf: Has the networks.
        steps: The chain.
        exact: Whether networks compute in float32.
        context: Hears of it, and says when to stop.
        previews: Whether pictures are shown meanwhile, and how.
        load_seconds: What reading networks has taken so far.
    """

    shelf: UpscalerShelf
    steps: Steps
    exact: bool
    context: JobContext
    previews: PreviewSettings = field(default_factory=PreviewSettings)
    load_seconds: float = 0.0
    _shown: ChainPreviews | None = None  # of the picture at work

    def finish(self, index: int, canvas: Canvas) -> Finished:
        """The picture of that number after all steps.

        Raises:
            DomainError: As `Executor.run`; what the context's `check_stop` raises.
            Exception: As torch raises it.
        """
        self.context.check_stop()
        self.context.emit(PhaseStarted(Phase.POSTPROCESSING, index))
        telling = _Telling(self.context, index)
        verdicts: list[SafetyVerdict] = []
        finished: Canvas | None = None
        self._shown = None
        if self.previews.every_steps:
            self._shown = ChainPreviews(self.previews, index, self.context.emit)
        with suppress(Withheld):
            finished = Executor(self).run(
                canvas, self.steps, telling, verdicts.append, self._see
            )
        return Finished(finished, harshest(verdicts))

    def enlarge(self, canvas: Canvas, step: UpscaleStep, between: Between) -> Canvas:
        """See the executor's port."""
        assert step.model is not None
        begun = time.perf_counter()
        upscaler = self.shelf.get(
            step.model, self.exact, loading=self._loading, check_stop=self.context.check_stop
        )
        self.load_seconds += time.perf_counter() - begun
        how = (step.factor, step.tile_pixels, step.tile_overlap_pixels)
        if self._shown is None:
            pixels = enlarge(upscaler, canvas.pixels, *how, between)
        else:
            forming = self._shown.enlarging(canvas, step.size_after(canvas.size))
            pixels = enlarge(upscaler, canvas.pixels, *how, between, shown=forming.tile)
        if canvas.alpha is None:
            return Canvas(pixels)
        return Canvas(pixels, enlarge_alpha(upscaler, canvas.alpha, *how, between))

    def restore(self, canvas: Canvas, step: FaceRestoreStep, between: Between) -> Canvas:
        """See the executor's port."""
        assert step.model is not None
        begun = time.perf_counter()
        restorer = self.shelf.restorer(
            step.model, loading=self._loading, check_stop=self.context.check_stop
        )
        self.load_seconds += time.perf_counter() - begun
        how = (step.strength, step.least_confidence, between)
        return Canvas(restore(restorer, canvas.pixels, *how), canvas.alpha)

    def _see(self, canvas: Canvas, done: int, steps: int) -> None:
        if self._shown is not None:
            self._shown.step(canvas, done, steps)

    def _loading(self) -> None:
        self.context.emit(PhaseStarted(Phase.LOADING_MODEL))


@dataclass(frozen=True)
class _Telling:
    context: JobContext
    index: int

    def piece(self, done: int, pieces: int) -> None:
        self._tell(Piece.TILE, done, pieces)

    def step(self, done: int, steps: int) -> None:
        self._tell(Piece.STEP, done, steps)

    def _tell(self, piece: Piece, done: int, total: int) -> None:
        self.context.emit(PieceFinished(self.index, piece, done, total))
        self.context.check_stop()
