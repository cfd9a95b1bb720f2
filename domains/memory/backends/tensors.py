"""Bytes of a device's tensors: copied to and from main memory, and compared with it."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

from domains.memory.backends.chunks import Guard, chunks
from domains.memory.backends.spans import HostSpan, equal
from domains.memory.backends.streams import Mark, Stream

BOUNCE_BYTES = 16 << 20
"""Of each of two page-locked buffers: one the device copies, one the processor."""
DIRECT_BYTES = 64 << 20
"""Of a chunk that the device copies without the processor."""
_SLOTS = 2

T = TypeVar("T")


class TensorBytes:
    """Copies and compares tensors of bytes on a device and spans of this process.

    One call at a time. When it ends, also by an exception, the device no longer touches the
    memory it was given.

    Args:
        stream: The device's stream for it.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._kept: list[torch.Tensor] = []

    def copy_in(
        self, source: HostSpan, target: torch.Tensor, pinned: bool, guard: Guard
    ) -> None:
        """From main memory to the device; `pinned`: the device can reach `source`."""
        bounce = self._stream.overlaps and not pinned
        with self._stream.work():
            steps = self._bounced(source, target) if bounce else self._direct(target, source)
            for done in self._finished(steps):
                guard.passed(done)

    def copy_out(
        self, source: torch.Tensor, target: HostSpan, pinned: bool, guard: Guard
    ) -> None:
        """From the device to main memory; `pinned`: the device can reach `target`."""
        bounce = self._stream.overlaps and not pinned
        with self._stream.work():
            if not bounce:
                for done in self._finished(self._direct(source, target, outwards=True)):
                    guard.passed(done)
                return
            for offset, here in self._arriving(source):
                target.prepare(offset, here.numel())
                ctypes.memmove(target.address + offset, here.data_ptr(), here.numel())
                guard.passed(offset + here.numel())

    def copy_within(self, source: torch.Tensor, target: torch.Tensor, guard: Guard) -> None:
        """Between two places of the device that do not overlap."""
        with self._stream.work():
            for offset, size in chunks(source.numel(), DIRECT_BYTES):
                end = offset + size
                target[offset:end].copy_(source[offset:end])
                self._stream.mark().synchronize()
                guard.passed(end)

    def compare_host(self, device: torch.Tensor, host: HostSpan, guard: Guard) -> int:
        """How many bytes are equal; those before the first chunk with a difference."""
        with self._stream.work():
            for offset, here in self._arriving(device):
                host.prepare(offset, here.numel())
                if not equal(here.data_ptr(), host.address + offset, here.numel()):
                    return offset
                guard.passed(offset + here.numel())
        return device.numel()

    def compare_within(self, one: torch.Tensor, other: torch.Tensor, guard: Guard) -> int:
        """The same of bytes that both lie on the device."""
        with self._stream.work():
            for offset, size in chunks(one.numel(), DIRECT_BYTES):
                end = offset + size
                if not torch.equal(one[offset:end], other[offset:end]):
                    return offset
                guard.passed(end)
        return one.numel()

    def _direct(
        self, device: torch.Tensor, host: HostSpan, *, outwards: bool = False
    ) -> Iterator[int]:
        """Queue copies without a bounce; yields the end of each chunk."""
        for offset, size in chunks(device.numel(), DIRECT_BYTES):
            host.prepare(offset, size)
            there = _host_tensor(host.address + offset, size)
            here = device[offset : offset + size]
            source, target = (here, there) if outwards else (there, here)
            target.copy_(source, non_blocking=self._stream.overlaps)
            yield offset + size

    def _bounced(self, source: HostSpan, target: torch.Tensor) -> Iterator[int]:
        """Queue copies of bytes that the device cannot reach; yields the end of each chunk."""
        bounces = self._bounces()
        for number, (offset, size) in enumerate(chunks(target.numel(), BOUNCE_BYTES)):
            bounce = bounces[number % _SLOTS]
            source.prepare(offset, size)
            ctypes.memmove(bounce.data_ptr(), source.address + offset, size)
            target[offset : offset + size].copy_(bounce[:size], non_blocking=True)
            yield offset + size

    def _arriving(self, device: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """The device's bytes in main memory, piece by piece; each until the next one."""
        pieces = chunks(device.numel(), BOUNCE_BYTES)
        if not self._stream.overlaps:
            return ((offset, device[offset : offset + size].cpu()) for offset, size in pieces)
        return self._finished(self._leaving(device, pieces))

    def _leaving(
        self, device: torch.Tensor, pieces: Iterator[tuple[int, int]]
    ) -> Iterator[tuple[int, torch.Tensor]]:
        bounces = self._bounces()
        for number, (offset, size) in enumerate(pieces):
            here = bounces[number % _SLOTS][:size]
            here.copy_(device[offset : offset + size], non_blocking=True)
            yield offset, here

    def _finished(self, queued: Iterable[T]) -> Iterator[T]:
        """What `queued` yields when it has queued something, each once the device has done it.

        Two are under way at a time, so that the processor handles one while the device
        handles the other.
        """
        under_way: deque[tuple[Mark, T]] = deque()
        for step in queued:
            under_way.append((self._stream.mark(), step))
            if len(under_way) == _SLOTS:
                mark, done = under_way.popleft()
                mark.synchronize()
                yield done
        for mark, done in under_way:
            mark.synchronize()
            yield done

    def _bounces(self) -> list[torch.Tensor]:
        if not self._kept:
            self._kept = [self._stream.pinned(BOUNCE_BYTES) for _ in range(_SLOTS)]
        return self._kept


def _host_tensor(address: int, size: int) -> torch.Tensor:
    """Bytes of this process as a tensor `[size]` of uint8; the caller keeps them there."""
    return torch.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype=torch.uint8)
