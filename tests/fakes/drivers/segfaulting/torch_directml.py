"""A driver that ends the process that asks it."""

import os
import signal


def device_count() -> int:
    os.kill(os.getpid(), signal.SIGSEGV)
    return 1
