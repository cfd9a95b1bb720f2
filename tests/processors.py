"""What each of several test processes computes with."""

from __future__ import annotations

import os


def share_processors() -> None:
    """Give this process and those it starts its part of the processors, before torch is
    imported.

    Threads of several processes that wait for each other's processors spin at every barrier:
    two that draw on two processors compute nearly twice as long as with one thread each.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))  # noqa: TID251 - for a library
    if processes > 1:
        threads = max(1, (os.cpu_count() or 1) // processes)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # noqa: TID251 - for a library
