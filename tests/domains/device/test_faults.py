"""Torch's messages become typed errors with the numbers they hold."""

from __future__ import annotations

import pytest
import torch

from domains.device.backends.faults import (
    Fault,
    domain_error,
    drop_frames,
    fault_of,
    is_shortage,
)
from domains.errors import Reason, ResourceExhausted, Unavailable

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
        (RuntimeError("std::bad_alloc"), Reason.HOST_OUT_OF_MEMORY, None, None),
        (RuntimeError("could not create a primitive"), Reason.HOST_OUT_OF_MEMORY, None, None),
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
        (
            RuntimeError("Invalid buffer size: 12.00 GiB"),
            Reason.DEVICE_OUT_OF_MEMORY,
            str(12 << 30),
            None,
        ),
        (
            RuntimeError("UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY"),
            Reason.DEVICE_OUT_OF_MEMORY,
            None,
            None,
        ),
        (
            RuntimeError("the driver can't allocate memory"),
            Reason.DEVICE_OUT_OF_MEMORY,
            None,
            None,
        ),
    ],
)
def test_memory(error, reason, needed, free):
    fault = domain_error(error, CPU, advice="draw smaller")
    assert is_shortage(error)
    assert isinstance(fault, ResourceExhausted)
    assert fault.reason is reason
    assert fault.message.endswith("ran out; draw smaller.")
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
        "RuntimeError: device-side assert",
        "NVRM: Xid (PCI:0000:01:00): 79",
        "HIP error: unspecified launch failure",
        "the device was removed",
        "uncorrectable ECC error encountered",
    ],
)
def test_a_lost_device(text):
    error = RuntimeError(text)
    fault = domain_error(error, META, advice="draw smaller")
    assert fault_of(error, META) is Fault.LOST
    assert isinstance(fault, Unavailable)
    assert fault.reason is Reason.DEVICE_LOST
    assert not is_shortage(error)
    # The processor cannot be lost while the program runs on it.
    assert fault_of(error, CPU) is None


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory"),
        ValueError("CUDA error"),
    ],
)
def test_other_errors_are_defects(error):
    for device in (CPU, META):
        assert fault_of(error, device) is None
        assert domain_error(error, device, advice="draw smaller") is None


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


def test_an_operation_that_onednn_does_not_have_is_no_lack_of_memory() -> None:
    error = RuntimeError("could not create a primitive descriptor for a matmul primitive")
    assert fault_of(error, CPU) is None
