"""How much main memory the cache may take: a client's word, the setting, or a share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta

from domains.codec import ByteCount, Value
from domains.device.core import facts as kept
from domains.device.ports import FactsStore

_KEY = "model.cache-budget"
# Copies to a device with memory of its own begin in main memory. Where devices compute in
# main memory, a cached model lies there twice while it is loaded, and the system's own cache
# of files does nearly as well: there is room for those that clients ask for, and no more.
_SHARE_FOR_CARDS = 4
_SHARE_OTHERWISE = 8


class _Chosen(Value, frozen=True):
    budget_bytes: ByteCount
    configured: Annotated[int, Meta(ge=-2, le=1 << 50)]


class CacheBudget:
    """The cache's budget in bytes.

    A client's choice outlives the server and wins over the setting that was in force when it
    was made. A setting that is changed afterwards is the later word and wins again.

    Args:
        facts: Keeps the choice.
        configured: The setting; None leaves it to the machine.
        has_cards: Whether a device has memory of its own.
    """

    def __init__(
        self,
        facts: FactsStore,
        configured: int | None,
        *,
        has_cards: Callable[[], bool],
    ) -> None:
        self._facts = facts
        self._configured = configured
        self._has_cards = has_cards

    def of(self, total: int | None) -> int:
        """What it is now, where that much main memory is there for this server."""
        chosen = kept.recall(self._facts, _KEY, _Chosen)
        if chosen is not None and chosen.configured == self._setting:
            return chosen.budget_bytes
        return self.unchosen(total)

    def unchosen(self, total: int | None) -> int:
        """What it is without a client's choice."""
        if self._configured is not None:
            return self._configured
        return (total or 0) // (_SHARE_FOR_CARDS if self._has_cards() else _SHARE_OTHERWISE)

    def choose(self, budget_bytes: int | None) -> None:
        """Remember a client's choice; None forgets it."""
        # Of a choice for a setting that no server has nothing is left.
        setting = _NEVER if budget_bytes is None else self._setting
        kept.keep(self._facts, _KEY, _Chosen(budget_bytes or 0, setting))

    @property
    def _setting(self) -> int:
        return _OPEN if self._configured is None else self._configured


_OPEN = -1
_NEVER = -2
