"""The behaviour of the device domain."""

from __future__ import annotations

from dataclasses import dataclass

from domains.device.core.changes import DeviceChanges
from domains.device.core.inventory import DeviceInventory
from domains.device.core.optimizations import Optimizations
from domains.device.core.restarts import Restarts
from domains.device.core.self_tests import SelfTests
from domains.device.core.status import DeviceMonitor

__all__ = ["DeviceInventory", "DeviceService"]


@dataclass(frozen=True)
class DeviceService:
    """Everything that is offered of devices."""

    inventory: DeviceInventory
    monitor: DeviceMonitor
    self_tests: SelfTests
    changes: DeviceChanges
    optimizations: Optimizations
    restarts: Restarts
