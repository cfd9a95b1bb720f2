"""The devices of this machine, found in the background and known by name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from domains import checks
from domains.device.core.default import DefaultChoice
from domains.device.core.facts import TransientFacts
from domains.device.core.known import KnownDevices
from domains.device.core.naming import ACCELERATORS, name_devices
from domains.device.core.reporting import refuse_unusable, report_of, sentence, why_missing
from domains.device.errors import (
    DeviceNotFound,
    DeviceUnavailable,
    DiscoveryIncomplete,
    InvalidTask,
    NoDeviceMatches,
)
from domains.device.ports import DeviceProbe, FactsStore, Workers
from domains.device.types import (
    ANY_DEVICE,
    Device,
    DeviceChoice,
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
        facts: Keeps ids and the chosen default over restarts; without it, for this run.
        default_device: Id or alias used where nothing else decides; empty means the best
            device found.
        patience: Seconds to wait for the first discovery before answering without it.
        now: The clock, timezone-aware.
    """

    def __init__(
        self,
        probe: DeviceProbe,
        workers: Workers,
        *,
        facts: FactsStore | None = None,
        default_device: str = "",
        patience: float = 20.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._probe = probe
        self._workers = workers
        facts = facts or TransientFacts()
        self._choice = DefaultChoice(facts, "device.default", default_device)
        self._known = KnownDevices(facts, now)
        self._patience = patience
        self._devices = name_devices([probe.processor()], ())
        self._probes = tuple(
            ProbeOutcome(kind, 0, _STILL_LOOKING) for kind in reversed(ACCELERATORS)
        )
        self._unseen = ""
        self._complete = False
        self._running: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[], None]] = []
        self._preparing: dict[str, str] = {}

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
        reports = [r for r in self.reports() if kind in (None, r.device.kind)]
        reports.sort(key=lambda report: not report.is_default)
        probes = (p for p in self._probes if not p.device_count and kind in (None, p.kind))
        return DeviceListing(tuple(reports), default_id, tuple(probes))

    def reports(self) -> tuple[DeviceReport, ...]:
        """Every device known now, as it is now; waits for nothing."""
        default = self._find_default()
        default_id = default.device_id if default else ""
        return tuple(self._report(device, default_id) for device in self._devices)

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
        """The device that inquiries use which name none.

        Raises:
            DeviceNotFound: The configured default device is not there.
            DiscoveryIncomplete: It may still be found.
        """
        return await self._named("")

    async def set_default(self, name: str) -> DeviceReport:
        """Make the device of that id or alias the default from now on.

        Raises:
            InvalidTask: No name is given (REQUIRED_FIELD_MISSING).
            DeviceNotFound: There is none of that name; the message says why.
            DiscoveryIncomplete: It may still be found.
            DeviceUnavailable: It is lost, or cannot be used on this machine.
            DeviceQuarantined: It failed too often.
            ResourceExhausted, Unavailable: It cannot be written, and holds until the server
                ends.
        """
        missing = checks.required("device_id", name)
        if missing is not None:
            raise InvalidTask.of(missing)
        report = await self.get(name)
        refuse_unusable(report)
        try:
            self._choice.choose(report.device.device_id)
        finally:
            self._tell()  # it holds also where the disk does not take it
        return await self.get(report.device.device_id)

    async def matching(self, choice: DeviceChoice) -> tuple[DeviceReport, ...]:
        """The devices that `choice` is about, usable or not, best kind first.

        Where it is about all, a default device that somebody chose must exist.

        Raises:
            NoDeviceMatches: There is none.
            DeviceNotFound: The configured default device is not there.
            DiscoveryIncomplete: One may still be found.
        """
        await self._first_discovery()
        if choice == ANY_DEVICE:
            self._lookup("")
        found = self.selected(choice)
        if not found and not self._complete:
            raise DiscoveryIncomplete
        if not found:
            raise NoDeviceMatches(choice, [device.device_id for device in self._devices])
        return found

    def selected(self, choice: DeviceChoice) -> tuple[DeviceReport, ...]:
        """The devices known now that `choice` is about, best kind first; waits for nothing."""
        named = [self._find(name) for name in choice.device_ids]
        return tuple(
            report
            for report in self.reports()
            if (not choice.device_ids or report.device in named)
            and (not choice.kinds or report.device.kind in choice.kinds)
        )

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have `listener` called when devices were looked for or the default changed."""
        self._listeners.append(listener)

    async def resolve(self, name: str) -> Device:
        """The device to run work on, by id or alias; empty means the default one.

        Raises:
            DeviceNotFound: There is none of that name; the message says why.
            DiscoveryIncomplete: It may still be found.
            DeviceUnavailable: It is lost, or cannot be used on this machine.
        """
        device = await self._named(name)
        if device.explanation and not self._is_served(device):
            raise DeviceUnavailable(device.device_id, sentence(device.explanation))
        status = self._workers.status(device.device_id)
        if status.state is DeviceState.LOST:  # its worker knows before the next look does
            raise DeviceUnavailable(device.device_id, sentence(status.explanation))
        return device

    async def _discover(self) -> None:
        found = await self._probe.discover()
        reasons = {outcome.kind: outcome.explanation for outcome in found.probes}
        self._devices = name_devices(found.adapters, self._previous(), reasons, found.unseen)
        self._probes, self._unseen = found.probes, found.unseen
        self._known.remember(self._devices)
        try:
            await self._workers.start(
                [device for device in self._devices if not device.explanation]
            )
        finally:
            self._complete = True  # they are known, whatever keeps workers from starting
            self._tell()

    def _previous(self) -> tuple[Device, ...]:
        """Devices of this run, and at its start those of earlier ones."""
        if self._complete:
            return self._devices
        here = {device.device_id for device in self._devices}
        remembered = (d for d in self._known.recall() if d.device_id not in here)
        return (*self._devices, *remembered)

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    async def _first_discovery(self) -> None:
        if not self._complete:
            try:
                async with asyncio.timeout(self._patience):
                    await self.discover()
            except TimeoutError:
                pass
            except Exception:
                if not self._complete:
                    raise

    async def _named(self, name: str) -> Device:
        """A device to work on; one that is known by its name is not waited for."""
        wanted = name or self._choice.name
        if not wanted or self._find(wanted) is None:
            await self._first_discovery()
        return self._lookup(name)

    def _lookup(self, name: str) -> Device:
        device = self._find(name) if name else self._find_default()
        if device is not None:
            return device
        if not self._complete:
            raise DiscoveryIncomplete
        wanted = name or self._choice.name
        why = why_missing(wanted.lower(), self._devices, self._probes, self._unseen)
        raise DeviceNotFound(
            wanted, why if name else f"{why} The server is set to use it by default."
        )

    def _find(self, name: str) -> Device | None:
        lowered = name.lower()
        return next(
            (d for d in self._devices if lowered == d.device_id or lowered in d.aliases), None
        )

    def _find_default(self) -> Device | None:
        chosen = self._choice.name
        if chosen:
            return self._find(chosen)
        if not self._complete:
            return None  # The processor is no stand-in for a card that may be there.
        # One of another machine works where that is asked for, or for whom any will do.
        here = [device for device in self._devices if not device.node]
        return next((device for device in here if self.works(device)), here[-1])

    def works(self, device: Device) -> bool:
        """Whether the last look found nothing wrong with it, or its worker is ready all the
        same: a look from outside finds no room on a card that our own worker has filled."""
        ready = self._workers.status(device.device_id).state is DeviceState.READY
        return not device.explanation or ready

    def _is_served(self, device: Device) -> bool:
        """Whether a worker can be hoped for: it lives, or starts for a device that is there."""
        state = self._workers.status(device.device_id).state
        if device.lost:
            return state is DeviceState.READY
        return state is not DeviceState.UNAVAILABLE

    @contextlib.contextmanager
    def preparing(self, device_id: str, why: str) -> Iterator[None]:
        """Have a device that is ready count as starting meanwhile; `why` is its explanation."""
        self._preparing[device_id] = why
        self._tell()
        try:
            yield
        finally:
            del self._preparing[device_id]
            self._tell()

    def _report(self, device: Device, default_id: str) -> DeviceReport:
        report = report_of(device, self._workers.status(device.device_id), default_id)
        why = self._preparing.get(device.device_id)
        if why is None or report.state is not DeviceState.READY:
            return report
        return replace(report, state=DeviceState.STARTING, explanation=why)
