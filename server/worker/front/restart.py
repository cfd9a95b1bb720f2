"""When a worker that died is started again. Pure: the clock is injected."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class RestartRules:
    """Seconds, and how many deaths within `window` take a device out of use."""

    first_delay: float = 0.5
    longest_delay: float = 30.0
    window: float = 600.0
    deaths: int = 5
    quarantine: float = 900.0


@dataclass(frozen=True)
class Verdict:
    """Start again in `delay` seconds; until then the device is out of use if `quarantined`."""

    delay: float
    quarantined: bool


class RestartPolicy:
    """Counts one device's deaths. After a quarantine one more death brings it back.

    Args:
        rules: Limits and delays.
        clock: Monotonic seconds.
    """

    def __init__(self, rules: RestartRules, clock: Callable[[], float]) -> None:
        self._rules = rules
        self._clock = clock
        self._deaths: deque[float] = deque()
        self._probing = False

    def died(self) -> Verdict:
        """Count a death now, and what follows from it."""
        rules, now = self._rules, self._clock()
        self._deaths.append(now)
        while self._deaths[0] < now - rules.window:
            self._deaths.popleft()
        count = len(self._deaths)
        if self._probing or count >= rules.deaths:
            self._probing = True
            self._deaths.clear()
            return Verdict(rules.quarantine, quarantined=True)
        delay = rules.first_delay * 2.0 ** (count - 1)
        return Verdict(min(delay, rules.longest_delay), quarantined=False)

    def worked(self) -> None:
        """A run came to its end on this device: after a quarantine it is trusted again."""
        self._probing = False

    def forgive(self) -> None:
        """Forget everything: an operator asks for a fresh start."""
        self._deaths.clear()
        self._probing = False
