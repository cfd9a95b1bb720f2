"""The processing domain, put together."""

from __future__ import annotations

from domains.processing.batches.servicer import BatchParts
from domains.processing.core.control import SessionControl
from domains.processing.core.lists import SessionLists
from domains.processing.ports import Devices
from domains.processing.servicer import ProcessingServicer
from domains.processing.workflows.servicer import WorkflowParts
from domains.session import build as session_build


def build(
    session: session_build.Built,
    devices: Devices,
    batches: BatchParts,
    workflows: WorkflowParts,
) -> ProcessingServicer:
    """The domain over the sessions of all others.

    Args:
        session: The sessions.
        devices: The machine's devices.
        batches: What calls about batches are answered with.
        workflows: What calls about workflows are answered with.
    """
    return ProcessingServicer(
        session.sessions,
        SessionControl(session.sessions),
        SessionLists(session.sessions, devices),
        session.reader,
        session.converter,
        batches,
        workflows,
    )
