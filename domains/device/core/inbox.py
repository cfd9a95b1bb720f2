"""What one watcher has not been told yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from domains.device.types import DeviceEvent, DeviceEventKind

_MOST_PER_DEVICE = 8


class Inbox:
    """Events that wait for a watcher, in order, at most eight of each device.

    When a watcher is that slow, the newest event of a device takes the place of the one
    before it: what happened in between is lost, how the device is now never. That a device
    is new is not lost either.
    """

    def __init__(self, first: Iterable[DeviceEvent]) -> None:
        self._events = list(first)
        self._arrived = asyncio.Event()

    def put(self, event: DeviceEvent) -> None:
        """Add an event about a device."""
        places = [k for k, waiting in enumerate(self._events) if _same(waiting, event)]
        if len(places) >= _MOST_PER_DEVICE:
            replaced = self._events.pop(places[-1])
            if replaced.kind is DeviceEventKind.ADDED:
                event = replace(event, kind=DeviceEventKind.ADDED)
        self._events.append(event)
        self._arrived.set()

    def take(self) -> list[DeviceEvent]:
        """Everything that waits; it does not wait any more."""
        taken, self._events = self._events, []
        self._arrived.clear()
        return taken

    async def wait(self) -> None:
        """Until something waits."""
        await self._arrived.wait()


def _same(one: DeviceEvent, other: DeviceEvent) -> bool:
    if one.report is None or other.report is None:
        return False
    return one.report.device.device_id == other.report.device.device_id
