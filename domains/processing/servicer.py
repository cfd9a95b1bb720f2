"""ProcessingService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import processing_pb2, processing_pb2_grpc
from domains.processing import convert
from domains.processing.core import SessionControl
from domains.session.convert import (
    SessionConverter,
    checked_delivery,
    snapshot_to_proto,
)
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
        show = partial(snapshot_to_proto, full=convert.full(request.view))
        page = self._control.list(
            convert.filter_from_proto(request.filter),
            page_size=request.page_size,
            page_token=request.page_token,
        ).converted(show)
        return processing_pb2.ListSessionsResponse(
            sessions=page.items,
            next_page_token=page.next_page_token,
            total_count=page.total_count,
        )

    async def GetSession(
        self, request: processing_pb2.GetSessionRequest, context: Context
    ) -> processing_pb2.GetSessionResponse:
        session = self._sessions.get(request.session_id)
        return processing_pb2.GetSessionResponse(
            session=snapshot_to_proto(session.snapshot(), full=True),
            terminal_event=self._converter.terminal(session.log),
        )

    def WatchSession(
        self, request: processing_pb2.WatchSessionRequest, context: Context
    ) -> AsyncIterator[processing_pb2.WatchSessionResponse]:
        events = self._reader.events(
            self._sessions.get(request.session_id),
            request.from_sequence,
            delivery=checked_delivery(request.delivery, "delivery"),
        )
        return self._converter.responses(events, processing_pb2.WatchSessionResponse)

    async def PauseSession(
        self, request: processing_pb2.PauseSessionRequest, context: Context
    ) -> processing_pb2.PauseSessionResponse:
        session = self._control.pause(request.session_id)
        return processing_pb2.PauseSessionResponse(session=snapshot_to_proto(session))

    async def ResumeSession(
        self, request: processing_pb2.ResumeSessionRequest, context: Context
    ) -> processing_pb2.ResumeSessionResponse:
        session = self._control.resume(request.session_id)
        return processing_pb2.ResumeSessionResponse(session=snapshot_to_proto(session))

    async def CancelSession(
        self, request: processing_pb2.CancelSessionRequest, context: Context
    ) -> processing_pb2.CancelSessionResponse:
        session = self._control.cancel(request.session_id)
        return processing_pb2.CancelSessionResponse(session=snapshot_to_proto(session))

    async def DeleteSession(
        self, request: processing_pb2.DeleteSessionRequest, context: Context
    ) -> processing_pb2.DeleteSessionResponse:
        self._control.delete(request.session_id)
        return processing_pb2.DeleteSessionResponse()
