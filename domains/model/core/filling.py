"""A model on its way from disk into the cache: read once, followed by all who want it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Sequence

from domains.errors import Cancelled
from domains.model.ports import WeightReader
from domains.model.types import FileState
from domains.own_threads import in_own_thread
from domains.session.types import TransferProgress
from domains.values import ModelPlace

# At most so many progress events per model.
_REPORTS = 100
_LEAST_REPORT_BYTES = 1 << 20


class Filling:
    """One reading of a model's files. Belongs to the event loop that made it.

    Args:
        model_id: What its progress is about.
        total_bytes: Of all files.
    """

    def __init__(self, model_id: str, total_bytes: int) -> None:
        self._model_id = model_id
        self._interval = max(total_bytes // _REPORTS, _LEAST_REPORT_BYTES)
        self._total = total_bytes
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._stopped = False
        self._done = 0
        self._reported = 0
        self._ended = False
        self._error: Exception | None = None
        self._followers: set[asyncio.Event] = set()

    @property
    def left_bytes(self) -> int:
        """What is not read yet."""
        return self._total - self._done

    def stop(self) -> None:
        """Have the reading end after the piece that is being read."""
        self._stopped = True

    async def read(
        self,
        reader: WeightReader,
        place: ModelPlace,
        files: Sequence[tuple[FileState, memoryview]],
    ) -> bool:
        """Read the files; returns, when nothing reads any more, whether all went well."""
        try:
            await in_own_thread(reader.read, place, files, self._count)
        except Exception as error:  # whoever follows raises it
            self._error = error
        self._ended = True
        self._tell()
        return self._error is None

    async def progress(self) -> AsyncGenerator[TransferProgress]:
        """How far it is, until it has ended.

        Raises:
            Exception: What the reading failed with.
        """
        news, told = asyncio.Event(), 0
        self._followers.add(news)
        try:
            while True:
                ended, done = self._ended, self._done
                if done > told:
                    told = done
                    yield TransferProgress(self._model_id, done, self._total)
                if ended:
                    break
                await news.wait()
                news.clear()
        finally:
            self._followers.discard(news)
        if self._error is not None:
            raise self._error

    def _count(self, count: int) -> None:
        """From the threads that read."""
        if self._stopped:
            raise Cancelled("The model is not wanted in main memory any more.")
        with self._lock:
            self._done += count
            if self._done - self._reported < self._interval:
                return
            self._reported = self._done
        # The loop may be closed already when the process ends.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        for news in self._followers:
            news.set()
