"""What torch's allocator counts on a device, in one look.

Asked for one figure, torch names and sorts all that it counts: half a millisecond on a slower
processor, several times for each picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Counted:
    """Bytes: of tensors, now and at most so far; of what is reserved for them, and of what of
    that lies unused in blocks that others use parts of."""

    allocated: int
    peak: int
    reserved: int
    inactive_split: int


def counted(backend: Any, device: Any) -> Counted | None:
    """All of it; None where it is told one by one, if at all.

    Args:
        backend: Torch's module for the device's kind, such as `torch.cuda`.
        device: The device, or its name.
    """
    ask = getattr(backend, "memory_stats_as_nested_dict", None)
    if ask is None:
        return None
    found = ask(device)

    def of(what: str, when: str = "current") -> int:
        # Nothing is counted before the device's first use.
        return int(found[what]["all"][when]) if what in found else 0

    return Counted(
        of("allocated_bytes"),
        of("allocated_bytes", "peak"),
        of("reserved_bytes"),
        of("inactive_split_bytes"),
    )


def peak_bytes(backend: Any, device: Any) -> int:
    """The most bytes of tensors since they began to be counted."""
    found = counted(backend, device)
    return int(backend.max_memory_allocated(device)) if found is None else found.peak
