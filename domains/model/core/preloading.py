"""The default model on the default device before anybody asks for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from domains.device.errors import DiscoveryIncomplete
from domains.device.types import Device
from domains.errors import DomainError, Reason
from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.estimates import Estimates
from domains.model.jobs import LoadJob
from domains.model.ports import Machine
from domains.model.types import Model
from domains.session.core.jobs import run_job
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.queue import DeviceQueue
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.jobs import ModelRunner
from domains.session.types import Outcome, Phase, Priority, SessionKind, WorkOptions

_log = logging.getLogger("deviceops.preload")
_WHY = "Its default model is being loaded."
_GAVE_WAY = "other work came for the device"


class Preload:
    """Loads the default model once, and draws a throw-away step with it.

    The device counts as starting meanwhile, so that work which may go elsewhere does; work
    that comes for it waits no longer than it would have: another model's ends the loading,
    and the default model's own ends the throw-away step.

    Args:
        catalogue: Knows the default model.
        machine: The devices and what lies there.
        estimates: Says whether it fits.
        sessions: Where work waits.
        runner: Runs it as sessions in the device's queue.
        pool: Does it on the device's worker.
    """

    def __init__(
        self,
        catalogue: ModelCatalogue,
        machine: Callable[[], Machine],
        estimates: Estimates,
        sessions: Sessions,
        runner: SessionRunner,
        pool: ModelRunner,
    ) -> None:
        self._catalogue = catalogue
        self._machine = machine
        self._estimates = estimates
        self._sessions = sessions
        self._runner = runner
        self._pool = pool
        self._done = False

    async def run(self) -> None:
        """Do it, if it was not done. A model that cannot be loaded is the log's matter."""
        if self._done:
            return
        machine = self._machine()
        try:
            device = await machine.devices.default()
            model = await self._catalogue.resolve("")
            with machine.devices.preparing(device.device_id, _WHY):
                await self._load(model, device, machine)
        except DiscoveryIncomplete:
            return  # devices are still looked for: the next round knows more
        except DomainError as error:
            _log.info("the default model is not loaded ahead: %s", error)
        self._done = True

    async def _load(self, model: Model, device: Device, machine: Machine) -> None:
        fit = await self._estimates.of(model, device, machine)
        if not fit.estimate.fits:
            _log.info("the default model is not loaded ahead: there is no room for it")
            return
        queue = self._sessions.queue(device.device_id)
        job = LoadJob(model.model_id, model.place)
        ended = await self._turn(job, queue, lambda one: one.model_id == model.model_id)
        if ended:
            warm = LoadJob(model.model_id, model.place, warm_up=True)
            await self._turn(warm, queue, lambda one: False)

    async def _turn(
        self, job: LoadJob, queue: DeviceQueue, may_wait: Callable[[Session], bool]
    ) -> bool:
        """Do a job in the device's queue; whether it came to its end.

        Args:
            job: What to do.
            queue: The device's.
            may_wait: Whether a session that waits there wants the same.
        """
        if queue.running is not None or queue.waiting():
            return False  # somebody came first, and is not to lose what was loaded for it
        own: list[Session] = []

        async def work(session: Session) -> Outcome:
            own.append(session)
            await run_job(self._pool, session, job)
            return Outcome()

        async def prepare() -> SessionPlan:
            measuring = (Phase.MEASURING,) if job.warm_up else ()
            return SessionPlan(
                kind=SessionKind.MODEL_LOAD,
                device_id=queue.device_id,
                model_id=job.model_id,
                expected_phases=(
                    Phase.QUEUED,
                    *self._pool.loading(queue.device_id, job.model_id),
                    *measuring,
                ),
                work=work,
            )

        async def give_way() -> None:
            while True:
                change = queue.submission()
                first = next((one for one in queue.waiting() if one not in own), None)
                if own and first is not None and not may_wait(first):
                    own[0].request_cancel(Reason.CANCELLED_BY_CLIENT, _GAVE_WAY)
                    return
                await change.wait()

        request = SessionRequest(WorkOptions(priority=Priority.LOW), b"", prepare)
        watching = asyncio.create_task(give_way())
        try:
            await _followed(self._runner.run(request))
        except DomainError as error:
            _log.info("the default model is not loaded ahead: %s", error)
            return False
        finally:
            watching.cancel()
        return True


async def _followed(events: AsyncGenerator[object]) -> None:
    async with aclosing(events):
        async for _ in events:
            pass
