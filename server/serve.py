"""The life of the server: acquire everything, serve, drain, release everything.

Nothing here imports torch, and `compose` is imported when it is called, so that the
command line starts quickly and health answers within a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc.aio
import structlog

from domains.private_folders import FolderRefused
from domains.provenance.errors import LibraryMissing, SignerRefused
from domains.shortages import shortage_of
from server import data_folder, event_loop, logs, portfile, token
from server.app import App, Compose, add_services
from server.background import Background
from server.config import Settings
from server.drain import StopRequests
from server.health import Health
from server.identity import Identities
from server.interceptors.admission import Admission, AdmissionInterceptor
from server.interceptors.auth import AuthInterceptor
from server.interceptors.errors import ErrorInterceptor
from server.interceptors.log import LogInterceptor
from server.interceptors.requests import RequestInterceptor
from server.interceptors.stall import StallInterceptor
from server.interceptors.untaken import UntakenInterceptor
from server.listen import (
    PortTaken,
    bind,
    build_server,
    maximum,
    refusal_of,
    rooms,
    untaken,
)
from server.lock import FolderInUse
from server.metrics import Metrics, MetricsInterceptor
from server.metrics_endpoint import MetricsEndpoint
from server.reflection import add_reflection
from server.tls import CertificateError
from server.token_list import TokenFiles

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_BAD_SETTING = 2
EXIT_IN_USE = 3


_EXIT_CODES: dict[type[Exception], int] = {
    FolderRefused: EXIT_BAD_SETTING,
    token.TokenError: EXIT_BAD_SETTING,
    CertificateError: EXIT_BAD_SETTING,
    SignerRefused: EXIT_BAD_SETTING,
    LibraryMissing: EXIT_BAD_SETTING,
    PortTaken: EXIT_IN_USE,
    FolderInUse: EXIT_IN_USE,
}
_LAST_SECONDS = 1.0  # for statuses on their way to clients

_log = structlog.get_logger("deviceops.server")


@dataclass(frozen=True)
class Ready:
    """What the caller of `run` gets once the server answers."""

    address: str
    """`host:port` as it was bound."""
    metrics_address: str | None
    stop: Callable[[], None]
    """Begin the drain; a second call cuts it short. From the event loop's thread."""


def main(settings: Settings) -> int:
    """Serve until asked to stop; returns the process's exit code."""
    logs.configure(settings)
    return on_a_loop(settings)


def on_a_loop(settings: Settings, ready: Callable[[Ready], None] | None = None) -> int:
    """`run` on an event loop of its own, in this thread; returns the process's exit code."""
    serving = run(settings, ready=ready)
    try:
        return event_loop.run(serving)
    except event_loop.NoThreads as error:
        serving.close()
        _log.error(str(error))
        return EXIT_FAILED


async def run(
    settings: Settings,
    *,
    compose: Compose | None = None,
    ready: Callable[[Ready], None] | None = None,
) -> int:
    """Serve until a signal or `Ready.stop`, then drain.

    Returns:
        0 after a drain, 1 when the composed domains failed to start or stop, 2 when a
        file that a setting names cannot be used, 3 when the port or the data folder is
        in use. The reason is in the log, in a sentence.
    """
    requests = StopRequests()
    with requests.on_signals():
        try:
            with data_folder.held(settings):
                return await _serve(settings, compose or _composed, requests, ready)
        except tuple(_EXIT_CODES) as error:
            _log.error(str(error))
            return _EXIT_CODES[type(error)]


def _composed(settings: Settings) -> App:
    from server.compose import Composition

    return Composition(settings)


