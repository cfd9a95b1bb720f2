"""Replacing a device's worker on request."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from domains.device.core.inventory import DeviceInventory
from domains.device.core.reporting import sentence
from domains.device.errors import DeviceUnavailable, InvalidTask
from domains.device.ports import DeviceRuns, Workers
from domains.device.types import DeviceState, WorkerStatus
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.types import Phase, PhaseStarted, SessionKind, WorkOptions


@dataclass(frozen=True)
class RestartRequest:
    """Replace a device's worker, with `force` at once; `digest` stands for the request."""

    device_id: str
    force: bool
    options: WorkOptions
    digest: bytes


class Restarts:
    """Replaces workers, each as a session that waits behind no other work of its device.

    Args:
        inventory: Finds the device a request names.
        runs: Replaces workers and reports changes of their state.
        workers: The state of workers.
    """

    def __init__(self, inventory: DeviceInventory, runs: DeviceRuns, workers: Workers) -> None:
        self._inventory = inventory
        self._runs = runs
        self._workers = workers

    def restart(self, request: RestartRequest) -> SessionRequest:
        """The restart as a session.

        A quarantine is lifted. Without `force` what runs ends first; a cancelled restart
        then lets the worker live.

        Preparing it raises:
            InvalidTask: The options break rules.
            DeviceNotFound: There is none of that name.
            DeviceUnavailable: It has no worker.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(request.options, request.digest, prepare)

    async def _prepare(self, request: RestartRequest) -> SessionPlan:
        InvalidTask.check(*check_options(request.options, "options"))
        report = await self._inventory.get(request.device_id)
        device_id = report.device.device_id
        if self._workers.status(device_id).state is DeviceState.UNAVAILABLE:
            raise DeviceUnavailable(device_id, sentence(report.explanation))
        return SessionPlan(
            kind=SessionKind.DEVICE_TASK,
            device_id=device_id,
            expected_phases=(Phase.QUEUED, Phase.DRAINING, Phase.STARTING_WORKER),
            work=partial(self._run, request.force),
            queue=f"{device_id} restarts",
        )

    async def _run(self, force: bool, session: Session) -> None:
        starting = PhaseStarted(Phase.STARTING_WORKER)

        def changed(device_id: str, status: WorkerStatus) -> None:
            if device_id == session.device_id and session.phase is not starting.phase:
                session.record(starting)

        ready = self._workers.status(session.device_id).state is DeviceState.READY
        session.record(PhaseStarted(Phase.DRAINING) if ready else starting)
        end = self._runs.subscribe(changed)
        try:
            await self._runs.restart(session.device_id, force)
        finally:
            end()
