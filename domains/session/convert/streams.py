"""The one way in which an RPC's stream is a session."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, TypeVar

from google.protobuf.message import Message

from deviceops.v1 import session_pb2
from domains.clients import caller
from domains.deadlines import Call, deadline_of
from domains.errors import InvalidArgument
from domains.session.convert.events import SessionConverter
from domains.session.convert.starting import Starters
from domains.session.convert.values import delivery_from_proto
from domains.session.core.options import check_delivery
from domains.session.core.plan import SessionRequest
from domains.session.core.runner import SessionRunner
from domains.session.types import Delivery

R = TypeVar("R", bound=Message)


class SessionStreams:
    """Runs sessions for calls and gives their events as the calls' responses.

    Args:
        runner: Runs them.
        converter: Turns events and reports into messages.
        starters: Make sessions of requests.
    """

    def __init__(
        self, runner: SessionRunner, converter: SessionConverter, starters: Starters
    ) -> None:
        self._runner = runner
        self._converter = converter
        self._starters = starters

    def start(self, request: Any, call: Call, response: type[R]) -> AsyncGenerator[R]:
        """The session that a request asks for, as responses to its call; the request says in
        `delivery` how they come.

        Raises:
            DomainError: As `Starters.request_of` and `run`.
        """
        wanted = self._starters.request_of(request)
        return self.run(wanted, call, response, request.delivery)

    def run(
        self,
        request: SessionRequest,
        call: Call,
        response: type[R],
        delivery: session_pb2.DeliveryOptions,
    ) -> AsyncGenerator[R]:
        """The session that a call asks for, as its responses.

        Raises:
            InvalidArgument: `delivery` breaks a rule.
            FeatureNotBuilt: It asks for what this version does not do.
            DomainError: As `SessionRunner.run`.
        """
        events = self._runner.run(
            replace(request, owner=caller().name),
            checked_delivery(delivery, "delivery"),
            expired=deadline_of(call),
        )
        return self._converter.responses(events, response)


def checked_delivery(message: session_pb2.DeliveryOptions, path: str) -> Delivery:
    """How events shall come to a stream; `path` is where that stands in the request.

    Raises:
        InvalidArgument: It breaks a rule.
        FeatureNotBuilt: It asks for what this version does not do.
    """
    delivery = delivery_from_proto(message, path)
    InvalidArgument.check(*check_delivery(delivery, path))
    return delivery
