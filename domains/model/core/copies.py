"""Copies of models: written hidden by an inspector, in the catalogue once they are whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from domains import checks
from domains.errors import FieldViolation, Reason
from domains.finishing import finished, unstoppable
from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.naming import check_new_id
from domains.model.errors import InvalidTask, NameTaken, PicklesNotConverted
from domains.model.jobs import ConversionReport, ConvertJob
from domains.model.ports import NewModel, NewModels
from domains.model.types import Model, ModelFormat
from domains.session.core.jobs import run_job
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, Work
from domains.session.core.session import Session
from domains.session.jobs import JobRunner
from domains.session.types import Phase, SessionKind, WorkOptions
from domains.values import TensorDataType

QUEUE = "model copies"
_DATA_TYPES = (TensorDataType.FLOAT32, TensorDataType.FLOAT16, TensorDataType.BFLOAT16)


class Copies:
    """Makes copies one after another, beside what devices do.

    Args:
        catalogue: Finds the model a request names, and lists the copy.
        inspectors: Read the one and write the other.
        new_models: Where the copy lies until it is whole.
        id_of: The id of a model that is called so, where it is the only one.
        pickles: Whether pickles are looked into.
    """

    def __init__(
        self,
        catalogue: ModelCatalogue,
        inspectors: JobRunner,
        new_models: NewModels,
        *,
        id_of: Callable[[str], str],
        pickles: bool,
    ) -> None:
        self._catalogue = catalogue
        self._inspectors = inspectors
        self._new_models = new_models
        self._id_of = id_of
        self._pickles = pickles

    async def source(self, model_id: str, target_model_id: str) -> Model:
        """The model to copy, once the copy's id is known to be free.

        Raises:
            InvalidTask: The copy would get another id.
            ModelNotFound: There is no such model.
            NameTaken: There is one of the target's id.
            PicklesNotConverted: It is a pickle, and the operator wants none opened.
        """
        InvalidTask.check(check_new_id("target_model_id", target_model_id, self._id_of))
        model = await self._catalogue.get(model_id)
        if model.format is ModelFormat.PICKLE and not self._pickles:
            raise PicklesNotConverted
        await self._catalogue.check_free(target_model_id)
        return model

    def plan(self, model: Model, work: Work) -> SessionPlan:
        """The session that makes a copy of a model."""
        return SessionPlan(
            kind=SessionKind.MODEL_TASK,
            device_id="",
            model_id=model.model_id,
            expected_phases=(Phase.QUEUED, Phase.READING, Phase.WRITING, Phase.VERIFYING),
            work=work,
            queue=QUEUE,
        )

    async def make(
        self,
        session: Session,
        model: Model,
        target_model_id: str,
        *,
        data_type: TensorDataType | None = None,
        vae_data_type: TensorDataType | None = None,
        prune: bool = False,
        spare_vae: bool = False,
        rearrange: bool = False,
    ) -> tuple[Model, ConversionReport]:
        """Write a copy; when this raises or is cancelled nothing of it stays.

        Raises:
            DomainError: What `run_job` raises for a `ConvertJob`; NameTaken.
        """
        folder = (model.format is ModelFormat.DIFFUSERS_FOLDER) is not rearrange
        name = target_model_id if folder else f"{target_model_id}.safetensors"
        new = await asyncio.to_thread(self._new_models.begin, model.place.root)
        try:
            job = ConvertJob(
                model.model_id,
                model.place,
                # In a folder of its own name, it is one whatever its parts are called.
                new.folder / name if folder else new.folder,
                name,
                data_type=data_type,
                vae_data_type=vae_data_type,
                prune=prune,
                spare_vae=spare_vae,
                rearrange=rearrange,
            )
            report = await run_job(self._inspectors, session, job)
            # From here on it is there: a cancel that comes now comes too late.
            return await unstoppable(self._arrive(new, name, target_model_id)), report
        finally:
            await finished(asyncio.to_thread(new.discard))

    async def _arrive(self, new: NewModel, name: str, model_id: str) -> Model:
        try:
            await asyncio.to_thread(new.publish, name)
        except NameTaken:
            raise NameTaken(model_id) from None
        return await self._catalogue.arrived(model_id)


def check_copy(model_id: str, target_model_id: str, options: WorkOptions) -> None:
    """The rules of every request for a copy.

    Raises:
        InvalidTask: It breaks some.
    """
    InvalidTask.check(
        checks.required("model_id", model_id),
        checks.required("target_model_id", target_model_id)
        or checks.name("target_model_id", target_model_id),
        *check_options(options, "options"),
    )


def check_data_type(path: str, data_type: TensorDataType | None) -> FieldViolation | None:
    """Weights are written in a type that models are computed in."""
    if data_type in (None, *_DATA_TYPES):
        return None
    return FieldViolation(
        path, Reason.ENUM_VALUE_UNKNOWN, "Must be FLOAT32, FLOAT16 or BFLOAT16."
    )
