"""Jobs that work with a model, given what main memory has of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from msgspec import structs

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
_Steps = AsyncGenerator[PhaseStarted | TransferProgress | CacheLease]


class CachedRuns:
    """Runs jobs as the workers do, see the port `ModelRunner`; models come out of the cache.

    While a job that has a field `cached` runs, its model stays there. One that the device does
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

    def loading(self, device_id: str, model_id: str) -> tuple[Phase, ...]:
        """The phases in which a model comes onto a device, as things are now."""
        reads = self._fills(device_id, model_id) and self._cache.would_read(
            model_id, self._size_of(model_id)
        )
        return (*((Phase.READING,) if reads else ()), Phase.LOADING_MODEL)

    async def run(
        self, device_id: str, session_id: str, job: Job[Report], *, remaining: float
    ) -> AsyncGenerator[JobEvent | Report]:
        """Do `job` on a device's worker, its model read into main memory where that helps."""
        clock = asyncio.get_running_loop()
        until = clock.time() + remaining
        key, lease = (device_id, session_id), None
        self._stops[key] = stop = clock.create_future()
        try:
            async with aclosing(_raced(self._prepared(device_id, job), stop, until)) as steps:
                async for step in steps:
                    if isinstance(step, CacheLease):
                        lease = step
                        job = structs.replace(job, cached=lease.cached)
                    else:
                        yield step
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
            if lease is not None:
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

    async def _prepared(self, device_id: str, job: Job[Any]) -> _Steps:
        """Reading a job's model, and at last a lease of it; nothing where there is none."""
        model, place = job.model, getattr(job, "place", None)
        if model is None or not isinstance(place, ModelPlace) or not hasattr(job, "cached"):
            return
        fill = self._fills(device_id, model.model_id)
        lease = None
        try:
            lease = await self._cache.lease(model.model_id, place, fill=fill)
            if lease is None:
                return
            async with aclosing(lease.filled()) as steps:
                began = False
                async for progress in steps:
                    if not began:
                        began = True
                        yield PhaseStarted(Phase.READING)
                    yield progress
        except (DomainError, OSError) as error:
            _log.info("model %s is not loaded from main memory: %s", model.model_id, error)
            if lease is not None:
                lease.end()
            return
        except BaseException:
            if lease is not None:
                lease.end()
            raise
        yield lease

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
