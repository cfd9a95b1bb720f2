"""What sessions need from outside their pure core."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from typing import Protocol

from domains.errors import Failure


class ArtifactReader(Protocol):
    """Reads finished pictures back."""

    def read_of(
        self, owner: str, artifact_id: str, *, offset: int = 0, length: int = 0
    ) -> AsyncIterator[bytes]:
        """A client's artifact from `offset` in chunks of at most 1 MiB; 0 means all.

        Raises:
            DomainError: NotFound (ARTIFACT_NOT_FOUND), OutOfRange (OFFSET_OUT_OF_RANGE),
                DataLoss (DATA_CORRUPTED), Unavailable (STORAGE_UNAVAILABLE).
        """
        ...


class FaultReporter(Protocol):
    """Turns any exception into what a client may see of it."""

    def __call__(self, error: BaseException) -> Failure:
        """Describe `error`; unexpected ones are logged and get an incident id."""
        ...


class SessionRecords(Protocol):
    """Keeps records of sessions beyond the server's life, as bytes by the session's id."""

    def sessions(self) -> Sequence[bytes]:
        """What an earlier server kept, in the order in which it was accepted."""
        ...

    async def accept(self, session_id: str, body: bytes) -> None:
        """Keep a record of a session that is to be accepted: it is on disk when this returns.

        Raises:
            ResourceExhausted: DISK_FULL or another shortage: it is not kept.
            Unavailable: STORAGE_UNAVAILABLE: it cannot be written for another reason, and is
                not kept.
        """
        ...

    def put_session(self, session_id: str, body: bytes) -> Future[None]:
        """Keep another record in the place of one that was accepted.

        Returns at once, with what is done when it was tried; a disk that takes nothing is tried
        again until it does.
        """
        ...

    def remove_session(self, session_id: str) -> Future[None]:
        """Keep it no more; likewise."""
        ...
