"""When the roots are looked through: when something happens there, and now and then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from domains.model.core.contents import CatalogueContents
from domains.model.ports import FolderWatch

QUIET_SECONDS = 2.0
"""How long files must not have changed for before anything new is said of their model."""
_UNWATCHED_SECONDS = 10.0
_WATCHED_SECONDS = 60.0
"""Also where the system tells what happens: it may have lost something."""

_LOG = logging.getLogger(__name__)


class Looks:
    """Looks through the roots, one look after another.

    Args:
        contents: What is known of them.
        watch: Tells when something happens in their folders.
        quiet: See `CatalogueContents.look`.
    """

    def __init__(
        self, contents: CatalogueContents, watch: FolderWatch, *, quiet: float = QUIET_SECONDS
    ) -> None:
        self._contents = contents
        self._watch = watch
        self._quiet = quiet
        self._happened = asyncio.Event()
        self._looked = False
        self._said: dict[Path, str] = {}

    async def run(self) -> None:
        """Wait until there is a reason, and look. To be called again and again."""
        if self._looked:
            await self._reason()
        self._happened.clear()
        self._looked = True
        await self._contents.look(quiet=self._quiet)
        loop = asyncio.get_running_loop()

        def changed() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._happened.set)

        await asyncio.to_thread(self._watch.follow, self._contents.scan.folders, changed)
        self._log_unwatched()

    async def _reason(self) -> None:
        wait = _UNWATCHED_SECONDS if self._watch.unwatched() else _WATCHED_SECONDS
        if self._contents.scan.unsettled:
            wait = self._quiet
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._happened.wait()

    def _log_unwatched(self) -> None:
        unwatched = dict(self._watch.unwatched())
        for root, why in unwatched.items():
            if self._said.get(root) != why:
                _LOG.info(
                    "model folder %r is looked through every %.0f seconds: %s",
                    str(root),
                    _UNWATCHED_SECONDS,
                    why,
                )
        self._said = unwatched
