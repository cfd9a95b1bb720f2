"""Computing the hashes of models in the background, with little of the machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from domains.errors import DomainError
from domains.model.core.contents import CatalogueContents
from domains.model.core.hashes import KnownHashes
from domains.model.ports import FileHasher
from domains.model.types import FileState, Model
from domains.model.views import ModelEvent, ModelEventKind

_LOG = logging.getLogger(__name__)
_BESIDE_WORK_SECONDS = 1.0
"""Pause after each piece of a file while sessions work: disk and processor are theirs."""
_RETRY_SECONDS = 600.0


class Hashing:
    """Computes what is not known, one file at a time, small models first.

    Args:
        contents: The models; told each hash.
        hashes: Those that are known.
        hasher: Reads files.
        working: Whether sessions work now.
    """

    def __init__(
        self,
        contents: CatalogueContents,
        hashes: KnownHashes,
        hasher: FileHasher,
        *,
        working: Callable[[], bool],
    ) -> None:
        self._contents = contents
        self._hashes = hashes
        self._hasher = hasher
        self._working = working
        self._news = asyncio.Event()
        self._failed: dict[str, tuple[FileState, ...]] = {}
        contents.changes.subscribe(self._changed)

    async def run(self) -> None:
        """Compute every hash that is missing; then wait for something new, some minutes at
        most, after which what could not be read is tried again."""
        self._news.clear()
        while missing := self._missing():
            for model in missing:
                await self._hash(model)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RETRY_SECONDS):
                await self._news.wait()
                return
        self._failed.clear()

    def _missing(self) -> list[Model]:
        found = [
            model
            for model in self._contents.now().values()
            if not model.sha256
            and model.weights
            and self._failed.get(model.model_id) != model.weights
        ]
        return sorted(found, key=lambda model: model.size_bytes)

    async def _hash(self, model: Model) -> None:
        """Tell a model's hash, unless it has gone or changed meanwhile."""
        for file in model.weights:
            now = self._contents.now().get(model.model_id)
            if now is None or now.weights != model.weights:
                return
            if self._hashes.of_file(model, file):
                continue
            if not await self._put(model, file, self._beside_work):
                # The next look tells what became of it.
                self._failed[model.model_id] = model.weights
                return
        self._contents.tell_hash(model.model_id)

    async def now(self, model: Model, stopped: Callable[[], bool]) -> str:
        """A model's hash, computed at once where it is not known: somebody waits for it. Empty
        where it cannot be, or once `stopped` says that nobody waits any more."""

        async def go_on() -> bool:
            return not stopped()

        for file in model.weights:
            known = self._hashes.of_file(model, file)
            if not (known or await self._put(model, file, go_on)):
                return ""
        return self._hashes.of(model)

    async def _beside_work(self) -> bool:
        if self._working():
            await asyncio.sleep(_BESIDE_WORK_SECONDS)
        return True

    async def _put(
        self, model: Model, file: FileState, go_on: Callable[[], Awaitable[bool]]
    ) -> bool:
        """Know the hash of a file; `go_on` is asked after each piece."""
        try:
            sha256 = await self._sha256(model, file, go_on)
        except (DomainError, OSError) as error:
            _LOG.info("no hash of model %r: %s", model.model_id, error)
            sha256 = ""
        if sha256:
            await asyncio.to_thread(self._hashes.put, model, file, sha256)
        return bool(sha256)

    async def _sha256(
        self, model: Model, file: FileState, go_on: Callable[[], Awaitable[bool]]
    ) -> str:
        reading = await asyncio.to_thread(self._hasher.open, model.place, file)
        try:
            while await asyncio.to_thread(reading.read_on):
                if not await go_on():
                    return ""
            return reading.sha256()
        finally:
            reading.close()

    def _changed(self, event: ModelEvent) -> None:
        if event.kind is ModelEventKind.REMOVED:
            self._hashes.forget(event.model)
            self._failed.pop(event.model.model_id, None)
        elif not event.model.sha256:
            self._news.set()
