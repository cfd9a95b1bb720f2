"""Lets in calls that carry the server's token.

Health passes without one: supervisors and load balancers ask it, and it says nothing but
"serving". Reflection describes what can be called and needs the token like all else;
grpcurl sends it with `-H "authorization: Bearer TOKEN"`, which covers its reflection
calls too.
"""

from __future__ import annotations

import grpc
import grpc.aio

from domains.errors import Reason, Unauthenticated
from server import token as access_token
from server.interceptors import Continuation, Handler, refusal

_OPEN = "/grpc.health.v1.Health/"
_SCHEME = "bearer "


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Refuses a call before any byte of its request is read or parsed."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        if handler_call_details.method.startswith(_OPEN):
            return await continuation(handler_call_details)
        metadata = handler_call_details.invocation_metadata or ()
        error = self._objection(
            [str(value) for key, value in metadata if key == "authorization"]
        )
        return refusal(error) if error else await continuation(handler_call_details)

    def _objection(self, headers: list[str]) -> Unauthenticated | None:
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
