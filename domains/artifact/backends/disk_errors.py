"""What the disk says, in the domain's words."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from domains.artifact.errors import DiskFull, StorageUnavailable
from domains.errors import Reason
from domains.shortages import shortage_of

_log = logging.getLogger("deviceops.artifacts")


@contextlib.contextmanager
def typed() -> Iterator[None]:
    """Say what went wrong with the folder in the domain's words, and in the log why."""
    try:
        yield
    except OSError as error:
        shortage = shortage_of(error)
        if shortage is not None:
            raise (DiskFull() if shortage.reason is Reason.DISK_FULL else shortage) from error
        _log.error("the artifact folder cannot be used: %s", error)
        raise StorageUnavailable from error
