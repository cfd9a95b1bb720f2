"""ProcessingService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import processing_pb2, processing_pb2_grpc
from domains.processing import convert
from domains.processing.core import SessionControl
from domains.session.convert import event_to_proto, snapshot_to_proto, terminal_to_proto
from domains.session.core.sessions import Sessions

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ProcessingServicer(processing_pb2_grpc.ProcessingServiceServicer):
    """Sessions; workflows and batches are answered by the generated base."""

    def __init__(self, sessions: Sessions, control: SessionControl) -> None:
        self._sessions = sessions
        self._control = control

    async def ListSessions(
        self, request: processing_pb2.ListSessionsRequest, context: Context
    ) -> processing_pb2.ListSessionsResponse:
        page = self._control.list(
            convert.filter_from_proto(request),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return processing_pb2.ListSessionsResponse(
            sessions=[snapshot_to_proto(session) for session in page.items],
            next_page_token=page.next_page_token,
        )

    async def GetSession(
        self, request: processing_pb2.GetSessionRequest, context: Context
    ) -> processing_pb2.GetSessionResponse:
        session = self._sessions.get(request.session_id)
        return processing_pb2.GetSessionResponse(
            session=snapshot_to_proto(session.snapshot()),
            terminal_event=terminal_to_proto(session.log),
        )

    async def WatchSession(
        self, request: processing_pb2.WatchSessionRequest, context: Context
    ) -> AsyncIterator[processing_pb2.WatchSessionResponse]:
        session = self._sessions.get(request.session_id)
        events = self._sessions.events(
            session,
            request.from_sequence,
            image_data=request.include_image_data,
            previews=request.include_previews,
        )
        async with aclosing(events):
            async for event in events:
                yield processing_pb2.WatchSessionResponse(event=event_to_proto(event))

    async def ControlSession(
        self, request: processing_pb2.ControlSessionRequest, context: Context
    ) -> processing_pb2.ControlSessionResponse:
        action = convert.ACTIONS.optional_from_proto(request.action)
        session = self._control.control(request.session_id, action)
        return processing_pb2.ControlSessionResponse(session=snapshot_to_proto(session))

    async def DeleteSession(
        self, request: processing_pb2.DeleteSessionRequest, context: Context
    ) -> processing_pb2.DeleteSessionResponse:
        self._control.delete(request.session_id)
        return processing_pb2.DeleteSessionResponse()
