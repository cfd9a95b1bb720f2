"""How many items are drawn together, where they share passes."""

from __future__ import annotations

from domains.errors import Failure, Reason
from domains.processing.batches.types import ItemRecord

MOST_ITEMS = 64
"""Of one session that draws several."""
MOST_IMAGES = 256
"""Likewise."""
_FIRST = 16  # twice as many as are under way at once: there is always a next one
_NO_ROOM = (Reason.DEVICE_OUT_OF_MEMORY, Reason.HOST_OUT_OF_MEMORY)


class GroupSize:
    """The size of a batch's groups: at first by the memory that is free, then kept honest by
    what happens: halved after one for which memory did not suffice, and one larger after each
    that worked.

    How many of a group are really under way at once the device's worker decides, from the
    memory that is free then.
    """

    def __init__(self) -> None:
        self.size = self.first = self.smallest = _FIRST
        """`smallest` is the smallest that it was made after memory ran out."""
        self.begun = False
        """Whether free memory was looked at."""

    def begin(self, at_once: int | None) -> None:
        """Memory suffices for so many items at once, as far as anybody knows."""
        self.begun = True
        if at_once is not None:
            self.size = self.first = self.smallest = min(max(2 * at_once, 1), _FIRST)

    @property
    def begun_smaller(self) -> bool:
        """Whether free memory was too little for the usual size."""
        return self.first < _FIRST

    def note(self, *, worked: bool, size: int) -> None:
        """A group of that size has ended; `worked` unless memory did not suffice."""
        if worked:
            self.size = min(self.size + 1, MOST_ITEMS)
        else:
            self.size = max(min(self.size, size) // 2, 1)
            self.smallest = min(self.smallest, self.size)

    @property
    def shrunk(self) -> bool:
        """Whether memory has ever not sufficed."""
        return self.smallest < self.first


def lacked_room(failure: Failure | None) -> bool:
    """Whether that is what it failed for: it may work beside fewer others."""
    return failure is not None and failure.reason in _NO_ROOM


def goes_with(group: list[ItemRecord], record: ItemRecord) -> bool:
    """Whether an item may join a group: both draw, with the same model and the same content of
    all models, and there is room."""
    if not (group[0].settled.seeds and record.settled.seeds):
        return False
    images = sum(len(each.settled.seeds) for each in group) + len(record.settled.seeds)
    same = group[0].settled.model_id == record.settled.model_id
    same = same and all(each.settled.agrees_with(record.settled) for each in group)
    return same and images <= MOST_IMAGES and len(group) < MOST_ITEMS
