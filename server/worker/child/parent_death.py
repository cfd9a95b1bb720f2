"""A worker must not outlive the front: what the worker itself can do about it.

Linux kills it when the front dies. On Windows the front's job object does that. Elsewhere
it ends when the link breaks, which takes a moment in which it can run Python.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_process_id: int) -> None:
    """Ask the system to end this process with its parent.

    Raises:
        SystemExit: The parent is gone already, or is none of its own: with 1, and the reason
            printed.
        OSError: The system refuses.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    # It may have died before the system was asked.
    if os.getppid() != parent_process_id:
        raise SystemExit(
            "ERROR the server that started this process is gone, or another program stands"
            " between them: what worker_python names has to be an interpreter, or a script that"
            " runs one with exec."
        )
