"""Bytes on a device compared with others there, or with bytes in main memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import torch

from domains.memory.backends.chunks import Watch, chunks
from domains.memory.backends.comparing import equal
from domains.memory.backends.moving import HostSpan
from domains.memory.backends.transfers import (
    BOUNCE_BYTES,
    DIRECT_BYTES,
    Mark,
    Stream,
)


class Comparisons:
    """Compares tensors of bytes; one at a time.

    When a call ends, also by an exception, the device no longer touches the memory.

    Args:
        stream: The device's stream for it.
        bounces: Page-locked buffers of `BOUNCE_BYTES` that nobody else uses during a call;
            asked for only where copies overlap.
    """

    def __init__(self, stream: Stream, bounces: Callable[[], list[torch.Tensor]]) -> None:
        self._stream = stream
        self._bounces = bounces

    def within(self, one: torch.Tensor, other: torch.Tensor, watch: Watch) -> int:
        """How many bytes are equal; those before the first chunk with a difference."""
        with self._stream.work():
            for offset, size in chunks(one.numel(), DIRECT_BYTES):
                end = offset + size
                if not torch.equal(one[offset:end], other[offset:end]):
                    return offset
                watch.passed(end)
        return one.numel()

    def with_host(self, device: torch.Tensor, host: HostSpan, watch: Watch) -> int:
        """The same of bytes on the device and bytes in main memory."""
        with self._stream.work():
            for offset, here in self._arriving(device):
                size = here.numel()
                host.prepare(offset, size)
                if not equal(here.data_ptr(), host.address + offset, size):
                    return offset
                watch.passed(offset + size)
        return device.numel()

    def _arriving(self, device: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """The device's bytes in main memory, piece by piece; each until the next one."""
        pieces = chunks(device.numel(), BOUNCE_BYTES)
        if not self._stream.overlaps:
            for offset, size in pieces:
                yield offset, device[offset : offset + size].cpu()
            return
        free = deque(self._bounces())
        flying: deque[tuple[Mark, int, torch.Tensor, torch.Tensor]] = deque()

        def send() -> bool:
            piece = next(pieces, None)
            if piece is None:
                return False
            offset, size = piece
            bounce = free.popleft()
            here = bounce[:size]
            here.copy_(device[offset : offset + size], non_blocking=True)
            flying.append((self._stream.mark(), offset, here, bounce))
            return True

        while free and send():
            pass
        while flying:
            mark, offset, here, bounce = flying.popleft()
            mark.synchronize()
            yield offset, here
            free.append(bounce)
            send()
