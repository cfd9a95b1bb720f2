"""What image generation needs from outside its pure core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from domains.inference.types import GenerationEvent, GenerationReport, GenerationWork


class Engine(Protocol):
    """Draws pictures on one device; one call at a time, in the device's own process."""

    def generate(
        self,
        work: GenerationWork,
        *,
        emit: Callable[[GenerationEvent], None],
        checkpoint: Callable[[], None],
    ) -> GenerationReport:
        """Draw every picture of `work`.

        Args:
            work: The resolved request.
            emit: Called with each event as it happens; must not block for long.
            checkpoint: Called before and after loading each component, at every
                denoising step, before and after decoding; raises to stop the work
                (`Cancelled`, `DeadlineExceeded`). Whatever it raises passes through.

        Raises:
            DomainError: The model cannot be loaded, memory ran out, or the result
                is not finite.
        """
        ...
