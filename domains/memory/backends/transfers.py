"""Bytes between a device's memory and main memory: chunked, overlapped, hashed."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from domains.memory.backends.chunks import Watch, chunks
from domains.memory.backends.moving import Hasher, HostSpan
from domains.memory.types import Moved

BOUNCE_BYTES = 16 << 20
"""Of each of two page-locked buffers: one the device copies, one the processor."""
DIRECT_BYTES = 64 << 20
"""Of a chunk that the device copies without the processor."""
_SLOTS = 2


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


class Transfers:
    """Copies between tensors of bytes on a device and addresses of this process.

    One at a time. When a call ends, also by an exception, the device no longer touches the
    memory it was given.

    Args:
        stream: The device's stream for it.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._kept: list[torch.Tensor] = []

    def into(
        self, source: HostSpan, target: torch.Tensor, pinned: bool, watch: Watch, *, hash: bool
    ) -> Moved:
        """From main memory to the device; `pinned`: the device can reach `source`."""
        length = target.numel()
        with Hasher() as hasher, self._stream.work():
            if self._stream.overlaps and not pinned:
                self._into_by_bounce(source, target, watch, hasher if hash else None)
            else:
                self._direct(source, target, watch, hasher if hash else None, inwards=True)
            return Moved(length, hasher.hexdigest() if hash else None)

    def out(
        self, source: torch.Tensor, target: HostSpan, pinned: bool, watch: Watch, *, hash: bool
    ) -> Moved:
        """From the device to main memory; `pinned`: the device can reach `target`."""
        length = source.numel()
        with Hasher() as hasher, self._stream.work():
            if self._stream.overlaps and not pinned:
                self._out_by_bounce(source, target, watch, hasher if hash else None)
            else:
                self._direct(target, source, watch, hasher if hash else None, inwards=False)
            return Moved(length, hasher.hexdigest() if hash else None)

    def within(
        self, source: torch.Tensor, target: torch.Tensor, watch: Watch, *, hash: bool
    ) -> Moved:
        """Between two places of the device, as memmove does: they may overlap."""
        length = source.numel()
        begin, end = source.data_ptr(), target.data_ptr()
        overlap = begin < end + length and end < begin + length
        backwards = overlap and begin < end
        digest = self._digest(source, watch) if hash else None
        done = 0
        with self._stream.work():
            for offset, size in chunks(length, DIRECT_BYTES):
                place = slice(offset, offset + size)
                if backwards:
                    place = slice(length - offset - size, length - offset)
                chunk = source[place].clone() if overlap else source[place]
                target[place].copy_(chunk)
                self._stream.mark().synchronize()
                done += size
                watch.passed(done)
        return Moved(length, digest)

    def _direct(
        self,
        host: HostSpan,
        device: torch.Tensor,
        watch: Watch,
        hasher: Hasher | None,
        *,
        inwards: bool,
    ) -> None:
        flying: deque[tuple[Mark, int, int]] = deque()

        def land() -> None:
            mark, offset, size = flying.popleft()
            mark.synchronize()
            if hasher is not None:
                hasher.update(host.address + offset, size)
                hasher.settle(_SLOTS)
            watch.passed(offset + size)

        for offset, size in chunks(device.numel(), DIRECT_BYTES):
            host.prepare(offset, size)
            there = host_tensor(host.address + offset, size)
            here = device[offset : offset + size]
            source, target = (there, here) if inwards else (here, there)
            target.copy_(source, non_blocking=self._stream.overlaps)
            flying.append((self._stream.mark(), offset, size))
            if len(flying) >= _SLOTS:
                land()
        while flying:
            land()

    def _into_by_bounce(
        self, source: HostSpan, target: torch.Tensor, watch: Watch, hasher: Hasher | None
    ) -> None:
        bounces = self.bounces()
        flying: deque[tuple[Mark, int]] = deque()
        for number, (offset, size) in enumerate(chunks(target.numel(), BOUNCE_BYTES)):
            bounce = bounces[number % _SLOTS]
            if len(flying) == _SLOTS:
                mark, done = flying.popleft()
                mark.synchronize()  # its bounce is free again
                watch.passed(done)
            source.prepare(offset, size)
            ctypes.memmove(bounce.data_ptr(), source.address + offset, size)
            target[offset : offset + size].copy_(bounce[:size], non_blocking=True)
            flying.append((self._stream.mark(), offset + size))
            if hasher is not None:
                hasher.update(source.address + offset, size)
                hasher.settle(_SLOTS)
        for mark, done in flying:
            mark.synchronize()
            watch.passed(done)

    def _out_by_bounce(
        self, source: torch.Tensor, target: HostSpan, watch: Watch, hasher: Hasher | None
    ) -> None:
        bounces = self.bounces()
        flying: deque[tuple[Mark, int, int, torch.Tensor]] = deque()

        def land() -> None:
            mark, offset, size, bounce = flying.popleft()
            mark.synchronize()
            target.prepare(offset, size)
            ctypes.memmove(target.address + offset, bounce.data_ptr(), size)
            if hasher is not None:
                hasher.update(target.address + offset, size)
                hasher.settle(_SLOTS)
            watch.passed(offset + size)

        for number, (offset, size) in enumerate(chunks(source.numel(), BOUNCE_BYTES)):
            bounce = bounces[number % _SLOTS]
            bounce[:size].copy_(source[offset : offset + size], non_blocking=True)
            flying.append((self._stream.mark(), offset, size, bounce))
            if len(flying) == _SLOTS:
                land()  # while the device fills the other one
        while flying:
            land()

    def _digest(self, source: torch.Tensor, watch: Watch) -> str:
        """SHA-256 of bytes on the device, as main memory sees them."""
        with Hasher() as hasher, self._stream.work():
            for offset, size in chunks(source.numel(), BOUNCE_BYTES):
                watch.passed(0)
                there = source[offset : offset + size].cpu()
                hasher.update(there.data_ptr(), size)
                hasher.settle()
            return hasher.hexdigest()

    def bounces(self) -> list[torch.Tensor]:
        """Two page-locked buffers; free again when a call of this class ends."""
        if not self._kept:
            self._kept = [self._stream.pinned(BOUNCE_BYTES) for _ in range(_SLOTS)]
        return self._kept


def host_tensor(address: int, size: int) -> torch.Tensor:
    """Bytes of this process as a tensor `[size]` of uint8; the caller keeps them there."""
    return torch.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype=torch.uint8)
