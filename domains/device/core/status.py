"""What a device is doing, from everybody who knows a part of it."""

from __future__ import annotations

import asyncio

from domains.device.core.figures import device_memory, loaded_model
from domains.device.core.inventory import DeviceInventory
from domains.device.core.profiles import DeviceProfiles
from domains.device.ports import DeviceRuns, MainMemoryReader, Telemetry, Workers
from domains.device.types import Device, DeviceMemory, DeviceStatus, Load
from domains.session.core.sessions import Sessions


class DeviceMonitor:
    """Tells how a device is. Never waits for a worker.

    Args:
        inventory: Finds the device.
        workers: Tell how they are.
        runs: Knows what workers told of their device's memory.
        sessions: Knows the queues.
        profiles: Knows what each device runs with.
        telemetry: Reads load, temperature and power.
        main_memory: Reads the memory of devices that have none of their own.
        patience: Seconds that telemetry may take before it counts as not told.
    """

    def __init__(
        self,
        inventory: DeviceInventory,
        workers: Workers,
        runs: DeviceRuns,
        sessions: Sessions,
        profiles: DeviceProfiles,
        telemetry: Telemetry,
        main_memory: MainMemoryReader,
        *,
        patience: float = 2.0,
    ) -> None:
        self._inventory = inventory
        self._workers = workers
        self._runs = runs
        self._sessions = sessions
        self._profiles = profiles
        self._telemetry = telemetry
        self._main_memory = main_memory
        self._patience = patience
        self._readings: dict[str, asyncio.Future[Load]] = {}

    async def memory(self, name: str) -> DeviceMemory:
        """The memory of the device of that id or alias; empty means the default one.

        Raises:
            DeviceNotFound: There is none of that name.
            DiscoveryIncomplete: It may still be found.
        """
        device = (await self._inventory.get(name)).device
        main = None
        if device.traits.in_main_memory:
            main = await asyncio.to_thread(self._main_memory.read)
        return device_memory(device, self._runs.figures(device.device_id), main)

    async def status(self, name: str) -> DeviceStatus:
        """What the device of that id or alias is doing; empty means the default one.

        Raises:
            DeviceNotFound: There is none of that name.
            DiscoveryIncomplete: It may still be found.
        """
        device = (await self._inventory.get(name)).device
        load = await self._load(device)
        # Everything else is read at one moment, after what takes time.
        report = await self._inventory.get(device.device_id)
        queue = self._sessions.queue(device.device_id)
        return DeviceStatus(
            report=report,
            load=load,
            queue_depth=queue.depth,
            session_id=queue.running.session_id if queue.running else "",
            worker=self._workers.status(device.device_id),
            loaded_model_id=loaded_model(self._runs.figures(device.device_id)),
            profile=self._profiles.of(device.device_id),
        )

    async def _load(self, device: Device) -> Load:
        """One reading at a time: a driver that hangs holds one thread and no caller."""
        if device.lost or device.node:  # the platform tells of this machine's devices
            return Load()
        reading = self._readings.get(device.device_id)
        if reading is None or reading.done():
            reading = asyncio.ensure_future(asyncio.to_thread(self._telemetry.read, device))
            self._readings[device.device_id] = reading
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.shield(reading)
        except TimeoutError:
            return Load()
