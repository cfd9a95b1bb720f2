"""How a worker ended, and why."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from domains.shortages import shortage_of

_REFUSED = re.compile(
    r"memory allocation|cannot allocate memory|pthread_create failed|thread creation failed"
    r"|can't start new thread|failed to map segment",
    re.IGNORECASE,
)

_log = structlog.get_logger("deviceops.worker")


@dataclass(frozen=True)
class Death:
    """How a worker ended.

    `deliberate`: on the front's wish, so it does not count against the device. `starved`:
    the system had no more of something that it needs, which is not the device's fault
    either. `gone`: its machine is not there any more. `facts` has `exit_code` or `signal`.
    """

    explanation: str
    facts: Mapping[str, str] = field(default_factory=dict)
    deliberate: bool = False
    starved: bool = False
    gone: bool = False

    @property
    def blamed(self) -> bool:
        """Whether it counts against its device, or its model."""
        return not (self.deliberate or self.starved or self.gone)


@dataclass(frozen=True)
class EndReason:
    """Why the front ends a worker; `why` completes "The worker ..."."""

    why: str
    deliberate: bool = False
    starved: bool = False
    gone: bool = False


NODE_GONE = EndReason("lost its machine, which left the cluster", gone=True)


class FirstReason:
    """Why a worker ends, from any thread: the first reason counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reason: EndReason | None = None

    def note(
        self, why: str, *, deliberate: bool = False, starved: bool = False, gone: bool = False
    ) -> None:
        """Remember why it ends, unless that is known."""
        with self._lock:
            self.reason = self.reason or EndReason(why, deliberate, starved, gone)


def end_before_hello(words: str, lines: Iterable[str]) -> EndReason:
    """Why a worker ended of itself before it could say anything.

    Libraries written in C end the process when the system refuses them something, and only
    print it.

    Args:
        words: How it ended; completes "The worker ...".
        lines: What it printed last.
    """
    if any(_REFUSED.search(line) for line in lines):
        why = "cannot start: the system gives its libraries no more memory or threads"
        return EndReason(why, starved=True)
    return EndReason(words)


def death_of(error: Exception, failed: str) -> Death:
    """What an error amounts to that kept a worker from starting; logged when it is no lack.

    Args:
        error: What was raised.
        failed: What could not be done, for errors of the system.
    """
    shortage = shortage_of(error)
    if shortage is not None:
        return Death(f"The worker cannot start: {shortage.message}", starved=True)
    if isinstance(error, OSError):
        why = f"{failed} ({error.strerror or type(error).__name__})."
        _log.error("worker_lost", why=why)
    else:
        why = "the log says more."
        _log.error("worker_lost", why=why, exc_info=error)
    return Death(f"The worker cannot start: {why}")
