"""What happens to devices, told to whoever watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import datetime

from domains.device.core.inbox import Inbox
from domains.device.core.inventory import DeviceInventory
from domains.device.ports import StatusSource
from domains.device.types import (
    DeviceEvent,
    DeviceEventKind,
    DeviceReport,
    DeviceState,
    WorkerStatus,
)

_OUT_OF_WORK = (DeviceState.LOST, DeviceState.RECOVERING, DeviceState.QUARANTINED)


class DeviceChanges:
    """Compares devices with how they were whenever something may have changed.

    Args:
        inventory: Knows the devices; says when they were looked for or chosen.
        workers: Say when a worker's state changes.
        now: The clock, timezone-aware.
        heartbeat_seconds: Silence after which a watcher is told that there is nothing.
    """

    def __init__(
        self,
        inventory: DeviceInventory,
        workers: StatusSource,
        *,
        now: Callable[[], datetime],
        heartbeat_seconds: float = 5.0,
    ) -> None:
        self._inventory = inventory
        self._now = now
        self._heartbeat_seconds = heartbeat_seconds
        self._known: dict[str, DeviceReport] = {}
        self._inboxes: dict[Inbox, str] = {}  # with the device wanted; empty means all
        inventory.subscribe(self._look)
        workers.subscribe(self._worker_changed)

    async def watch(self, name: str = "") -> AsyncGenerator[DeviceEvent]:
        """ADDED for each device there is, then what happens, without end.

        Args:
            name: Id or alias of the one device to watch; empty means every device.

        Raises:
            DeviceNotFound: There is none of that name.
            DiscoveryIncomplete: It may still be found.
        """
        wanted = (await self._inventory.get(name)).device.device_id if name else ""
        self._look()
        inbox = Inbox(
            DeviceEvent(DeviceEventKind.ADDED, self._now(), report)
            for device_id, report in self._known.items()
            if wanted in ("", device_id)
        )
        self._inboxes[inbox] = wanted
        try:
            while True:
                for event in inbox.take():
                    yield event
                try:
                    async with asyncio.timeout(self._heartbeat_seconds):
                        await inbox.wait()
                except TimeoutError:
                    yield DeviceEvent(DeviceEventKind.HEARTBEAT, self._now())
        finally:
            del self._inboxes[inbox]

    def _worker_changed(self, device_id: str, status: WorkerStatus) -> None:
        self._look()

    def _look(self) -> None:
        reports = {report.device.device_id: report for report in self._inventory.reports()}
        before, self._known = self._known, reports
        for device_id, report in reports.items():
            kind = _what_happened(before.get(device_id), report)
            if kind is not None:
                event = DeviceEvent(kind, self._now(), report)
                for inbox, wanted in self._inboxes.items():
                    if wanted in ("", device_id):
                        inbox.put(event)


def _what_happened(before: DeviceReport | None, now: DeviceReport) -> DeviceEventKind | None:
    """None when nothing did."""
    if before == now:
        return None
    if before is None:
        return DeviceEventKind.ADDED
    if before.state is now.state:
        return DeviceEventKind.CHANGED
    if now.state is DeviceState.LOST:
        return DeviceEventKind.LOST
    if now.state is DeviceState.RECOVERING and before.state not in _OUT_OF_WORK:
        return DeviceEventKind.LOST
    if now.state is DeviceState.QUARANTINED:
        return DeviceEventKind.QUARANTINED
    if now.state is DeviceState.READY and before.state in _OUT_OF_WORK:
        return DeviceEventKind.RECOVERED
    return DeviceEventKind.CHANGED
