"""A root that is looked through in a thread of its own, which may take its time.

A disk that does not answer keeps nothing from the other roots, and a server that ends does
not wait for it.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path

from domains.model.backends.root_look import Remark
from domains.model.backends.root_scan import Judged, KnownRoot, RootScan

_LOG = logging.getLogger(__name__)
_SLOW = "A model folder is slow to answer; what is known of it already stays."
_FAILED = "A model folder could not be looked through; what was known of it stays."


class WatchedRoot:
    """Has one look at a time under way and knows what the last one found.

    Args:
        root: What is looked through.
    """

    def __init__(self, root: KnownRoot) -> None:
        self._root = root
        self._last = RootScan()
        self._ended = threading.Event()
        self._ended.set()
        self._late = False
        self._failed = False

    @property
    def path(self) -> Path:
        """Where the root lies."""
        return self._root.path

    def again(self, before: Judged) -> Judged | None:
        """As `KnownRoot.again`, in the caller's thread."""
        return self._root.again(before)

    def begin(self, *, full: bool = False, quiet: float = 0.0) -> None:
        """Begin a look, as `KnownRoot.scan` says, unless one is still under way."""
        self._late = not self._ended.is_set()
        if self._late:
            return
        self._ended.clear()
        thread = threading.Thread(
            target=self._look, args=(full, quiet), name="model-root", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # The machine has no more threads.
            self._failed = True
            self._ended.set()

    def result(self, deadline: float) -> RootScan:
        """What the look found that is under way, or the last one where it is late.

        Args:
            deadline: Until when to wait, as `time.monotonic` counts. A look that was late
                before is not waited for again.
        """
        wait = 0.0 if self._late else max(deadline - time.monotonic(), 0.0)
        if not self._ended.wait(wait):
            return replace(self._kept(_SLOW), late=True)
        found = self._kept(_FAILED) if self._failed else self._last
        return replace(found, late=self._late)

    def _kept(self, why: str) -> RootScan:
        remark = Remark(why, self._root.path)
        last = self._last
        return replace(last, models=self._root.known(), remarks=(*last.remarks, remark))

    def _look(self, full: bool, quiet: float) -> None:
        try:
            self._last = self._root.scan(full=full, quiet=quiet)
            self._failed = False
        except Exception:
            if not self._failed:
                _LOG.exception("looking through %r failed", str(self._root.path))
            self._failed = True
        finally:
            self._ended.set()
