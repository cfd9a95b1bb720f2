"""The model domain, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from domains.device.ports import Place
from domains.loops import Loop
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.new_models import NewModels
from domains.model.convert import REPORTS
from domains.model.core import Checks, Conversions, Loads, ModelCatalogue
from domains.model.servicer import ModelServicer
from domains.session import build as session_build
from domains.session.jobs import JobRunner

__all__ = ["REPORTS", "Built", "build"]

_LOOK_SECONDS = 10.0


class Settings(Protocol):
    """The settings that are read here."""

    @property
    def model_roots(self) -> Sequence[Path]: ...
    @property
    def default_model(self) -> str: ...
    @property
    def convert_pickles(self) -> bool: ...


@dataclass(frozen=True)
class Built:
    """What other domains and the server need of it."""

    catalogue: ModelCatalogue
    servicer: ModelServicer
    loops: tuple[Loop, ...]
    new_models: NewModels


def build(
    settings: Settings,
    pool: JobRunner,
    inspectors: JobRunner,
    session: session_build.Built,
    *,
    place: Place,
    now: Callable[[], datetime],
) -> Built:
    """The domain as `settings` describe it; nothing runs yet.

    Args:
        settings: What the operator chose.
        pool: The workers.
        inspectors: Read files that nobody vouches for.
        session: Where loads wait, and what runs them.
        place: Chooses the device for a load.
        now: The wall clock, timezone-aware.
    """
    catalogue = ModelCatalogue(
        DiskScanner(settings.model_roots), default_model=settings.default_model, clock=now
    )
    # Files that have not changed are not read again.
    loops = (Loop("model catalogue", _LOOK_SECONDS, catalogue.refresh),)
    loads = Loads(place, catalogue, pool, now=now)
    new_models = NewModels(settings.model_roots)
    checks = Checks(catalogue, inspectors)
    pickles = settings.convert_pickles
    conversions = Conversions(catalogue, inspectors, new_models, pickles=pickles)
    servicer = ModelServicer(catalogue, loads, checks, conversions, session.streams)
    return Built(catalogue, servicer, loops, new_models)
