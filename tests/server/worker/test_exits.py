"""How a worker's process ends of itself."""

from __future__ import annotations

import os
import subprocess
import sys

from server.worker.link.exits import EXIT_ORPHANED

_ORPHAN = f"""
import sys, threading
from server.worker.link.exits import leave
print("what a library prints, and nobody has passed on")
sys.stdin.read()  # until nobody reads it any more
threading.Thread(target=leave, args=({EXIT_ORPHANED},), daemon=True).start()
threading.Event().wait()
"""


def test_it_ends_also_when_nobody_is_left_to_read_what_it_printed() -> None:
    environment = dict(os.environ)  # noqa: TID251 - what it prints is to wait
    environment.pop("PYTHONUNBUFFERED", None)
    with subprocess.Popen(
        [sys.executable, "-c", _ORPHAN],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdout.close()
            process.stdin.close()
            assert process.wait(20) == EXIT_ORPHANED
        finally:
            process.kill()
