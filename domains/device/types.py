"""Device values: adapters, their kinds and states, and the workers that own them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class DeviceKind(Enum):
    """How a device is driven; the value is the first part of its id."""

    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"
    DIRECTML = "directml"
    XPU = "xpu"
    MPS = "mps"


class DeviceState(Enum):
    """Whether a device can be used."""

    STARTING = "starting"
    READY = "ready"
    RECOVERING = "recovering"
    QUARANTINED = "quarantined"
    LOST = "lost"
    UNAVAILABLE = "unavailable"


class FigureQuality(Enum):
    """How far a figure can be trusted."""

    MEASURED = "measured"
    ESTIMATED = "estimated"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ByteFigure:
    """A number of bytes and the call or computation behind it; None when unknown."""

    value: int | None
    quality: FigureQuality
    source: str


@dataclass(frozen=True)
class Device:
    """One adapter as discovery found it.

    `torch_device` is the name its worker gives torch (`cpu`, `cuda:0`).
    """

    device_id: str
    kind: DeviceKind
    name: str
    vendor: str
    torch_device: str
    total_memory: ByteFigure
    aliases: tuple[str, ...] = ()
    driver_version: str = ""
    runtime_version: str = ""
    hardware_id: str = ""
    unified_memory: bool = False
    explanation: str = ""  # why it cannot be used; empty when it can


@dataclass(frozen=True)
class ProbeOutcome:
    """What looking for one kind of device came to."""

    kind: DeviceKind
    device_count: int
    explanation: str = ""


@dataclass(frozen=True)
class Discovery:
    """Every device found, and what became of each kind that was looked for."""

    devices: tuple[Device, ...]
    probes: tuple[ProbeOutcome, ...]


@dataclass(frozen=True)
class WorkerStatus:
    """A device's worker process now. Times are wall clock; None when they never were."""

    state: DeviceState
    explanation: str = ""
    process_id: int = 0
    start_time: datetime | None = None
    restart_count: int = 0
    heartbeat_time: datetime | None = None
    progress_time: datetime | None = None
    resident_bytes: int = 0
    software_versions: Mapping[str, str] = field(default_factory=dict)
