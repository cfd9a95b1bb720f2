"""Who is told of a job that a test does itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from domains.session.jobs import EncodedImage
from domains.session.types import ProgressEvent


@dataclass
class Told:
    """Keeps what happened."""

    events: list[ProgressEvent | EncodedImage] = field(default_factory=list)

    def emit(self, event: ProgressEvent | EncodedImage) -> None:
        self.events.append(event)

    def check_stop(self) -> None:
        """Nobody stops it."""
