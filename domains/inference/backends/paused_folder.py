"""Where unfinished pictures of paused generations lie; nothing of them outlives the server."""

from __future__ import annotations

import contextlib
import logging
import re
import uuid
from pathlib import Path

from domains.private_folders import empty, prepare

# Beside them what a crash may have left of writing one.
_NAME = re.compile(r"[0-9a-f]{32}\.paused(\.\w{8}\.part)?\Z")
_log = logging.getLogger("deviceops.files")


class PausedFolder:
    """Implements `PausedFiles`.

    Args:
        folder: Belongs to this server alone; workers make it when they write there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sweep(self) -> None:
        try:
            prepare(self._folder)
            empty(self._folder, _NAME)
        except OSError as error:
            _log.warning("the folder of paused work could not be swept: %s", error)

    def new(self) -> Path:
        return self._folder / f"{uuid.uuid4().hex}.paused"

    def remove(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink()
