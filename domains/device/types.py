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

    @classmethod
    def measured(cls, value: int, source: str) -> ByteFigure:
        """A number that an allocator, driver or operating system gave."""
        return cls(value, FigureQuality.MEASURED, source)

    @classmethod
    def unknown(cls, why: str) -> ByteFigure:
        """No number, and why there is none."""
        return cls(None, FigureQuality.UNKNOWN, why)


@dataclass(frozen=True)
class Adapter:
    """One adapter as its probe found it, before it has an id.

    `slot` (a PCI address where there is one) puts adapters of a kind in an order that
    does not depend on the driver's mood; `hardware_id` recognises an adapter again.
    `torch_device` is the name its worker gives torch (`cpu`, `cuda:0`).
    """

    kind: DeviceKind
    name: str
    vendor: str
    torch_device: str
    total_memory: ByteFigure
    slot: str = ""
    hardware_id: str = ""
    driver_version: str = ""
    runtime_version: str = ""
    unified_memory: bool = False
    explanation: str = ""  # why it cannot be used; empty when it can


@dataclass(frozen=True)
class Device:
    """One adapter with its names."""

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
    lost: bool = False  # an earlier discovery found it, the last one did not


@dataclass(frozen=True)
class ProbeOutcome:
    """What looking for one kind of device came to."""

    kind: DeviceKind
    device_count: int
    explanation: str = ""


@dataclass(frozen=True)
class Discovery:
    """Every adapter found, and what became of each kind that was looked for."""

    adapters: tuple[Adapter, ...]
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


@dataclass(frozen=True)
class DeviceReport:
    """A device and how it is now."""

    device: Device
    state: DeviceState
    explanation: str = ""  # why it is not READY; empty when it is
    is_default: bool = False


@dataclass(frozen=True)
class DeviceListing:
    """Devices, the default one first; `probes` are kinds without a device and why.

    `default_device_id` is empty when the configured default device is not there, or none
    is configured and discovery has not ended.
    """

    devices: tuple[DeviceReport, ...]
    default_device_id: str
    probes: tuple[ProbeOutcome, ...]
