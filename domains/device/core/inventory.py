"""The devices of this machine, found in the background and known by name."""

from __future__ import annotations

import asyncio
import contextlib

from domains.device.core.naming import ACCELERATORS, kinds_meant, name_devices
from domains.device.errors import DeviceNotFound, DeviceUnavailable, DiscoveryIncomplete
from domains.device.ports import DeviceProbe, Workers
from domains.device.types import (
    Device,
    DeviceKind,
    DeviceListing,
    DeviceReport,
    DeviceState,
    ProbeOutcome,
)

_STILL_LOOKING = "it is still being looked for; ask again in a moment"


class DeviceInventory:
    """Keeps what discovery found, names it, and says which device is the default.

    The processor is known from the start. The rest comes with the first discovery, which
    questions wait for unless they name a device that is known.

    Args:
        probe: Looks for devices.
        workers: Tells how each device's worker is, and starts one for each device found.
        default_device: Id or alias used where nothing is said; empty means the best
            device found.
        patience: Seconds to wait for the first discovery before answering without it.
    """

    def __init__(
        self,
        probe: DeviceProbe,
        workers: Workers,
        *,
        default_device: str = "",
        patience: float = 20.0,
    ) -> None:
        self._probe = probe
        self._workers = workers
        self._configured = default_device
        self._patience = patience
        self._devices = name_devices([probe.processor()], ())
        self._probes = tuple(
            ProbeOutcome(kind, 0, _STILL_LOOKING) for kind in reversed(ACCELERATORS)
        )
        self._complete = False
        self._running: asyncio.Task[None] | None = None

    @property
    def devices(self) -> tuple[Device, ...]:
        """Every device known now, lost ones included, best kind first."""
        return self._devices

    async def discover(self) -> None:
        """Look for devices; joins a discovery that is under way."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._discover())
        # A caller that gives up does not end what others wait for.
        await asyncio.shield(self._running)

    async def close(self) -> None:
        """End a discovery that is under way, with its processes."""
        if self._running is not None and not self._running.done():
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    async def list(
        self, kind: DeviceKind | None = None, *, refresh: bool = False
    ) -> DeviceListing:
        """Every device, usable or not, the default one first; `kind` None means all."""
        if refresh:
            await self.discover()
        await self._first_discovery()
        default = self._find_default()
        default_id = default.device_id if default else ""
        reports = [
            self._report(device, default_id)
            for device in self._devices
            if kind in (None, device.kind)
        ]
        reports.sort(key=lambda report: not report.is_default)
        probes = (p for p in self._probes if not p.device_count and kind in (None, p.kind))
        return DeviceListing(tuple(reports), default_id, tuple(probes))

    async def get(self, name: str) -> DeviceReport:
        """One device by id or alias in any case; empty means the default one.

        Raises:
            DeviceNotFound: There is none of that name; the message says why.
            DiscoveryIncomplete: It may still be found.
        """
        await self._first_discovery()
        device = self._lookup(name)
        default = self._find_default()
        return self._report(device, default.device_id if default else "")

    async def default(self) -> Device:
        """The device used where a request names none.

        Raises:
            DeviceNotFound: The configured default device is not there.
            DiscoveryIncomplete: It may still be found.
        """
        return await self._named("")

    async def resolve(self, name: str) -> Device:
        """The device to run work on, by id or alias; empty means the default one.

        Raises:
            DeviceNotFound: There is none of that name; the message says why.
            DiscoveryIncomplete: It may still be found.
            DeviceUnavailable: It is lost, or cannot be used on this machine.
        """
        device = await self._named(name)
        if device.explanation and not self._has_worker(device):
            raise DeviceUnavailable(device.device_id, _sentence(device.explanation))
        return device

    async def _discover(self) -> None:
        found = await self._probe.discover()
        self._devices = name_devices(found.adapters, self._devices)
        self._probes = found.probes
        await self._workers.start(
            [device for device in self._devices if not device.explanation]
        )
        self._complete = True

    async def _first_discovery(self) -> None:
        if not self._complete:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await self.discover()

    async def _named(self, name: str) -> Device:
        """A device to work on; one that is known by its name is not waited for."""
        wanted = name or self._configured
        if not wanted or self._find(wanted) is None:
            await self._first_discovery()
        return self._lookup(name)

    def _lookup(self, name: str) -> Device:
        device = self._find(name) if name else self._find_default()
        if device is not None:
            return device
        if not self._complete:
            raise DiscoveryIncomplete
        wanted = name or self._configured
        why = self._why_missing(wanted.lower())
        raise DeviceNotFound(
            wanted, why if name else f"{why} The server is configured to use it by default."
        )

    def _find(self, name: str) -> Device | None:
        lowered = name.lower()
        return next(
            (d for d in self._devices if lowered == d.device_id or lowered in d.aliases), None
        )

    def _find_default(self) -> Device | None:
        if self._configured:
            return self._find(self._configured)
        if not self._complete:
            return None  # The processor is no stand-in for a card that may be there.
        usable = (device for device in self._devices if not device.explanation)
        return next(usable, self._devices[-1])

    def _why_missing(self, name: str) -> str:
        kinds = kinds_meant(name)
        known = ", ".join(device.device_id for device in self._devices)
        if not kinds:
            return f"this machine has {known}."
        if any(device.kind in kinds for device in self._devices):
            return f"no device of that kind has this number; this machine has {known}."
        reasons = (
            f"{outcome.kind.value}: {outcome.explanation}"
            for kind in kinds
            for outcome in self._probes
            if outcome.kind is kind
        )
        return _sentence("; ".join(reasons))

    def _has_worker(self, device: Device) -> bool:
        return self._workers.status(device.device_id).state is not DeviceState.UNAVAILABLE

    def _report(self, device: Device, default_id: str) -> DeviceReport:
        worker = self._workers.status(device.device_id)
        state, explanation = worker.state, worker.explanation
        # A living worker knows better than the last look from outside.
        if state is DeviceState.UNAVAILABLE and device.explanation:
            state = DeviceState.LOST if device.lost else state
            explanation = device.explanation
        return DeviceReport(device, state, explanation, device.device_id == default_id)


def _sentence(words: str) -> str:
    return words if words.endswith(".") else f"{words}."
