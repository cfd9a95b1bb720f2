"""ProcessingService on the wire."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import processing_pb2
from domains.clients import caller
from domains.processing import convert
from domains.processing.batches.servicer import BatchCalls, BatchParts
from domains.processing.core.control import SessionControl
from domains.processing.core.lists import SessionLists, shown
from domains.processing.workflows.servicer import WorkflowCalls, WorkflowParts
from domains.session.convert import (
    SessionConverter,
    checked_delivery,
    options_from_proto,
    snapshot_to_proto,
)
from domains.session.core.reading import SessionReader
from domains.session.core.sessions import Sessions
from domains.session.errors import SessionNotFound

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ProcessingServicer(BatchCalls, WorkflowCalls):
    """Sessions, and what is made of them: batches and workflows."""

    def __init__(
        self,
        sessions: Sessions,
        control: SessionControl,
        lists: SessionLists,
        reader: SessionReader,
        converter: SessionConverter,
        batches: BatchParts,
        workflows: WorkflowParts,
    ) -> None:
        BatchCalls.__init__(self, batches)
        WorkflowCalls.__init__(self, workflows)
        self._sessions = sessions
        self._control = control
        self._lists = lists
        self._reader = reader
        self._converter = converter

    async def ListSessions(
        self, request: processing_pb2.ListSessionsRequest, context: Context
    ) -> processing_pb2.ListSessionsResponse:
        found = self._lists.sessions(
            convert.filter_from_proto(request.filter),
            caller(),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        show = partial(snapshot_to_proto, full=convert.full(request.view))
        page = found.page.converted(show)
        return processing_pb2.ListSessionsResponse(
            sessions=page.items,
            next_page_token=page.next_page_token,
            total_count=page.total_count,
            revision=found.revision,
        )

    async def GetSession(
        self, request: processing_pb2.GetSessionRequest, context: Context
    ) -> processing_pb2.GetSessionResponse:
        viewer = caller()
        session = self._sessions.get(request.session_id, viewer)
        answer = processing_pb2.GetSessionResponse(
            session=snapshot_to_proto(shown(viewer, session), full=True),
            terminal_event=self._converter.terminal(session.log),
        )
        await self._sessions.settled(session)  # that it is paused or final outlives the server
        return answer

    def WatchSession(
        self, request: processing_pb2.WatchSessionRequest, context: Context
    ) -> AsyncIterator[processing_pb2.WatchSessionResponse]:
        delivery = checked_delivery(request.delivery, "delivery")
        session = self._sessions.get(request.session_id, caller())
        events = self._reader.events(session, request.from_sequence, delivery=delivery)
        return self._converter.responses(events, processing_pb2.WatchSessionResponse)

    async def WatchSessions(
        self, request: processing_pb2.WatchSessionsRequest, context: Context
    ) -> AsyncIterator[processing_pb2.WatchSessionsResponse]:
        wanted = convert.filter_from_proto(request.filter)
        changes = self._lists.watch(wanted, caller(), from_revision=request.from_revision)
        async with aclosing(changes):
            async for change in changes:
                yield convert.change_to_proto(change)

    async def ListQueue(
        self, request: processing_pb2.ListQueueRequest, context: Context
    ) -> processing_pb2.ListQueueResponse:
        found = await self._lists.queue(
            request.device_id,
            caller(),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        page = found.page.converted(snapshot_to_proto)
        return processing_pb2.ListQueueResponse(
            sessions=page.items,
            next_page_token=page.next_page_token,
            total_count=found.waiting,
        )

    async def PauseSession(
        self, request: processing_pb2.PauseSessionRequest, context: Context
    ) -> processing_pb2.PauseSessionResponse:
        session = self._control.pause(request.session_id, caller(), request.reason_text)
        await self._settled(session.session_id)
        return processing_pb2.PauseSessionResponse(session=snapshot_to_proto(session))

    async def ResumeSession(
        self, request: processing_pb2.ResumeSessionRequest, context: Context
    ) -> processing_pb2.ResumeSessionResponse:
        session = self._control.resume(request.session_id, caller())
        await self._settled(session.session_id)
        return processing_pb2.ResumeSessionResponse(session=snapshot_to_proto(session))

    async def CancelSession(
        self, request: processing_pb2.CancelSessionRequest, context: Context
    ) -> processing_pb2.CancelSessionResponse:
        session = self._control.cancel(request.session_id, caller(), request.reason_text)
        await self._settled(session.session_id)
        return processing_pb2.CancelSessionResponse(session=snapshot_to_proto(session))

    async def CancelSessions(
        self, request: processing_pb2.CancelSessionsRequest, context: Context
    ) -> processing_pb2.CancelSessionsResponse:
        wanted = convert.filter_from_proto(request.filter)
        count = self._control.cancel_all(wanted, caller(), request.reason_text)
        return processing_pb2.CancelSessionsResponse(cancelled_count=count)

    async def UpdateSession(
        self, request: processing_pb2.UpdateSessionRequest, context: Context
    ) -> processing_pb2.UpdateSessionResponse:
        session = self._control.update(
            request.session_id,
            caller(),
            options_from_proto(request.options),
            request.update_fields.paths,
        )
        await self._settled(session.session_id)
        return processing_pb2.UpdateSessionResponse(session=snapshot_to_proto(session))

    async def _settled(self, session_id: str) -> None:
        """What a client is told of a change outlives the server."""
        with contextlib.suppress(SessionNotFound):  # forgotten meanwhile
            await self._sessions.settled(self._sessions.get(session_id))

    async def DeleteSession(
        self, request: processing_pb2.DeleteSessionRequest, context: Context
    ) -> processing_pb2.DeleteSessionResponse:
        await self._control.delete(request.session_id, caller())
        return processing_pb2.DeleteSessionResponse()
