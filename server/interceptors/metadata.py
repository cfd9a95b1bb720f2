"""Refuses a call whose metadata names its client badly, whatever the method.

A name that one RPC refuses and another ignores would make a client's leases somebody
else's, unseen.
"""

from __future__ import annotations

import grpc
import grpc.aio

from domains import checks
from domains.errors import FieldViolation, InvalidArgument, Reason
from server.interceptors import Continuation, Handler, refusal


class MetadataInterceptor(grpc.aio.ServerInterceptor):
    """Inside of auth; refuses before any byte of the request is read or parsed."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        metadata = handler_call_details.invocation_metadata or ()
        broken = _objection([value for key, value in metadata if key == checks.CLIENT_KEY])
        if broken is not None:
            return refusal(InvalidArgument.of(broken))
        return await continuation(handler_call_details)


def _objection(names: list[str | bytes]) -> FieldViolation | None:
    """An empty name is none: the call is of the default client."""
    if len(names) > 1:
        return FieldViolation(
            checks.CLIENT_KEY, Reason.METADATA_INVALID, "Must be sent once, not several times."
        )
    return checks.client_name(str(names[0])) if names and names[0] else None
