"""List sessions, however many there are."""

from __future__ import annotations

import grpc.aio

from deviceops.v1.processing_pb2 import ListSessionsRequest, SessionFilter
from deviceops.v1.processing_pb2_grpc import ProcessingServiceStub
from deviceops.v1.session_pb2 import SESSION_VIEW_BASIC, Session, SessionView


async def list_all(
    channel: grpc.aio.Channel, *, tag: str = "", view: SessionView = SESSION_VIEW_BASIC
) -> list[list[Session]]:
    """Every session that the client may see, newest first, page by page; only an empty token
    says that a page is the last."""
    processing = ProcessingServiceStub(channel)
    request = ListSessionsRequest(
        filter=SessionFilter(tags=[tag] if tag else []), view=view, page_size=1000
    )
    pages: list[list[Session]] = []
    while True:
        answer = await processing.ListSessions(request)
        pages.append(list(answer.sessions))
        if not answer.next_page_token:
            return pages
        request.page_token = answer.next_page_token
