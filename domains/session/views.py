"""Sessions from outside: who may see which, how one stands, what happens to them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import Enum
from typing import Protocol

from domains.errors import Failure
from domains.session.types import (
    ImageResult,
    Phase,
    Priority,
    SessionKind,
    SessionState,
    WorkOptions,
)
from domains.values import ByteFigure, PlacementDecision


class Viewer(Protocol):
    """Who asks, and what may be shown to them."""

    @property
    def name(self) -> str:
        """The client's name."""
        ...

    def sees(self, owner: str) -> bool:
        """Whether what belongs to `owner` may be shown."""
        ...


@dataclass(frozen=True)
class Everyone:
    """A viewer who may see everything: the server itself, and whoever runs it."""

    name: str = ""

    def sees(self, owner: str) -> bool:
        """Everything."""
        return True


EVERYONE = Everyone()
"""Within the server: nothing is hidden, and nobody in particular asks."""


@dataclass(frozen=True)
class SessionSnapshot:
    """A session as it stands. `progress` is from 0 to 1, `owner` whose it is.

    Estimates are None where they mean nothing any more, and while nothing comparable was
    measured.
    """

    session_id: str
    kind: SessionKind
    state: SessionState
    phase: Phase | None
    device_id: str
    model_id: str
    queue_position: int
    progress: float
    first_sequence: int
    last_sequence: int
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    expire_time: datetime | None
    options: WorkOptions
    failure: Failure | None
    images: tuple[ImageResult, ...]
    owner: str
    parent_session_id: str = ""
    placement: PlacementDecision | None = None
    estimated_start_time: datetime | None = None
    estimated_end_time: datetime | None = None
    peak_memory: ByteFigure | None = None
    retry_count: int = 0
    method: str = ""

    def seen_by(self, name: str) -> SessionSnapshot:
        """What the client of that name is shown: request ids are their owner's alone."""
        if name == self.owner:
            return self
        return replace(self, options=replace(self.options, request_id=""))


class Filterable(Protocol):
    """What a filter looks at: a session, or how it stood."""

    @property
    def session_id(self) -> str: ...
    @property
    def kind(self) -> SessionKind: ...
    @property
    def state(self) -> SessionState: ...
    @property
    def device_id(self) -> str: ...
    @property
    def model_id(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def options(self) -> WorkOptions: ...
    @property
    def parent_session_id(self) -> str: ...
    @property
    def create_time(self) -> datetime: ...


@dataclass(frozen=True)
class SessionFilter:
    """Which sessions; everything that is set must hold.

    Without `parent_session_id` those without a parent. `created_after` is the first moment
    that counts, `created_before` the first that does not.
    """

    kinds: frozenset[SessionKind] = frozenset()
    states: frozenset[SessionState] = frozenset()
    device_id: str = ""
    tags: tuple[str, ...] = ()
    parent_session_id: str = ""
    owner: str = ""
    priority: Priority | None = None
    model_id: str = ""
    created_after: datetime | None = None
    created_before: datetime | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is set."""
        return all(not getattr(self, field.name) for field in fields(self))

    @property
    def scope(self) -> str:
        """Equal for equal filters, whatever the order of their parts."""
        kinds = sorted(kind.value for kind in self.kinds)
        states = sorted(state.value for state in self.states)
        rest = replace(self, kinds=frozenset(), states=frozenset())
        return f"{kinds} {states} {rest}"

    def accepts(self, session: Filterable) -> bool:
        """Whether a session is one of those meant, as it stands."""
        return (
            self.may_accept(session)
            and (not self.states or session.state in self.states)
            and self.accepts_options(session.options)
        )

    def accepts_options(self, options: WorkOptions) -> bool:
        """Whether what a client can change of a session is as wanted."""
        return set(self.tags) <= set(options.tags) and self.priority in (None, options.priority)

    def may_accept(self, session: Filterable) -> bool:
        """Whether it is one at some time of its life: what never changes is as wanted."""
        after, before = self.created_after, self.created_before
        return (
            (not self.kinds or session.kind in self.kinds)
            and self.device_id in ("", session.device_id)
            and self.owner in ("", session.owner)
            and self.model_id in ("", session.model_id)
            and session.parent_session_id == self.parent_session_id
            and (after is None or session.create_time >= after)
            and (before is None or session.create_time < before)
        )


class SessionChangeKind(Enum):
    """What happened to a session."""

    ADDED = "added"
    CHANGED = "changed"
    ENDED = "ended"
    REMOVED = "removed"
    SNAPSHOT_END = "snapshot-end"
    HEARTBEAT = "heartbeat"


@dataclass(frozen=True)
class SessionChange:
    """Something happened to a session, which is shown as it is now.

    `revision` is the change's number: it never falls along a stream, and whoever watches
    again from the last one misses nothing. SNAPSHOT_END and HEARTBEAT are about no session.
    """

    kind: SessionChangeKind
    revision: int
    event_time: datetime
    session: SessionSnapshot | None = None
