"""Whether a disk has room for what is to be written."""

from __future__ import annotations

import shutil
from pathlib import Path

from domains.errors import Reason, ResourceExhausted

# Room that is left for the journal, logs and other programs.
_LEAST_FREE_BYTES = 1 << 28


def check_room(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk has no room for.

    Raises:
        ResourceExhausted: DISK_FULL.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + _LEAST_FREE_BYTES:
        raise ResourceExhausted(
            f"The result needs {needed} bytes and the disk has {free}; free some space, or "
            "choose a smaller data type.",
            reason=Reason.DISK_FULL,
            metadata={"needed_bytes": str(needed), "free_bytes": str(free)},
        )
