"""Sends frames to a worker from a thread, as a worker may stop reading."""

from __future__ import annotations

import queue
import threading
import time

from server.worker.link.connection import Link, LinkClosed


class Sender:
    """Sends in order. What cannot be sent because the worker is gone is dropped.

    Raises:
        RuntimeError: The system has no thread left.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._since: float | None = None
        threading.Thread(target=self._send, name="worker-orders", daemon=True).start()

    def put(self, frame: bytes) -> None:
        """Send a frame when those before it are sent; returns at once."""
        self._frames.put(frame)

    def blocked(self, now: float) -> float:
        """Seconds for which the frame that is being sent has not been taken."""
        since = self._since
        return 0.0 if since is None else now - since

    def close(self) -> None:
        """Send nothing more."""
        self._frames.put(None)

    def _send(self) -> None:
        while (frame := self._frames.get()) is not None:
            self._since = time.monotonic()
            try:
                self._link.send(frame)
            except LinkClosed:
                return
            finally:
                self._since = None
