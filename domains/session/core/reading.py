"""Reading a session's events, at each reader's own pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

from domains import failpoints
from domains.clock import Clock
from domains.errors import DomainError
from domains.session.core.selection import Selection
from domains.session.core.session import Session
from domains.session.errors import EventsExpired, ShuttingDown
from domains.session.ports import ArtifactReader
from domains.session.turns import Paused
from domains.session.types import (
    ENTRIES,
    Delivery,
    Heartbeat,
    ImageChunk,
    ImageFinished,
    ImageResult,
    Passing,
    QueueMoved,
    SessionEvent,
    Terminal,
)


async def _at_once(session: Session) -> None:
    """Of sessions that end with the server."""


class SessionReader:
    """Streams of events; reading neither keeps nor ends a session.

    Args:
        artifacts: Where finished pictures are read back from.
        heartbeat_seconds: Silence after which a stream gets a heartbeat.
        clock: The time.
        settled: Returns once it may be told that a session has ended or paused.
    """

    def __init__(
        self,
        artifacts: ArtifactReader,
        *,
        heartbeat_seconds: float,
        clock: Clock,
        settled: Callable[[Session], Awaitable[None]] = _at_once,
    ) -> None:
        self._settled = settled
        self._artifacts = artifacts
        self._heartbeat_seconds = heartbeat_seconds
        self._clock = clock

    async def events(
        self,
        session: Session,
        from_sequence: int = 1,
        *,
        delivery: Delivery = ENTRIES,
    ) -> AsyncGenerator[SessionEvent]:
        """Entries from `from_sequence` on to the last, with passing events.

        0 and 1 mean every entry that is kept: of a session that ended long ago progress may
        be missing. What `delivery` leaves out is skipped, its number too.

        Raises:
            EventsExpired: `from_sequence` is more than one past the newest entry, or entries
                from there on are kept no more.
            ShuttingDown: The server ends, and the next one goes on with the session.
        """
        log = session.log
        missing = log.first_sequence  # some before it, from the beginning
        cursor = max(from_sequence, 1)
        if not (cursor == 1 or log.first_sequence <= cursor <= log.last_sequence + 1):
            raise _expired(session, from_sequence)
        selection = Selection(delivery)
        shown: SessionEvent | None = None
        position = session.queue_position
        loop = asyncio.get_running_loop()
        spoke = loop.time()
        while True:
            change = log.change()
            while (entry := log.entry(cursor)) is not None:
                if max(missing, 2) <= cursor < log.first_sequence:  # meanwhile
                    raise _expired(session, cursor)
                cursor = entry.sequence + 1
                if isinstance(entry.event, Terminal | Paused):
                    await self._settled(session)
                if isinstance(entry.event, Terminal):
                    failpoints.reach("session.end-written")  # and not told
                if not selection.takes(entry):
                    continue
                if delivery.image_data and isinstance(entry.event, ImageFinished):
                    async with aclosing(
                        self._with_data(session.owner, entry, entry.event)
                    ) as events:
                        async for event in events:
                            yield event
                else:
                    yield entry
                spoke = loop.time()
            if log.terminal is not None:
                return
            if session.suspended:
                raise ShuttingDown()
            if session.queue_position != position:
                position = session.queue_position
                moved = QueueMoved(position, session.estimated_start_time)
                if selection.wants(moved):
                    yield self._passing(session, moved)
                    spoke = loop.time()
            preview = log.preview if delivery.previews.every_steps else None
            if preview is not None and preview is not shown:
                shown = preview
                yield preview
                spoke = loop.time()
            try:
                async with asyncio.timeout_at(spoke + self._heartbeat_seconds):
                    await change.wait()
            except TimeoutError:
                yield self._passing(session, Heartbeat(session.phase))
                spoke = loop.time()

    def _passing(self, session: Session, event: Passing) -> SessionEvent:
        return SessionEvent(
            session.session_id, session.log.last_sequence, self._clock.wall(), event
        )

    async def _with_data(
        self, owner: str, entry: SessionEvent, finished: ImageFinished
    ) -> AsyncGenerator[SessionEvent]:
        """A picture's chunks and its entry, which says so where the bytes are not to be had:
        whatever became of a picture, the log goes on to its end.
        """
        try:
            async with aclosing(self._chunks(owner, entry, finished.image)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except DomainError as error:
            entry = replace(entry, event=replace(finished, data_missing=error.reason))
        yield entry

    async def _chunks(
        self, owner: str, entry: SessionEvent, image: ImageResult
    ) -> AsyncGenerator[SessionEvent]:
        """The picture's file, numbered like the entry before it so that it is resent."""
        if image.withheld:
            return
        offset = 0
        async for data in self._artifacts.read_of(owner, image.artifact_id):
            chunk = ImageChunk(image.image_index, offset, image.size_bytes, data)
            yield replace(entry, sequence=entry.sequence - 1, event=chunk)
            offset += len(data)


def _expired(session: Session, sequence: int) -> EventsExpired:
    log = session.log
    return EventsExpired(
        sequence, log.first_sequence, log.last_sequence, session.state, session.progress
    )
