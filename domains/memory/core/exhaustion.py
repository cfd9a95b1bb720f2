"""Work that failed for want of memory, counted in the history."""

from __future__ import annotations

from datetime import datetime

from domains.errors import Reason
from domains.memory.core.recorder import MemoryRecorder
from domains.memory.types import Place
from domains.session.core.sessions import Sessions
from domains.session.types import Failed


class ExhaustionWatch:
    """Finds sessions that failed for want of memory and counts them once.

    Args:
        sessions: All there are.
        recorder: Where they are counted.
        since: What ended before an earlier server has counted.
    """

    def __init__(
        self, sessions: Sessions, recorder: MemoryRecorder, *, since: datetime
    ) -> None:
        self._sessions = sessions
        self._recorder = recorder
        self._since = since
        self._seen: set[str] = set()

    def look(self) -> None:
        """Count what failed since the last look."""
        failed = {
            session.session_id: (session.device_id, session.log.terminal.failure.reason)
            for session in self._sessions.all()
            if isinstance(session.log.terminal, Failed)
            and (session.times.end_time or self._since) >= self._since
        }
        for session_id, (device_id, reason) in failed.items():
            if session_id in self._seen:
                continue
            if reason is Reason.DEVICE_OUT_OF_MEMORY:
                self._recorder.count_out_of_memory(Place(device_id))
            elif reason is Reason.HOST_OUT_OF_MEMORY:
                self._recorder.count_out_of_memory(Place())
        self._seen = set(failed)
