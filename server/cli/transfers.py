"""What uploads and downloads share: going on after a lost connection, and saying how far."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from server.cli.failures import CallFailed
from server.cli.patience import Patience, is_lost
from server.cli.wording import printable, size


class Meter:
    """A line on stderr for every tenth of the bytes."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._tenth = 0

    def show(self, done_bytes: int, total_bytes: int) -> None:
        """Say how far it is, where a new tenth is done."""
        tenth = done_bytes * 10 // max(1, total_bytes)
        if tenth > self._tenth:
            done, total = size(done_bytes), size(total_bytes)
            print(f"{printable(self._what)}: {done} of {total}", file=sys.stderr, flush=True)
        self._tenth = tenth


def with_patience(attempt: Callable[[], None], progress: Callable[[], int]) -> None:
    """Call `attempt` until it returns; after a lost connection a bounded number of times.

    Args:
        attempt: Goes on from where the last one ended.
        progress: Bytes that are done; when they grew, patience begins anew.

    Raises:
        CallFailed: The server refused, or the connection was lost for good.
    """
    patience = Patience()
    while True:
        before = progress()
        try:
            attempt()
            return
        except CallFailed as error:
            if progress() > before:
                patience.restore()
            delay = patience.next_delay() if is_lost(error.failure) else None
            if delay is None:
                raise
            print(
                f"The connection was lost; going on in {delay:g} s.",
                file=sys.stderr,
                flush=True,
            )
            time.sleep(delay)
