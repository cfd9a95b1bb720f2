"""The workflows that there are: those that come with the server, and those of its clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

from msgspec.structs import replace

from domains.clients import Caller
from domains.codec import Malformed, decode, encode
from domains.paging import Page, paginate_ordered
from domains.processing.workflows.errors import (
    TooManyWorkflows,
    WorkflowChanged,
    WorkflowNameTaken,
    WorkflowNotFound,
    WorkflowReadyMade,
)
from domains.processing.workflows.types import StoredWorkflow
from domains.records import Records

MOST = 1_000
MOST_BYTES = 64 * 2**20
"""Of one client."""


class WorkflowStore:
    """Workflows by name; each client has names of its own.

    Args:
        ready_made: Those that come with the server; nobody else's has such a name.
        records: What outlives the server of the others.
        now: The time.
    """

    def __init__(
        self,
        ready_made: Iterable[StoredWorkflow],
        records: Records,
        now: Callable[[], datetime],
    ) -> None:
        self._ready_made = {each.workflow_id: each for each in ready_made}
        self._stored: dict[tuple[str, str], StoredWorkflow] = {}
        self._records, self._now = records, now

    def recall(self) -> None:
        """Remember those of an earlier server; to be called once, before any other."""
        for body in self._records.found().values():
            try:
                stored = decode(StoredWorkflow, body)
            except Malformed:
                continue  # it stays on disk for a version that reads it
            self._stored[stored.owner, stored.workflow_id] = stored

    def get(self, workflow_id: str, viewer: Caller) -> StoredWorkflow:
        """The workflow of that name: the viewer's own, one that comes with the server, or for
        who sees everything another client's.

        Raises:
            WorkflowNotFound: There is none.
        """
        found = self._stored.get((viewer.name, workflow_id)) or self._ready_made.get(
            workflow_id
        )
        if found is None:
            others = (
                each
                for _, each in sorted(self._stored.items())
                if each.workflow_id == workflow_id and viewer.sees(each.owner)
            )
            found = next(others, None)
        if found is None:
            raise WorkflowNotFound(workflow_id)
        return found

    def listed(
        self, viewer: Caller, owner: str, *, page_size: int, page_token: str
    ) -> Page[StoredWorkflow]:
        """A page of those that the viewer may see, by name; with `owner` of that client only.

        Raises:
            InvalidArgument: As `paginate_ordered`.
        """
        ready_made = [] if owner else [*self._ready_made.values()]
        stored = [
            each
            for each in self._stored.values()
            if viewer.sees(each.owner) and owner in ("", each.owner)
        ]
        return paginate_ordered(
            [*ready_made, *stored],
            lambda each: (each.workflow_id, each.owner),
            page_size=page_size,
            page_token=page_token,
            scope=f"workflows {viewer.name} {owner}",
        )

    async def create(self, workflow_id: str, owner: str, body: bytes) -> StoredWorkflow:
        """Keep a workflow; it is on disk when this returns.

        Raises:
            WorkflowNameTaken: There is one of that name.
            TooManyWorkflows: The client has as many as it may.
            DomainError: The disk does not take it.
        """
        key = owner, workflow_id
        if key in self._stored or workflow_id in self._ready_made:
            raise WorkflowNameTaken(workflow_id)
        made = StoredWorkflow(workflow_id, owner, 1, self._now(), body)
        self._check_room(made)
        self._stored[key] = made
        try:
            await self._records.accept(_key(made), encode(made))
        except BaseException:
            del self._stored[key]
            raise
        return made

    async def update(
        self, workflow_id: str, viewer: Caller, body: bytes, expected_version: int
    ) -> StoredWorkflow:
        """Put another one in its place, with the next version.

        Raises:
            WorkflowNotFound: There is none.
            WorkflowReadyMade: It comes with the server.
            WorkflowChanged: It has another version than is expected.
            TooManyWorkflows: The client's would grow too large together.
        """
        before = self._changeable(workflow_id, viewer, expected_version)
        now, version = self._now(), before.version + 1
        made = replace(before, version=version, create_time=now, body=body)
        self._check_room(made)
        self._stored[before.owner, workflow_id] = made
        await asyncio.wrap_future(self._records.put(_key(made), encode(made)))
        return made

    async def delete(self, workflow_id: str, viewer: Caller, expected_version: int) -> None:
        """Forget a workflow.

        Raises:
            WorkflowNotFound: There is none.
            WorkflowReadyMade: It comes with the server.
            WorkflowChanged: It has another version than is expected, unless that is 0.
        """
        before = self._changeable(workflow_id, viewer, expected_version)
        del self._stored[before.owner, workflow_id]
        await asyncio.wrap_future(self._records.remove(_key(before)))

    def _changeable(
        self, workflow_id: str, viewer: Caller, expected_version: int
    ) -> StoredWorkflow:
        found = self.get(workflow_id, viewer)
        if found.built_in:
            raise WorkflowReadyMade(workflow_id)
        if expected_version not in (0, found.version):
            raise WorkflowChanged(workflow_id, found.version)
        return found

    def _check_room(self, made: StoredWorkflow) -> None:
        others = [
            each
            for (owner, name), each in self._stored.items()
            if owner == made.owner and name != made.workflow_id
        ]
        together = sum(len(each.body) for each in others) + len(made.body)
        if len(others) >= MOST or together > MOST_BYTES:
            raise TooManyWorkflows(MOST, MOST_BYTES)


def _key(stored: StoredWorkflow) -> str:
    return f"{stored.owner}/{stored.workflow_id}"
