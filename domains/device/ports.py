"""What the device domain needs from outside its pure core."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from domains.device.types import (
    Adapter,
    Device,
    DeviceFigures,
    Discovery,
    Load,
    Placement,
    WorkerStatus,
)
from domains.session.core.placed import Placed
from domains.session.core.speeds import Effort
from domains.session.jobs import PausingRunner
from domains.session.types import Priority
from domains.values import ByteFigure, ModelPlace

Place = Callable[[Placement, Effort, Priority], Awaitable[Placed]]
"""Chooses the device for work; see `Placer.place`."""
StatusListener = Callable[[str, WorkerStatus], None]
"""Told a device's id and how its worker is now."""


class DeviceProbe(Protocol):
    """Looks for devices, in processes of their own so that no driver can harm this one."""

    def processor(self) -> Adapter:
        """The processor; known without asking a driver, so at once."""
        ...

    async def discover(self) -> Discovery:
        """Find every adapter of the machine, the processor included.

        A kind that cannot be looked for, or whose driver crashes or hangs, is an
        outcome with an explanation and never an exception.
        """
        ...


class OtherMachines(Protocol):
    """Looks for devices of other machines."""

    async def look(self) -> tuple[tuple[Adapter, ...], str]:
        """Every adapter of every machine there is, each with its `node`; and why none or not
        all could be looked at, empty where they were. Never raises."""
        ...


class Workers(Protocol):
    """The worker processes, as the device domain sees them."""

    async def start(self, devices: Sequence[Device]) -> None:
        """Start a worker for each device that has none; returns before they are ready."""
        ...

    def status(self, device_id: str) -> WorkerStatus:
        """How the worker of `device_id` is; `UNAVAILABLE` when there is none."""
        ...


class StatusSource(Protocol):
    """Whoever tells when a worker's state changes."""

    def subscribe(self, listener: StatusListener) -> Callable[[], None]:
        """Have `listener` called, on the loop, when a worker's state changes.

        Returns:
            What ends it; calling that twice is harmless.
        """
        ...


class MeasuredModel(Protocol):
    """A model that a profile's effect is measured with."""

    @property
    def model_id(self) -> str:
        """Its id."""
        ...

    @property
    def place(self) -> ModelPlace:
        """Where it lies."""
        ...


class Models(Protocol):
    """Finds models, which are known above this domain."""

    async def resolve(self, model_id: str) -> MeasuredModel:
        """The model of that id, ready to draw with; empty means the default one.

        Raises:
            NotFound: MODEL_NOT_FOUND.
            DomainError: It cannot be used.
        """
        ...


class DeviceRuns(StatusSource, PausingRunner, Protocol):
    """The workers, as devices see them."""

    async def restart(self, device_id: str, force: bool = False) -> None:
        """Replace the worker, after its run or at once; returns when the new one is ready.

        Raises:
            Unavailable: There is no worker, or the new one died too.
        """
        ...

    def figures(self, device_id: str) -> DeviceFigures | None:
        """The device's memory as its worker last told, at most seconds ago.

        None when no worker lives there or it has not told yet. Never waits.
        """
        ...


class Telemetry(Protocol):
    """How busy, hot and hungry a device is, where the platform tells."""

    def read(self, device: Device) -> Load:
        """The device now. May block: call it off the loop."""
        ...


class MainMemory(Protocol):
    """Main memory at one moment, as far as this server may use it."""

    @property
    def total(self) -> ByteFigure:
        """In all."""
        ...

    @property
    def available(self) -> ByteFigure:
        """What can be had without swapping."""
        ...

    @property
    def used_by_server(self) -> ByteFigure:
        """What this server's processes hold."""
        ...


class MainMemoryReader(Protocol):
    """Reads main memory, which is known above this domain."""

    def read(self) -> MainMemory:
        """Main memory now. Takes milliseconds and may block: call it off the loop."""
        ...


class FactsStore(Protocol):
    """Small facts that outlive the server, by key."""

    def get(self, key: str) -> bytes | None:
        """The value last put under `key`; None when there is none."""
        ...

    def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`, in place of what was there.

        Raises:
            ResourceExhausted: The disk is full.
            Unavailable: It cannot be written for another reason. In both cases `get` has it
                from now on, and it is written as soon as that works.
        """
        ...

    def forget(self, key: str) -> None:
        """Have nothing under `key` any more. Returns at once; while the disk takes nothing,
        the value may be there again when the server starts anew."""
        ...
