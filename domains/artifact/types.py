"""Artifact values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from domains import checks
from domains.codec import Moment, Name, Seconds, Value, Word
from domains.errors import InvalidArgument
from domains.limits import LIMITS

MOST_SESSIONS = 1000
"""Sessions remembered of one owner's artifact: the first, and the newest."""
MOST_OWNERS = 1000
SessionIds = Annotated[tuple[Name, ...], Meta(max_length=MOST_SESSIONS)]
MOST_LABELS = 16
Labels = Annotated[Mapping[Name, Word], Meta(max_length=MOST_LABELS)]
"""What an owner calls an artifact, by the names of its labels."""


@dataclass(frozen=True)
class LabelChange:
    """Labels that are set, and names of those that go; the others stay. `path` is where
    those that are set stand in the request."""

    values: Mapping[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    path: str = "labels"

    def applied_to(self, labels: Labels) -> Labels:
        """What is there afterwards.

        Raises:
            InvalidArgument: TOO_MANY_ELEMENTS: with those that stay there are too many.
        """
        after = {name: labels[name] for name in labels if name not in self.removed}
        after |= self.values
        limit = LIMITS["Artifact.labels"]
        InvalidArgument.check(checks.elements(self.path, len(after), limit))
        return after


SAME_LABELS = LabelChange()
"""Nothing is set, and nothing removed."""


class Holding(Value, frozen=True):
    """That an artifact belongs to a client, and for how long.

    `create_time` is when this client first stored it, None where that is not known;
    `retention_seconds` is how long it keeps it after its last use, None as long as the
    server's setting says. A pinned one is kept until it is deleted.
    """

    session_ids: SessionIds = ()
    create_time: Moment | None = None
    pinned: bool = False
    retention_seconds: Seconds | None = None
    labels: Labels = msgspec.field(default_factory=dict)

    def made_by(self, session_id: str) -> Holding:
        """With one session more; of very many, the second are forgotten."""
        if not session_id or session_id in self.session_ids:
            return self
        ids = (*self.session_ids, session_id)
        kept = ids[:1] + ids[1:][-(MOST_SESSIONS - 1) :]
        return msgspec.structs.replace(self, session_ids=kept)

    def changed(
        self, pinned: bool | None, retention_seconds: float | None, labels: LabelChange
    ) -> Holding:
        """Kept and called otherwise; None leaves as it is.

        Raises:
            InvalidArgument: TOO_MANY_ELEMENTS: it would have too many labels.
        """
        kept = self.retention_seconds if retention_seconds is None else retention_seconds
        return msgspec.structs.replace(
            self,
            pinned=self.pinned if pinned is None else pinned,
            retention_seconds=kept,
            labels=labels.applied_to(self.labels),
        )


Holdings = Mapping[Name, Holding]
"""Whose an artifact is, by the name of the client."""


@dataclass(frozen=True)
class Claim:
    """For whom bytes are stored, when, and as what; `session_id` is empty for uploads."""

    owner: str
    create_time: datetime
    session_id: str = ""
    retention_seconds: float | None = None
    labels: LabelChange = SAME_LABELS

    def added_to(self, holding: Holding | None) -> Holding:
        """What its owner has of the bytes from now on; a new retention replaces the old.

        Raises:
            InvalidArgument: TOO_MANY_ELEMENTS: it would have too many labels.
        """
        holding = holding or Holding(create_time=self.create_time)
        changed = holding.changed(None, self.retention_seconds, self.labels)
        return changed.made_by(self.session_id)


@dataclass(frozen=True)
class StoredFile:
    """Bytes that are kept, and whose they are.

    `artifact_id` is their SHA-256 in lower-case hexadecimal; width and height are in pixels,
    0 where they are no picture.
    """

    artifact_id: str
    size_bytes: int
    media_type: str
    modify_time: datetime
    width: int = 0
    height: int = 0
    holdings: Holdings = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """What one client has: the same bytes of two clients are an artifact of each."""

    artifact_id: str
    owner: str
    size_bytes: int
    media_type: str
    create_time: datetime
    session_ids: tuple[str, ...] = ()
    """This client's sessions that made these bytes, first to last; none for an upload."""
    expire_time: datetime | None = None
    """None: kept for good."""
    pinned: bool = False
    width: int = 0
    height: int = 0
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True)
class ArtifactFilter:
    """Which artifacts to list; empty and None mean all."""

    session_id: str = ""
    media_type_prefix: str = ""
    owner: str = ""
    artifact_ids: tuple[str, ...] = ()
    created_after: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Thumbnail:
    """A small picture: a whole WebP file, and its size in pixels."""

    data: bytes
    width: int
    height: int


@dataclass(frozen=True)
class ArtifactUsage:
    """Bytes kept in all, and the most that are kept."""

    used_bytes: int
    quota_bytes: int
