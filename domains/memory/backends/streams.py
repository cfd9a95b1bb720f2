"""A device's stream of work, apart from that of what draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch


class Mark(Protocol):
    """A point in a stream of work."""

    def synchronize(self) -> None:
        """Wait until everything before it is done."""
        ...


class Stream:
    """A stream of its own on a device; on one without streams everything blocks.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        backend: Any = getattr(torch, device.type, None)
        self.backend: Any = None if device.type == "cpu" else backend
        kinds = ("Stream", "Event", "stream")
        self.overlaps = self.backend is not None and all(map(self._has, kinds))
        """Whether copies go on while the processor does something else."""
        self._stream: Any = backend.Stream(device) if self.overlaps else None

    @contextmanager
    def work(self) -> Iterator[None]:
        """What is queued within is queued here, and is over at the end."""
        if not self.overlaps:
            yield
            self._synchronize()
            return
        with self.backend.stream(self._stream):
            try:
                yield
            finally:
                self._stream.synchronize()

    def mark(self) -> Mark:
        """After everything queued so far."""
        if not self.overlaps:
            return _Passed()
        event = self.backend.Event()
        event.record(self._stream)
        mark: Mark = event
        return mark

    def pinned(self, size: int) -> torch.Tensor:
        """Page-locked bytes that the device reaches; only where copies overlap."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def _synchronize(self) -> None:
        if self.backend is not None and self._has("synchronize"):
            self.backend.synchronize()

    def _has(self, name: str) -> bool:
        return hasattr(self.backend, name)


class _Passed:
    def synchronize(self) -> None:
        """Already done: calls block here."""
