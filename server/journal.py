"""The journal: what outlives the server, in one SQLite file that a thread of its own writes.

It holds facts (small values by key) and the history of memory. Everything is read once,
at the start; afterwards reading is from memory and writing goes to disk. Losing the disk
loses what is written meanwhile and never takes the server down.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from domains.errors import Reason, ResourceExhausted
from domains.memory.types import MemoryInterval, OwnerInterval
from server.journal_file import JournalFile

# Intervals that wait for a disk that takes nothing; the oldest go beyond that.
_MOST_WAITING = 20_000
_Key = tuple[str, int, int]


class Journal:
    """Facts and history on disk; see the ports `FactsStore` and `HistoryStore`.

    Any thread may call it; one connection in one thread does the work, in order.

    Args:
        path: The file; its folder is made when missing.
        now: The wall clock, in seconds since 1970.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._file = JournalFile(path, self._take_up)
        self._facts: dict[str, bytes] = {}
        self._waiting: dict[_Key, MemoryInterval] = {}
        self._keep: Mapping[int, int] = {}

    # Life.

    def open(self) -> None:
        """Read what an earlier server wrote; a file that cannot be used is set aside.

        Blocks for as long as that takes. A disk that takes nothing is logged: facts and
        history are kept in memory then, and tried again at every write.
        """
        self._thread.submit(self._open).result()

    def close(self) -> None:
        """Write what waits and end the thread. Calling it twice is harmless."""
        with contextlib.suppress(RuntimeError):  # closed before
            self._thread.submit(self._close).result()
        self._thread.shutdown()

    # Facts.

    def get(self, key: str) -> bytes | None:
        """The value of `key`, from memory."""
        return self._facts.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`; it is on disk when this returns.

        Blocks for a disk's sync, milliseconds as a rule.

        Raises:
            ResourceExhausted: DISK_FULL: the disk does not take it. It holds until the
                server ends.
        """
        self._facts[key] = bytes(value)
        if not self._thread.submit(self._file.written, lambda: self._put(key, value)).result():
            raise ResourceExhausted(
                "The journal cannot be written; free some disk space.",
                reason=Reason.DISK_FULL,
            )

    # The history of memory.

    def history(self) -> Sequence[MemoryInterval]:
        """Every interval that is kept, oldest first within a place. Blocks."""
        return self._thread.submit(self._history).result()

    def write_history(
        self, intervals: Sequence[MemoryInterval], *, keep: Mapping[int, int]
    ) -> Future[None]:
        """Write intervals, replacing those of the same place, resolution and start.

        Returns at once. What the disk does not take waits for the next call.

        Args:
            intervals: New or grown.
            keep: Seconds back from now that are kept, by resolution in seconds; what is
                older, or of another resolution, is deleted.
        """
        return self._thread.submit(self._write_history, tuple(intervals), dict(keep))

    # In the thread.

    def _open(self) -> None:
        with contextlib.suppress(sqlite3.Error, OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file.written(lambda: None)

    def _close(self) -> None:
        if self._waiting:
            self._file.written(self._flush)
        self._file.close()

    def _take_up(self, connection: sqlite3.Connection) -> None:
        stored = dict(connection.execute("SELECT key, value FROM facts"))
        # What is in memory is newer: the disk was away while it was put.
        missing = {key: value for key, value in self._facts.items() if stored.get(key) != value}
        self._facts = stored | self._facts
        for key, value in missing.items():
            self._put(key, value)

    def _put(self, key: str, value: bytes) -> None:
        with self._file.transaction() as begun:
            begun.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))

    def _history(self) -> list[MemoryInterval]:
        found: list[MemoryInterval] = []

        def read() -> None:
            assert self._file.connection is not None
            rows = self._file.connection.execute(
                "SELECT * FROM memory_history ORDER BY place, resolution, start"
            )
            found[:] = [_interval(row) for row in rows]

        self._file.written(read)
        return found

    def _write_history(
        self, intervals: tuple[MemoryInterval, ...], keep: Mapping[int, int]
    ) -> None:
        self._keep = keep
        for interval in intervals:
            key = (interval.place, interval.resolution, interval.start)
            self._waiting.pop(key, None)
            self._waiting[key] = interval
        while len(self._waiting) > _MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
        if self._waiting:
            self._file.written(self._flush)

    def _flush(self) -> None:
        now = int(self._now())
        with self._file.transaction() as begun:
            begun.executemany(
                "INSERT OR REPLACE INTO memory_history VALUES (?,?,?,?,?,?,?,?,?,?)",
                [_row(interval) for interval in self._waiting.values()],
            )
            kept = " OR ".join("(resolution=? AND start>=?)" for _ in self._keep) or "0"
            bounds = [value for size, age in self._keep.items() for value in (size, now - age)]
            begun.execute(f"DELETE FROM memory_history WHERE NOT ({kept})", bounds)
        self._waiting.clear()


def _row(interval: MemoryInterval) -> tuple[object, ...]:
    owners = {
        name: (held.mean_bytes, held.peak_bytes) for name, held in interval.owners.items()
    }
    return (
        *(interval.place, interval.resolution, interval.start, interval.peak_bytes),
        *(interval.mean_bytes, interval.samples, interval.fragmentation, json.dumps(owners)),
        *(interval.evictions, interval.out_of_memory),
    )


def _interval(row: Sequence[object]) -> MemoryInterval:
    place, resolution, start, peak, mean, samples, fragmentation, owners, *counts = row
    held = {name: OwnerInterval(*pair) for name, pair in json.loads(str(owners)).items()}
    values = (place, resolution, start, peak, mean, samples, fragmentation, held, *counts)
    return MemoryInterval(*values)  # type: ignore[arg-type]
