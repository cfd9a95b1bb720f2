"""Know of every session without asking again and again, over restarts of the orchestrator."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import grpc.aio

from deviceops.v1.processing_pb2 import (
    SESSION_CHANGE_KIND_HEARTBEAT,
    SESSION_CHANGE_KIND_REMOVED,
    SESSION_CHANGE_KIND_SNAPSHOT_END,
    SessionChangeKind,
    SessionFilter,
    WatchSessionsRequest,
)
from deviceops.v1.processing_pb2_grpc import ProcessingServiceStub
from deviceops.v1.session_pb2 import Session


class Sessions:
    """What is known of the sessions with a tag; `revision` is kept by whoever restarts."""

    def __init__(self, tag: str, revision: int = 0) -> None:
        self.revision = revision
        self.known: dict[str, Session] = {}
        self._filter = SessionFilter(tags=[tag])

    async def follow(
        self, channel: grpc.aio.Channel
    ) -> AsyncIterator[tuple[SessionChangeKind, str]]:
        """Changes after `revision`, each with its session's id; heartbeats left out.

        Where the server no longer has those changes, the state of now comes first instead.
        """
        try:
            async for change in self._changes(channel):
                yield change
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.OUT_OF_RANGE:
                raise
            self.revision = 0
            self.known.clear()
            async for change in self._changes(channel):
                yield change

    async def _changes(
        self, channel: grpc.aio.Channel
    ) -> AsyncIterator[tuple[SessionChangeKind, str]]:
        request = WatchSessionsRequest(filter=self._filter, from_revision=self.revision)
        async for change in ProcessingServiceStub(channel).WatchSessions(request):
            self.revision = change.revision
            session_id = change.session.session_id
            if change.kind == SESSION_CHANGE_KIND_REMOVED:
                self.known.pop(session_id, None)
            elif change.kind not in (
                SESSION_CHANGE_KIND_HEARTBEAT,
                SESSION_CHANGE_KIND_SNAPSHOT_END,
            ):
                self.known[session_id] = change.session
            if change.kind != SESSION_CHANGE_KIND_HEARTBEAT:
                yield change.kind, session_id
