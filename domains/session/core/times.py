"""How a session's time is spent, and what is left of it."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from enum import Enum, auto

from domains.clock import Clock
from domains.session.types import WorkOptions


class Spell(Enum):
    """What a session's time goes into."""

    WAITING = auto()
    RUNNING = auto()
    PAUSED = auto()
    OVER = auto()


class SessionTimes:
    """Seconds by what they went into, from acceptance on, and the moments people read.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spell = Spell.WAITING
        self._since = clock.monotonic()
        self._spent = dict.fromkeys(Spell, 0.0)
        self._first_step: float | None = None
        self._last_sign = self._since
        self._stop_asked: float | None = None
        self.stop_seconds: float | None = None
        """From the wish to cancel its work to its end; None where nobody wished."""
        self.create_time = clock.wall()
        self.start_time: datetime | None = None
        self.end_time: datetime | None = None

    @classmethod
    def remembered(
        cls,
        clock: Clock,
        created: datetime,
        started: datetime | None,
        ended: datetime | None,
        total: float,
    ) -> SessionTimes:
        """Those of a session of another server, which took `total` seconds.

        How long ago it ended is known by the clock on the wall alone.
        """
        times = cls(clock)
        times.create_time, times.start_time, times.end_time = created, started, ended
        times._spent[Spell.WAITING] = total
        if ended is not None:
            times._spell = Spell.OVER
            times._spent[Spell.OVER] = max((clock.wall() - ended).total_seconds(), 0.0)
        return times

    def enter(self, spell: Spell) -> None:
        """From now on the time goes into something else."""
        now = self._clock.monotonic()
        self._spent[self._spell] += max(now - self._since, 0.0)
        self._spell, self._since, self._first_step = spell, now, None
        self._last_sign = now
        if spell is Spell.RUNNING and self.start_time is None:
            self.start_time = self._clock.wall()
        if spell is Spell.OVER:
            self.end_time = self._clock.wall()
            if self._stop_asked is not None:
                self.stop_seconds = now - self._stop_asked

    def note_sign(self) -> None:
        """A phase has begun or a picture is finished."""
        self._last_sign = self._clock.monotonic()

    def note_step(self) -> None:
        """A step has ended."""
        self.note_sign()
        if self._first_step is None:
            self._first_step = self._last_sign

    @property
    def since_sign(self) -> float:
        """Seconds since something was noted in this spell, or since it began."""
        return max(self._clock.monotonic() - self._last_sign, 0.0)

    @property
    def this_spell(self) -> float:
        """Seconds since this spell began."""
        return max(self._clock.monotonic() - self._since, 0.0)

    @property
    def since_step(self) -> float | None:
        """Seconds since the first step of this spell ended; None while there is none."""
        if self._first_step is None:
            return None
        return max(self._clock.monotonic() - self._first_step, 0.0)

    def ask_to_stop(self) -> None:
        """Running work is to stop: from here on it is timed until it is over."""
        self._stop_asked = self._clock.monotonic()

    def spent(self, spell: Spell) -> float:
        """Seconds that went into it so far."""
        now = max(self._clock.monotonic() - self._since, 0.0)
        return self._spent[spell] + (now if spell is self._spell else 0.0)

    @property
    def total(self) -> float:
        """Seconds from acceptance to the end, or to now."""
        return sum(self.spent(spell) for spell in Spell if spell is not Spell.OVER)

    def wait_left(self, options: WorkOptions) -> float:
        """Seconds that it may still wait for its first turn; infinite without a limit."""
        if options.queue_timeout_seconds is None or self.start_time is not None:
            return math.inf
        return max(options.queue_timeout_seconds - self.spent(Spell.WAITING), 0.0)

    def run_left(self, options: WorkOptions) -> float:
        """Seconds that it may still be worked on."""
        return max(options.run_timeout_seconds - self.spent(Spell.RUNNING), 0.0)

    def kept_left(self, options: WorkOptions, retention: timedelta) -> float | None:
        """Seconds until it may be forgotten, after `retention` where its options say nothing
        else; None while it is not final."""
        if self._spell is not Spell.OVER:
            return None
        wish = options.retention_seconds
        kept = retention.total_seconds() if wish is None else wish
        return kept - self.spent(Spell.OVER)

    def shown_in(self, seconds: float | None) -> datetime | None:
        """The moment so many seconds from now, as people read it; None for never."""
        if seconds is None or math.isinf(seconds):
            return None
        return self._clock.shown(self._clock.monotonic() + seconds)


class Expectation:
    """When a session's turn and its end are expected, as far as anybody knows.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start: float | None = None
        self._work: float | None = None

    def note(self, wait: float | None, work: float | None) -> None:
        """Seconds from now to its turn, and from then on to its end."""
        self._start = None if wait is None else self._clock.monotonic() + wait
        self._work = work

    def begin(self) -> None:
        """Its turn has come."""
        if self._start is not None:
            self._start = self._clock.monotonic()

    @property
    def start(self) -> datetime | None:
        """When its turn is expected."""
        return self._shown(0.0)

    @property
    def end(self) -> datetime | None:
        """When its end is."""
        return None if self._work is None else self._shown(self._work)

    def _shown(self, after_start: float) -> datetime | None:
        if self._start is None:
            return None
        return self._clock.shown(max(self._start + after_start, self._clock.monotonic()))
