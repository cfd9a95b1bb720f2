"""Looking for devices again while the server runs: cards vanish and come back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from domains.device.core.inventory import DeviceInventory
from domains.device.ports import DeviceRuns, Workers
from domains.device.types import DeviceState, WorkerStatus
from domains.errors import DomainError

_log = logging.getLogger(__name__)
_WORKER_LOST = (DeviceState.RECOVERING, DeviceState.QUARANTINED)


class Rediscovery:
    """Looks again now and then, and soon after a card's worker was lost.

    Looking starts a process that imports torch and computes on every card, so it waits
    while devices work: it would take memory from under them.

    Args:
        inventory: What looks.
        workers: Tells how workers are.
        runs: Replaces the worker of a card that came back from the dead.
        busy: Whether any device works now.
        interval: Seconds between looks; 0 means only after a worker was lost.
        settle: Seconds from a loss to the look, and from one look to another idle check.
    """

    def __init__(
        self,
        inventory: DeviceInventory,
        workers: Workers,
        runs: DeviceRuns,
        *,
        busy: Callable[[], bool],
        interval: float,
        settle: float = 5.0,
    ) -> None:
        self._inventory = inventory
        self._workers = workers
        self._runs = runs
        self._busy = busy
        self._interval = interval or None
        self._settle = settle
        self._lost = asyncio.Event()
        runs.subscribe(self._worker_changed)

    async def run(self) -> None:
        """Look for devices now, and again without end."""
        await self._inventory.discover()
        due = False
        while True:
            if not due:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        await self._lost.wait()
            await asyncio.sleep(self._settle)
            due = self._busy()
            if due:
                continue
            self._lost.clear()
            try:
                await self._look()
            except Exception:
                _log.exception("devices could not be looked for; the next look comes")

    async def _look(self) -> None:
        gone = {d.device_id for d in self._inventory.devices if d.lost}
        await self._inventory.discover()
        for device in self._inventory.devices:
            if device.device_id in gone and not device.lost:
                await self._revive(device.device_id)

    async def _revive(self, device_id: str) -> None:
        """Give a card that came back a worker at once: what it died of is over."""
        if self._workers.status(device_id).state is DeviceState.QUARANTINED:
            with contextlib.suppress(DomainError):  # its state says how that went
                await self._runs.restart(device_id, True)

    def _worker_changed(self, device_id: str, status: WorkerStatus) -> None:
        if status.state in _WORKER_LOST and any(
            device.device_id == device_id and device.traits.can_vanish
            for device in self._inventory.devices
        ):
            self._lost.set()
