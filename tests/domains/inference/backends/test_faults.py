"""Torch's messages become typed errors with the numbers they hold."""

from __future__ import annotations

import pytest
import torch

from domains.errors import Reason, ResourceExhausted, Unavailable
from domains.inference.backends.faults import classify, drop_frames

CPU, META = torch.device("cpu"), torch.device("meta")
CUDA_TEXT = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of "
    "7.79 GiB of which 10.50 MiB is free."
)


@pytest.mark.parametrize(
    ("error", "reason", "needed", "free"),
    [
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "
                "allocate memory: you tried to allocate 1234567 bytes."
            ),
            Reason.HOST_OUT_OF_MEMORY,
            "1234567",
            None,
        ),
        (
            RuntimeError(
                "DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes."
            ),
            Reason.HOST_OUT_OF_MEMORY,
            "99",
            None,
        ),
        (MemoryError(), Reason.HOST_OUT_OF_MEMORY, None, None),
        (
            MemoryError("Unable to allocate 2.00 GiB for an array"),
            Reason.HOST_OUT_OF_MEMORY,
            str(2 << 30),
            None,
        ),
        (
            torch.cuda.OutOfMemoryError(CUDA_TEXT),
            Reason.DEVICE_OUT_OF_MEMORY,
            str(20 << 20),
            str(int(10.5 * (1 << 20))),
        ),
        (
            RuntimeError("MPS backend out of memory. Tried to allocate 1.50 GB on ..."),
            Reason.DEVICE_OUT_OF_MEMORY,
            str(3 << 29),
            None,
        ),
        (
            RuntimeError(
                "Could not allocate tensor with 512 bytes. There is not enough GPU video "
                "memory available!"
            ),
            Reason.DEVICE_OUT_OF_MEMORY,
            "512",
            None,
        ),
    ],
)
def test_memory(error, reason, needed, free):
    fault = classify(error, CPU)
    assert isinstance(fault, ResourceExhausted)
    assert fault.reason is reason
    assert fault.metadata.get("needed_bytes") == needed
    if reason is Reason.HOST_OUT_OF_MEMORY:
        assert int(fault.metadata["free_bytes"]) > 0
    else:
        assert fault.metadata.get("free_bytes") == free


@pytest.mark.parametrize(
    "text",
    [
        "The GPU device instance has been suspended. Use GetDeviceRemovedReason",
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: device-side assert triggered",
    ],
)
def test_a_lost_device(text):
    fault = classify(RuntimeError(text), META)
    assert isinstance(fault, Unavailable)
    assert fault.reason is Reason.DEVICE_LOST


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("memory")]
)
def test_other_errors_are_defects(error):
    assert classify(error, CPU) is None


def test_dropped_frames_hold_nothing():
    class Large:
        alive = 0

        def __init__(self):
            Large.alive += 1

        def __del__(self):
            Large.alive -= 1

    def work():
        kept = Large()
        try:
            raise KeyError("first")
        except KeyError as first:
            raise RuntimeError("second", id(kept)) from first

    with pytest.raises(RuntimeError) as caught:
        work()
    error = caught.value
    del caught
    assert Large.alive == 1
    drop_frames(error)
    assert Large.alive == 0
    assert error.__traceback__ is None
