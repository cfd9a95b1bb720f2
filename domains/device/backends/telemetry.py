"""How busy, hot and hungry devices are, where their platform reports it.

Each kind has a reader or none: nothing reports it for Intel, Apple and DirectML adapters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from domains.device.backends.telemetry_amd import AmdTelemetry
from domains.device.backends.telemetry_cpu import ProcessorTelemetry
from domains.device.backends.telemetry_nvidia import NvidiaTelemetry
from domains.device.types import Device, DeviceKind, Load

_log = logging.getLogger(__name__)
Reader = Callable[[Device], Load]


class PlatformTelemetry:
    """Reads each kind with its platform's own library; see the port `Telemetry`.

    Args:
        readers: By kind; by default those there are.
    """

    def __init__(self, readers: Mapping[DeviceKind, Reader] | None = None) -> None:
        self._readers = readers or {
            DeviceKind.CPU: ProcessorTelemetry().read,
            DeviceKind.CUDA: NvidiaTelemetry().read,
            DeviceKind.ROCM: AmdTelemetry().read,
        }

    def read(self, device: Device) -> Load:
        """The device now; nothing of one that cannot be asked. Never raises."""
        reader = self._readers.get(device.kind)
        if reader is None:
            return Load()
        try:
            return reader(device)
        except Exception:  # Drivers raise whatever they like.
            _log.debug("telemetry of %s cannot be read", device.device_id, exc_info=True)
            return Load()
