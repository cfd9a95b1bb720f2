"""What stays is left in peace by collections; what came later is collected as ever."""

from __future__ import annotations

import gc
import subprocess
import sys
from contextlib import suppress

import pytest

from domains.heap import without_collections

_TRIAL = """
import gc, weakref
from domains.heap import settle

class Ring:
    def __init__(self):
        self.me = self

early = weakref.ref(Ring())   # garbage already when the heap settles
settle()
frozen = gc.get_freeze_count()
assert early() is None and frozen > 1000, frozen
late = weakref.ref(Ring())
settle()                      # once more does nothing: it would keep what is there by now
assert gc.get_freeze_count() <= frozen
gc.collect()
assert late() is None
"""


def test_only_what_is_there_when_it_settles_is_kept_out_of_collections() -> None:
    # In a process of its own: this one's objects are to stay collectable.
    subprocess.run([sys.executable, "-c", _TRIAL], check=True, timeout=60)


@pytest.mark.parametrize("before", [True, False])
def test_collections_pause_and_are_as_before_afterwards(before: bool) -> None:
    enabled = gc.isenabled()
    try:
        (gc.enable if before else gc.disable)()
        with suppress(ZeroDivisionError), without_collections():
            assert not gc.isenabled()
            raise ZeroDivisionError
        assert gc.isenabled() is before
    finally:
        (gc.enable if enabled else gc.disable)()
