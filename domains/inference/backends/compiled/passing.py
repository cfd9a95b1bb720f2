"""Trouble with compiled code that says nothing about the code: another time it may be gone."""

from __future__ import annotations

import re
from collections.abc import Iterator

from domains.device.backends import faults

# What torch and its compilers say of a disk, and of a compiler or what it needs that is not
# there. Processes that they start tell their errors as text alone.
_TEXTS = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|Too many open files"
    r"|No working C\+\+ compiler|Compiler: .* is not found|Failed to find C compiler"
    r"|Cannot find a working triton|Python\.h: No such file",
    re.IGNORECASE,
)


def is_passing(error: BaseException) -> bool:
    """Whether an exception tells of memory, a disk or a missing compiler, which may be
    otherwise another time, with the same code."""
    return any(
        isinstance(each, (OSError, MemoryError))
        or faults.is_shortage(each)
        or bool(_TEXTS.search(str(each)))
        for each in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """It, and what it was raised for. What was merely handled meanwhile is no cause."""
    seen: set[int] = set()
    current: object = error
    while isinstance(current, BaseException) and id(current) not in seen:
        seen.add(id(current))
        yield current
        # The compiler's own errors hold theirs so.
        current = current.__cause__ or getattr(current, "inner_exception", None)
