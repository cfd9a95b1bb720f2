"""A signal before the server holds anything: the process ends at once, as after a drain.

Imported first of all, before what takes long to import.
"""

from __future__ import annotations

import os
import signal

SIGNAL_NAMES = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP")
"""What asks the server to end, as far as the system has it."""


def signals() -> list[signal.Signals]:
    """Those that the system has, and that whoever started the process did not turn off."""
    found = [getattr(signal, name) for name in SIGNAL_NAMES if hasattr(signal, name)]
    hangup = getattr(signal, "SIGHUP", None)  # `nohup` ignores it for its child
    return [
        number
        for number in found
        if number != hangup or signal.getsignal(number) is not signal.SIG_IGN
    ]


def end_at_signals() -> None:
    """From here on, until the server handles them itself, they end the process with code 0."""
    for number in signals():
        signal.signal(number, lambda *_: os._exit(0))
