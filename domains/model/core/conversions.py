"""Writing models anew: as safetensors, with numbers of another type."""

from __future__ import annotations

from functools import partial

from domains.errors import FeatureNotBuilt
from domains.model.core.copies import Copies, check_copy, check_data_type
from domains.model.errors import InvalidTask
from domains.model.types import Model, ModelFormat
from domains.model.views import ConversionRequest
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.types import Outcome


class Conversions:
    """Converts models.

    Args:
        copies: Makes the result.
    """

    def __init__(self, copies: Copies) -> None:
        self._copies = copies

    def convert(self, request: ConversionRequest) -> SessionRequest:
        """The conversion as a session, which reports the new `Model`.

        Preparing it raises:
            InvalidTask: The request breaks rules.
            FeatureNotBuilt: A folder would have to become a file, or a file a folder.
            DomainError: What `Copies.source` raises.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(request.options, request.digest, prepare)

    async def _prepare(self, request: ConversionRequest) -> SessionPlan:
        check_copy(request.model_id, request.target_model_id, request.options)
        InvalidTask.check(check_data_type("data_type", request.data_type))
        model = await self._copies.source(request.model_id, request.target_model_id)
        if request.format is not _result_of(model):
            raise FeatureNotBuilt(("format",))
        return self._copies.plan(model, partial(self._convert, request))

    async def _convert(self, request: ConversionRequest, session: Session) -> Outcome:
        model = await self._copies.source(request.model_id, request.target_model_id)
        copy, _ = await self._copies.make(
            session, model, request.target_model_id, data_type=request.data_type
        )
        return Outcome(report=copy)


def _result_of(model: Model) -> ModelFormat:
    """What a copy of it is."""
    if model.format is ModelFormat.DIFFUSERS_FOLDER:
        return ModelFormat.DIFFUSERS_FOLDER
    return ModelFormat.SAFETENSORS
