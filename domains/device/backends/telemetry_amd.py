"""AMD cards' load, temperature and power, from amdsmi (the extra [amd], or ROCm's own copy).

The library numbers cards otherwise than HIP does, so a card is found by its PCI address.
Source: AMD SMI Python API, https://rocm.docs.amd.com/projects/amdsmi
"""

from __future__ import annotations

import importlib
import threading
from functools import partial
from typing import Any

from domains.device.backends.readings import number
from domains.device.types import Device, Load

# Newer cards report the current power, older ones an average; which key depends on the version.
_POWER_KEYS = ("current_socket_power", "average_socket_power", "socket_power")


class AmdTelemetry:
    """Asks AMD SMI; the library is imported and opened at the first question."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library: Any = None

    def read(self, device: Device) -> Load:
        """The card now.

        Raises:
            ImportError: amdsmi is not installed.
            LookupError: It knows no card at the device's PCI address.
            Exception: Whatever amdsmi raises for a driver it does not find.
        """
        smi = self._opened()
        handle = _handle(smi, device)
        share = number(lambda: smi.amdsmi_get_gpu_activity(handle)["gfx_activity"])
        return Load(
            load=None if share is None else min(max(share / 100, 0.0), 1.0),
            temperature_celsius=_temperature(smi, handle),
            power_watts=_power(smi, handle),
        )

    def _opened(self) -> Any:
        with self._lock:
            if self._library is None:
                library = importlib.import_module("amdsmi")
                library.amdsmi_init()
                self._library = library
            return self._library


def _handle(smi: Any, device: Device) -> Any:
    for handle in smi.amdsmi_get_processor_handles():
        address = str(smi.amdsmi_get_gpu_device_bdf(handle)).lower()
        if device.slot and address.rpartition(".")[0] == device.slot:
            return handle
    raise LookupError("no card at that PCI address")


def _temperature(smi: Any, handle: Any) -> float | None:
    """Of the edge of the chip; cards without that sensor report their hottest spot."""
    kinds, now = smi.AmdSmiTemperatureType, smi.AmdSmiTemperatureMetric.CURRENT
    for kind in (kinds.EDGE, kinds.HOTSPOT):
        reading = number(partial(smi.amdsmi_get_temp_metric, handle, kind, now))
        if reading is not None:
            return reading
    return None


def _power(smi: Any, handle: Any) -> float | None:
    try:
        reading = smi.amdsmi_get_power_info(handle)
    except Exception:  # A card that does not report it has its other figures.
        return None
    watts = (number(partial(reading.get, key)) for key in _POWER_KEYS)
    return next((figure for figure in watts if figure), None)
