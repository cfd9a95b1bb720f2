"""Keeping values beyond the server's life, as bytes by key."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Protocol

LARGEST_BYTES = 1 << 26
"""Of one record."""


class Records(Protocol):
    """Records of one kind. They are all read once, at the start."""

    def found(self) -> Mapping[str, bytes]:
        """What an earlier server kept, by key, in the order in which each first came; given out
        once."""
        ...

    async def accept(self, key: str, body: bytes) -> None:
        """Keep a record of something that is to be accepted: it is on disk when this returns.

        Raises:
            ResourceExhausted: DISK_FULL or another shortage: it is not kept.
            Unavailable: STORAGE_UNAVAILABLE: it cannot be written for another reason, and is
                not kept.
        """
        ...

    def put(self, key: str, body: bytes) -> Future[None]:
        """Keep another record in the place of one that was accepted.

        Returns at once, with what is done when it was tried; a disk that takes nothing is tried
        again until it does.
        """
        ...

    def remove(self, key: str) -> Future[None]:
        """Keep it no more; likewise."""
        ...
