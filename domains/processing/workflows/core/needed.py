"""Which artifacts runs of workflows still need, so that nothing removes them before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from weakref import WeakSet

from domains.processing.workflows.core.stepping import SessionServices
from domains.processing.workflows.core.turns import WorkflowTurns
from domains.session.core.session import Session
from domains.session.errors import SessionNotFound
from domains.session.views import EVERYONE


class NeededArtifacts:
    """Knows the runs that have not ended.

    Args:
        services: Where their steps are.
    """

    def __init__(self, services: SessionServices) -> None:
        self._services = services
        self._runs: WeakSet[WorkflowTurns] = WeakSet()

    def note(self, run: WorkflowTurns) -> None:
        """A run was asked for. It is forgotten with its session's end, or when it is not
        accepted."""
        self._runs.add(run)

    def now(self) -> Mapping[str, set[str]]:
        """By the ids of artifacts the clients whose runs need them: what those name, and what
        their steps have made, which others may be given."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for run in tuple(self._runs):
            if run.over:
                continue
            for artifact_id in run.named.artifacts:
                found[artifact_id].add(run.owner)
            for session_id, index in run.named.pictures:
                for artifact_id in self._pictures(session_id, index):
                    found[artifact_id].add(run.owner)
            if run.session is not None:
                for artifact_id in self._made(run.session):
                    found[artifact_id].add(run.owner)
        return found

    def _pictures(self, session_id: str, index: int) -> list[str]:
        """The artifact of a session's picture, where there is one."""
        try:
            session = self._services.sessions.get(session_id, EVERYONE)
        except SessionNotFound:
            return []
        return [
            image.artifact_id
            for image in session.images
            if image.image_index == index and not image.withheld
        ]

    def _made(self, session: Session) -> list[str]:
        """All that a run's steps, and the items and steps of those, have made."""
        found = [image.artifact_id for image in session.images if not image.withheld]
        for child in self._services.sessions.children(session.session_id):
            found += self._made(child)
        return found
