"""Facts that outlive the server: used again only when whole and of the expected type."""

from __future__ import annotations

import contextlib
import logging
from functools import cache
from typing import TypeVar

from domains.codec import Malformed, decode, encode
from domains.device.ports import FactsStore
from domains.errors import ResourceExhausted, Unavailable

T = TypeVar("T")
_log = logging.getLogger("deviceops.facts")


class TransientFacts:
    """Facts that end with the process, where nothing keeps them longer."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        """The value last put under `key`; None when there is none."""
        return self._values.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`."""
        self._values[key] = value

    def forget(self, key: str) -> None:
        """Have nothing under `key` any more."""
        self._values.pop(key, None)


def keep(facts: FactsStore, key: str, value: object) -> None:
    """Put a codec value under `key`; raises what the store does when it cannot be written."""
    facts.put(key, encode(value))


def note(facts: FactsStore, key: str, value: object) -> None:
    """As `keep`, of what nobody asked to be kept: while the disk takes nothing, it is known.

    The store logs why, and writes it when the disk takes it again.
    """
    with contextlib.suppress(ResourceExhausted, Unavailable):
        keep(facts, key, value)


def recall(facts: FactsStore, key: str, kind: type[T]) -> T | None:
    """What `keep` put under `key`; None when it is not there, of another form, or torn."""
    data = facts.get(key)
    if data is None:
        return None
    try:
        return decode(kind, data)
    except Malformed as error:
        warn_of_damage(key, str(error))
        return None


@cache
def warn_of_damage(key: str, why: str) -> None:
    """Log, once, that what is kept under `key` is not used."""
    _log.warning("what is kept under %s is left out: %s", key, why)
