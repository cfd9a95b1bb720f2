"""Device values: adapters, their kinds and states, and the workers that own them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Annotated

from domains.codec import (
    FEW,
    ByteCount,
    ModelId,
    Moment,
    Name,
    Names,
    Text,
    Value,
)
from domains.errors import Failure
from domains.values import ByteFigure, ModelOrigin, TensorDataType


class DeviceKind(Enum):
    """How a device is driven; the value is the first part of its id."""

    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"
    DIRECT_ML = "directml"
    XPU = "xpu"
    MPS = "mps"


@dataclass(frozen=True)
class DeviceTraits:
    """What is true of every device of a kind, so that nobody asks for the kind itself.

    `one_per_machine`: there is exactly one where there is any, and it is always the same.
    `in_main_memory`: its memory is this machine's main memory, whose figures are its own.
    `full_numbers`: it computes in 32 bits where another computes in 16.
    `can_vanish`: it can be gone from one moment to the next while the machine runs.
    `last_choice`: work that may run elsewhere too runs there only where nothing else is ready.
    """

    one_per_machine: bool = False
    in_main_memory: bool = False
    full_numbers: bool = False
    can_vanish: bool = True
    last_choice: bool = False


_PROCESSOR = DeviceTraits(
    one_per_machine=True,
    in_main_memory=True,
    full_numbers=True,
    can_vanish=False,
    last_choice=True,
)
_BUILT_IN = DeviceTraits(one_per_machine=True)
_CARD = DeviceTraits()
TRAITS: Mapping[DeviceKind, DeviceTraits] = {
    DeviceKind.CPU: _PROCESSOR,
    DeviceKind.CUDA: _CARD,
    DeviceKind.ROCM: _CARD,
    DeviceKind.DIRECT_ML: _CARD,
    DeviceKind.XPU: _CARD,
    DeviceKind.MPS: _BUILT_IN,
}


class DeviceState(Enum):
    """Whether a device can be used."""

    STARTING = "starting"
    READY = "ready"
    RECOVERING = "recovering"
    QUARANTINED = "quarantined"
    LOST = "lost"
    UNAVAILABLE = "unavailable"


class Adapter(Value, frozen=True):
    """One adapter as its probe found it, before it has an id.

    `slot` (a PCI address where there is one) puts adapters of a kind in an order that
    does not depend on the driver's mood; `hardware_id` recognises an adapter again.
    `torch_device` is the name its worker gives torch (`cpu`, `cuda:0`). `node` is the machine
    of a cluster that it is in; empty for this one.
    Texts are a driver's own words; `answers` cleans them.
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
    node: str = ""


class Device(Value, frozen=True):
    """One adapter with its names.

    `identity` recognises it among those of its kind and machine, in this run and in later
    ones. `node` is the machine of a cluster that it is in; empty for this one.
    """

    device_id: Name
    kind: DeviceKind
    name: Text
    vendor: Text
    torch_device: Text
    total_memory: ByteFigure
    aliases: Names = ()
    driver_version: Text = ""
    runtime_version: Text = ""
    hardware_id: Text = ""
    unified_memory: bool = False
    explanation: Text = ""  # why it cannot be used; empty when it can
    lost: bool = False  # an earlier discovery found it, the last one did not
    slot: Text = ""
    identity: Text = ""
    node: Text = ""

    @property
    def traits(self) -> DeviceTraits:
        """What is true of it as of every device of its kind, there or here."""
        traits = TRAITS[self.kind]
        return replace(traits, in_main_memory=False, can_vanish=True) if self.node else traits


@dataclass(frozen=True)
class NamedDevice:
    """Work is for this device, by id or alias, and for no other."""

    device_id: str


@dataclass(frozen=True)
class DeviceChoice:
    """Work is for the best of these devices: by id or alias, of a kind, or both at once.

    Empty means all.
    """

    device_ids: tuple[str, ...] = ()
    kinds: tuple[DeviceKind, ...] = ()


Placement = NamedDevice | DeviceChoice
ANY_DEVICE = DeviceChoice()


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
    unseen: str = ""
    """Why other machines could not be looked at; empty where they were or there are none."""


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


def at_once(reports: Sequence[DeviceReport]) -> int:
    """How many pieces of work keep those devices busy, at least one: for each ready one what
    runs, and one more, so that it need not idle while the end of that is written down."""
    return max(2 * sum(report.state is DeviceState.READY for report in reports), 1)


@dataclass(frozen=True)
class DeviceListing:
    """Devices, the default one first; `probes` are kinds without a device and why.

    `default_device_id` is empty when the configured default device is not there, or none
    is configured and discovery has not ended.
    """

    devices: tuple[DeviceReport, ...]
    default_device_id: str
    probes: tuple[ProbeOutcome, ...]


@dataclass(frozen=True)
class Load:
    """What the platform tells of a device now; None where it does not.

    `load` is the busy share from 0 to 1.
    """

    load: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None


class LoadedComponent(Value, frozen=True):
    """One network of a model as a worker holds it; `data_type` is None where it has several.

    `origin` is where the model was before it was loaded, at `load_time`.
    """

    model_id: ModelId
    component: Name
    size: ByteFigure
    data_type: TensorDataType | None
    last_use_time: Moment
    in_use: bool = False
    load_time: Moment | None = None
    origin: ModelOrigin = ModelOrigin.DISK


Components = Annotated[tuple[LoadedComponent, ...], FEW]


class DeviceFigures(Value, frozen=True):
    """A device's memory as its worker last told, each figure with its source.

    `allocated`, `reserved` and `peak_allocated` are the worker's tensors, what its
    allocator holds with them, and the most of the former since the worker started.
    `largest_free` is the largest single block that can be had, where that is told.
    `inactive_split` is what the allocator keeps in split blocks that it cannot give back;
    it is how fragmented the allocator is. `leased_bytes` is the exact sum of the buffers
    that `DeviceBuffers.allocate` made and that are not freed.
    """

    total: ByteFigure
    free: ByteFigure
    allocated: ByteFigure
    reserved: ByteFigure
    peak_allocated: ByteFigure
    largest_free: ByteFigure
    inactive_split: ByteFigure
    leased_bytes: ByteCount
    models: Components
    read_time: Moment


@dataclass(frozen=True)
class DeviceMemory:
    """A device's memory now.

    `free` is free for anybody; `allocated` and `reserved` are our worker's tensors and
    what its allocator holds with them; `used_by_others` is everybody else's.
    """

    device_id: str
    total: ByteFigure
    free: ByteFigure
    allocated: ByteFigure
    reserved: ByteFigure
    used_by_others: ByteFigure
    peak_allocated: ByteFigure


class OptimizationProfile(Enum):
    """A named set of choices between memory and speed."""

    BALANCED = "balanced"
    LOW_MEMORY = "low-memory"
    FAST = "fast"


@dataclass(frozen=True)
class DeviceStatus:
    """What a device is doing; `session_id` is empty when it is idle."""

    report: DeviceReport
    load: Load
    queue_depth: int
    session_id: str
    worker: WorkerStatus
    loaded_model_id: str
    profile: OptimizationProfile


class DeviceEventKind(Enum):
    """What happened to a device."""

    ADDED = "added"
    CHANGED = "changed"
    LOST = "lost"
    RECOVERED = "recovered"
    QUARANTINED = "quarantined"


@dataclass(frozen=True)
class DeviceEvent:
    """Something happened to a device; `cause` says why it is lost or quarantined."""

    kind: DeviceEventKind
    report: DeviceReport
    cause: Failure | None = None
