"""A driver that cannot create its device, which it tries when asked for the name."""

import os
import signal


def device_count() -> int:
    return 1


def device(index: int) -> str:
    return f"privateuseone:{index}"


def device_name(index: int) -> str:
    os.kill(os.getpid(), signal.SIGSEGV)
    return ""
