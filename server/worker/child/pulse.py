"""A worker's sign of life, with its device's memory figures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import psutil

from domains.device.types import DeviceFigures
from server.worker.child.parts import Parts
from server.worker.link.frames import Beat

BEAT_SECONDS = 1.0
_MOST_COMPONENTS = 64  # a frame holds so many

_log = logging.getLogger("deviceops.worker")


class Pulse:
    """Beats every second from a thread of its own, and whenever `tell` is called.

    Where only the main thread may touch the device, other threads' beats carry what the
    main thread last read.

    Args:
        parts: The worker's.
        send: Sends a beat; from any thread.
    """

    def __init__(self, parts: Parts, send: Callable[[Beat], None]) -> None:
        self._parts = parts
        self._send = send
        self._process = psutil.Process()
        # Reading and sending are one: a beat must not overtake a fresher one.
        self._beating = threading.Lock()
        self._figures: DeviceFigures | None = None
        self._read_at = 0.0
        self._failing = False

    def start(self, *, after: threading.Event) -> None:
        """Beat from the moment on in which `after` is set.

        Raises:
            RuntimeError: The system has no thread left.
        """
        threading.Thread(target=self._beat, args=(after,), name="beat", daemon=True).start()

    def tell(self) -> None:
        """Beat now."""
        with self._beating:
            if not self._parts.single_threaded or _in_main_thread():
                self._read()
            self._send(Beat(self._process.memory_info().rss, self._figures))

    def refresh(self) -> None:
        """Read the figures if those there are older than a beat. For the main thread."""
        if time.monotonic() - self._read_at >= BEAT_SECONDS:
            with self._beating:
                self._read()

    def _beat(self, after: threading.Event) -> None:
        after.wait()
        while True:
            self.tell()
            time.sleep(BEAT_SECONDS)

    def _read(self) -> None:
        parts = self._parts
        try:
            self._figures = parts.gauge.read(
                parts.buffers.leased_bytes, parts.held()[:_MOST_COMPONENTS]
            )
            self._failing = False
        except Exception:
            # A driver in trouble; whatever runs meets it too and says so.
            self._figures = None
            if not self._failing:
                _log.exception("the device's memory cannot be read")
            self._failing = True
        self._read_at = time.monotonic()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
