"""Models in memory, and their leaving."""

from __future__ import annotations

from dataclasses import dataclass, field

from domains.device.types import LoadedComponent
from domains.memory.types.places import Place
from domains.session.types import SessionOptions
from domains.values import ByteFigure


@dataclass(frozen=True)
class HeldComponent:
    """A component of a model in a place's memory.

    `idle` when no work uses it, so that it may give way.
    """

    device_id: str
    component: LoadedComponent

    @property
    def idle(self) -> bool:
        """Whether it may give way."""
        return not self.component.in_use


@dataclass(frozen=True)
class EvictionRequest:
    """Free `target_free` bytes at `place`; a dry run only says what would go.

    `place` None is a request that names none; `digest` stands for the whole request.
    """

    place: Place | None
    target_free: int
    dry_run: bool = False
    options: SessionOptions = field(default_factory=SessionOptions)
    digest: bytes = b""


@dataclass(frozen=True)
class EvictionReport:
    """What went, in order; of a dry run what would go and be free then."""

    evicted: tuple[HeldComponent, ...]
    free_before: ByteFigure
    free_after: ByteFigure
    target_reached: bool
