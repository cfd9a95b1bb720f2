"""The server's event loop: every thread that it needs is started at its beginning.

Work that blocks so never fails because the system gives no more threads, and none of it
holds up the end: a thread that hangs on a disk or a driver is not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")

_ARENA_MAX = -8  # of <malloc.h>

_BASE: type[asyncio.BaseEventLoop]
if sys.platform == "win32":
    _BASE = asyncio.ProactorEventLoop
else:
    _BASE = asyncio.SelectorEventLoop


class NoThreads(Exception):
    """The system gives the server not a single thread."""


class Threads(Executor):
    """A fixed number of threads, which end with the process.

    Args:
        count: How many; fewer where the system gives no more.
        name: What they are called.

    Raises:
        NoThreads: It gives none.
    """

    def __init__(self, count: int, name: str = "work") -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ended = False
        self.count = 0
        try:
            for number in range(count):
                threading.Thread(target=self._do, name=f"{name}-{number}", daemon=True).start()
                self.count += 1
        except (RuntimeError, MemoryError) as error:
            if self.count == 0:
                why = "The system gives the server no threads; raise its limit."
                raise NoThreads(why) from error

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have a thread call `fn` when one is free; raises RuntimeError once shut down."""
        if self._ended:
            raise RuntimeError("these threads were told to end")
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        self._work.put(call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads when they have done what waits; none is waited for."""
        self._ended = True
        for _ in range(self.count):
            self._work.put(None)

    def _do(self) -> None:
        while (call := self._work.get()) is not None:
            call()
            del call  # nothing of it is kept while the thread waits


class ServerLoop(_BASE):  # type: ignore[valid-type,misc]
    """An event loop whose `asyncio.to_thread` uses threads that are there."""

    def __init__(self) -> None:
        super().__init__()
        self._threads = Threads(min(32, (os.cpu_count() or 1) + 4))

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> Any:
        """As asyncio has it, with these threads by default."""
        return super().run_in_executor(executor or self._threads, func, *args)

    def close(self) -> None:
        """As asyncio has it; the threads end too."""
        super().close()
        self._threads.shutdown()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on a loop of its own.

    Raises:
        NoThreads: The system gives none.
    """
    _share_heaps()
    _hear_of_children()
    with (
        asyncio.Runner(loop_factory=ServerLoop) as runner,
        _children_watched(runner.get_loop()),
    ):
        return runner.run(main)


@contextlib.contextmanager
def _children_watched(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Have children's ends noticed without a thread for each, where Python does not yet.

    Whoever runs a loop of another kind afterwards finds what was there before.
    """
    if sys.platform != "linux" or sys.version_info >= (3, 12) or not _has_pidfd():
        yield
        return
    before = asyncio.get_child_watcher()
    watcher = asyncio.PidfdChildWatcher()
    watcher.attach_loop(loop)
    asyncio.set_child_watcher(watcher)
    try:
        yield
    finally:
        asyncio.set_child_watcher(before)


def _hear_of_children() -> None:
    """Have children's ends told where whoever started the process ignores those of its own,
    which is handed down: the system would bury them before anybody looks."""
    number = getattr(signal, "SIGCHLD", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


def _has_pidfd() -> bool:
    """Whether the system lets processes be watched so: Linux before 5.3, as of RHEL 8, and some
    containers do not."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def _share_heaps() -> None:
    """Have threads share two heaps of glibc: each of their own would reserve 64 MiB."""
    if sys.platform == "linux":
        choose = getattr(ctypes.CDLL(None), "mallopt", None)
        if choose is not None:
            choose(_ARENA_MAX, 2)
