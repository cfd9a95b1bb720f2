"""What is told of each step of a picture: that it is over, how long it took, how it looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from domains.inference.backends.beside import one_at_a_time
from domains.inference.backends.denoise import StepState
from domains.inference.backends.previews import (
    draw_preview,
    estimate_clean,
    fit_preview_matrix,
)
from domains.inference.backends.vae_part import Vae
from domains.inference.types import GenerationSettings
from domains.session.jobs import JobContext
from domains.session.types import Preview, PreviewSettings, StepFinished


@dataclass
class StepTelling:
    """Tells of steps as they end; `vae` is what previews look like, `now` tells seconds."""

    context: JobContext
    previews: PreviewSettings
    vae: Vae
    now: Callable[[], float]
    _began: float = 0.0

    def begin(self) -> None:
        """The first step of several begins."""
        self._began = self.now()

    def tell(
        self, index: int, settings: GenerationSettings, state: StepState, scheduler: Any
    ) -> None:
        """A step is over, and the next one begins.

        Args:
            index: Of which picture.
            settings: Those of its pass.
            state: The step, as it is to be told.
            scheduler: The step's.
        """
        took = self.now() - self._began
        self.context.emit(StepFinished(index, state.step, state.steps, took))
        preview = self._preview(index, settings, state, scheduler)
        if preview is not None:
            self.context.emit(preview)
        self._began = self.now()

    def _preview(
        self, index: int, settings: GenerationSettings, state: StepState, scheduler: Any
    ) -> Preview | None:
        wanted = self.previews
        if wanted.every_steps <= 0 or state.step % wanted.every_steps:
            return None
        holder = self.vae.holder
        if holder.preview_matrix is None:
            with one_at_a_time:
                holder.preview_matrix = fit_preview_matrix(self.vae)
        width, height = settings.size
        return draw_preview(
            estimate_clean(state, scheduler),
            holder.preview_matrix,
            image_index=index,
            step=state.step,
            width=width,
            height=height,
            max_edge=wanted.max_edge_pixels,
            edges=self.vae.edges,
        )
