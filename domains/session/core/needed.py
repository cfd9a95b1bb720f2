"""Which artifacts accepted work still needs, so that nothing removes them before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from domains.session.core.session import Session
from domains.session.types import SessionKind
from domains.session.types.named import Names


class NeededArtifacts:
    """Knows the sessions that have not ended, from an earlier server too, and what each needs:
    what its request names, also where a copy is at hand, since the next server begins it anew;
    and of a workflow's run what its steps have made, which others may be given.

    Args:
        sessions: All that are kept, by their ids.
        children: Of each its steps and items.
    """

    def __init__(
        self,
        sessions: Mapping[str, Session],
        children: Mapping[str, Mapping[str, Session]],
    ) -> None:
        self._sessions, self._children = sessions, children
        self._open: dict[str, Session] = {}
        self._asked: dict[object, tuple[str, Names]] = {}

    def note(self, session: Session) -> None:
        """It has been accepted, or its `about.named` is another one. It is forgotten with its
        end."""
        if session.about.named or session.kind is SessionKind.WORKFLOW:
            self._open[session.session_id] = session

    @contextmanager
    def held(self, owner: str, names: Names) -> Iterator[None]:
        """Work of that client is about to be accepted: what it names was there when that was
        looked at, and still is when the work is noted."""
        key = object()
        self._asked[key] = (owner, names)
        try:
            yield
        finally:
            del self._asked[key]

    def now(self) -> Mapping[str, set[str]]:
        """By the ids of artifacts the clients whose work needs them."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for session_id, session in tuple(self._open.items()):
            if session.state.final:
                del self._open[session_id]
                continue
            self._note_named(found, session.owner, session.about.named)
            if session.kind is SessionKind.WORKFLOW:
                for artifact_id in self._made(session):
                    found[artifact_id].add(session.owner)
        for owner, names in self._asked.values():
            self._note_named(found, owner, names)
        return found

    def _note_named(self, found: Mapping[str, set[str]], owner: str, names: Names) -> None:
        for artifact_id in names.artifacts:
            found[artifact_id].add(owner)
        for session_id, index in names.pictures:
            for artifact_id in self._pictures(session_id, index):
                found[artifact_id].add(owner)

    def _pictures(self, session_id: str, index: int) -> list[str]:
        """The artifact of a session's picture, where there is one."""
        session = self._sessions.get(session_id)
        return [
            image.artifact_id
            for image in (() if session is None else session.images)
            if image.image_index == index and not image.withheld
        ]

    def _made(self, session: Session) -> list[str]:
        """All that a run's steps, and the items and steps of those, have made."""
        found = [image.artifact_id for image in session.images if not image.withheld]
        for child in self._children.get(session.session_id, {}).values():
            found += self._made(child)
        return found
