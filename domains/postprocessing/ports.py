"""What postprocessing needs from outside its pure core."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from domains.postprocessing.types import Postprocessor

Postprocessors = Callable[[], Awaitable[tuple[Postprocessor, ...]]]
"""What somebody brings that can be applied, as things are now."""


class ModelUses(Protocol):
    """Takes note of models that work uses."""

    def record_use(self, model_id: str) -> None:
        """Work with the model begins."""
        ...
