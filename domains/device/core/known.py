"""Devices of earlier runs, remembered so that ids survive restarts and absences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from domains.codec import Malformed, Moment, Value, decode
from domains.device.core import facts as kept
from domains.device.ports import FactsStore
from domains.device.types import Device

MEMORY = timedelta(days=30)
_KEY = "device.known"


class _Entry(Value, frozen=True):
    device: Device
    last_found: Moment

    def __post_init__(self) -> None:
        words, _, number = self.device.device_id.rpartition(":")
        if words.rpartition(":")[2] != self.device.kind.value or not number.isdecimal():
            raise ValueError("not an id of that kind")


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
        return tuple(entry.device for entry in self._entries())

    def remember(self, devices: Iterable[Device]) -> None:
        """Keep `devices`; those that are lost keep the time at which they were found last."""
        now = self._now()
        seen = {entry.device.device_id: entry.last_found for entry in self._entries()}
        listed = [
            _Entry(
                replace(device, lost=True, aliases=(), explanation=""),
                seen.get(device.device_id, now) if device.lost else now,
            )
            for device in devices
        ]
        kept.note(self._facts, _KEY, listed)

    def _entries(self) -> list[_Entry]:
        oldest = self._now() - MEMORY
        found: dict[str, _Entry] = {}
        for item in kept.recall(self._facts, _KEY, list[msgspec.Raw]) or ():
            try:
                entry = decode(_Entry, bytes(item))
            except Malformed as error:
                kept.warn_of_damage(_KEY, str(error))
                continue
            if entry.last_found >= oldest:
                found[entry.device.device_id] = entry
        return list(found.values())
