"""Writing models anew: as safetensors, with numbers of another type, in the other layout."""

from __future__ import annotations

from functools import partial

from domains.errors import FieldViolation, Reason
from domains.model.core.copies import Copies, check_copy, check_data_type
from domains.model.errors import InvalidTask, LayoutFixed, ModelUnusable
from domains.model.types import Model, ModelFormat, ModelType
from domains.model.views import ConversionRequest
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
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
            LayoutFixed: A folder would have to become a file, or a file a folder, and it is no
                checkpoint.
            ModelUnusable: The same of a checkpoint with a problem.
            DomainError: What `Copies.source` raises.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(
            request.options, request.digest, prepare, again=begun_anew(prepare)
        )

    async def _prepare(self, request: ConversionRequest) -> SessionPlan:
        check_copy(request.model_id, request.target_model_id, request.options)
        InvalidTask.check(
            check_data_type("data_type", request.data_type), _check_format(request.format)
        )
        model = await self._copies.source(request.model_id, request.target_model_id)
        if _rearranges(request, model):
            _check_rearranged(model)
        return self._copies.plan(model, partial(self._convert, request))

    async def _convert(self, request: ConversionRequest, session: Session) -> Outcome:
        model = await self._copies.source(request.model_id, request.target_model_id)
        copy, _ = await self._copies.make(
            session,
            model,
            request.target_model_id,
            data_type=request.data_type,
            rearrange=_rearranges(request, model),
        )
        return Outcome(report=copy)


def _check_format(format: ModelFormat) -> FieldViolation | None:
    """Other formats are read at most, and never written."""
    if format in (ModelFormat.SAFETENSORS, ModelFormat.DIFFUSERS_FOLDER):
        return None
    return FieldViolation(
        "format", Reason.ENUM_VALUE_UNKNOWN, "Must be SAFETENSORS or DIFFUSERS_FOLDER."
    )


def _rearranges(request: ConversionRequest, model: Model) -> bool:
    """Whether the result is laid out otherwise than the model."""
    folder = ModelFormat.DIFFUSERS_FOLDER
    return (request.format is folder) is not (model.format is folder)


def _check_rearranged(model: Model) -> None:
    """Refuse early what has no other layout."""
    if model.format is ModelFormat.PICKLE:
        raise LayoutFixed(
            model.model_id, "is a pickle; make safetensors of it first, and a folder of that"
        )
    if model.problem is not None:
        raise ModelUnusable(model.model_id, model.problem)
    if model.type not in (ModelType.CHECKPOINT, ModelType.REFINER):
        kind = model.type.value if model.type else "model of unknown type"
        kept = model.format.value.replace("-", " ")
        raise LayoutFixed(
            model.model_id,
            f"is a {kind}, and only whole checkpoints have two layouts; ask for the format "
            f"that it has ({kept})",
        )
