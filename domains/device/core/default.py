"""Which device or model is the default, as far as somebody said so."""

from __future__ import annotations

from domains.codec import ModelId, Value
from domains.device.core import facts as kept
from domains.device.ports import FactsStore


class _Choice(Value, frozen=True):
    name: ModelId
    configured: str


class DefaultChoice:
    """What was chosen last: by a client's call, or in the settings.

    A client's choice outlives the server and wins over the setting that was in force when
    it was made. A setting that is changed afterwards is the later word and wins again.

    Args:
        facts: Keeps the choice.
        key: Under which it is kept.
        configured: Id or alias in the settings; empty when they name none.
    """

    def __init__(self, facts: FactsStore, key: str, configured: str = "") -> None:
        self._facts = facts
        self._key = key
        self._configured = configured

    @property
    def name(self) -> str:
        """Id or alias of what was chosen; empty when nobody chose."""
        chosen = kept.recall(self._facts, self._key, _Choice)
        if chosen is None or chosen.configured != self._configured:
            return self._configured
        return chosen.name

    def choose(self, name: str) -> None:
        """Remember a client's choice.

        Raises:
            ResourceExhausted: The disk is full; it holds until the server ends.
            Unavailable: It cannot be written for another reason; likewise.
        """
        kept.keep(self._facts, self._key, _Choice(name, self._configured))
