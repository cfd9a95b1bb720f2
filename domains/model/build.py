"""The model domain, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from domains.loops import Loop
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.core import ModelCatalogue
from domains.model.servicer import ModelServicer

_LOOK_SECONDS = 10.0


class Settings(Protocol):
    """The settings that are read here."""

    @property
    def model_roots(self) -> Sequence[Path]: ...
    @property
    def default_model(self) -> str: ...


@dataclass(frozen=True)
class Built:
    """What other domains and the server need of it."""

    catalogue: ModelCatalogue
    servicer: ModelServicer
    loops: tuple[Loop, ...]


def build(settings: Settings, *, now: Callable[[], datetime]) -> Built:
    """The domain as `settings` describe it; nothing runs yet."""
    catalogue = ModelCatalogue(
        DiskScanner(settings.model_roots), default_model=settings.default_model, clock=now
    )
    # Files that have not changed are not read again.
    loops = (Loop("model catalogue", _LOOK_SECONDS, catalogue.refresh),)
    return Built(catalogue, ModelServicer(catalogue), loops)
