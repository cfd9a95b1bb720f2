"""Which profile each device runs with, over restarts of workers and of the server."""

from __future__ import annotations

from domains.device.core import facts as kept
from domains.device.ports import FactsStore
from domains.device.types import OptimizationProfile

_SCHEMA = 1


class DeviceProfiles:
    """Remembers the profile that was applied last to each device; BALANCED before any.

    Args:
        facts: Where profiles are kept.
    """

    def __init__(self, facts: FactsStore) -> None:
        self._facts = facts

    def of(self, device_id: str) -> OptimizationProfile:
        """The profile that the device's workers run with."""
        value = kept.recall(self._facts, _key(device_id), _SCHEMA) or {}
        try:
            return OptimizationProfile(value.get("profile"))
        except ValueError:
            return OptimizationProfile.BALANCED

    def remember(self, device_id: str, profile: OptimizationProfile) -> None:
        """Keep it for workers to come."""
        kept.keep(self._facts, _key(device_id), _SCHEMA, {"profile": profile.value})


def _key(device_id: str) -> str:
    return f"device.profile/{device_id}"
