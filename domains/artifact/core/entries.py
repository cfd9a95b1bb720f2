"""One kept file and what each of its owners has of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from domains.artifact.types import Artifact, ArtifactFilter, Holding, Holdings, StoredFile
from domains.clients import Caller


@dataclass
class _Share:
    """What one owner has: until when, in seconds of a clock that never jumps, and as people
    read it."""

    holding: Holding
    expires: float
    expire_time: datetime


@dataclass(frozen=True)
class Retention:
    """How long what is used now is kept: the server's setting, and the clocks."""

    usual: timedelta
    now: Callable[[], datetime]
    monotonic: Callable[[], float]

    def share(self, holding: Holding) -> _Share:
        """A holding that is used now."""
        seconds = holding.retention_seconds
        length = self.usual if seconds is None else timedelta(seconds=seconds)
        return _Share(holding, self.monotonic() + length.total_seconds(), self.now() + length)


@dataclass
class Entry:
    """A kept file with its owners; kept for as long as one of them keeps it."""

    stored: StoredFile
    shares: dict[str, _Share]
    readers: int = 0

    @classmethod
    def of(cls, stored: StoredFile, retention: Retention) -> Entry:
        """Used by all of its owners now."""
        shares = {owner: retention.share(holding) for owner, holding in stored.holdings.items()}
        return cls(stored, shares)

    @property
    def artifact_id(self) -> str:
        """The hash that names it."""
        return self.stored.artifact_id

    @property
    def size_bytes(self) -> int:
        """Bytes of the file, however many owners it has."""
        return self.stored.size_bytes

    @property
    def pinned(self) -> bool:
        """Whether an owner keeps it until it is deleted."""
        return any(share.holding.pinned for share in self.shares.values())

    @property
    def holdings(self) -> Holdings:
        """What its owners have, to be remembered."""
        return {owner: share.holding for owner, share in self.shares.items()}

    def owner_for(self, caller: Caller) -> str | None:
        """Whose artifact it is to this caller: its own before others that it may see."""
        if caller.name in self.shares:
            return caller.name
        return next((owner for owner in self.shares if caller.sees(owner)), None)

    def artifact(self, owner: str) -> Artifact:
        """What this owner has."""
        share, stored = self.shares[owner], self.stored
        holding = share.holding
        return Artifact(
            artifact_id=stored.artifact_id,
            owner=owner,
            size_bytes=stored.size_bytes,
            media_type=stored.media_type,
            create_time=holding.create_time or stored.modify_time,
            session_ids=holding.session_ids,
            expire_time=None if holding.pinned else share.expire_time,
            pinned=holding.pinned,
            width=stored.width,
            height=stored.height,
            labels=holding.labels,
        )

    def artifacts(self, caller: Caller, wanted: ArtifactFilter) -> Iterator[Artifact]:
        """What of it this caller may see and wants to see."""
        for owner in self.shares:
            if caller.sees(owner) and wanted.owner in ("", owner):
                artifact = self.artifact(owner)
                if _accepts(wanted, artifact):
                    yield artifact

    def use(self, owner: str, retention: Retention, holding: Holding | None = None) -> None:
        """An owner uses it, or has it otherwise, now: its retention begins again."""
        self.shares[owner] = retention.share(holding or self.shares[owner].holding)

    def expired(self, moment: float) -> list[str]:
        """The owners whose retention is over."""
        return [
            owner
            for owner, share in self.shares.items()
            if share.expires <= moment and not share.holding.pinned
        ]


def _accepts(wanted: ArtifactFilter, artifact: Artifact) -> bool:
    after = wanted.created_after
    return (
        (not wanted.session_id or wanted.session_id in artifact.session_ids)
        and artifact.media_type.startswith(wanted.media_type_prefix)
        and (after is None or artifact.create_time >= after)
        and wanted.labels.items() <= artifact.labels.items()
    )
