"""Calls of clients with a name, where a test is not about how clients are known."""

from __future__ import annotations

from typing import Any

from domains.clients import Caller, Role, calling
from server.interceptors import Context, Handler, Interceptor, behaviour_of, with_behaviour

_KEY = "test-caller"


def called(name: str, role: Role = Role.RUN) -> tuple[tuple[str, str], ...]:
    """Metadata with which `Word` takes a call for that client's."""
    return ((_KEY, f"{name} {role.value}"),)


class Word(Interceptor):
    """Takes a call's word for whose it is; without a word it is a stranger's."""

    def wrap(self, handler: Handler, method: str) -> Handler:
        inner = behaviour_of(handler)

        async def named(request: Any, context: Context) -> Any:
            given = dict(context.invocation_metadata() or ()).get(_KEY)
            if given is None:
                return await inner(request, context)
            name, role = str(given).split()
            with calling(Caller(name, Role(role))):
                return await inner(request, context)

        return with_behaviour(handler, named)
