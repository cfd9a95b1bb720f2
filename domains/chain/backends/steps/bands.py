"""Work on a picture band by band: less memory at once, and places to stop at."""

from __future__ import annotations

from collections.abc import Callable, Iterator

Between = Callable[[int, int], None]
"""Called with how many pieces of a step are done, and how many there are; may raise to stop."""


def bands(height: int, rows: int, between: Between) -> Iterator[tuple[int, int]]:
    """The first row and the end of each band; `between` is called after each."""
    count = -(-height // rows)
    for done, top in enumerate(range(0, height, rows), start=1):
        yield top, min(top + rows, height)
        between(done, count)
