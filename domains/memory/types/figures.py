"""How much memory there is, and how tight it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from domains.device.types import DeviceMemory
from domains.memory.types.places import Place
from domains.values import ByteFigure


@dataclass(frozen=True)
class HostMemory:
    """Main memory now, as far as this server may use it.

    `available` is what can be had without swapping; `container_limit` is None where
    nothing limits this server below the machine.
    """

    total: ByteFigure
    available: ByteFigure
    used_by_server: ByteFigure
    swap_total: ByteFigure
    swap_used: ByteFigure
    container_limit: ByteFigure | None = None


@dataclass(frozen=True)
class MemoryStatus:
    """Main memory and device memory, read at one moment."""

    host: HostMemory
    devices: tuple[DeviceMemory, ...]
    read_time: datetime


class PressureLevel(Enum):
    """How tight memory is; the values sort."""

    NORMAL = 0
    ELEVATED = 1
    HIGH = 2
    CRITICAL = 3


@dataclass(frozen=True)
class Threshold:
    """A level begins at a used share of `enter` and ends below `leave` (both 0 to 1).

    `reactions` are what gives way, in order, one sentence each.
    """

    level: PressureLevel
    enter: float
    leave: float
    reactions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pressure:
    """How tight memory is in one place, and since when."""

    place: Place
    level: PressureLevel
    used_share: float
    since_time: datetime
