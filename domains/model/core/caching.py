"""Models brought into main memory on request, and let go."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from functools import partial

from domains import checks
from domains.limits import LIMITS
from domains.model.core.cache import ModelCache
from domains.model.core.catalogue import ModelCatalogue
from domains.model.errors import InvalidCacheRequest, ModelNotFound, ModelUnusable
from domains.model.types import CacheRequest, CacheStatus, Model
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
from domains.session.core.session import Session
from domains.session.types import Outcome, Phase, PhaseStarted, SessionKind
from domains.values import ModelPlace

_QUEUE = "model cache"


class Caching:
    """What clients may ask of the cache.

    Args:
        catalogue: Finds the model that a request names.
        cache: What is asked.
    """

    def __init__(self, catalogue: ModelCatalogue, cache: ModelCache) -> None:
        self._catalogue = catalogue
        self._cache = cache

    def cache(self, request: CacheRequest) -> SessionRequest:
        """Reading a model into main memory, as a session that reports the `Model`.

        Preparing it raises:
            InvalidCacheRequest: The content breaks rules.
            DomainError: The model cannot be used.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(
            request.options, request.digest, prepare, again=begun_anew(prepare)
        )

    async def _prepare(self, request: CacheRequest) -> SessionPlan:
        InvalidCacheRequest.check(
            checks.required("model_id", request.model_id),
            *check_options(request.options, "options"),
        )
        model = await self._catalogue.get(request.model_id)
        if model.problem is not None:
            raise ModelUnusable(model.model_id, model.problem)
        return SessionPlan(
            kind=SessionKind.MODEL_CACHE,
            device_id="",
            queue=_QUEUE,
            model_id=model.model_id,
            expected_phases=(Phase.QUEUED, Phase.READING),
            work=partial(self._read, model, request.pinned),
        )

    async def _read(self, model: Model, pinned: bool, session: Session) -> Outcome:
        clock = asyncio.get_running_loop()
        began = clock.time()
        session.record(PhaseStarted(Phase.READING))
        lease = await self._cache.lease(model.model_id, model.place, fill=True)
        assert lease is not None
        async with aclosing(lease):
            await lease.follow(session.record)
            self._cache.pin(model.model_id, pinned)
        return Outcome(timings={Phase.READING: clock.time() - began}, report=model)

    async def evict(self, model_id: str) -> int:
        """Let a model go; returns the bytes freed, 0 where it was not cached.

        Raises:
            InvalidCacheRequest: No model is named.
            ModelNotFound: There is no such model.
            CachedModelInUse: Work uses it.
        """
        InvalidCacheRequest.check(checks.required("model_id", model_id))
        freed = await self._cache.evict(model_id)
        if freed is None:
            await self._catalogue.get(model_id)
        return freed or 0

    async def set_budget(self, budget_bytes: int | None) -> CacheStatus:
        """Change the budget, None to the server's setting; the cache as it is then.

        Raises:
            InvalidCacheRequest: FIELD_OUT_OF_RANGE.
            BudgetTooSmall: What is pinned or in use is more.
        """
        limit = LIMITS["SetCacheBudgetRequest.budget_bytes"]
        if budget_bytes is not None:
            InvalidCacheRequest.check(checks.number("budget_bytes", budget_bytes, limit))
        await self._cache.set_budget(budget_bytes)
        return await self._cache.status()

    async def status(self) -> CacheStatus:
        """What the cache holds and how well it works."""
        return await self._cache.status()

    async def revise(self) -> None:
        """Let go what the catalogue does not have any more as it was read."""
        places: dict[str, ModelPlace] = {}
        for entry in self._cache.entries():
            with suppress(ModelNotFound):
                places[entry.model_id] = (await self._catalogue.get(entry.model_id)).place
        await self._cache.revise(places.get)
