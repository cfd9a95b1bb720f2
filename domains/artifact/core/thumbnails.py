"""Small pictures of artifacts: made once, and kept as long as the artifact is."""

from __future__ import annotations

import asyncio
import weakref

from domains import checks
from domains.artifact.core.store import ArtifactStore
from domains.artifact.errors import ArtifactNotFound
from domains.artifact.ports import Shrink, ThumbnailFiles
from domains.artifact.types import Thumbnail
from domains.clients import Caller
from domains.errors import InvalidArgument
from domains.limits import LIMITS, default_of


class Thumbnails:
    """Gives small pictures to those who may see the artifact.

    They are of the content: two clients that have the same bytes have the same ones. Whoever
    may not see the artifact is told so before anything is looked for.

    Args:
        store: The artifacts.
        files: Where small pictures lie.
        shrink: Makes them.
    """

    def __init__(self, store: ArtifactStore, files: ThumbnailFiles, shrink: Shrink) -> None:
        self._store, self._files, self._shrink = store, files, shrink
        self._making: weakref.WeakValueDictionary[tuple[str, int], asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    async def start(self) -> None:
        """Forget those of artifacts that are not there any more."""
        await asyncio.to_thread(self._files.sweep, self._store.artifact_ids)

    async def get(
        self, caller: Caller, artifact_id: str, edge_pixels: int | None = None
    ) -> Thumbnail:
        """The small picture whose longer edge is that long; None means the default.

        Raises:
            ArtifactNotFound: There is none of that id that the caller may see.
            InvalidArgument: FIELD_OUT_OF_RANGE, or NAME_INVALID: the id cannot be one.
            DomainError: What making it raises.
        """
        usual = int(default_of("GetThumbnailRequest.edge_pixels"))
        edge = usual if edge_pixels is None else edge_pixels
        limit = LIMITS["GetThumbnailRequest.edge_pixels"]
        InvalidArgument.check(checks.number("edge_pixels", edge, limit))
        await self._store.look(caller, artifact_id)
        found = await asyncio.to_thread(self._files.read, artifact_id, edge)
        if found is not None:
            return found
        turn = self._making.setdefault((artifact_id, edge), asyncio.Lock())
        async with turn:
            found = await asyncio.to_thread(self._files.read, artifact_id, edge)
            return found or await self._made(caller, artifact_id, edge)

    async def _made(self, caller: Caller, artifact_id: str, edge: int) -> Thumbnail:
        made = await self._shrink(artifact_id, edge)
        await asyncio.to_thread(self._files.keep, artifact_id, edge, made)
        try:
            self._store.get(caller, artifact_id)
        except ArtifactNotFound:  # deleted meanwhile, perhaps before this was kept
            if artifact_id not in self._store.artifact_ids:
                await asyncio.to_thread(self._files.remove, artifact_id)
            raise
        return made
