"""What clients change of the catalogue: what is said of a model, which is the default, and
which are gone."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from pathlib import Path

from msgspec.structs import replace

from domains import checks
from domains.device.jobs import ReleaseJob
from domains.errors import DomainError, FieldViolation, Reason, Unavailable
from domains.limits import LIMITS
from domains.memory.ports import Leaving
from domains.model.core.cache import ModelCache
from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.contents import CatalogueContents
from domains.model.core.use import ModelUse
from domains.model.errors import InvalidUpdate, ModelChanged, ModelInUse, ReadOnlyModel
from domains.model.ports import Machine, ModelRemover, NoteKeeper
from domains.model.types import Model
from domains.model.views import UpdateRequest
from domains.session.jobs import JobRunner
from domains.shortages import shortage_of
from domains.values import EvictionCause, ModelPlace

FIELDS = ("name", "description", "tags", "trigger_words")
_RELEASE_SECONDS = 60.0


class Upkeep:
    """Changes models of the catalogue.

    Args:
        catalogue: Finds the model a request names.
        contents: The models.
        notes: Keeps what is said of them.
        remover: Deletes them.
        cache: The models in main memory.
        machine: The devices and what lies there.
        use: Knows who uses a model.
        pool: The devices' workers.
        leaving: Hears why a model leaves a device.
        read_only: Roots in which nothing is changed.
    """

    def __init__(
        self,
        catalogue: ModelCatalogue,
        contents: CatalogueContents,
        notes: NoteKeeper,
        remover: ModelRemover,
        cache: ModelCache,
        machine: Callable[[], Machine],
        use: ModelUse,
        pool: JobRunner,
        *,
        leaving: Leaving,
        read_only: Collection[Path] = (),
    ) -> None:
        self._catalogue = catalogue
        self._contents = contents
        self._notes = notes
        self._remover = remover
        self._cache = cache
        self._machine = machine
        self._use = use
        self._pool = pool
        self._leaving = leaving
        self._read_only = frozenset(read_only)
        self._changing = asyncio.Lock()
        self._removals: set[asyncio.Task[int]] = set()

    async def update(self, request: UpdateRequest) -> Model:
        """Have something else said of a model; it as it is then.

        Raises:
            InvalidUpdate: FIELDS_CONFLICT, REQUIRED_FIELD_MISSING, TEXT_TOO_LONG, TEXT_INVALID
                or TOO_MANY_ELEMENTS.
            ReadOnlyModel: Nothing may be written where it lies.
            Unavailable: It cannot be written for another reason.
            DomainError: What the catalogue raises for an id.
        """
        InvalidUpdate.check(*_broken(request))
        model = await self._catalogue.get(request.model_id, field="model.model_id")
        if model.read_only or model.entry is None:
            raise ReadOnlyModel(model.model_id)
        async with self._changing:
            try:
                before = await asyncio.to_thread(self._notes.read, model.entry)
                said = {field: getattr(request.notes, field) for field in request.fields}
                await asyncio.to_thread(self._notes.write, model.entry, replace(before, **said))
            except OSError as error:
                raise _not_done(model, "described anew", error) from error
        await self._contents.refresh()
        return await self._catalogue.get(model.model_id)

    async def choose_default(self, model_id: str) -> Model:
        """Have requests that name no model use this one.

        Raises:
            InvalidUpdate: REQUIRED_FIELD_MISSING.
            DomainError: What the catalogue's `resolve` raises; it cannot be kept.
        """
        InvalidUpdate.check(checks.required("model_id", model_id))
        model = await self._catalogue.resolve(model_id)
        self._contents.choose_default(model.model_id)
        return await self._catalogue.get(model.model_id)

    async def delete(self, model_id: str, expected_sha256: str = "") -> int:
        """Delete a model from memory and disk; the bytes that are free on disk then.

        From the first moment on there is no model of that id for new requests; where it
        cannot be deleted after all, it is there again.

        Raises:
            InvalidUpdate: REQUIRED_FIELD_MISSING, or no hash.
            ModelChanged: Its hash is another one, or is not known.
            ModelInUse: Sessions use it, wait to or are paused.
            ReadOnlyModel: Nothing may be deleted where it lies.
            Unavailable: It cannot be deleted for another reason.
            DomainError: What the catalogue raises for an id; a worker does not let it go.
        """
        sha256 = expected_sha256.lower()
        InvalidUpdate.check(
            checks.required("model_id", model_id),
            checks.sha256("expected_sha256", sha256) if sha256 else None,
        )
        model = await self._catalogue.get(model_id)
        if model.read_only or model.entry is None:
            raise ReadOnlyModel(model.model_id)
        if sha256 and sha256 != model.sha256:
            raise ModelChanged(model.model_id, model.sha256)
        self._check_unused(model)
        # Once begun it goes on, also for a caller that gives up: none of it is done by halves.
        removal = asyncio.create_task(self._remove(model, model.entry))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)
        return await asyncio.shield(removal)

    async def sweep(self) -> None:
        """Delete what is left of deletions that an earlier server broke off."""
        await self._contents.known()
        folders = [
            folder
            for root, below in self._contents.scan.folders.items()
            if root not in self._read_only
            for folder in below
        ]
        async with self._changing:
            await asyncio.to_thread(self._remover.sweep, folders)

    async def _remove(self, model: Model, entry: ModelPlace) -> int:
        with self._contents.withdrawn(model.model_id):
            await self._release(model)
            # Whoever had found it before it was withdrawn has opened a session by now.
            self._check_unused(model)
            try:
                async with self._changing:
                    return await asyncio.to_thread(self._remover.remove, entry)
            except OSError as error:
                raise _not_done(model, "deleted", error) from error
            finally:  # what broke off half-way may be gone all the same
                await self._contents.refresh()

    def _check_unused(self, model: Model) -> None:
        if users := self._use.open(model.model_id):
            raise ModelInUse(model.model_id, tuple(user.session_id for user in users))

    async def _release(self, model: Model) -> None:
        """Take it out of main memory and off every device."""
        await self._cache.evict(model.model_id)
        held = {
            one.device_id
            for one in self._machine().models.held()
            if one.component.model_id == model.model_id
        }
        for device_id in sorted(held):
            job, session_id = ReleaseJob((model.model_id,)), str(uuid.uuid4())
            events = self._pool.run(device_id, session_id, job, remaining=_RELEASE_SECONDS)
            with self._leaving(model.model_id, device_id, EvictionCause.REQUESTED):
                async with aclosing(events):
                    async for _ in events:
                        pass


def _broken(request: UpdateRequest) -> Sequence[FieldViolation | None]:
    notes, limits = request.notes, LIMITS
    unknown = [field for field in request.fields if field not in FIELDS]
    return (
        checks.required("model.model_id", request.model_id),
        checks.required("update_fields", request.fields),
        checks.elements(
            "update_fields", len(request.fields), limits["UpdateModelRequest.update_fields"]
        ),
        FieldViolation(
            "update_fields",
            Reason.FIELDS_CONFLICT,
            f"Must name fields among {', '.join(FIELDS)}.",
        )
        if unknown
        else None,
        checks.line("model.name", notes.name, limits["ModelInfo.name"]),
        checks.prose("model.description", notes.description, limits["ModelInfo.description"]),
        *checks.lines("model.tags", notes.tags, limits["ModelInfo.tags"]),
        *checks.lines(
            "model.trigger_words", notes.trigger_words, limits["ModelInfo.trigger_words"]
        ),
    )


def _not_done(model: Model, what: str, error: OSError) -> DomainError:
    return shortage_of(error) or Unavailable(
        f"Model {model.model_id!r} cannot be {what}: {error.strerror or 'the disk refuses'}.",
        reason=Reason.STORAGE_UNAVAILABLE,
        metadata={"model_id": model.model_id},
    )
