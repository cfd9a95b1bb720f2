"""What the model domain needs from outside its pure core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from domains.device.types import Device, DeviceReport
from domains.memory.types import Extent, HeldComponent, Place
from domains.model.types import Scan


class ModelScanner(Protocol):
    """Looks through the configured roots."""

    def scan(self) -> Scan:
        """Every model in the roots, each with a unique id, usable or with its problem.

        Reads headers and small files only, but may take seconds: call it off the loop.
        Never raises for what it finds on disk. One call at a time.
        """
        ...


class Devices(Protocol):
    """The machine's devices, as models see them."""

    @property
    def devices(self) -> Sequence[Device]:
        """Every device known now."""
        ...

    async def get(self, name: str) -> DeviceReport:
        """One device by id or alias.

        Raises:
            DeviceNotFound: There is none of that name.
        """
        ...


class IdleModel(Protocol):
    """A model on a device that no work uses."""

    @property
    def model_id(self) -> str:
        """Its id."""
        ...

    @property
    def size_bytes(self) -> int:
        """What is known of its size."""
        ...


class HeldModels(Protocol):
    """The models in the devices' memory."""

    def held(self) -> tuple[HeldComponent, ...]:
        """Every component there, as of its worker's last figures; those follow every load."""
        ...

    def idle(self, device_id: str) -> Sequence[IdleModel]:
        """Models there that no work uses, the least recently used first."""
        ...


class Memory(Protocol):
    """How much memory there is."""

    async def extent(self, place: Place) -> Extent:
        """How large the memory behind a place is, and how much could be taken there now."""
        ...


@dataclass(frozen=True)
class Machine:
    """Where models can be loaded, and what lies there."""

    devices: Devices
    models: HeldModels
    memory: Memory
