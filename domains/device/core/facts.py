"""Facts that outlive the server: used again only when whole and of the expected type."""

from __future__ import annotations

from typing import TypeVar

from domains.codec import Malformed, decode, encode
from domains.device.ports import FactsStore

T = TypeVar("T")


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


def keep(facts: FactsStore, key: str, value: object) -> None:
    """Put a codec value under `key`."""
    facts.put(key, encode(value))


def recall(facts: FactsStore, key: str, kind: type[T]) -> T | None:
    """What `keep` put under `key`; None when it is not there, of another form, or torn."""
    data = facts.get(key)
    if data is None:
        return None
    try:
        return decode(kind, data)
    except Malformed:
        return None
