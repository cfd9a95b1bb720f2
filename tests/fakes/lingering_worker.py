"""The product's worker, whose work lingers in the phase that the prompt names.

    python -m tests.fakes.lingering_worker

"wait in denoising" goes on when somebody has asked the work to stop or to pause, and "hang in
denoising" never does; the phase is the last word. Any other prompt is drawn. The engine is the
product's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from domains.errors import Cancelled, DeadlineExceeded
from domains.inference.backends import engine
from domains.inference.jobs import GenerationJob, GenerationReport, PausedGeneration
from domains.session.jobs import EncodedImage, JobContext, WorkPaused
from domains.session.types import Phase, PhaseStarted, ProgressEvent
from server.worker.child.__main__ import build_parts
from server.worker.child.loop import main


@dataclass
class Lingering:
    """A context in which a phase lasts, as soon as it has begun."""

    context: JobContext
    phase: Phase
    for_ever: bool

    def emit(self, event: ProgressEvent | EncodedImage) -> None:
        """See `JobContext`."""
        self.context.emit(event)
        if isinstance(event, PhaseStarted) and event.phase is self.phase:
            while self.for_ever:
                time.sleep(0.01)
            self._wait()

    def check_stop(self) -> None:
        """See `JobContext`."""
        self.context.check_stop()

    def _wait(self) -> None:
        """Until there is something that the engine finds at its next check."""
        while True:
            try:
                self.context.check_stop()
            except (Cancelled, DeadlineExceeded, WorkPaused):
                return
            time.sleep(0.01)


class LingeringEngine(engine.Engine):
    """Obeys some prompts."""

    def generate(
        self, job: GenerationJob, context: JobContext
    ) -> GenerationReport | PausedGeneration:
        """Draw; see the port."""
        match job.settings.prompt.split():
            case ["wait" | "hang" as how, "in", name]:
                return super().generate(job, Lingering(context, Phase(name), how == "hang"))
        return super().generate(job, context)


if __name__ == "__main__":
    engine.Engine = LingeringEngine  # type: ignore[misc]
    main(build_parts)
