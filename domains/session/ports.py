"""What sessions need from outside their pure core."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Protocol

from domains.errors import Failure
from domains.records import Records
from domains.session.records import KeptSession
from domains.values import ModelContent


class ModelContents(Protocol):
    """What models are made of now. Neither reads weights where files are as they were."""

    async def of(self, model_ids: Iterable[str]) -> tuple[ModelContent, ...]:
        """That of each; without those that there are not, or that have no weights."""
        ...

    async def check(
        self, contents: Iterable[ModelContent], stopped: Callable[[], bool]
    ) -> None:
        """Hold them against what is there, or was when they were asked for a moment ago; what
        is gone is left to whoever needs it. Returns without an answer once `stopped` says so.

        Raises:
            DomainError: One has other content by now.
        """
        ...


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


class ArtifactKeeper(Protocol):
    """Where finished pictures go."""

    async def adopt(
        self,
        path: Path,
        sha256: str,
        owner: str,
        *,
        session_id: str = "",
        retention_seconds: float | None = None,
    ) -> object:
        """Take a finished file; see the artifact store for errors."""
        ...


class SessionJournal(Protocol):
    """What outlives the server."""

    def records(self, kind: str) -> Records:
        """Records of one kind."""
        ...

    def sessions(self) -> Iterable[KeptSession]:
        """What records of an earlier server's sessions are, in the order of their acceptance;
        given out once."""
        ...


class FaultReporter(Protocol):
    """Turns any exception into what a client may see of it."""

    def __call__(self, error: BaseException) -> Failure:
        """Describe `error`; unexpected ones are logged and get an incident id."""
        ...


class PausedFiles(Protocol):
    """Where lies what paused work goes on from."""

    def sweep(self) -> None:
        """Delete what an earlier server left; what refuses is logged."""
        ...

    def new(self) -> Path:
        """Where one may be kept; nothing lies there yet."""
        ...

    def remove(self, path: Path) -> None:
        """Delete it; nothing happens where none lies."""
        ...
