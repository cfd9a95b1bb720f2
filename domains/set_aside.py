"""What cannot be used is set aside, never deleted: renamed where it lies, and reported once."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path

_NAME = re.compile(r".+\.unusable-[0-9]+(-wal|-shm|-journal)?", re.DOTALL)
_log = logging.getLogger("deviceops.files")


def set_aside(path: Path, why: str) -> Path:
    """Rename a file, a folder, a link or whatever is there, and log it; returns where it is.

    Args:
        path: What is of no use.
        why: A clause for the log ("it is no folder").

    Raises:
        OSError: It cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.unusable-{time.time_ns()}")
    path.rename(aside)
    _log.warning("%s was set aside as %s: %s", path.name, aside.name, why)
    return aside


def is_aside(name: str) -> bool:
    """Whether something of this name was set aside."""
    return _NAME.fullmatch(name) is not None
