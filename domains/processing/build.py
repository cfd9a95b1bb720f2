"""The processing domain, put together."""

from __future__ import annotations

from domains.processing.core import SessionControl
from domains.processing.servicer import ProcessingServicer
from domains.session import build as session_build


def build(session: session_build.Built) -> ProcessingServicer:
    """The domain over the sessions of all others."""
    return ProcessingServicer(
        session.sessions,
        SessionControl(session.sessions),
        session.reader,
        session.converter,
    )
