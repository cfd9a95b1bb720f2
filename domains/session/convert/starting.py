"""The one way from a request that starts long work to its session, by the request's type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from google.protobuf.message import Message

from deviceops.v1 import (
    device_pb2,
    inference_pb2,
    memory_pb2,
    model_pb2,
    postprocessing_pb2,
    processing_pb2,
)
from domains.errors import FeatureNotBuilt
from domains.session.convert.kept import message_in
from domains.session.convert.named import named_in
from domains.session.core.plan import SessionRequest
from domains.session.errors import Restarted
from domains.session.records import KeptMessage

_METHODS = {
    method.input_type.full_name: f"{service.name}.{method.name}"
    for file in (
        device_pb2,
        inference_pb2,
        memory_pb2,
        model_pb2,
        postprocessing_pb2,
        processing_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
"""Which method a type of request belongs to."""
M = TypeVar("M", bound=Message)
Asked = TypeVar("Asked")


class Starters:
    """Knows how every request that starts long work becomes a session.

    Each type of request belongs to one method, so the type says which.
    """

    def __init__(self) -> None:
        self._by_type: dict[str, Callable[[Message], SessionRequest]] = {}

    def know(
        self,
        request: type[M],
        from_proto: Callable[[M], Asked],
        session: Callable[[Asked], SessionRequest],
    ) -> None:
        """Know how requests of a type become sessions.

        Args:
            request: The type.
            from_proto: What a message asks for; raises what the method would raise.
            session: The session of that; likewise.
        """

        def start(message: Any) -> SessionRequest:
            return session(from_proto(message))

        self._by_type[request.DESCRIPTOR.full_name] = start

    def request_of(self, message: Message) -> SessionRequest:
        """The session that a request asks for; where it can be begun anew, with what it is
        made from again.

        Raises:
            InvalidArgument: The request breaks a rule of its form.
            FeatureNotBuilt: It asks for what this version does not do.
        """
        if message.DESCRIPTOR.full_name not in self._by_type:
            raise FeatureNotBuilt((message.DESCRIPTOR.name,))
        request = self._by_type[message.DESCRIPTOR.full_name](message)
        method = _METHODS[message.DESCRIPTOR.full_name]
        request = replace(request, method=method, named=named_in(message))
        if request.again is None:
            return request
        body = message.SerializeToString(deterministic=True)
        return replace(request, message=KeptMessage(message.DESCRIPTOR.full_name, body))

    def again(self, kept: KeptMessage) -> SessionRequest:
        """The same of a message that was kept.

        Raises:
            Restarted: It is of no type that this server knows, or not as that is declared.
            DomainError: As `request_of`.
        """
        message = message_in(kept)
        if message is None or kept.message not in self._by_type:
            raise Restarted()
        return self.request_of(message)
