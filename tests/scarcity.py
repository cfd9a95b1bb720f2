"""Making the system give this process no more of something, for a while."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
import time
from collections.abc import Iterator

import pytest

from domains import own_threads

_PATIENCE = 10.0


@contextlib.contextmanager
def few_descriptors(*, free: int) -> Iterator[None]:
    """This process can open so many files more, of which looking at them takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(free):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for handle in taken:
            os.close(handle)


class NoThreads:
    """While `on`, threads of this process cannot be started, except by `name`; nor does one
    wait for calls that want a thread of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *allowed: str) -> None:
        self.on = True
        deadline = time.monotonic() + _PATIENCE
        while len(_disk_threads()) > 1 and time.monotonic() < deadline:
            time.sleep(0.001)  # those of tests before this one, which would wait from then on
        monkeypatch.setattr(own_threads, "_waiting", [])
        self.refused = 0
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if self.on and thread.name not in allowed:
                self.refused += 1
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)


def _disk_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "disk"]


def full_disk(*_: object, **__: object) -> None:
    """Stands in for what writes: there is no room."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
