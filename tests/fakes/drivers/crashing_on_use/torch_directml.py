"""A driver that hands a device out and ends the process when a tensor is sent there."""

import os
import signal


class _Device:
    def __str__(self) -> str:
        return "privateuseone:0"

    def take(self, tensor: object) -> object:
        os.kill(os.getpid(), signal.SIGSEGV)
        return tensor


def device_count() -> int:
    return 1


def device(index: int) -> _Device:
    return _Device()


def device_name(index: int) -> str:
    return "Radeon RX 580"
