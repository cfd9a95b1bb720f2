"""What happens to devices, for clients that watch them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime

from domains.changes import HEARTBEAT_SECONDS, Changes, Told
from domains.device.core.inventory import DeviceInventory
from domains.device.core.reporting import sentence
from domains.device.errors import DeviceGone, DeviceQuarantined, DeviceWorkerLost
from domains.device.ports import StatusSource
from domains.device.types import (
    DeviceEvent,
    DeviceEventKind,
    DeviceReport,
    DeviceState,
    WorkerStatus,
)
from domains.errors import Failure

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
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._inventory = inventory
        self._known: dict[str, DeviceReport] = {}
        self._out_of_work: set[str] = set()  # and not ready since
        self._changes = Changes(now=now, merge=_merged, heartbeat_seconds=heartbeat_seconds)
        inventory.subscribe(self._look)
        workers.subscribe(self._worker_changed)

    def revision(self) -> int:
        """Number of the newest change: what devices are like at this moment has it."""
        self._look()
        return self._changes.revision

    async def watch(
        self, name: str = "", *, from_revision: int = 0
    ) -> AsyncGenerator[Told[DeviceEvent]]:
        """ADDED for each device there is and the end of that, then changes, without end.

        Args:
            name: Id or alias of the one device to watch; empty means every device.
            from_revision: Tell the changes after this one instead of what there is.

        Raises:
            DeviceNotFound: There is none of that name.
            DiscoveryIncomplete: It may still be found.
            ChangesExpired: The changes after `from_revision` are not kept.
        """
        wanted = (await self._inventory.get(name)).device.device_id if name else ""
        self._look()
        told = self._changes.watch(
            self._state,
            from_revision=from_revision,
            wanted=lambda event: wanted in ("", event.report.device.device_id),
        )
        async with aclosing(told):
            async for one in told:
                yield one

    def _state(self) -> list[DeviceEvent]:
        added = DeviceEventKind.ADDED
        return [DeviceEvent(added, report) for report in self._known.values()]

    def _worker_changed(self, device_id: str, status: WorkerStatus) -> None:
        self._look()

    def _look(self) -> None:
        reports = {report.device.device_id: report for report in self._inventory.reports()}
        before, self._known = self._known, reports
        for device_id, report in reports.items():
            kind = _what_happened(
                before.get(device_id), report, was_out=device_id in self._out_of_work
            )
            if report.state in _OUT_OF_WORK:
                self._out_of_work.add(device_id)
            elif report.state is DeviceState.READY:
                self._out_of_work.discard(device_id)
            if kind is not None:
                event = DeviceEvent(kind, report, _cause(kind, report))
                self._changes.add(device_id, event)


def _what_happened(
    before: DeviceReport | None, now: DeviceReport, *, was_out: bool
) -> DeviceEventKind | None:
    """None when nothing did. `was_out`: it was out of work, and is not ready since."""
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
    if now.state is DeviceState.READY and was_out:
        return DeviceEventKind.RECOVERED
    return DeviceEventKind.CHANGED


def _cause(kind: DeviceEventKind, report: DeviceReport) -> Failure | None:
    device_id, why = report.device.device_id, report.explanation
    if kind is DeviceEventKind.QUARANTINED:
        return DeviceQuarantined(device_id, why).failure()
    if kind is not DeviceEventKind.LOST:
        return None
    if report.state is DeviceState.LOST:
        return DeviceGone(device_id, sentence(why)).failure()
    return DeviceWorkerLost(device_id, why).failure()


def _merged(older: DeviceEvent, newer: DeviceEvent) -> DeviceEvent:
    """That a device is new is never lost."""
    if older.kind is DeviceEventKind.ADDED:
        return replace(newer, kind=DeviceEventKind.ADDED, cause=None)
    return newer
