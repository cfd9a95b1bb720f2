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
from domains.model.convert import REPORTS
from domains.model.core import (
    Benchmarks,
    Estimates,
    Loads,
    ModelCatalogue,
    ModelStatuses,
    ModelUse,
    OnDevice,
    Unloads,
)
from domains.model.ports import Machine
from domains.model.servicer import ModelServicer
from domains.session import build as session_build
from domains.session.jobs import JobRunner

__all__ = ["REPORTS", "Built", "Machine", "build"]

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


def build(
    settings: Settings,
    pool: JobRunner,
    session: session_build.Built,
    *,
    place: Place,
    machine: Callable[[], Machine],
    now: Callable[[], datetime],
) -> Built:
    """The domain as `settings` describe it; nothing runs yet.

    Args:
        settings: What the operator chose.
        pool: The workers.
        session: Where loads wait, and what runs them.
        place: Chooses the device for a load.
        machine: The devices and what lies there; asked once the system runs.
        now: The wall clock, timezone-aware.
    """
    catalogue = ModelCatalogue(
        DiskScanner(settings.model_roots), default_model=settings.default_model, clock=now
    )
    # Files that have not changed are not read again.
    loops = (Loop("model catalogue", _LOOK_SECONDS, catalogue.refresh),)
    use = ModelUse(session.sessions)
    estimates = Estimates(session.sessions.speeds)
    on_device = OnDevice(
        Loads(place, catalogue, machine, estimates, pool, now=now),
        Unloads(catalogue, machine, use, pool),
        ModelStatuses(catalogue, machine, use, estimates),
        Benchmarks(place, catalogue, pool),
    )
    return Built(catalogue, ModelServicer(catalogue, on_device, session.streams), loops)
