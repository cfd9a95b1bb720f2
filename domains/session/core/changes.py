"""Everything that happens to sessions, numbered, for those who watch all of them."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from domains.changes import ChangesExpired, first_revision
from domains.clock import Clock
from domains.session.core.session import Session
from domains.session.core.snapshots import snapshot_of
from domains.session.types import WorkOptions
from domains.session.views import (
    EVERYONE,
    SessionChange,
    SessionChangeKind,
    SessionFilter,
    SessionSnapshot,
    Viewer,
)


@dataclass
class _Row:
    """A session and its newest change; of one that is forgotten, how it stood at last."""

    session: Session | SessionSnapshot
    added: int
    revision: int
    when: datetime
    options: WorkOptions
    chosen: int
    """The change since which its options are as they are."""
    ended: int = 0
    """The change that made it final; 0 before."""

    @property
    def gone(self) -> bool:
        return isinstance(self.session, SessionSnapshot)

    def snapshot(self) -> SessionSnapshot:
        session = self.session
        return session if isinstance(session, SessionSnapshot) else snapshot_of(session)


class SessionChanges:
    """Numbers changes and shows them to each watcher at its own pace.

    Of each session only the newest change is kept, with the session as it is now in place
    of what it went through before: a slow reader costs nothing and gets fewer, later
    states. What is forgotten is kept for some time, so that those who were away hear of it.

    Revisions begin at the time of the server's start in microseconds: those of an earlier
    run of the server lie before everything that this one keeps.

    Args:
        clock: The time.
        heartbeat_seconds: Silence after which a watcher is told that there is nothing.
        gone_kept: How many forgotten sessions are still known.
    """

    def __init__(self, clock: Clock, *, heartbeat_seconds: float, gone_kept: int) -> None:
        self._clock = clock
        self._heartbeat_seconds = heartbeat_seconds
        self._gone_kept = gone_kept
        self.revision = first_revision(clock.wall())
        """Number of the newest change."""
        self.run = self.revision
        """Tells this run of the server from others."""
        self._first = self.revision
        self._rows: OrderedDict[str, _Row] = OrderedDict()  # the newest change last
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._changed = asyncio.Event()

    def number(self, session: Session) -> int:
        """The number of the change by which a session that is kept came to be: one that was
        accepted later has a higher one.
        """
        return self._rows[session.session_id].added

    def note(self, session: Session) -> None:
        """A session is there, or is otherwise than before."""
        self._advance()
        row = self._rows.get(session.session_id)
        if row is None:
            now, options = self._clock.wall(), session.options
            row = _Row(session, self.revision, self.revision, now, options, self.revision)
            self._rows[session.session_id] = row
        if row.options != session.options:
            row.options, row.chosen = session.options, self.revision
        self._renew(row)
        if session.state.final and not row.ended:
            row.ended = row.revision

    def remove(self, session: Session) -> None:
        """A session is forgotten."""
        row = self._rows[session.session_id]
        self._advance()
        last = snapshot_of(session)
        row.session = replace(last, images=(), options=replace(last.options, metadata={}))
        self._renew(row)
        self._gone[session.session_id] = self.revision
        if len(self._gone) > self._gone_kept:
            session_id, self._first = self._gone.popitem(last=False)
            del self._rows[session_id]

    def _renew(self, row: _Row) -> None:
        row.revision, row.when = self.revision, self._clock.wall()
        self._rows.move_to_end(row.session.session_id)

    def _advance(self) -> None:
        self.revision += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def watch(
        self,
        wanted: SessionFilter,
        viewer: Viewer = EVERYONE,
        *,
        from_revision: int = 0,
    ) -> AsyncGenerator[SessionChange]:
        """What happens to sessions, without end.

        With `from_revision` 0 first ADDED for each session there is and SNAPSHOT_END; with
        another, what happened after that. A session that no longer is as wanted is shown
        once more as it then is, and not again until it is as wanted again.

        Args:
            wanted: Which sessions.
            viewer: Who watches; sessions that they may not see do not exist for them.
            from_revision: The newest change they know.

        Raises:
            ChangesExpired: What happened after `from_revision` is not all kept, or the
                reader is so slow that what it has not read is kept no more.
        """
        if from_revision and not self._first <= from_revision <= self.revision:
            raise ChangesExpired(from_revision, self._first, self.revision)
        watcher = _Watcher(wanted, viewer)
        cursor = from_revision or self.revision
        loop = asyncio.get_running_loop()
        if from_revision:
            watcher.assume(self._rows.values(), cursor)
        else:
            for row in sorted(self._rows.values(), key=lambda row: row.added):
                for change in watcher.see(row, cursor, since=math.inf):
                    yield change
            yield SessionChange(SessionChangeKind.SNAPSHOT_END, cursor, self._clock.wall())
        due = loop.time() + self._heartbeat_seconds
        while True:
            if cursor < self._first:
                raise ChangesExpired(cursor, self._first, self.revision)
            changed = self._changed
            for row, revision in self._after(cursor):
                for change in watcher.see(row, revision, since=cursor):
                    yield change
                    due = loop.time() + self._heartbeat_seconds
                cursor = revision
            try:
                async with asyncio.timeout_at(due):
                    await changed.wait()
            except TimeoutError:
                now = self._clock.wall()
                yield SessionChange(SessionChangeKind.HEARTBEAT, cursor, now)
                due = loop.time() + self._heartbeat_seconds

    def _after(self, cursor: int) -> list[tuple[_Row, int]]:
        """What has changed since, in order, with the number of the change."""
        newest_first = []
        for row in reversed(self._rows.values()):
            if row.revision <= cursor:
                break
            newest_first.append((row, row.revision))
        return newest_first[::-1]


class _Watcher:
    """What one watcher was told, and so what a change means to it."""

    def __init__(self, wanted: SessionFilter, viewer: Viewer) -> None:
        self._wanted = wanted
        self._viewer = viewer
        self._told: dict[str, int] = {}  # the newest change of each session that it knows

    def assume(self, rows: Iterable[_Row], revision: int) -> None:
        """It has heard of everything up to that change; what was as wanted then, it knows.

        What may have been, where that is not known any more: a state, other options.
        """
        for row in rows:
            known = row.added <= revision and self._wanted.may_accept(row.session)
            if known and (row.chosen > revision or self._wanted.accepts_options(row.options)):
                self._told[row.session.session_id] = revision

    def see(self, row: _Row, revision: int, *, since: float) -> list[SessionChange]:
        """What to tell it about a session that has a change of that number.

        One that is new to it is also told to have ended, if that was after `since`. One that
        has ended by a later change already is shown so, and told to have ended with the number
        of that one: whoever watches again from here on hears it then, and once.
        """
        session_id = row.session.session_id
        told = self._told.pop(session_id, None)
        wanted = self._wanted.accepts(row.session)
        if not self._viewer.sees(row.session.owner) or (
            told is None and (row.gone or not wanted)
        ):
            return []
        ahead = row.ended > revision
        if wanted and not row.gone:
            shown_up_to = revision if ahead else row.revision
            self._told[session_id] = max(shown_up_to, told or 0)
        if told is not None and told >= row.revision:
            return []  # an earlier change showed it as it is now
        shown = row.snapshot().seen_by(self._viewer.name)

        def change(kind: SessionChangeKind, number: int = revision) -> SessionChange:
            return SessionChange(kind, number, row.when, shown)

        if row.gone:
            return [change(SessionChangeKind.REMOVED)]
        if told is not None:
            ended = row.ended > told and not ahead
            return [change(SessionChangeKind.ENDED if ended else SessionChangeKind.CHANGED)]
        if row.ended <= since or ahead:
            return [change(SessionChangeKind.ADDED)]
        # It came and ended meanwhile; watching again after the first goes on with the second.
        return [
            change(SessionChangeKind.ADDED, revision - 1),
            change(SessionChangeKind.ENDED),
        ]
