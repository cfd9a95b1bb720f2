"""Which profile each device runs with, over restarts of workers and of the server."""

from __future__ import annotations

from domains.codec import Value
from domains.device.core import facts as kept
from domains.device.ports import FactsStore
from domains.device.types import OptimizationProfile


class _Chosen(Value, frozen=True):
    profile: OptimizationProfile


class DeviceProfiles:
    """Remembers the profile that was applied last to each device; BALANCED before any.

    Args:
        facts: Where profiles are kept.
    """

    def __init__(self, facts: FactsStore) -> None:
        self._facts = facts

    def of(self, device_id: str) -> OptimizationProfile:
        """The profile that the device's workers run with."""
        chosen = kept.recall(self._facts, _key(device_id), _Chosen)
        return OptimizationProfile.BALANCED if chosen is None else chosen.profile

    def remember(self, device_id: str, profile: OptimizationProfile) -> None:
        """Keep it for workers to come."""
        kept.keep(self._facts, _key(device_id), _Chosen(profile))


def _key(device_id: str) -> str:
    return f"device.profile/{device_id}"
