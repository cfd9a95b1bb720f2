"""What happens to models, for clients that watch them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime

from domains.changes import HEARTBEAT_SECONDS, Changes, Told
from domains.model.views import ModelEvent, ModelEventKind

_KEPT = 20_000
"""Changes that are kept for clients that come back: a folder of ten thousand may appear."""
_ON_DISK = frozenset({ModelEventKind.ADDED, ModelEventKind.CHANGED, ModelEventKind.REMOVED})

State = Callable[[], Iterable[ModelEvent]]
Listener = Callable[[ModelEvent], None]


class ModelChanges:
    """Tells watchers of the catalogue, of main memory and of devices in one numbered row.

    Whoever knows that something happened calls `record`; whoever knows how things are adds
    a state, from which a new watcher is told.

    Args:
        now: The wall clock, timezone-aware.
        heartbeat_seconds: Silence after which a watcher is told that there is nothing.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._changes: Changes[ModelEvent] = Changes(
            now=now, merge=_merged, kept=_KEPT, heartbeat_seconds=heartbeat_seconds
        )
        self._states: list[State] = []
        self._listeners: list[Listener] = []

    @property
    def revision(self) -> int:
        """Number of the newest change."""
        return self._changes.revision

    def add_state(self, state: State) -> None:
        """Have `state` called for a watcher's snapshot: ADDED of the catalogue's models, then
        CACHED, LOADED, in the order in which the states were added."""
        self._states.append(state)

    def subscribe(self, listener: Listener) -> None:
        """Have `listener` called with everything that is recorded, at once."""
        self._listeners.append(listener)

    def record(self, event: ModelEvent) -> None:
        """Something happened. Belongs to the event loop, as everything here."""
        on_disk = event.kind in _ON_DISK
        place = "disk" if on_disk else event.device_id or "memory"
        self._changes.add(f"{event.model.model_id} {place}", event)
        for listener in self._listeners:
            listener(event)

    async def watch(
        self, model_id: str = "", *, from_revision: int = 0
    ) -> AsyncGenerator[Told[ModelEvent]]:
        """How things are and the end of that, then changes, without end.

        Args:
            model_id: The one model to watch; empty means every model.
            from_revision: Tell the changes after this one instead of how things are.

        Raises:
            ChangesExpired: The changes after `from_revision` are not kept.
        """
        told = self._changes.watch(
            lambda: (event for state in self._states for event in state()),
            from_revision=from_revision,
            wanted=lambda event: model_id in ("", event.model.model_id),
        )
        async with aclosing(told):
            async for one in told:
                yield one


def _merged(older: ModelEvent, newer: ModelEvent) -> ModelEvent:
    """That a model is new is never lost."""
    added, changed = ModelEventKind.ADDED, ModelEventKind.CHANGED
    if (older.kind, newer.kind) == (added, changed):
        return replace(newer, kind=added)
    return newer
