"""Workflows, put together."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from deviceops.v1 import workflow_pb2
from domains.clients import Role
from domains.memory.core.leases import Leases
from domains.processing.workflows.convert.dry_runs import Verdict
from domains.processing.workflows.convert.ready import ready_made
from domains.processing.workflows.convert.running import WorkflowRequests
from domains.processing.workflows.core.picture_work import PictureWork
from domains.processing.workflows.core.stepping import SessionServices
from domains.processing.workflows.core.store import WorkflowStore
from domains.processing.workflows.servicer import WorkflowParts
from domains.records import Records
from domains.session import build as session_build

__all__ = ["PictureWork", "build"]


def build(
    session: session_build.Built,
    records: Records,
    verdict: Verdict,
    least_role: Callable[[str], Role | None],
    pictures: PictureWork,
    leases: Leases,
    now: Callable[[], datetime],
) -> WorkflowParts:
    """Workflows over sessions; the store is to recall what an earlier server kept.

    Args:
        session: Where runs and their steps wait, and what runs them.
        records: What outlives the server of workflows.
        verdict: What Generate would make of a request.
        least_role: The least role for a method, `Service/Method`.
        pictures: Does what runs do themselves with pictures.
        leases: Where they take memory.
        now: The time.
    """
    store = WorkflowStore(ready_made(), records, now)
    services = SessionServices(session.sessions, session.runner, session.reader)
    requests = WorkflowRequests(
        store, session.starters, services, verdict, least_role, pictures, leases
    )
    session.starters.know(
        workflow_pb2.RunWorkflowRequest, lambda request: request, requests.session
    )
    return WorkflowParts(store, requests, session.streams)
