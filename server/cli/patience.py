"""How often a lost connection is made again, and after how long."""

from __future__ import annotations

from collections.abc import Iterator

from server.cli.failures import CallFailure

DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds; begun anew once something came


class Patience:
    """Gives out the waits between attempts, a bounded number in a row."""

    def __init__(self) -> None:
        self._delays: Iterator[float] = iter(DELAYS)

    def restore(self) -> None:
        """Something came: a connection that is lost after that is a new misfortune."""
        self._delays = iter(DELAYS)

    def next_delay(self) -> float | None:
        """Seconds before the next attempt; None when there have been enough."""
        return next(self._delays, None)


def is_lost(failure: CallFailure) -> bool:
    """Whether the connection failed and not the server: trying again may help."""
    return failure.status == "UNAVAILABLE" and not failure.from_server
