"""What postprocessing needs from outside its pure core."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from domains.device.types import DeviceChoice, DeviceReport
from domains.postprocessing.types import Postprocessor

Postprocessors = Callable[[], Awaitable[tuple[Postprocessor, ...]]]
"""What somebody brings that can be applied, as things are now."""


class ModelUses(Protocol):
    """Takes note of models that work uses."""

    def record_use(self, model_id: str) -> None:
        """Work with the model begins."""
        ...


class PlacedDevices(Protocol):
    """The machine's devices."""

    def selected(self, choice: DeviceChoice) -> tuple[DeviceReport, ...]:
        """Those known now that `choice` is about; waits for nothing."""
        ...
