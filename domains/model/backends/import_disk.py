"""The disk, as an import uses it."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO

from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.model_ids import fit
from domains.model.views import Scan
from domains.whole_files import sync_folder


class LocalDisk:
    """Implements `ImportDisk`."""

    def id_of(self, name: str) -> str:
        return fit(name)

    def free_bytes(self, folder: Path) -> int:
        return shutil.disk_usage(folder).free

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    def create(self, path: Path) -> BinaryIO:
        # Buffered: a bare file writes less than it is given where the disk fills up.
        return path.open("xb")

    def open_up(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.chmod(path.parent.stat().st_mode & 0o666)

    def settle(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())

    def sync(self, folder: Path) -> None:
        for path, _, _ in os.walk(folder):
            sync_folder(Path(path))

    def look(self, folder: Path) -> Scan:
        return DiskScanner([folder]).scan()
