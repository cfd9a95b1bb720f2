"""What torch's errors mean for a client."""

from __future__ import annotations

import re
import traceback

import torch

from domains.errors import DomainError, Reason, ResourceExhausted, Unavailable
from domains.inference.backends.device import can_be_lost, free_bytes, free_host_bytes

_HOST_MEMORY = re.compile(
    r"DefaultCPUAllocator: (?:can't allocate memory|not enough memory)", re.IGNORECASE
)
_DEVICE_MEMORY = re.compile(
    r"out of memory|not enough (?:GPU )?video memory|OUT_OF_(?:DEVICE|HOST)_MEMORY",
    re.IGNORECASE,
)
_DEVICE_LOST = re.compile(
    r"device instance has been suspended|device-side assert|illegal memory access"
    r"|unspecified launch failure|device (?:is |was )?(?:lost|removed)|ECC error"
    r"|(?:CUDA|HIP) error|XID",
    re.IGNORECASE,
)
_AMOUNT = r"([0-9][0-9.]*) ?(bytes|[KMGT]i?B)"
_NEEDED = re.compile(
    r"(?:tried to allocate|unable to allocate|allocate tensor with) " + _AMOUNT, re.IGNORECASE
)
_FREE = re.compile(r"of which " + _AMOUNT + r" is free", re.IGNORECASE)
_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def classify(error: BaseException, device: torch.device) -> DomainError | None:
    """The domain error that an exception from torch stands for; None when it is a defect.

    Reads the message, as torch has one exception class for most of these.
    """
    text = str(error)
    if isinstance(error, MemoryError) or _HOST_MEMORY.search(text):
        amounts = _amounts(text, free_host_bytes())
        return _exhausted("this machine", Reason.HOST_OUT_OF_MEMORY, amounts)
    if not isinstance(error, RuntimeError):
        return None
    if isinstance(error, torch.cuda.OutOfMemoryError) or _DEVICE_MEMORY.search(text):
        free = free_bytes(device)
        return _exhausted("the device", Reason.DEVICE_OUT_OF_MEMORY, _amounts(text, free))
    if can_be_lost(device) and _DEVICE_LOST.search(text):
        return Unavailable(
            "The device stopped working; its worker is started again.",
            reason=Reason.DEVICE_LOST,
        )
    return None


def exhausted(error: BaseException) -> bool:
    """Whether an exception from torch says that memory ran out."""
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and bool(_HOST_MEMORY.search(text) or _DEVICE_MEMORY.search(text))
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


def _exhausted(where: str, reason: Reason, amounts: dict[str, str]) -> ResourceExhausted:
    return ResourceExhausted(
        f"Memory of {where} ran out; draw a smaller picture, or unload other models.",
        reason=reason,
        metadata=amounts,
    )


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
