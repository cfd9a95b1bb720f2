"""Whose a call is, and what its client may do.

Anything that runs in a call may ask: `caller()` needs no context handed through. What outlives
its call (a session, a queue, a loop) keeps the name that it needs as a value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_CLIENT = "default"
"""The client of the token that the server makes itself, and of every call where no token is
asked for."""


class Role(StrEnum):
    """What a client may do; each may do what those before it may."""

    READ = "read"
    """Look at devices, memory, models, and at what is its own."""
    RUN = "run"
    """Also work, and control and delete what is its own."""
    ADMIN = "admin"
    """Everything, and everybody's."""

    def includes(self, other: Role) -> bool:
        """Whether it may do all that `other` may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


@dataclass(frozen=True)
class Caller:
    """The client that a call is of."""

    name: str
    """Limits, turns in a queue, leases and whatever has an owner go by it."""
    role: Role

    def sees(self, owner: str) -> bool:
        """Whether what belongs to `owner` exists for it: what does not is not found."""
        return self.role is Role.ADMIN or self.name == owner


STRANGER = Caller("", Role.READ)
"""Whoever calls without being known, which health checks may. No client has that name."""

_CALLER: ContextVar[Caller] = ContextVar("caller", default=STRANGER)


def caller() -> Caller:
    """The client of the call that this runs in; `STRANGER` where it is not known."""
    return _CALLER.get()


@contextlib.contextmanager
def calling(client: Caller) -> Iterator[None]:
    """Let `caller()` be `client` for what runs in this block, and for tasks begun in it."""
    before = _CALLER.set(client)
    try:
        yield
    finally:
        _CALLER.reset(before)
