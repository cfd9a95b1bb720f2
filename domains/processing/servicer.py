"""ProcessingService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import processing_pb2, processing_pb2_grpc
from domains.processing import convert
from domains.processing.core import SessionControl
from domains.session.convert import SessionConverter, snapshot_to_proto
from domains.session.core.reading import SessionReader
from domains.session.core.sessions import Sessions

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ProcessingServicer(processing_pb2_grpc.ProcessingServiceServicer):
    """Sessions; workflows and batches are answered by the generated base."""

    def __init__(
        self,
        sessions: Sessions,
        control: SessionControl,
        reader: SessionReader,
        converter: SessionConverter,
    ) -> None:
        self._sessions = sessions
        self._control = control
        self._reader = reader
        self._converter = converter

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
            terminal_event=self._converter.terminal(session.log),
        )

    def WatchSession(
        self, request: processing_pb2.WatchSessionRequest, context: Context
    ) -> AsyncIterator[processing_pb2.WatchSessionResponse]:
        events = self._reader.events(
            self._sessions.get(request.session_id),
            request.from_sequence,
            image_data=request.include_image_data,
            previews=request.include_previews,
        )
        return self._converter.responses(events, processing_pb2.WatchSessionResponse)

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
