"""The one place that builds a channel: address, TLS, bearer token, keepalive, errors."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import grpc
from grpc_health.v1 import health_pb2_grpc  # type: ignore[import-untyped]

from deviceops.v1 import (
    artifact_pb2_grpc,
    device_pb2_grpc,
    inference_pb2_grpc,
    memory_pb2_grpc,
    model_pb2_grpc,
    postprocessing_pb2_grpc,
    processing_pb2_grpc,
    system_pb2,
    system_pb2_grpc,
)
from server.cli.advice import advised, more_advice, newer_than_server
from server.cli.failures import CallFailed, CallFailure, from_rpc_error

UNARY_TIMEOUT = 15.0  # seconds; what is not a stream answers at once or not at all
_MOST_OF_A_PAGE = 1000  # the contract's

_OPTIONS = (
    # A proxy from the environment has no business between two processes of one machine.
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
R = TypeVar("R")


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


P = TypeVar("P", bound=_Page)
START_ADVICE = "Start a server with: deviceops serve"


@dataclass(frozen=True)
class Target:
    """Where a server is and how to speak to it.

    Args:
        address: `host:port`.
        token: Sent as `authorization: Bearer ...`; empty sends none.
        certificate_authority: PEM of the authority that signed the server's certificate;
            None speaks plaintext.
        client_certificate: PEM chain and key that this side shows when asked; None shows
            nothing.
        remark: A sentence for the message when nothing answers, about where the address
            came from.
    """

    address: str
    token: str = ""
    certificate_authority: bytes | None = None
    client_certificate: tuple[bytes, bytes] | None = None
    remark: str = ""


class Client:
    """The services of one server. Every call that fails raises `CallFailed`."""

    def __init__(self, channel: grpc.Channel, target: Target) -> None:
        self.target = target
        self.artifacts = artifact_pb2_grpc.ArtifactServiceStub(channel)
        self.devices = device_pb2_grpc.DeviceServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self.inference = inference_pb2_grpc.InferenceServiceStub(channel)
        self.memory = memory_pb2_grpc.MemoryServiceStub(channel)
        self.models = model_pb2_grpc.ModelServiceStub(channel)
        self.postprocessing = postprocessing_pb2_grpc.PostprocessingServiceStub(channel)
        self.processing = processing_pb2_grpc.ProcessingServiceStub(channel)
        self.system = system_pb2_grpc.SystemServiceStub(channel)

    def ask(
        self, method: Callable[..., R], request: object, *, timeout: float = UNARY_TIMEOUT
    ) -> R:
        """One unary call, bounded in time; `timeout` is in seconds."""
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise CallFailed(self.explain(error)) from error

    def pages(
        self, method: Callable[..., P], request: Any, field: str = "", most: int = 0
    ) -> Iterator[P]:
        """The answers of a list RPC, page after page; `request` is moved on.

        Args:
            method: The RPC.
            request: What is asked for.
            field: Of the answers, in which their entries are.
            most: Of those, altogether; 0 is all there are. The last answer's token goes on
                behind them.
        """
        left = most
        while True:
            if most:
                request.page_size = min(left, _MOST_OF_A_PAGE)
            page = self.ask(method, request)
            yield page
            if most:
                left -= len(getattr(page, field))
            if not page.next_page_token or (most and left <= 0):
                return
            request.page_token = page.next_page_token

    def explain(self, error: grpc.RpcError) -> CallFailure:
        """A failed call, with what to do about it where this side knows."""
        failure = from_rpc_error(error)
        if failure.from_server:
            return self.advise(failure)
        if failure.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            return self.unreachable(failure.message)
        if failure.status == "UNIMPLEMENTED":
            advice = "Another program, or an older device-operations, may answer there."
            return replace(failure, advice=advice)
        return failure

    def advise(self, failure: CallFailure) -> CallFailure:
        """The server's refusal with advice; for a field unknown to it, with both versions."""
        if failure.reason != "UNKNOWN_FIELD":
            return advised(failure)
        try:
            info = self.system.GetServerInfo(
                system_pb2.GetServerInfoRequest(), timeout=UNARY_TIMEOUT
            )
        except grpc.RpcError:
            return more_advice(failure, newer_than_server(""))
        return more_advice(failure, newer_than_server(info.server_version))

    def unreachable(self, detail: str) -> CallFailure:
        """No server of ours answers at the target; `detail` is the transport's word."""
        target = self.target
        advice = [target.remark] if target.remark else []
        if target.certificate_authority is not None:
            advice.append("Does that server use TLS, and did this authority sign it?")
        return CallFailure(
            status="UNAVAILABLE",
            message=f"No server answers at {target.address}.",
            metadata={"detail": detail} if detail else {},
            advice="\n".join([*advice, START_ADVICE]),
        )


@contextmanager
def connect(target: Target) -> Iterator[Client]:
    """A client of the server at `target`; the channel closes with the context.

    Raises `CallFailed` (INVALID_ARGUMENT) rather than send a token in plaintext to
    another machine.
    """
    if target.token and target.certificate_authority is None and not is_local(target.address):
        raise CallFailed(
            CallFailure(
                status="INVALID_ARGUMENT",
                message=f"The token would go to {target.address} unencrypted.",
                advice="Name the server's certificate authority with --tls-ca FILE.",
            )
        )
    if target.certificate_authority is None:
        channel = grpc.insecure_channel(target.address, options=_OPTIONS)
    else:
        chain, key = target.client_certificate or (None, None)
        credentials = grpc.ssl_channel_credentials(target.certificate_authority, key, chain)
        channel = grpc.secure_channel(target.address, credentials, options=_OPTIONS)
    with channel:
        yield over(channel, target)


def over(channel: grpc.Channel, target: Target) -> Client:
    """A client over a channel that exists, sending the target's token with every call."""
    if target.token:
        channel = grpc.intercept_channel(channel, _BearerToken(target.token))
    return Client(channel, target)


def is_local(address: str) -> bool:
    """Whether calls to `address` never leave this machine."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rsplit(":", 1)[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _CallDetails(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _BearerToken(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
):
    """Adds `authorization: Bearer ...` to every call."""

    def __init__(self, token: str) -> None:
        self._entry = ("authorization", f"Bearer {token}")

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with_token(details), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with_token(details), request)

    def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(self._with_token(details), requests)

    def _with_token(self, details: Any) -> _CallDetails:
        return _CallDetails(
            method=details.method,
            timeout=details.timeout,
            metadata=[*(details.metadata or ()), self._entry],
            credentials=details.credentials,
            wait_for_ready=getattr(details, "wait_for_ready", None),
            compression=getattr(details, "compression", None),
        )
