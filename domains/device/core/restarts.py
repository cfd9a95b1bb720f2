"""Replacing a device's worker on request."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from domains.device.core.inventory import DeviceInventory
from domains.device.core.reporting import sentence
from domains.device.errors import DeviceUnavailable, InvalidTask
from domains.device.ports import DeviceRuns, Workers
from domains.device.types import DeviceState, WorkerStatus
from domains.session.core.options import check_options
from domains.session.core.session import Session
from domains.session.core.sessions import SessionPlan
from domains.session.core.tasks import Tasks
from domains.session.types import (
    Phase,
    PhaseStarted,
    SessionEvent,
    SessionKind,
    SessionOptions,
)


@dataclass(frozen=True)
class RestartRequest:
    """Replace a device's worker, with `force` at once; `digest` stands for the request."""

    device_id: str
    force: bool
    options: SessionOptions
    digest: bytes


class Restarts:
    """Replaces workers, each as a session that waits behind no other work of its device.

    Args:
        inventory: Finds the device a request names.
        tasks: Runs the restart as a session.
        runs: Replaces workers and says when their state changes.
        workers: Tell whether there is one to replace.
    """

    def __init__(
        self, inventory: DeviceInventory, tasks: Tasks, runs: DeviceRuns, workers: Workers
    ) -> None:
        self._inventory = inventory
        self._tasks = tasks
        self._runs = runs
        self._workers = workers

    async def restart(self, request: RestartRequest) -> AsyncGenerator[SessionEvent]:
        """Start the restart, or find the one its request_id started; follow it.

        Yields the session's events; then raises what a failed or cancelled session ended
        with. A quarantine is lifted. Without `force` what runs ends first; a cancelled
        restart then lets the worker live.

        Raises:
            InvalidTask: The options break rules.
            DeviceNotFound: There is none of that name.
            DeviceUnavailable: It has no worker.
            DomainError: The queue is full, the session failed or was cancelled.
        """
        InvalidTask.check(*check_options(request.options, "options"))
        events = self._tasks.once(request.options, request.digest, lambda: self._begin(request))
        async with aclosing(events) as following:
            async for event in following:
                yield event

    async def _begin(self, request: RestartRequest) -> AsyncGenerator[SessionEvent]:
        report = await self._inventory.get(request.device_id)
        device_id = report.device.device_id
        if self._workers.status(device_id).state is DeviceState.UNAVAILABLE:
            raise DeviceUnavailable(device_id, sentence(report.explanation))
        plan = SessionPlan(
            kind=SessionKind.DEVICE_TASK,
            options=request.options,
            digest=request.digest,
            device_id=device_id,
            model_id="",
            expected_phases=(Phase.QUEUED, Phase.DRAINING, Phase.STARTING_WORKER),
            queue=f"{device_id} restarts",
        )

        async def run(session: Session) -> None:
            await self._run(session, request.force)

        return self._tasks.run(plan, run)

    async def _run(self, session: Session, force: bool) -> None:
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
