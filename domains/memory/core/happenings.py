"""What the history counts beside bytes: models that gave way, work that memory failed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from domains.errors import Reason
from domains.memory.core.history import MemoryRecorder
from domains.memory.ports import ModelMemory
from domains.memory.types import HeldComponent, Place
from domains.session.core.sessions import Sessions
from domains.session.jobs import JobEvent
from domains.session.types import Failed


class CountedModels:
    """Model memory whose releases count as evictions; see the port `ModelMemory`.

    Args:
        models: Does the work.
        recorder: Where evictions are counted.
    """

    def __init__(self, models: ModelMemory, recorder: MemoryRecorder) -> None:
        self._models = models
        self._recorder = recorder

    def held(self) -> tuple[HeldComponent, ...]:
        """Every component in a device's memory now."""
        return self._models.held()

    async def release(
        self,
        device_id: str,
        session_id: str,
        model_ids: tuple[str, ...],
        *,
        remaining: float,
    ) -> AsyncGenerator[JobEvent | tuple[HeldComponent, ...]]:
        """Let these models go and count them."""
        events = self._models.release(device_id, session_id, model_ids, remaining=remaining)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, tuple) and event:
                    gone = {one.component.model_id for one in event}
                    self._recorder.count_eviction(Place(device_id), len(gone))
                yield event


class ExhaustionWatch:
    """Finds sessions that failed for want of memory and counts them once.

    Args:
        sessions: All there are.
        recorder: Where they are counted.
    """

    def __init__(self, sessions: Sessions, recorder: MemoryRecorder) -> None:
        self._sessions = sessions
        self._recorder = recorder
        self._seen: set[str] = set()

    def look(self) -> None:
        """Count what failed since the last look."""
        failed = {
            session.session_id: (session.device_id, session.log.terminal.failure.reason)
            for session in self._sessions.all()
            if isinstance(session.log.terminal, Failed)
        }
        for session_id, (device_id, reason) in failed.items():
            if session_id in self._seen:
                continue
            if reason is Reason.DEVICE_OUT_OF_MEMORY:
                self._recorder.count_out_of_memory(Place(device_id))
            elif reason is Reason.HOST_OUT_OF_MEMORY:
                self._recorder.count_out_of_memory(Place())
        self._seen = set(failed)
