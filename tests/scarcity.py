"""Making the system give this process no more of something, for a while."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
from collections.abc import Iterator

import pytest


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
    """While `on`, threads of this process cannot be started, except by `name`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *allowed: str) -> None:
        self.on = True
        self.refused = 0
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if self.on and thread.name not in allowed:
                self.refused += 1
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)


def full_disk(*_: object, **__: object) -> None:
    """Stands in for what writes: there is no room."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
