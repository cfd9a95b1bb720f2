"""Telling of bytes done, at most ten times a second."""

from __future__ import annotations

import time

from domains.session.core.session import Session
from domains.session.types import TransferProgress

_SECONDS = 0.1


class Progress:
    """Records how far a session's bytes have come.

    Args:
        session: Whose log it goes to.
        item: What is being moved.
        total: Bytes of the whole.
    """

    def __init__(self, session: Session, item: str, total: int) -> None:
        self._session = session
        self._item = item
        self._total = total
        self._told = time.monotonic()

    def tell(self, done: int) -> None:
        """So many bytes are done; kept unless the last one was kept just now."""
        now = time.monotonic()
        if now - self._told >= _SECONDS and done < self._total:
            self._told = now
            self._session.record(TransferProgress(self._item, done, self._total))

    def finish(self) -> None:
        """Everything is done: always kept."""
        self._session.record(TransferProgress(self._item, self._total, self._total))
