"""NVIDIA cards' load, temperature and power, from nvidia-ml-py (the extra [nvidia]).

The library numbers cards otherwise than CUDA does, so a card is found by its UUID or its
PCI address and never by a number.
Source: NVML API reference, https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
"""

from __future__ import annotations

import importlib
import threading
from typing import Any

from domains.device.backends.readings import number
from domains.device.types import Device, Load


class NvidiaTelemetry:
    """Asks NVML; the library is imported and opened at the first question."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library: Any = None

    def read(self, device: Device) -> Load:
        """The card now.

        Raises:
            ImportError: nvidia-ml-py is not installed.
            Exception: Whatever NVML raises for a card or driver it does not find.
        """
        nvml = self._opened()
        handle = _handle(nvml, device)
        share = number(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        sensor = nvml.NVML_TEMPERATURE_GPU
        milliwatts = number(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        return Load(
            load=None if share is None else min(max(share / 100, 0.0), 1.0),
            temperature_celsius=number(lambda: nvml.nvmlDeviceGetTemperature(handle, sensor)),
            power_watts=None if milliwatts is None else milliwatts / 1000,
        )

    def _opened(self) -> Any:
        with self._lock:
            if self._library is None:
                library = importlib.import_module("pynvml")
                library.nvmlInit()
                self._library = library
            return self._library


def _handle(nvml: Any, device: Device) -> Any:
    if device.hardware_id.startswith(("GPU-", "MIG-")):
        return nvml.nvmlDeviceGetHandleByUUID(device.hardware_id)
    # NVML wants the function number too, which torch does not report: cards have one.
    return nvml.nvmlDeviceGetHandleByPciBusId(f"{device.slot}.0")
