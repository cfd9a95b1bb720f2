"""Time that tests move: as it passes, and as somebody sets the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from domains.clock import Clock


class SteeredTime:
    """Both clocks stand still until they are moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.moment = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)
        self.clock = Clock(lambda: self.seconds, lambda: self.moment)

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds
        self.moment += timedelta(seconds=seconds)

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self.moment += timedelta(seconds=seconds)
