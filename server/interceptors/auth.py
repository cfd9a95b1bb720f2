"""Lets in calls that carry the server's token.

Health passes without one: supervisors and load balancers ask it, and it says nothing but
"serving"; such calls are counted apart from all others, and soon end. Reflection describes
what can be called and needs the token like all else; grpcurl sends it with
`-H "authorization: Bearer TOKEN"`, which covers its reflection calls too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio

from domains.errors import Reason, Unauthenticated
from server import token as access_token
from server.interceptors import Continuation, Handler, refusal
from server.interceptors.call_classes import OPEN

_SCHEME = "bearer "


class TokenCheck:
    """Says of a call's metadata whether the server's token came with it.

    Args:
        token: The token; None lets every call in.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token

    def objection(self, metadata: Iterable[Any] | None) -> Unauthenticated | None:
        """Why a call cannot be let in; None when it can."""
        if self._token is None:
            return None
        headers = [str(value) for key, value in metadata or () if key == "authorization"]
        if not headers:
            return Unauthenticated(
                'Send the server\'s token as metadata "authorization: Bearer TOKEN".',
                reason=Reason.TOKEN_MISSING,
            )
        if len(headers) > 1:
            return Unauthenticated(
                "Send one authorization header, not several.", reason=Reason.TOKEN_INVALID
            )
        header = headers[0]
        presented = header[len(_SCHEME) :].strip()
        if header[: len(_SCHEME)].lower() != _SCHEME:
            return Unauthenticated(
                'The authorization header must begin with "Bearer ".',
                reason=Reason.TOKEN_INVALID,
            )
        if not access_token.matches(presented, self._token):
            return Unauthenticated(
                "The token is not this server's.", reason=Reason.TOKEN_INVALID
            )
        return None


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Refuses a call before any byte of its request is read or parsed.

    Args:
        check: Knows the token.
    """

    def __init__(self, check: TokenCheck) -> None:
        self._check = check

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        if handler_call_details.method.startswith(OPEN):
            return await continuation(handler_call_details)
        error = self._check.objection(handler_call_details.invocation_metadata)
        return refusal(error) if error else await continuation(handler_call_details)
