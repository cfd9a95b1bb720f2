"""Whether there is main memory for what a chain does next, before a byte of it is taken.

The system hands out memory that it does not have, and ends whoever uses it: what would not fit
has to be refused beforehand.
"""

from __future__ import annotations

from domains.device.backends.torch_gauge import free_host_bytes
from domains.errors import Reason, ResourceExhausted

ASKED_FROM = 64 << 20
"""Bytes from which on it is looked at: looking takes as long as a step on a small picture, and
a system with less than that left has ended the worker before."""
_ADVICE = "use a smaller picture, or try again when there is more"


def check_host(needed: int) -> None:
    """Refuse what does not fit into main memory now; what is small is let pass.

    Args:
        needed: Bytes.

    Raises:
        ResourceExhausted: HOST_OUT_OF_MEMORY, with `needed_bytes` and `free_bytes`.
    """
    if needed >= ASKED_FROM:
        check_free(needed, free_host_bytes())


def check_free(needed: int, free: int, advice: str = _ADVICE) -> None:
    """Refuse what does not fit into so many bytes of main memory.

    Args:
        needed: Bytes.
        free: Bytes.
        advice: What to do about it.

    Raises:
        ResourceExhausted: HOST_OUT_OF_MEMORY, with `needed_bytes` and `free_bytes`.
    """
    if needed > free:
        raise ResourceExhausted(
            f"This takes {needed} bytes of main memory, and {free} are free; {advice}.",
            reason=Reason.HOST_OUT_OF_MEMORY,
            metadata={"needed_bytes": str(needed), "free_bytes": str(free)},
        )
