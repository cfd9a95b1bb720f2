"""Requests to stop, by signals or from code; a second one means at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Coroutine, Iterator
from typing import Any

from server import early_end

# What was cancelled may clean up for so long; what ignores it is not waited for.
_CANCEL_SECONDS = 1.0


class StopRequests:
    """Collects requests to stop: the first begins the drain, the second cuts it short."""

    def __init__(self) -> None:
        self._first = asyncio.Event()
        self._second = asyncio.Event()

    def request(self) -> None:
        """Ask to stop; from the event loop's thread."""
        (self._second if self._first.is_set() else self._first).set()

    def begin(self) -> None:
        """Ask to stop, unless that was asked; from the event loop's thread."""
        self._first.set()

    @property
    def at_once(self) -> bool:
        """Whether the drain is to be cut short."""
        return self._second.is_set()

    async def wait(self) -> None:
        """Until the first request."""
        await self._first.wait()

    async def started(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether the work ended before anybody asked to stop; else it is cancelled.

        Raises what the work raised.
        """
        task = asyncio.ensure_future(work)
        first = asyncio.ensure_future(self._first.wait())
        try:
            await asyncio.wait({task, first}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
                return not self._first.is_set()
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
            return False
        finally:
            first.cancel()

    async def finished(self, work: Awaitable[Any], timeout_seconds: float) -> bool:
        """Whether the work ended in time and before a second request; else cancel it.

        Raises what the work raised.
        """
        task = asyncio.ensure_future(work)
        second = asyncio.ensure_future(self._second.wait())
        try:
            await asyncio.wait(
                {task, second}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if task.done():
                task.result()
                return True
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
            return False
        finally:
            second.cancel()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Ctrl-C, Ctrl-Break, SIGTERM and SIGHUP are requests to stop while this is open.

        SIGHUP only begins one: a terminal that closes may send it twice.
        `loop.add_signal_handler` does not exist on Windows; this way works everywhere.
        Signals can be had in the main thread only: elsewhere it does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        hangup = getattr(signal, "SIGHUP", None)

        def ask(number: int, _: object) -> None:
            ask = self.begin if number == hangup else self.request
            loop.call_soon_threadsafe(ask)

        before = {number: signal.signal(number, ask) for number in early_end.signals()}
        try:
            with _woken_by_signals(loop):
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _woken_by_signals(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """A signal wakes the loop, whichever thread takes it and however close to its sleep.

    Handlers run between two steps of the main thread, which makes none while it sleeps.
    """
    if sys.platform == "win32":  # Its loop does so by itself.
        yield
        return
    woken, waking = socket.socketpair()
    with woken, waking:
        woken.setblocking(False)
        waking.setblocking(False)
        loop.add_reader(woken, woken.recv, 4096)
        before = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            loop.remove_reader(woken)
