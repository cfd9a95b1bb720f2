"""What postprocessing needs from outside its pure core."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from domains.postprocessing.types import Postprocessor

Postprocessors = Callable[[], Awaitable[tuple[Postprocessor, ...]]]
"""What somebody brings that can be applied, as things are now."""


class ArtifactKeeper(Protocol):
    """Where finished pictures go."""

    async def adopt(
        self,
        path: Path,
        sha256: str,
        owner: str,
        *,
        session_id: str = "",
        retention_seconds: float | None = None,
    ) -> object:
        """Take a finished file; see the artifact store for errors."""
        ...


class ModelUses(Protocol):
    """Takes note of models that work uses."""

    def record_use(self, model_id: str) -> None:
        """Work with the model begins."""
        ...
