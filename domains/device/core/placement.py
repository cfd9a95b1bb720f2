"""Choosing the device that a piece of work is done on, from how the devices are now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from domains import checks
from domains.device.core.choosing import Candidate, choose
from domains.device.core.inventory import DeviceInventory
from domains.device.core.queue_load import QueueLoads
from domains.device.core.reporting import sentence
from domains.device.errors import NoDeviceReady
from domains.device.ports import DeviceRuns
from domains.device.types import (
    DeviceChoice,
    DeviceReport,
    DeviceState,
    NamedDevice,
    Placement,
)
from domains.errors import FieldViolation
from domains.limits import LIMITS
from domains.session.core.placed import Placed
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.speeds import Effort
from domains.session.types import Priority
from domains.values import PlacementDecision

_WORKING = (DeviceState.READY, DeviceState.STARTING, DeviceState.RECOVERING)
_IDS, _KINDS = LIMITS["DeviceChoice.device_ids"], LIMITS["DeviceChoice.kinds"]


def check_placement(placement: Placement, path: str) -> Iterator[FieldViolation]:
    """Every rule `placement` breaks; `path` is where it stands in the request, with its dot."""
    found: list[FieldViolation | None]
    if isinstance(placement, NamedDevice):
        found = [checks.device_id(f"{path}device_id", placement.device_id)]
    else:
        ids, kinds = f"{path}any.device_ids", f"{path}any.kinds"
        found = [
            checks.elements(ids, len(placement.device_ids), _IDS),
            checks.elements(kinds, len(placement.kinds), _KINDS),
        ]
        listed = placement.device_ids[: _IDS.max_elements]
        found += [checks.device_id(f"{ids}[{k}]", one) for k, one in enumerate(listed)]
    return (violation for violation in found if violation is not None)


class Placer:
    """Chooses devices for work when it is accepted, and anew where one goes out of use.

    Args:
        inventory: Knows the devices and their states.
        runs: Knows which models lie on them.
        sessions: Knows what waits for them and how long work took.
        tflops: A device's general speed as its self-test measured it; None when it did not.
    """

    def __init__(
        self,
        inventory: DeviceInventory,
        runs: DeviceRuns,
        sessions: Sessions,
        *,
        tflops: Callable[[str], float | None],
    ) -> None:
        self._inventory = inventory
        self._runs = runs
        self._sessions = sessions
        self._tflops = tflops
        self._loads = QueueLoads()
        runs.subscribe(lambda device_id, _: self._leave(device_id))
        inventory.subscribe(self._leave)
        sessions.waits_again = self._leave

    async def place(
        self, placement: Placement, effort: Effort, priority: Priority = Priority.NORMAL
    ) -> Placed:
        """The device for `effort`, chosen last of all: nothing is awaited after the choice.

        A named device is taken as it is. Of several, those that cannot be used are left out;
        where none is ready, one that starts or is being replaced is waited for.

        Raises:
            DeviceNotFound: The named or the configured default device is not there.
            NoDeviceMatches: There is none of those it may be.
            NoDeviceReady: They are there, and none can be used.
            DeviceUnavailable: The named device is lost or cannot be used on this machine.
            DiscoveryIncomplete: It may still be found.
        """
        if isinstance(placement, NamedDevice):
            device = await self._inventory.resolve(placement.device_id)
            [report] = self._reports(device.device_id)
            expected = self._candidate(report, effort, priority).seconds
            return Placed(PlacementDecision.named(device.device_id, expected), effort)
        reports = await self._inventory.matching(placement)
        working = [report for report in reports if report.state in _WORKING]
        if not working:
            raise NoDeviceReady(
                {r.device.device_id: sentence(r.explanation) for r in reports},
                quarantined=any(r.state is DeviceState.QUARANTINED for r in reports),
            )
        decision = choose([self._candidate(report, effort, priority) for report in working])
        return Placed(decision, effort, partial(self._again, placement, effort, priority))

    def _again(
        self, choice: DeviceChoice, effort: Effort, priority: Priority
    ) -> PlacementDecision | None:
        """The device for work that waits, as things are now; None when none is ready."""
        ready = [
            self._candidate(report, effort, priority)
            for report in self._inventory.selected(choice)
            if report.state is DeviceState.READY
        ]
        return choose(ready) if ready else None

    def _leave(self, device_id: str = "") -> None:
        """Place anew what waits for this device, or for any, if it is out of use now."""
        for report in self._reports(device_id):
            if report.state not in _WORKING:
                self._sessions.move_waiting(report.device.device_id)

    def _reports(self, device_id: str = "") -> list[DeviceReport]:
        return [
            report
            for report in self._inventory.reports()
            if device_id in ("", report.device.device_id)
        ]

    def _candidate(self, report: DeviceReport, effort: Effort, priority: Priority) -> Candidate:
        device_id = report.device.device_id
        queue = self._sessions.queue(device_id)
        work = self._work_seconds(device_id, effort)
        seconds = partial(self._queue_seconds, device_id, work)
        before = self._loads.of(queue, priority, work, seconds)
        held = {before.model_id} if before.model_id else self._held(device_id)
        loaded = effort.model_id in held
        load = self._sessions.speeds.load_seconds(device_id, effort.model_id)
        return Candidate(
            device_id,
            last_choice=report.device.traits.last_choice,
            is_default=report.is_default,
            ready=report.state is DeviceState.READY,
            full=queue.full,
            loaded=loaded,
            sessions=before.sessions,
            queue_seconds=before.seconds,
            load_seconds=0.0 if loaded else load,
            work_seconds=work,
            tflops=self._tflops(device_id),
        )

    def _held(self, device_id: str) -> set[str]:
        """Models that lie on the device."""
        figures = self._runs.figures(device_id)
        return set() if figures is None else {part.model_id for part in figures.models}

    def _queue_seconds(
        self, device_id: str, own: float | None, before: Sequence[Session]
    ) -> float | None:
        """When the sessions before it are done; an unmeasured one takes as long as the work."""
        total, held = 0.0, self._held(device_id)
        for session in before:
            takes = own
            if session.effort is not None:
                measured = self._work_seconds(device_id, session.effort)
                takes = own if measured is None else measured
            if takes is None:
                return None
            if session.model_id and session.model_id not in held:
                load = self._sessions.speeds.load_seconds(device_id, session.model_id)
                takes += load or 0.0
                held = {session.model_id}
            total += takes * (1.0 - session.progress)
        return total

    def _work_seconds(self, device_id: str, effort: Effort) -> float | None:
        """As measured there, or else on another device, by what both can do in general."""
        speeds = self._sessions.speeds
        measured = speeds.work_seconds(device_id, effort)
        here = self._tflops(device_id)
        if measured is not None or not here:
            return measured
        for other in self._inventory.devices:
            takes = speeds.work_seconds(other.device_id, effort)
            there = None if takes is None else self._tflops(other.device_id)
            if takes is not None and there:
                return takes * there / here
        return None
