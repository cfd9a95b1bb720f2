"""Which device is the default, as far as somebody said so."""

from __future__ import annotations

from domains.codec import Name, Value
from domains.device.core import facts as kept
from domains.device.ports import FactsStore

_KEY = "device.default"


class _Choice(Value, frozen=True):
    device_id: Name
    configured: str


class DefaultChoice:
    """The device that was chosen last: by a client's call, or in the settings.

    A client's choice outlives the server and wins over the setting that was in force when
    it was made. A setting that is changed afterwards is the later word and wins again.

    Args:
        facts: Keeps the choice.
        configured: Id or alias in the settings; empty when they name none.
    """

    def __init__(self, facts: FactsStore, configured: str) -> None:
        self._facts = facts
        self._configured = configured

    @property
    def name(self) -> str:
        """Id or alias of the chosen device; empty when nobody chose one."""
        chosen = kept.recall(self._facts, _KEY, _Choice)
        if chosen is None or chosen.configured != self._configured:
            return self._configured
        return chosen.device_id

    def choose(self, device_id: str) -> None:
        """Remember a client's choice."""
        kept.keep(self._facts, _KEY, _Choice(device_id, self._configured))
