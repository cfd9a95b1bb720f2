"""Builds the gRPC server: limits, keepalive, and the port it listens on."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import grpc.aio

from domains.rooms import Room
from server.config import Settings
from server.interceptors.admission import Maximum
from server.interceptors.call_classes import CallClass
from server.tls import server_credentials

# Calls that are being refused. grpc refuses what is beyond with a bare RESOURCE_EXHAUSTED that
# says nothing.
_HEADROOM_CALLS = 2_048
_UNTAKEN_CALLS = 512  # ended, and not taken by their clients; so many of strangers, too
_UNTAKEN_SHARE = 32  # of one connection without a token
# Health, with the token and without: asked often, answered at once.
_HEALTH_CALLS = 32
_STRANGERS = 8  # that can fill their room together, and one of them cannot
_TOKENLESS_CHECK_SECONDS = 5.0
# What the contract promises of an answer: chunks and pages fill it, whatever is accepted.
_ANSWER_BYTES = 4 * 2**20
_LONGEST_MILLISECONDS = 2**31 - 1  # that grpc can count, 25 days
_WHY_NOT = {
    errno.EADDRINUSE: "another program listens there",
    errno.EADDRNOTAVAIL: "the address is not this machine's",
    errno.EACCES: "the system keeps that port back, as it does those below 1024 for its"
    " administrator and, on Windows, ranges for Hyper-V",
}


class PortTaken(Exception):
    """The address cannot be bound. Exit code 3."""


def limits(settings: Settings) -> Mapping[CallClass, int]:
    """Most open calls of each class, of all connections together."""
    return {
        CallClass.CONTROL: settings.max_control_calls,
        CallClass.WORK: settings.max_concurrent_calls,
        CallClass.SESSION: settings.max_session_calls,
        CallClass.WATCH: settings.max_watch_calls,
        CallClass.HEALTH: _HEALTH_CALLS,
        CallClass.HEALTH_WATCH: _HEALTH_CALLS,
        CallClass.TOKENLESS: settings.max_tokenless_calls,
        CallClass.TOKENLESS_WATCH: settings.max_tokenless_calls,
    }


def rooms(settings: Settings) -> Mapping[CallClass, Room]:
    """Places for the open calls of each class."""
    tokenless = (CallClass.TOKENLESS, CallClass.TOKENLESS_WATCH)
    return {
        kind: Room(limit, limit // _STRANGERS if kind in tokenless else None)
        for kind, limit in limits(settings).items()
    }


def untaken(settings: Settings) -> tuple[Room, Room]:
    """Places for the calls of clients with a token and of strangers, until each is over for
    its client too."""
    open_calls = sum(room.most for room in rooms(settings).values())
    return Room(open_calls + _UNTAKEN_CALLS), Room(_UNTAKEN_CALLS, _UNTAKEN_SHARE)


def maximum(settings: Settings) -> Maximum:
    """How long calls may be open, whatever deadline their client set.

    Those that stream a session end with it, by its own timeout.
    """
    seconds = {
        CallClass.TOKENLESS: _TOKENLESS_CHECK_SECONDS,
        CallClass.HEALTH: settings.control_call_seconds,
        CallClass.CONTROL: settings.control_call_seconds,
        CallClass.WORK: settings.work_call_seconds,
    }

    def of(kind: CallClass, streams: bool) -> float | None:
        if kind is CallClass.SESSION:
            return None
        if kind is CallClass.TOKENLESS_WATCH:
            return settings.tokenless_watch_seconds
        return settings.stream_seconds if streams else seconds.get(kind)

    return of


def build_server(
    settings: Settings, interceptors: Sequence[grpc.aio.ServerInterceptor]
) -> grpc.aio.Server:
    """A server without services and ports."""
    ceiling = sum(room.most for room in untaken(settings)) + _HEADROOM_CALLS
    return grpc.aio.server(
        interceptors=interceptors,
        options=_options(settings),
        maximum_concurrent_rpcs=ceiling,
    )


def bind(server: grpc.aio.Server, settings: Settings) -> str:
    """Bind and return the address, `host:port`, with the port that was really taken.

    Raises:
        PortTaken: Another program listens there, or the host is not this machine's.
        CertificateError: TLS is wanted and its files cannot be used.
    """
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.port}"
    try:
        if settings.tls:
            port = server.add_secure_port(address, server_credentials(settings))
        else:
            port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if port == 0:
        raise PortTaken(
            f"The server cannot listen on {address}: {_why_not(settings.host, settings.port)}."
            " Choose another with --port or --host."
        )
    return f"{host}:{port}"


def refusal_of(error: OSError) -> str:
    """Why a port could not be had, as a sentence's rest."""
    return _WHY_NOT.get(error.errno or 0, error.strerror or type(error).__name__)


def _why_not(host: str, port: int) -> str:
    """The same of an address that grpc could not bind, which does not say why."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        return refusal_of(error)
    return f"{_WHY_NOT[errno.EADDRINUSE]}, or {_WHY_NOT[errno.EADDRNOTAVAIL]}"


def _options(settings: Settings) -> list[tuple[str, Any]]:
    idle = round(settings.idle_connection_seconds * 1000)
    return [
        # Two servers must not share a port: clients would reach either, or hang.
        ("grpc.so_reuseport", 0),
        # Up to twice the limit a message is read and refused with details; beyond that
        # the transport refuses it with a bare RESOURCE_EXHAUSTED.
        ("grpc.max_receive_message_length", min(2 * settings.max_message_bytes, 2**31 - 1)),
        ("grpc.max_send_message_length", max(settings.max_message_bytes, _ANSWER_BYTES)),
        # Equal limits: between a soft and a hard one, refusals are a matter of chance.
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        ("grpc.max_concurrent_streams", settings.max_concurrent_streams),
        # Also how long a connection may say nothing before its first call could come.
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_connection_idle_ms", min(idle, _LONGEST_MILLISECONDS)),
        # Finds clients that vanished, and lets theirs find us: the defaults answer a .NET
        # client's pings on a quiet stream with "Too many pings".
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ]
