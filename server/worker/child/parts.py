"""What a worker is made of; how each part is made differs between devices and in tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from domains.device.types import DeviceFigures, LoadedComponent
from domains.memory.backends.chunks import Guard
from domains.memory.types import Compare, Move, Segment
from domains.session.jobs import Handler, Job
from domains.values import ByteFigure


class Buffers(Protocol):
    """The buffers that memory orders make; errors are those of the port `DeviceBuffers`."""

    @property
    def leased_bytes(self) -> int:
        """Sum of the sizes of all buffers."""
        ...

    def allocate(self, buffer_id: str, size: int, guard: Guard) -> None:
        """Take memory."""
        ...

    def free(self, buffer_id: str) -> int:
        """Give it back; returns its bytes."""
        ...

    def move(self, move: Move, guard: Guard) -> None:
        """Copy bytes."""
        ...

    def compare(self, compare: Compare, guard: Guard) -> int:
        """Compare bytes; how many are equal."""
        ...

    def pin(self, segment: Segment) -> None:
        """Page-lock shared host memory."""
        ...

    def unpin(self, segment: Segment) -> None:
        """Undo that."""
        ...

    def release_cached(self) -> None:
        """Give back what the allocator keeps."""
        ...


class Gauge(Protocol):
    """Reads the device's memory."""

    def read(self, leased: int, models: tuple[LoadedComponent, ...]) -> DeviceFigures:
        """The figures now, with what the worker itself knows put in."""
        ...


class Peak(Protocol):
    """Counts the most memory of the device from its making on."""

    def peak(self) -> ByteFigure:
        """The most so far; unknown where nobody counts."""
        ...


@dataclass(frozen=True)
class Parts:
    """A worker's parts. With `single_threaded` only the main thread touches the device.

    `held` gives the networks that are loaded, from any thread, without waiting. `stretch`
    begins to count the most memory of the device, once for each run. `computes` asks the
    device itself whether it still works.
    """

    handlers: Mapping[type[Job[Any]], Handler]
    held: Callable[[], tuple[LoadedComponent, ...]]
    buffers: Buffers
    gauge: Gauge
    stretch: Callable[[], Peak]
    computes: Callable[[], bool]
    single_threaded: bool = False
