"""Smaller copies of models: numbers of another type, without what only training needs."""

from __future__ import annotations

from functools import partial

from domains.errors import FeatureNotBuilt
from domains.model.core.copies import Copies, check_copy, check_data_type
from domains.model.errors import InvalidTask
from domains.model.views import ModelOptimization, OptimizationRequest
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.types import Outcome


class Optimizing:
    """Makes smaller copies.

    Args:
        copies: Makes the result.
    """

    def __init__(self, copies: Copies) -> None:
        self._copies = copies

    def optimize(self, request: OptimizationRequest) -> SessionRequest:
        """The work as a session, which reports a `ModelOptimization`.

        Preparing it raises:
            InvalidTask: The request breaks rules.
            FeatureNotBuilt: It wants both measured.
            DomainError: What `Copies.source` raises.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(request.options, request.digest, prepare)

    async def _prepare(self, request: OptimizationRequest) -> SessionPlan:
        check_copy(request.model_id, request.target_model_id, request.options)
        InvalidTask.check(
            check_data_type("data_type", request.data_type),
            check_data_type("vae_data_type", request.vae_data_type),
        )
        if request.measured:
            raise FeatureNotBuilt(("placement",))
        model = await self._copies.source(request.model_id, request.target_model_id)
        return self._copies.plan(model, partial(self._optimize, request))

    async def _optimize(self, request: OptimizationRequest, session: Session) -> Outcome:
        model = await self._copies.source(request.model_id, request.target_model_id)
        copy, report = await self._copies.make(
            session,
            model,
            request.target_model_id,
            data_type=request.data_type,
            vae_data_type=request.vae_data_type,
            prune=request.prune,
            spare_vae=True,
        )
        before, after = model.size_bytes, copy.size_bytes
        return Outcome(report=ModelOptimization(copy, before, after, report.tensors_pruned))
