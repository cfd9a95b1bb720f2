"""Jobs that work with a model, given what main memory has of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from domains.errors import Cancelled, DeadlineExceeded, DomainError
from domains.model.core.cache import ModelCache
from domains.model.core.cache_lease import CacheLease
from domains.model.jobs import LoadReport
from domains.session.jobs import Job, JobEvent, PausingRunner, Report, WorkPaused
from domains.session.types import Phase, PhaseStarted, TransferProgress
from domains.values import ModelOrigin, ModelPlace

_log = logging.getLogger("deviceops.models")
_END = object()
Item = TypeVar("Item")
_Steps = AsyncGenerator[PhaseStarted | TransferProgress]


class CachedRuns:
    """Runs jobs as the workers do, see the port `ModelRunner`; models come out of the cache.

    While a job runs, the models at its `places` stay there. One that the device does
    not hold yet is read into main memory first, in several threads, where the device has a
    memory of its own: from there a copy is fast, and the next load reads nothing. Nothing
    depends on it: what has no room or cannot be read is the worker's to read, or to refuse.

    Args:
        runs: The workers.
        cache: Where models are kept.
        holds: Whether a device's worker holds a model, as far as is known; a wrong answer
            costs time only.
        wants: Whether models for a device are to be read into main memory first.
        size_of: Bytes of a model's weights.
    """

    def __init__(
        self,
        runs: PausingRunner,
        cache: ModelCache,
        *,
        holds: Callable[[str, str], bool],
        wants: Callable[[str], bool],
        size_of: Callable[[str], int],
    ) -> None:
        self._runs = runs
        self._cache = cache
        self._holds = holds
        self._wants = wants
        self._size_of = size_of
        self._stops: dict[tuple[str, str], asyncio.Future[Exception]] = {}

    def loading(self, device_id: str, *model_ids: str) -> tuple[Phase, ...]:
        """The phases in which models come onto a device, as things are now."""
        reads = any(
            self._fills(device_id, model_id)
            and self._cache.would_read(model_id, self._size_of(model_id))
            for model_id in model_ids
        )
        return (*((Phase.READING,) if reads else ()), Phase.LOADING_MODEL)

    async def run(
        self, device_id: str, session_id: str, job: Job[Report], *, remaining: float
    ) -> AsyncGenerator[JobEvent | Report]:
        """Do `job` on a device's worker, its model read into main memory where that helps."""
        clock = asyncio.get_running_loop()
        until = clock.time() + remaining
        key = (device_id, session_id)
        leases: dict[str, CacheLease] = {}
        self._stops[key] = stop = clock.create_future()
        try:
            prepared = self._prepared(device_id, job, leases)
            async with aclosing(_raced(prepared, stop, until)) as steps:
                async for step in steps:
                    yield step
            if leases:
                found = {model_id: lease.cached for model_id, lease in leases.items()}
                job = job.with_cached(found)
            del self._stops[key]
            left = until - clock.time()
            events: AsyncGenerator[Any] = self._runs.run(
                device_id, session_id, job, remaining=left
            )
            async with aclosing(events):
                async for event in events:
                    self._count(job, event)
                    yield event
        finally:
            self._stops.pop(key, None)
            for lease in leases.values():
                lease.end()

    def cancel(self, device_id: str, session_id: str) -> None:
        """Ask a job to stop, also while its model is being read."""
        stop = self._stops.get((device_id, session_id))
        if stop is None:
            self._runs.cancel(device_id, session_id)
        elif not stop.done():
            stop.set_result(Cancelled("The work was stopped on request."))

    def pause(self, device_id: str, session_id: str) -> None:
        """Ask a job to pause, also while its model is being read."""
        stop = self._stops.get((device_id, session_id))
        if stop is None:
            self._runs.pause(device_id, session_id)
        elif not stop.done():
            stop.set_result(WorkPaused())

    def _fills(self, device_id: str, model_id: str) -> bool:
        return self._wants(device_id) and not self._holds(device_id, model_id)

    async def _prepared(
        self, device_id: str, job: Job[Any], leases: dict[str, CacheLease]
    ) -> _Steps:
        """Reading a job's models one after another. Each is in `leases` as soon as it is held:
        whoever runs the job ends them, wherever that is broken off."""
        began = False
        for model_id, place in job.places.items():
            async with aclosing(self._read(device_id, model_id, place, leases)) as steps:
                async for progress in steps:
                    if not began:
                        began = True
                        yield PhaseStarted(Phase.READING)
                    yield progress

    async def _read(
        self, device_id: str, model_id: str, place: ModelPlace, leases: dict[str, CacheLease]
    ) -> AsyncGenerator[TransferProgress]:
        fill = self._fills(device_id, model_id)
        try:
            lease = await self._cache.lease(model_id, place, fill=fill)
            if lease is None:
                return
            leases[model_id] = lease
            async with aclosing(lease.filled()) as steps:
                async for progress in steps:
                    yield progress
        except (DomainError, OSError) as error:
            _log.info("model %s is not loaded from main memory: %s", model_id, error)
            if model_id in leases:
                leases.pop(model_id).end()

    def _count(self, job: Job[Any], event: object) -> None:
        """Note what a report says of the cache."""
        if isinstance(event, LoadReport) and event.lock_problem is not None:
            self._cache.note_page_lock(event.lock_problem)
        origin = getattr(event, "origin", None)
        if job.model is not None and origin in (ModelOrigin.CACHED, ModelOrigin.DISK):
            cached = origin is ModelOrigin.CACHED
            self._cache.count_load(job.model.model_id, cached=cached)


async def _raced(
    steps: AsyncGenerator[Item], stop: asyncio.Future[Exception], until: float
) -> AsyncGenerator[Item]:
    """The steps, until somebody stops them or their time is over.

    Raises:
        Exception: What `stop` was set to.
        DeadlineExceeded: It is later than `until`, on the loop's clock.
    """
    clock = asyncio.get_running_loop()
    async with aclosing(steps):
        while True:
            step: asyncio.Future[Item | object] = asyncio.ensure_future(anext(steps, _END))
            try:
                left = max(0.0, until - clock.time())
                both: set[asyncio.Future[Any]] = {step, stop}
                await asyncio.wait(both, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if stop.done():
                    raise stop.result()
                if not step.done():
                    raise DeadlineExceeded("The time given to this work is over.")
            finally:
                if not step.done():
                    step.cancel()
                    with suppress(asyncio.CancelledError):
                        await step
            item = step.result()
            if item is _END:
                return
            yield item  # type: ignore[misc]
