"""Bringing models in: artifacts that become a model of the catalogue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

from domains.artifact.core import ArtifactStore
from domains.artifact.types import Artifact
from domains.clients import Caller
from domains.errors import Reason
from domains.finishing import finished, unstoppable
from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.import_rules import check_import, is_folder, published_name
from domains.model.core.naming import check_new_id
from domains.model.errors import (
    ImportTooLarge,
    InvalidTask,
    ModelUnusable,
    NameTaken,
    NoModelInFiles,
)
from domains.model.ports import ImportDisk, NewModel, NewModels
from domains.model.types import ImportRequest, Model, ModelFormat
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.types import Outcome, Phase, PhaseStarted, SessionKind, TransferProgress

_QUEUE = "model imports"
_TOLD_EVERY_BYTES = 32 << 20
# Faults of this version, not of the files: they may lie in a root and wait for another.
_OF_THIS_VERSION = frozenset({Reason.MODEL_FORMAT_UNSUPPORTED, Reason.MODEL_INCOMPATIBLE})


class Imports:
    """Puts models into the catalogue one after another, beside what devices do.

    Args:
        catalogue: Lists them afterwards.
        artifacts: Has their files.
        new_models: Where a model lies until it is whole.
        disk: Writes it there and looks at it as the catalogue does.
        pickles: Whether pickles are taken.
    """

    def __init__(
        self,
        catalogue: ModelCatalogue,
        artifacts: ArtifactStore,
        new_models: NewModels,
        disk: ImportDisk,
        *,
        pickles: bool,
    ) -> None:
        self._catalogue = catalogue
        self._artifacts = artifacts
        self._new_models = new_models
        self._disk = disk
        self._pickles = pickles

    def import_model(self, caller: Caller, request: ImportRequest) -> SessionRequest:
        """The import as a session, which reports the new `Model`.

        Preparing it raises:
            InvalidTask: The request breaks rules.
            PicklesNotTaken: It is a pickle, and none are taken.
            ArtifactNotFound: A file is no artifact that the caller may see.
            NameTaken: There is a model of that id.
        """

        async def prepare() -> SessionPlan:
            check_import(request, pickles=self._pickles)
            wrong = check_new_id("model_id", request.model_id, self._disk.id_of)
            InvalidTask.check(wrong)
            files = self._files(caller, request)
            await self._catalogue.check_free(request.model_id)
            return SessionPlan(
                kind=SessionKind.MODEL_IMPORT,
                device_id="",
                model_id=request.model_id,
                expected_phases=(Phase.QUEUED, Phase.COPYING, Phase.VERIFYING),
                work=partial(self._run, caller, request, files),
                queue=_QUEUE,
            )

        return SessionRequest(request.options, request.digest, prepare)

    def _files(self, caller: Caller, request: ImportRequest) -> Sequence[Artifact]:
        return [self._artifacts.get(caller, file.artifact_id) for file in request.files]

    async def _run(
        self,
        caller: Caller,
        request: ImportRequest,
        artifacts: Sequence[Artifact],
        session: Session,
    ) -> Outcome:
        await self._catalogue.check_free(request.model_id)
        new = await asyncio.to_thread(self._new_models.begin)
        try:
            await self._fill(session, caller, request, artifacts, new)
            session.record(PhaseStarted(Phase.VERIFYING))
            await asyncio.to_thread(self._check, request, new.folder)
            # From here on it is there: a cancel that comes now comes too late.
            model = await unstoppable(self._arrive(request, new))
        finally:
            await finished(asyncio.to_thread(new.discard))
        return Outcome(report=model)

    async def _fill(
        self,
        session: Session,
        caller: Caller,
        request: ImportRequest,
        artifacts: Sequence[Artifact],
        new: NewModel,
    ) -> None:
        """Lay the files into the new model's folder, and have them on the disk."""
        session.record(PhaseStarted(Phase.COPYING))
        base = new.folder / request.model_id if is_folder(request) else new.folder
        done, total = 0, sum(artifact.size_bytes for artifact in artifacts)
        for file, artifact in zip(request.files, artifacts, strict=True):
            item = file.relative_path
            target = base / (item if is_folder(request) else published_name(request))
            await asyncio.to_thread(self._disk.make_folder, target.parent)
            if await self._artifacts.link(caller, artifact.artifact_id, target):
                await asyncio.to_thread(self._disk.open_up, target)  # artifacts are private
            else:
                free = await asyncio.to_thread(self._disk.free_bytes, new.folder)
                if free < total - done:
                    raise ImportTooLarge(total - done, free)

                def tell(copied: int, item: str = item, done: int = done) -> None:
                    session.record(TransferProgress(item, done + copied, total))

                await self._copy(caller, artifact.artifact_id, target, tell)
            done += artifact.size_bytes
            session.record(TransferProgress(item, done, total))
        await asyncio.to_thread(self._disk.sync, new.folder)

    async def _copy(
        self, caller: Caller, artifact_id: str, target: Path, tell: Callable[[int], None]
    ) -> None:
        file = await asyncio.to_thread(self._disk.create, target)
        try:
            copied = told = 0
            async with aclosing(self._artifacts.read(caller, artifact_id)) as chunks:
                async for data in chunks:
                    await asyncio.to_thread(file.write, data)
                    copied += len(data)
                    if copied - told >= _TOLD_EVERY_BYTES:
                        tell(copied)
                        told = copied
            await asyncio.to_thread(self._disk.settle, file)
        finally:
            await finished(asyncio.to_thread(file.close))

    def _check(self, request: ImportRequest, folder: Path) -> None:
        """Look at it as the catalogue will.

        Raises:
            NoModelInFiles: They are no model.
            ModelUnusable: They are one that is damaged, incomplete or dangerous.
        """
        scan = self._disk.look(folder)
        if len(scan.models) != 1:
            raise NoModelInFiles(scan.problems[0] if scan.problems else "")
        (model,) = scan.models
        if model.format is not request.format:
            raise NoModelInFiles(f"They are a {model.format.value}.")
        problem = model.problem
        if problem is None or (model.type is not None and problem.reason in _OF_THIS_VERSION):
            return
        pickle = request.format is ModelFormat.PICKLE
        if not (pickle and problem.reason is Reason.MODEL_UNSAFE_PICKLE):
            raise ModelUnusable(request.model_id, problem)

    async def _arrive(self, request: ImportRequest, new: NewModel) -> Model:
        try:
            await asyncio.to_thread(new.publish, published_name(request))
        except NameTaken:
            raise NameTaken(request.model_id) from None
        return await self._catalogue.arrived(request.model_id)
