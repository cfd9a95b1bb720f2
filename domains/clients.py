"""Whose a call is."""

from __future__ import annotations

from typing import Any, Protocol

from domains.checks import CLIENT_KEY

DEFAULT_CLIENT = "default"
"""The client of every call that names none."""


class Call(Protocol):
    """What is needed of a call's context."""

    def invocation_metadata(self) -> Any:
        """Keys and values that the client sent with the call."""
        ...


def client_of(call: Call) -> str:
    """The name of the client that a call is of, as its metadata says.

    The server has checked the name. Limits per client, turns in a queue and leases all
    go by what this returns: whatever comes to name clients, it is read here.
    """
    metadata: dict[str, Any] = dict(call.invocation_metadata() or ())
    return str(metadata.get(CLIENT_KEY) or DEFAULT_CLIENT)
