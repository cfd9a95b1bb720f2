"""How a worker's process ends of itself, and with which codes."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import NoReturn

EXIT_OK, EXIT_CANNOT_START, EXIT_STICKY, EXIT_ORPHANED = 0, 1, 3, 4
EXIT_NODE_GONE = 6
"""Only of what stands for a worker on another machine: that machine is not there."""


def leave(code: int) -> NoReturn:
    """End this process at once, from any thread. What it printed is handed on where somebody
    still reads it: whoever started it may be gone."""
    logging.shutdown()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)
