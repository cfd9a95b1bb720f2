"""When a worker counts as hung."""

from __future__ import annotations

from server.worker.front.hang import Hang, Suspicion

SILENT = Hang("gave no sign of life for 30 s")
STUCK = Hang("made no progress for 60 s")


def test_what_is_late_once_is_not_hung() -> None:
    """The whole machine may have slept: then everything looks late, once."""
    suspicion = Suspicion()
    assert suspicion.confirm(SILENT) is None
    assert suspicion.confirm(None) is None
    assert suspicion.confirm(SILENT) is None


def test_what_is_late_twice_in_a_row_is() -> None:
    suspicion = Suspicion()
    assert suspicion.confirm(SILENT) is None
    assert suspicion.confirm(SILENT) == SILENT


def test_another_lateness_is_a_new_suspicion() -> None:
    suspicion = Suspicion()
    assert suspicion.confirm(SILENT) is None
    assert suspicion.confirm(STUCK) is None
    assert suspicion.confirm(STUCK) == STUCK
