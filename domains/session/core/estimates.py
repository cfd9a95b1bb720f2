"""How long work will take, from how long comparable work took."""

from __future__ import annotations

import statistics
from collections import OrderedDict, deque

from domains.session.core.session import Session

_MOST_KEYS = 1_000
_LAST_ONES = 8

_Key = tuple[object, ...]


class Estimates:
    """Learns from what was done: the median of the last eight of a kind, device and model."""

    def __init__(self) -> None:
        self._rates: OrderedDict[_Key, deque[float]] = OrderedDict()

    def learn(self, session: Session) -> None:
        """Note how long a completed session was worked on."""
        if not session.cost:
            return
        key = _key(session)
        rates = self._rates.setdefault(key, deque(maxlen=_LAST_ONES))
        rates.append(session.worked_seconds / session.cost)
        self._rates.move_to_end(key)
        if len(self._rates) > _MOST_KEYS:
            self._rates.popitem(last=False)

    def left(self, session: Session) -> float | None:
        """Seconds of work that are left; None while nothing comparable is known."""
        rates = self._rates.get(_key(session))
        if not rates or not session.cost:
            return None
        whole = statistics.median(rates) * session.cost
        return max(whole - session.worked_seconds, 0.0)


def _key(session: Session) -> _Key:
    return session.kind, session.device_id, session.model_id
