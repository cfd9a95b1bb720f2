"""Calls of clients with a name, where a test is not about how clients are known."""

from __future__ import annotations

from typing import Any

from domains.clients import STRANGER, Caller, Role, calling
from server.interceptors import Context, Handler, Interceptor, behaviour_of, with_behaviour

_KEY = "test-caller"


def called(name: str, role: Role = Role.RUN) -> tuple[tuple[str, str], ...]:
    """Metadata with which `Word` takes a call for that client's."""
    return ((_KEY, f"{name} {role.value}"),)


class Word(Interceptor):
    """Takes a call's word for whose it is.

    Args:
        otherwise: Whose a call without a word is.
    """

    def __init__(self, otherwise: Caller = STRANGER) -> None:
        self._otherwise = otherwise

    def wrap(self, handler: Handler, method: str) -> Handler:
        inner = behaviour_of(handler)

        async def named(request: Any, context: Context) -> Any:
            given = dict(context.invocation_metadata() or ()).get(_KEY)
            client = self._otherwise
            if given is not None:
                name, role = str(given).split()
                client = Caller(name, Role(role))
            with calling(client):
                return await inner(request, context)

        return with_behaviour(handler, named)
