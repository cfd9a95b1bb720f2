"""Knows whose a call is, lets in whom the role allows it, ends what a revoked token began.

Health passes without a token: supervisors and load balancers ask it, and it says nothing but
"serving"; such calls are counted apart from all others, and soon end. Reflection describes
what can be called and needs a token like all else; grpcurl sends it with
`-H "authorization: Bearer TOKEN"`, which covers its reflection calls too.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from domains.clients import Role, calling
from domains.errors import PermissionDenied, Reason, Unauthenticated
from server.identity import Identities, Identity
from server.interceptors import (
    Behaviour,
    Context,
    Handler,
    Interceptor,
    behaviour_of,
    with_behaviour,
)
from server.roles import least_role


class RoleTooLow(PermissionDenied):
    """A client calls what its role does not allow."""

    def __init__(self, role: Role, required: Role) -> None:
        super().__init__(
            f"This call needs role {required.name}, and this client has {role.name}; use"
            " another token, or ask the operator of the server for one.",
            reason=Reason.ROLE_REQUIRED,
            metadata={"role": role.name, "required_role": required.name},
        )


class TokenRevoked(Unauthenticated):
    """The token of a call was revoked while the call was open."""

    def __init__(self) -> None:
        super().__init__(
            "The token of this call was revoked; ask the operator of the server for another.",
            reason=Reason.TOKEN_INVALID,
        )


class AuthInterceptor(Interceptor):
    """Refuses a call before any byte of its request is read or parsed.

    Args:
        identities: Knows who calls.
    """

    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self._open: dict[asyncio.Task[Any], Identity] = {}
        self._revoked: set[asyncio.Task[Any]] = set()
        identities.on_change(self._end_revoked)

    def wrap(self, handler: Handler, method: str) -> Handler:
        inner = behaviour_of(handler)
        required = least_role(method)

        async def known(request: Any, context: Context) -> Any:
            try:
                identity = self._identities.identify(
                    context.invocation_metadata(), common_name(context)
                )
            except Unauthenticated:
                if required is None:
                    return await inner(request, context)
                raise
            client = identity.caller
            structlog.contextvars.bind_contextvars(client=client.name)
            if required is not None and not client.role.includes(required):
                raise RoleTooLow(client.role, required)
            with calling(client):
                return await self._until_revoked(identity, inner, request, context)

        return with_behaviour(handler, known)

    async def _until_revoked(
        self, identity: Identity, inner: Behaviour, request: Any, context: Context
    ) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = identity
        try:
            return await inner(request, context)
        except asyncio.CancelledError:
            if task not in self._revoked:
                raise
            raise TokenRevoked() from None
        finally:
            del self._open[task]
            if task in self._revoked:
                self._revoked.discard(task)
                task.uncancel()

    def _end_revoked(self) -> None:
        for task, identity in self._open.items():
            if task not in self._revoked and not self._identities.holds(identity):
                self._revoked.add(task)
                task.cancel()


def common_name(context: Context) -> str | None:
    """That of the certificate which the client showed; None without one."""
    names = list(context.auth_context().get("x509_common_name", ()))
    return names[0].decode("utf-8", "replace") if names else None
