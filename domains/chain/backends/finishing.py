"""A chain as part of a job: with networks from the shelf, its progress told, its time kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from domains.chain.backends.canvas import Canvas, Pixels
from domains.chain.backends.executor import Executor
from domains.chain.backends.kept_chain import ChainProgress
from domains.chain.backends.previews import ChainPreviews
from domains.chain.backends.restoring.restoring import restore
from domains.chain.backends.safeguard import Withheld
from domains.chain.backends.steps.bands import Between
from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.chain.backends.upscaling.enlarging import (
    Shown,
    enlarge,
    enlarge_alpha,
    unshown,
)
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
    _phase: PhaseStarted | None = None  # the one at work
    _progress: ChainProgress | None = None
    _shown: ChainPreviews | None = None  # of the picture at work

    def begin(self, phase: PhaseStarted) -> None:
        """Tell that a phase begins, and again after each network that is read in it."""
        self._phase = phase
        self.context.emit(phase)

    def finish(self, index: int, progress: ChainProgress) -> Finished:
        """The picture of that number after all steps.

        Args:
            index: The picture's number.
            progress: Which steps are done. It is told of each one more; whatever stops it, it
                is as after the last of them.

        Raises:
            DomainError: As `Executor.run`; what the context's `check_stop` raises.
            Exception: As torch raises it.
        """
        self.context.check_stop()
        self.begin(PhaseStarted(Phase.POSTPROCESSING, index, progress.steps))
        judged = progress.verdicts.append
        self._shown = None
        if self.previews.every_steps:
            self._shown = ChainPreviews(self.previews, index, self.context.emit)
        for step in self.steps[progress.steps :]:
            telling = _Telling(self.context, index, progress.steps, len(self.steps))
            self._phase = PhaseStarted(Phase.POSTPROCESSING, index, progress.steps)
            self._progress = progress
            try:
                progress.reach(Executor(self).run(progress.canvas, (step,), telling, judged))
            except Withheld:
                return Finished(None, harshest(progress.verdicts))
            if self._shown is not None:
                self._shown.step(progress.canvas, progress.steps, len(self.steps))
            self.context.check_stop()
        self._progress = None
        return Finished(progress.canvas, harshest(progress.verdicts))

    def enlarge(self, canvas: Canvas, step: UpscaleStep, between: Between) -> Canvas:
        """See the executor's port."""
        assert step.model is not None
        with self._reading() as loading:
            upscaler = self.shelf.get(
                step.model, self.exact, loading=loading, check_stop=self.context.check_stop
            )
        how = (step.factor, step.tile_pixels, step.tile_overlap_pixels)
        under_way = None
        if self._progress is not None:
            under_way = self._progress.upscaling.for_network(upscaler)
            self._progress.upscaling = under_way
        pixels = enlarge(
            upscaler,
            canvas.pixels,
            *how,
            between,
            under_way=under_way,
            shown=self._hears_of_tiles(canvas, step),
        )
        alpha = canvas.alpha
        if alpha is not None:
            alpha = enlarge_alpha(upscaler, alpha, *how, between, under_way=under_way)
        return Canvas(pixels, alpha)

    def _hears_of_tiles(self, canvas: Canvas, step: UpscaleStep) -> Shown:
        if self._shown is None:
            return unshown
        return self._shown.enlarging(canvas, step.size_after(canvas.size)).tile

    def restore(self, canvas: Canvas, step: FaceRestoreStep, between: Between) -> Canvas:
        """See the executor's port."""
        assert step.model is not None
        with self._reading() as loading:
            restorer = self.shelf.restorer(
                step.model, loading=loading, check_stop=self.context.check_stop
            )

        def shown(pixels: Pixels, done: int) -> None:
            if self._shown is not None:
                self._shown.face(Canvas(pixels, canvas.alpha), done)

        how = (step.strength, step.least_confidence, between)
        return Canvas(restore(restorer, canvas.pixels, *how, shown=shown), canvas.alpha)

    @contextmanager
    def _reading(self) -> Iterator[Callable[[], None]]:
        """Time in which a network is got; gives what is to be called where it is read first."""
        begun, read = time.perf_counter(), False

        def loading() -> None:
            nonlocal read
            read = True
            self.context.emit(PhaseStarted(Phase.LOADING_MODEL))

        yield loading
        self.load_seconds += time.perf_counter() - begun
        if read and self._phase is not None:
            self.context.emit(self._phase)


@dataclass(frozen=True)
class _Telling:
    """Tells of one step of several, after those that are done."""

    context: JobContext
    index: int
    done: int
    steps: int

    def piece(self, done: int, pieces: int) -> None:
        self.context.emit(PieceFinished(self.index, Piece.TILE, done, pieces))
        self.context.check_stop()

    def step(self, done: int, steps: int) -> None:
        # What it has come to is not handed out yet: whoever receives it looks for a stop.
        self.context.emit(PieceFinished(self.index, Piece.STEP, self.done + done, self.steps))
