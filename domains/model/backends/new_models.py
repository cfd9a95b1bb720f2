"""Models that are being written: hidden in a root until they are whole."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from domains.model.backends.diffusers_folder import INDEX_FILE
from domains.model.errors import NameTaken, NoWritableRoot
from domains.whole_files import sync_folder

_PREFIX = ".new-"  # what begins with a dot is in no catalogue
_ABANDONED_SECONDS = 86_400.0
_PUBLISHING = threading.Lock()

_log = logging.getLogger("deviceops.models")


class NewModel:
    """See the port.

    Args:
        root: Where the model will lie.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.folder = root / f"{_PREFIX}{uuid.uuid4()}"
        self.folder.mkdir(mode=0o755)

    def publish(self, name: str) -> None:
        """See the port."""
        target = self._root / name
        # No other program is expected to write here.
        with _PUBLISHING:
            if os.path.lexists(target):
                raise NameTaken(name)
            written = self.folder / name
            os.rename(written if os.path.lexists(written) else self.folder, target)
            sync_folder(self._root)

    def discard(self) -> None:
        """See the port."""
        shutil.rmtree(self.folder, ignore_errors=True)


class NewModels:
    """See the port.

    Args:
        roots: Folders of models, the first has precedence.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)

    def sweep(self) -> None:
        """Remove what was left half written long ago: other servers may write there too."""
        long_ago = time.time() - _ABANDONED_SECONDS
        for root in self._roots:
            with contextlib.suppress(OSError):
                for folder in root.glob(f"{_PREFIX}*"):
                    if folder.lstat().st_mtime > long_ago:
                        continue
                    _log.warning("removing a model that was never finished: %s", folder.name)
                    shutil.rmtree(folder, ignore_errors=True)

    def begin(self, near: Path | None = None) -> NewModel:
        """See the port."""
        nearest_first = sorted(self._roots, key=lambda one: one.resolve() != near)
        for root in nearest_first:
            # What lies in a model is of that one.
            own = os.path.lexists(root / INDEX_FILE)
            if not own and root.is_dir() and os.access(root, os.W_OK | os.X_OK):
                return NewModel(root)
        raise NoWritableRoot
