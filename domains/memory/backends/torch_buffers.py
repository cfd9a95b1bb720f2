"""Buffers in a device's own memory: torch tensors of bytes, by name, in its worker.

Everything happens on a stream of its own where the device has streams, so that buffers
neither wait for what draws nor slow it down, and their memory is not mixed with its.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from domains.device.backends import faults
from domains.errors import FailedPrecondition, Reason, ResourceExhausted
from domains.memory.backends.buffer_store import BufferStore
from domains.memory.backends.chunks import Guard
from domains.memory.backends.opened import OpenedSegment
from domains.memory.backends.streams import Stream
from domains.memory.backends.tensors import TensorBytes
from domains.memory.types import BufferRegion, Compare, Move, SegmentRegion

GIVE_BACK_BYTES = 16 << 20
"""A freed buffer of at least this size is given back to the driver at once. Smaller ones
are kept for reuse: giving back makes the allocator wait for the device."""

# Of the CUDA and HIP runtimes.
_SUCCESS, _ERROR_MEMORY = 0, 2
_ADVICE = "ask for less, or free something"
Result = TypeVar("Result")


class TorchBuffers(BufferStore[torch.Tensor]):
    """Buffers on one device that torch drives.

    Args:
        device: The device.
        stream: For its copies; by default one of its own.
    """

    def __init__(self, device: torch.device, stream: Stream | None = None) -> None:
        super().__init__()
        self._device = device
        self._stream = stream or Stream(device)
        self._backend: Any = self._stream.backend
        self._tensors = TensorBytes(self._stream)

    def release_cached(self) -> None:
        """Give the driver back what torch's allocator keeps for reuse."""
        gc.collect()
        if hasattr(self._backend, "empty_cache"):
            self._on_device(self._backend.empty_cache)

    def _take(self, size: int, guard: Guard) -> torch.Tensor:
        def take() -> torch.Tensor:
            with self._stream.work():
                # No client gets what another left, and drivers that promise more than
                # they have must provide it now.
                return torch.zeros(size, dtype=torch.uint8, device=self._device)

        guard.check_stop()
        return self._on_device(take)

    def _gave(self, size: int) -> None:
        if size >= GIVE_BACK_BYTES:
            self.release_cached()

    def move(self, move: Move, guard: Guard) -> None:
        """Copy bytes."""
        guard.check_stop()
        tensors, length = self._tensors, move.length
        match move.source, move.target:
            case BufferRegion() as source, BufferRegion() as target:
                one, other = self._view(source, length), self._view(target, length)
                self._on_device(lambda: tensors.copy_within(one, other, guard))
            case BufferRegion() as source, SegmentRegion() as target:
                view = self._view(source, length)
                with self._segment(target, length) as (span, pinned):
                    self._on_device(lambda: tensors.copy_out(view, span, pinned, guard))
            case SegmentRegion() as source, BufferRegion() as target:
                view = self._view(target, length)
                with self._segment(source, length) as (span, pinned):
                    self._on_device(lambda: tensors.copy_in(span, view, pinned, guard))
            case _:
                raise _not_here("move")

    def compare(self, compare: Compare, guard: Guard) -> int:
        """Compare bytes; returns how many are equal."""
        guard.check_stop()
        first, second, length = compare.first, compare.second, compare.length
        if isinstance(first, SegmentRegion):
            first, second = second, first
        if isinstance(first, SegmentRegion):
            raise _not_here("compare")
        one = self._view(first, length)
        if isinstance(second, BufferRegion):
            other = self._view(second, length)
            return self._on_device(lambda: self._tensors.compare_within(one, other, guard))
        with self._segment(second, length) as (span, _pinned):
            return self._on_device(lambda: self._tensors.compare_host(one, span, guard))

    def _view(self, region: BufferRegion, length: int) -> torch.Tensor:
        return self._buffer(region, length)[region.offset : region.offset + length]

    def _register(self, opened: OpenedSegment) -> None:
        runtime = self._runtime()
        if runtime is None:
            super()._register(opened)
        size = opened.segment.size_bytes
        with self._stream.work():  # of the device's own context
            code = int(
                self._on_device(lambda: runtime.cudaHostRegister(opened.address, size, 0))
            )
        if code != _SUCCESS:
            self._clear_error()
        if code == _ERROR_MEMORY:
            raise ResourceExhausted(
                f"The system refuses to lock {size} bytes of main memory.",
                reason=Reason.HOST_OUT_OF_MEMORY,
                metadata={"needed_bytes": str(size)},
            )
        if code != _SUCCESS:
            raise FailedPrecondition(
                f"The driver cannot pin this memory (its error {code}).",
                reason=Reason.DEVICE_UNSUPPORTED,
            )

    def _unregister(self, opened: OpenedSegment) -> None:
        runtime = self._runtime()
        if runtime is not None:
            with self._stream.work():
                self._on_device(lambda: runtime.cudaHostUnregister(opened.address))

    def _clear_error(self) -> None:
        """Have the driver forget its last error, which torch's next call would raise."""
        with contextlib.suppress(RuntimeError), self._stream.work():
            torch.zeros(1, device=self._device)

    def _runtime(self) -> Any:
        """The runtime that can pin what others mapped; None where there is none."""
        ask = getattr(self._backend, "cudart", None)
        return None if ask is None else ask()

    def _on_device(self, act: Callable[[], Result]) -> Result:
        """Run `act`, which uses the device; torch's errors become the domain's."""
        try:
            return act()
        except (RuntimeError, MemoryError) as error:
            found = faults.domain_error(
                error, self._device, advice="ask for less, or free something"
            )
            if found is None:
                raise
            fault = found
        raise fault  # here the error, and the tensors that its frames hold, are gone


def _not_here(verb: str) -> FailedPrecondition:
    return FailedPrecondition(f"A device's worker does not {verb} bytes of two segments.")
