"""Standard streams are there, whatever started the process: a service, or a program without a
console, may have given it none.
"""

from __future__ import annotations

import os
import sys

_LAST = 2  # of their numbers, which processes that this one starts inherit


def settle() -> None:
    """Have those that are missing lead nowhere; called before anything else is opened.

    On POSIX systems files that are opened later would get their numbers, and with them what
    libraries write there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115
            if stream.fileno() <= _LAST:
                os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
