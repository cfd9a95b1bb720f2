"""What was measured of generations outlives the server: how long they take, how much memory."""

from __future__ import annotations

import asyncio

from domains.codec import Text, Value
from domains.device.core import facts as kept
from domains.device.ports import FactsStore
from domains.inference.core.forecast import Forecasts, Peaks
from domains.session.core.speeds import MeasuredSpeeds, Speeds

_KEY = "inference.experience"


class _Measured(Value, frozen=True):
    """By which version of the program, and what."""

    version: Text
    speeds: MeasuredSpeeds
    peaks: Peaks


class Experience:
    """Keeps figures that took work to learn. Device ids mean the same device in every run.

    Figures of another version of the program are not used: it may be faster or need more.

    Args:
        facts: Where they are kept.
        speeds: Knows how long work took.
        forecasts: Knows how much memory it took.
        version: The program's.
    """

    def __init__(
        self, facts: FactsStore, speeds: Speeds, forecasts: Forecasts, version: str
    ) -> None:
        self._facts = facts
        self._speeds = speeds
        self._forecasts = forecasts
        self._version = version
        self._saved = 0

    def recall(self) -> None:
        """Know what earlier runs learned; nothing where that is damaged."""
        earlier = kept.recall(self._facts, _KEY, _Measured)
        if earlier is not None and earlier.version == self._version:
            self._speeds.recall(earlier.speeds)
            self._forecasts.recall(earlier.peaks)

    async def save(self) -> None:
        """Have what is new outlive the server; nothing where nothing is. To be called now and
        then, and at the end."""
        lessons = self._speeds.lessons + self._forecasts.lessons
        if lessons != self._saved:
            self._saved = lessons
            known = _Measured(
                self._version, self._speeds.measured(), self._forecasts.measured()
            )
            await asyncio.to_thread(kept.note, self._facts, _KEY, known)
