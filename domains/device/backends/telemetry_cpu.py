"""The processor's load and temperature, from psutil; power is not reported."""

from __future__ import annotations

import threading
import time
from typing import Any

import psutil

from domains.device.types import Device, Load

# Shorter spans are mostly the clock's granularity, longer ones are history.
_SHORTEST, _LONGEST = 0.2, 10.0
# Chips that measure the processor: Intel, AMD, AMD by another driver, ARM boards.
_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal")


class ProcessorTelemetry:
    """Busy share of all cores since the last reading, or over 0.2 seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = self._sample()

    def read(self, device: Device) -> Load:
        """The processor now; blocks for 0.2 seconds when it was not read lately."""
        with self._lock:
            age = time.monotonic() - self._last[0]
            if not _SHORTEST <= age <= _LONGEST:
                if age > _LONGEST:
                    self._last = self._sample()
                time.sleep(_SHORTEST)
            before, self._last = self._last, self._sample()
        return Load(load=_busy_share(before, self._last), temperature_celsius=_temperature())

    def _sample(self) -> tuple[float, float, float]:
        """When, and the seconds that cores were busy and existed since the machine began."""
        times: Any = psutil.cpu_times()
        # The time of guests is part of user's and nice's.
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        total = sum(times) - guests
        idle = times.idle + getattr(times, "iowait", 0.0)
        return time.monotonic(), total - idle, total


def _busy_share(
    before: tuple[float, float, float], after: tuple[float, float, float]
) -> float | None:
    span = after[2] - before[2]
    if span <= 0:
        return None
    return min(max((after[1] - before[1]) / span, 0.0), 1.0)


def _temperature() -> float | None:
    """The hottest part of the processor; None where the platform does not report it."""
    sensors = getattr(psutil, "sensors_temperatures", None)
    if sensors is None:
        return None
    readings = [
        float(reading.current)
        for chip, readings in sensors().items()
        if chip in _CHIPS
        for reading in readings
        if reading.current
    ]
    return max(readings, default=None)