async def _serve(
    settings: Settings,
    compose: Compose,
    requests: StopRequests,
    ready: Callable[[Ready], None] | None,
) -> int:
    """Everything while the data folder is locked."""
    admission = Admission(rooms(settings))
    metrics = Metrics()
    identities = _identities(settings)
    server = build_server(settings, _interceptors(settings, admission, metrics, identities))
    health = Health(server)
    await health.starting()
    if settings.reflection:
        add_reflection(server)
    async with contextlib.AsyncExitStack() as closing:
        endpoint = _metrics_endpoint(settings, metrics)
        if endpoint is not None:
            closing.callback(endpoint.close)
        address = bind(server, settings)
        app: App | None = None
        try:
            app = compose(settings)
            add_services(app, server)
            if not await requests.started(app.start()):
                return await _ended_early(app, requests, settings, server)
            await server.start()
        except Exception as error:
            if isinstance(error, SignerRefused) and app is not None:
                await _stopped(app, 0, requests, settings)
                await server.stop(0)
                raise
            shortage = shortage_of(error)
            why = None if shortage is None else shortage.message
            _log.error("the server cannot start", why=why, exc_info=None if why else error)
            if app is not None:
                await _stopped(app, 0, requests, settings)
            await server.stop(0)
            return EXIT_FAILED
        watching = Background()
        closing.push_async_callback(watching.stop)
        watching.start(identities.loops)
        await health.serving()
        location = portfile.ServerLocation(address, os.getpid(), settings.tls, settings.auth)
        announcement = portfile.Announcement(settings.runtime_dir, location)
        closing.push_async_callback(announcement.end)
        announcement.make()
        closing.callback(asyncio.create_task(announcement.keep()).cancel)
        _log.info("serving", address=address, tls=settings.tls, auth=settings.auth)
        if ready is not None:
            ready(Ready(address, endpoint.address if endpoint else None, requests.request))
        try:
            await requests.wait()
        except asyncio.CancelledError:  # the embedding program ends it at once
            requests.request()
            requests.request()
            await _drain(settings, requests, server, health, admission, app)
            raise
        _log.info("draining", seconds=settings.drain_seconds)
        clean = await _drain(settings, requests, server, health, admission, app)
        _log.info("stopped")
        return EXIT_OK if clean else EXIT_FAILED


async def _ended_early(
    app: App, requests: StopRequests, settings: Settings, server: grpc.aio.Server
) -> int:
    """Asked to stop while the domains started; nobody was served yet."""
    clean = await _stopped(app, 0, requests, settings)
    await server.stop(0)
    _log.info("stopped")
    return EXIT_OK if clean else EXIT_FAILED


async def _drain(
    settings: Settings,
    requests: StopRequests,
    server: grpc.aio.Server,
    health: Health,
    admission: Admission,
    app: App,
) -> bool:
    """Refuse new calls, let open ones end, stop the domains, end what is left.

    Returns whether the domains stopped as they should. Streams are ended after the
    domains: otherwise their sessions would count as cancelled by their clients.
    """
    deadline = time.monotonic() + settings.drain_seconds
    admission.drain()
    app.drain()
    await requests.finished(health.draining(), _LAST_SECONDS)
    await requests.finished(admission.idle(), settings.drain_seconds)
    clean = await _stopped(app, deadline - time.monotonic(), requests, settings)
    admission.end_all()
    await server.stop(_LAST_SECONDS)
    return clean


async def _stopped(
    app: App, grace_seconds: float, requests: StopRequests, settings: Settings
) -> bool:
    """Stop the domains within the grace; without any when that fails or is cut short."""
    bound = settings.cancel_grace_seconds
    clean = True
    if grace_seconds > 0 and not requests.at_once:
        try:
            if await requests.finished(app.stop(grace_seconds), grace_seconds + bound):
                return True
        except Exception:
            _log.exception("the domains did not stop as they should")
            clean = False
    try:
        async with asyncio.timeout(bound):
            await app.stop(0)
    except Exception:
        _log.exception("the domains did not stop at once")
        clean = False
    return clean


def _identities(settings: Settings) -> Identities:
    files = TokenFiles(settings.token_path) if settings.auth else None
    return Identities(files, certificates=settings.tls_client_ca is not None)


def _interceptors(
    settings: Settings, admission: Admission, metrics: Metrics, identities: Identities
) -> list[grpc.aio.ServerInterceptor]:
    """Outermost first."""
    return [
        LogInterceptor(),
        MetricsInterceptor(metrics),
        ErrorInterceptor(),
        AuthInterceptor(identities),
        UntakenInterceptor(*untaken(settings)),
        StallInterceptor(settings.slow_reader_seconds),
        AdmissionInterceptor(admission, maximum(settings)),
        RequestInterceptor(settings.max_message_bytes, settings.idle_stream_seconds),
    ]


def _metrics_endpoint(settings: Settings, metrics: Metrics) -> MetricsEndpoint | None:
    if settings.metrics_port == 0:
        return None
    try:
        return MetricsEndpoint(metrics.registry, settings.metrics_port)
    except RuntimeError:
        _log.warning("metrics_not_served", why="the system gives no thread")
        return None
    except OSError as error:
        raise PortTaken(
            f"The metrics port {settings.metrics_port} cannot be had: {refusal_of(error)}."
            " Choose another with --metrics-port, or 0 for none."
        ) from None
