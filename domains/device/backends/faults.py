"""What torch's errors mean: the one place that reads their messages.

Torch has one exception class for most of them, so the text decides.
"""

from __future__ import annotations

import re
import traceback
from enum import Enum

import torch

from domains.device.backends.torch_gauge import free_bytes, free_host_bytes, in_main_memory
from domains.device.errors import DeviceLost
from domains.errors import DomainError, Reason, ResourceExhausted

_HOST_MEMORY = re.compile(
    r"DefaultCPUAllocator: (?:can't allocate memory|not enough memory)"
    # What the C++ library, the system, and oneDNN with no room for its code say. oneDNN's
    # "primitive descriptor" is another matter: an operation that it does not have.
    r"|std::bad_alloc|bad allocation|Cannot allocate memory"
    r"|could not create a (?:primitive|memory object)$",
    re.IGNORECASE,
)
_DEVICE_MEMORY = re.compile(
    r"out of memory|not enough (?:GPU )?video memory|OUT_OF_(?:DEVICE|HOST)_MEMORY"
    r"|invalid buffer size|can't allocate memory",
    re.IGNORECASE,
)
_LOST = re.compile(
    r"device instance has been suspended|device-side assert|illegal memory access"
    r"|unspecified launch failure|device (?:is |was )?(?:lost|removed)|ECC error"
    r"|(?:CUDA|HIP) error|XID",
    re.IGNORECASE,
)
_AMOUNT = r"([0-9][0-9.]*) ?(bytes|[KMGT]i?B)"
_NEEDED = re.compile(
    r"(?:tried to allocate|unable to allocate|allocate tensor with|invalid buffer size:) "
    + _AMOUNT,
    re.IGNORECASE,
)
_FREE = re.compile(r"of which " + _AMOUNT + r" is free", re.IGNORECASE)
_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Fault(Enum):
    """The kinds of trouble that are no defect of the program."""

    HOST_MEMORY = "host-memory"  # main memory ran out
    DEVICE_MEMORY = "device-memory"  # the device's own memory ran out
    LOST = "lost"  # the device works no more in this process


def fault_of(error: BaseException, device: torch.device) -> Fault | None:
    """Which fault an exception from torch stands for; None when it is a defect."""
    shortage = _shortage(error)
    if shortage is not None:
        return shortage
    # The processor cannot be lost while the program runs on it.
    lost = isinstance(error, RuntimeError) and bool(_LOST.search(str(error)))
    return Fault.LOST if lost and not in_main_memory(device) else None


def is_shortage(error: BaseException) -> bool:
    """Whether an exception from torch says that memory ran out."""
    return _shortage(error) is not None


def domain_error(
    error: BaseException, device: torch.device, *, advice: str
) -> DomainError | None:
    """What a client sees of an exception from torch; None when it is a defect.

    Args:
        error: From torch.
        device: Where it was raised.
        advice: What to do when memory ran out, as the second half of a sentence.

    Returns:
        ResourceExhausted (HOST_OUT_OF_MEMORY, DEVICE_OUT_OF_MEMORY) with `needed_bytes`
        and `free_bytes` where they are known, or DeviceLost.
    """
    fault = fault_of(error, device)
    if fault is None:
        return None
    if fault is Fault.LOST:
        return DeviceLost()
    if fault is Fault.HOST_MEMORY:
        return ResourceExhausted(
            f"Memory of this machine ran out; {advice}.",
            reason=Reason.HOST_OUT_OF_MEMORY,
            metadata=_amounts(str(error), free_host_bytes()),
        )
    return ResourceExhausted(
        f"Memory of the device ran out; {advice}.",
        reason=Reason.DEVICE_OUT_OF_MEMORY,
        metadata=_amounts(str(error), free_bytes(device)),
    )


def drop_frames(error: BaseException) -> None:
    """Let go of every tensor that an exception's frames still hold.

    Otherwise memory that has run out stays taken for as long as the exception lives.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        traceback.clear_frames(current.__traceback__)
        current.__traceback__ = None
        current = current.__cause__ or current.__context__


def _shortage(error: BaseException) -> Fault | None:
    text = str(error)
    if isinstance(error, MemoryError) or _HOST_MEMORY.search(text):
        return Fault.HOST_MEMORY
    if isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _DEVICE_MEMORY.search(text)
    ):
        return Fault.DEVICE_MEMORY
    return None


def _amounts(text: str, free: int | None) -> dict[str, str]:
    amounts: dict[str, str] = {}
    needed = _NEEDED.search(text)
    if needed is not None:
        amounts["needed_bytes"] = str(_bytes(needed))
    stated = _FREE.search(text)
    if stated is not None:
        amounts["free_bytes"] = str(_bytes(stated))
    elif free is not None:
        amounts["free_bytes"] = str(free)
    return amounts


def _bytes(match: re.Match[str]) -> int:
    return int(float(match[1]) * _UNITS[match[2][0].lower()])
