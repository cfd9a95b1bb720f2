"""What a process gives up before it reads what nobody vouches for.

Its memory and its processor time are bounded where the system can do that (on Windows the
front's job object does; macOS bounds no memory), it leaves no core behind, and it can neither
reach the network nor start anything: Python asks before it does, and is told no.
"""

from __future__ import annotations

import sys
from typing import Any

from server.worker.link.start_record import InspectorRecord

# Names of audit events (docs.python.org, "Audit events table"), or their beginnings.
_FORBIDDEN = (
    *("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "urllib."),
    *("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn"),
    *("os.startfile", "pty.spawn", "pickle.find_class"),
)


class Forbidden(Exception):
    """This process may not do that; the text names the event."""


def limit_to(record: InspectorRecord) -> None:
    """Bound what this process can take, for good."""
    if sys.platform == "win32":
        return
    import resource

    if sys.platform != "darwin":  # it refuses: what it maps into every process is larger
        _lower(resource.RLIMIT_AS, record.memory_bytes)
    _lower(resource.RLIMIT_CPU, record.cpu_seconds)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(which: int, value: int) -> None:
    """A limit that is stricter already stays as it is."""
    import resource

    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def close_the_doors() -> None:
    """Refuse the network and new processes from now on; nothing takes that back."""
    sys.addaudithook(_refuse)


def _refuse(event: str, _arguments: tuple[Any, ...]) -> None:
    if event.startswith(_FORBIDDEN):
        raise Forbidden(event)
