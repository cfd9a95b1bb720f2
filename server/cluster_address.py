"""Where a cluster of machines is reached, as an operator sets it."""

from __future__ import annotations

from importlib.util import find_spec


def checked_ray_address(value: str) -> str:
    """An address as it was set; empty where there is no cluster.

    Raises:
        ValueError: It is no `host:port`, or Ray is not installed.
    """
    if not value:
        return value
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError("expected host:port, such as 192.168.0.10:6379")
    if find_spec("ray") is None:
        raise ValueError(
            "Ray is not installed; install the extra [ray] of device-operations, or leave the"
            " setting empty to use the devices of this machine only"
        )
    return value
