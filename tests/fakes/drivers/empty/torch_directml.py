"""A driver without adapters, which ends the process when it is used nevertheless."""

import os
import signal


def device_count() -> int:
    return 0


def device(index: int) -> str:
    os.kill(os.getpid(), signal.SIGSEGV)
    return ""


device_name = device
