"""Devices of earlier runs, remembered so that ids survive restarts and absences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from domains.device.core import facts as kept
from domains.device.ports import FactsStore
from domains.device.types import Device, DeviceKind
from domains.values import ByteFigure, FigureQuality

MEMORY = timedelta(days=30)
_KEY = "device.known"
_SCHEMA = 1
_TEXTS = (
    "device_id",
    "identity",
    "name",
    "vendor",
    "torch_device",
    "driver_version",
    "runtime_version",
    "hardware_id",
    "slot",
)


class KnownDevices:
    """Keeps who has which id.

    A device is forgotten 30 days after it was last found; its id is free then. Until then
    it is a lost device, also after a restart: whoever asks for it learns that it is gone,
    and nobody else is given its id.

    Args:
        facts: Where they are kept.
        now: The clock, timezone-aware.
    """

    def __init__(self, facts: FactsStore, now: Callable[[], datetime]) -> None:
        self._facts = facts
        self._now = now

    def recall(self) -> tuple[Device, ...]:
        """Everything remembered, as lost; entries that cannot be read are left out."""
        return tuple(device for device, _ in self._entries())

    def remember(self, devices: Iterable[Device]) -> None:
        """Keep `devices`; those that are lost keep the time at which they were found last."""
        now = self._now()
        seen = {device.device_id: moment for device, moment in self._entries()}
        listed = [
            _entry(device, seen.get(device.device_id, now) if device.lost else now)
            for device in devices
        ]
        kept.keep(self._facts, _KEY, _SCHEMA, {"devices": listed})

    def _entries(self) -> list[tuple[Device, datetime]]:
        value = kept.recall(self._facts, _KEY, _SCHEMA) or {}
        oldest = self._now() - MEMORY
        found: dict[str, tuple[Device, datetime]] = {}
        listed = value.get("devices")
        for item in listed if isinstance(listed, list) else ():
            try:
                device, moment = _device(item), datetime.fromisoformat(item["last_found"])
                if moment >= oldest:
                    found[device.device_id] = device, moment
            except (KeyError, TypeError, ValueError):
                continue
        return list(found.values())


def _entry(device: Device, moment: datetime) -> dict[str, Any]:
    return {name: getattr(device, name) for name in _TEXTS} | {
        "kind": device.kind.value,
        "unified_memory": device.unified_memory,
        "total_bytes": device.total_memory.value,
        "total_source": device.total_memory.source,
        "last_found": moment.isoformat(),
    }


def _device(item: Any) -> Device:
    texts: dict[str, Any] = {name: str(item[name]) for name in _TEXTS}
    kind = DeviceKind(item["kind"])
    word, _, number = texts["device_id"].rpartition(":")
    if word != kind.value or not number.isdecimal():
        raise ValueError("not an id of that kind")
    total = item["total_bytes"]
    quality = FigureQuality.UNKNOWN if total is None else FigureQuality.MEASURED
    return Device(
        kind=kind,
        total_memory=ByteFigure(
            None if total is None else int(total), quality, str(item["total_source"])
        ),
        unified_memory=bool(item["unified_memory"]),
        lost=True,
        **texts,
    )
