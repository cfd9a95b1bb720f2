"""Values among the facts that outlive the server: JSON with a version, believed when whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from domains.device.ports import FactsStore


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


def keep(facts: FactsStore, key: str, schema: int, value: Mapping[str, Any]) -> None:
    """Put `value`, which JSON can hold, under `key` as version `schema` of its form."""
    facts.put(key, json.dumps({"schema": schema, **value}).encode())


def recall(facts: FactsStore, key: str, schema: int) -> dict[str, Any] | None:
    """What `keep` put under `key`; None when it is not there, of another form, or torn."""
    data = facts.get(key)
    if data is None:
        return None
    try:
        value = json.loads(data)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.get("schema") != schema:
        return None
    return value
