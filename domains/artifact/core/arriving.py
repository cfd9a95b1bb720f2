"""The file of an artifact that comes, before it is the store's."""

from __future__ import annotations

import contextlib
from pathlib import Path

from domains.artifact.errors import StorageUnavailable


def size_of(path: Path) -> int:
    """Its bytes.

    Raises:
        StorageUnavailable: It is not there any more.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise StorageUnavailable from error


def discard(path: Path) -> None:
    """Delete it, where it was not moved away."""
    with contextlib.suppress(OSError):
        path.unlink()
