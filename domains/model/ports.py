"""What the model domain needs from outside its pure core."""

from __future__ import annotations

from typing import Protocol

from domains.model.types import Scan


class ModelScanner(Protocol):
    """Looks through the configured roots."""

    def scan(self) -> Scan:
        """Every model in the roots, each with a unique id, usable or with its problem.

        Reads headers and small files only, but may take seconds: call it off the loop.
        Never raises for what it finds on disk. One call at a time.
        """
        ...
