"""How much may come at once, and how much goes on coming."""

from __future__ import annotations

import time
from collections.abc import Callable


class Allowance:
    """So much at once, and so much more each second.

    Args:
        burst: Most that is saved up.
        rate: What comes back in a second.
        clock: Monotonic seconds.
    """

    def __init__(
        self, burst: float, rate: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._rate, self._clock = burst, rate, clock
        self._left, self._at = burst, clock()

    def take(self, amount: float) -> float:
        """Take it even when it is not there; seconds until it would have been, else 0."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - amount
        self._at = now
        return max(-self._left / self._rate, 0.0)

    def has(self, amount: float) -> bool:
        """Take it if it is there."""
        if self.take(0) == 0 and self._left >= amount:
            self._left -= amount
            return True
        return False
