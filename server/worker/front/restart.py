"""When a worker that died is started again. Pure: the clock is injected."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class RestartRules:
    """Seconds, and how many deaths within `window` have consequences.

    `deaths` of different models, or without one, take a device out of use. After
    `poison_deaths` of one model its work is not to be tried again, `model_deaths` keep that
    model off the device. Quarantine and bar last `quarantine` seconds.
    """

    first_delay: float = 0.5
    longest_delay: float = 30.0
    window: float = 600.0
    deaths: int = 5
    poison_deaths: int = 2
    model_deaths: int = 3
    quarantine: float = 900.0


@dataclass(frozen=True)
class Verdict:
    """Start again in `delay` seconds; until then the device is out of use if `quarantined`."""

    delay: float
    quarantined: bool


class RestartPolicy:
    """Counts one device's deaths. After a quarantine one more death brings it back.

    All deaths of one model count as one: it is the model that is at fault, and what keeps
    it away is `ModelBars`.

    Args:
        rules: Limits and delays.
        clock: Monotonic seconds.
    """

    def __init__(self, rules: RestartRules, clock: Callable[[], float]) -> None:
        self._rules = rules
        self._clock = clock
        self._deaths: deque[tuple[float, str]] = deque()
        self._probing = False
        self._starved = 0

    def died(self, model_id: str = "") -> Verdict:
        """Count a death now, and what follows from it.

        Args:
            model_id: What the worker worked with, if with a model.
        """
        rules, now = self._rules, self._clock()
        self._deaths.append((now, model_id))
        while self._deaths[0][0] < now - rules.window:
            self._deaths.popleft()
        if self._out_of_use():
            self._probing = True
            self._deaths.clear()
            return Verdict(rules.quarantine, quarantined=True)
        return self._later(len(self._deaths))

    def _out_of_use(self) -> bool:
        models = [model_id for _, model_id in self._deaths]
        different = models.count("") + len(set(models) - {""})
        return self._probing or different >= self._rules.deaths

    def starved(self) -> Verdict:
        """The system had no more of something that a worker needs: no fault of the device."""
        self._starved += 1
        return self._later(self._starved)

    def _later(self, count: int) -> Verdict:
        rules = self._rules
        delay = rules.first_delay * 2.0 ** min(count - 1, 30)
        return Verdict(min(delay, rules.longest_delay), quarantined=False)

    def started(self) -> None:
        """A worker said hello: the system has what it needs."""
        self._starved = 0

    def worked(self) -> None:
        """A run came to its end on this device: after a quarantine it is trusted again."""
        self._probing = False

    def forgive(self) -> None:
        """Forget everything: an operator asks for a fresh start."""
        self._deaths.clear()
        self._probing = False
        self._starved = 0
