"""The life of the server: start, serve, refuse what it must, drain, let go."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from deviceops.v1 import device_pb2, device_pb2_grpc, inference_pb2, inference_pb2_grpc
from server import portfile, serve, token
from server.app import SERVICE_NAMES
from server.config import Settings
from server.lock import FolderLock
from tests.server.apps import Devices, Running, SteeredApp, running
from tests.server.echo import told
from tests.server.test_metrics import scrape

LIST = device_pb2.ListDevicesRequest()
GET = device_pb2.GetDeviceRequest()
WATCH = device_pb2.WatchDevicesRequest()
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health(server: Running, service: str = "") -> Any:
    stub = health_pb2_grpc.HealthStub(server.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


async def exit_code(settings: Settings, app: SteeredApp) -> int:
    """Of a server that is expected not to start."""
    return await asyncio.wait_for(serve.run(settings, compose=lambda _: app), 30)


def test_the_contract_has_eight_services() -> None:
    names = [name.removeprefix("deviceops.v1.") for name in SERVICE_NAMES]
    assert names == [
        "DeviceService",
        "MemoryService",
        "ModelService",
        "ProcessingService",
        "InferenceService",
        "PostprocessingService",
        "ArtifactService",
        "SystemService",
    ]


async def test_serves_with_token_and_reports_every_service_healthy(settings: Settings) -> None:
    async with running(settings, SteeredApp()) as server:
        answer = await server.devices.ListDevices(LIST, metadata=server.metadata)
        assert answer.default_device_id == "cpu:0"
        for name in ("", *SERVICE_NAMES):
            assert await health(server, name) == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.devices.ListDevices(LIST)
        assert told(caught.value).reason == "TOKEN_MISSING"
        assert await server.stopped() == 0


async def test_service_that_is_not_built_says_so(settings: Settings) -> None:
    async with running(settings, SteeredApp()) as server:
        stub = inference_pb2_grpc.InferenceServiceStub(server.channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetCapabilities(
                inference_pb2.GetCapabilitiesRequest(), metadata=server.metadata
            )
        assert told(caught.value).reason == "NOT_BUILT"


async def test_without_auth_no_token_is_needed_or_made(settings: Settings) -> None:
    settings = settings.model_copy(update={"auth": False})
    async with running(settings, SteeredApp()) as server:
        await server.devices.ListDevices(LIST)
    assert not settings.token_path.exists()


async def test_port_file_is_there_while_it_serves(settings: Settings) -> None:
    async with running(settings, SteeredApp()) as server:
        location = portfile.read(settings.runtime_dir)
        assert location == portfile.ServerLocation(
            address=server.ready.address, pid=os.getpid(), tls=False, auth=True
        )
        await server.stopped()
        assert portfile.read(settings.runtime_dir) is None


async def test_default_model_folder_is_made(settings: Settings) -> None:
    async with running(settings, SteeredApp()):
        assert all(root.is_dir() for root in settings.model_roots)


async def test_token_is_the_same_after_a_restart(settings: Settings) -> None:
    async with running(settings, SteeredApp()) as first:
        metadata = first.metadata
    async with running(settings, SteeredApp()) as second:
        await second.devices.ListDevices(LIST, metadata=metadata)


@pytest.mark.parametrize(("times", "reason"), [(1, "MESSAGE_TOO_LARGE"), (3, "")])
async def test_message_over_the_limit_is_refused(
    settings: Settings, times: int, reason: str
) -> None:
    """With details up to twice the limit; larger ones are not even read."""
    settings = settings.model_copy(update={"max_message_bytes": 2**16})
    async with running(settings, SteeredApp()) as server:
        request = device_pb2.GetDeviceRequest(device_id="x" * 2**16 * times)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.devices.GetDevice(request, metadata=server.metadata, timeout=30)
        assert told(caught.value).code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert told(caught.value).reason == reason
        assert await health(server) == SERVING


async def test_the_limit_of_requests_is_none_of_answers(settings: Settings) -> None:
    """Chunks and pages have the sizes of the contract."""

    class Talkative(Devices):
        async def ListDevices(
            self, request: Any, context: Any
        ) -> device_pb2.ListDevicesResponse:
            return device_pb2.ListDevicesResponse(default_device_id="x" * 3 * 2**20)

    settings = settings.model_copy(update={"max_message_bytes": 2**16})
    async with running(settings, SteeredApp(device=Talkative())) as server:
        answer = await server.devices.ListDevices(LIST, metadata=server.metadata)
        assert len(answer.default_device_id) == 3 * 2**20


async def test_metadata_over_the_limit_is_refused(settings: Settings) -> None:
    """Up to the limit none is, as without a limit of ours some would be, by chance."""
    settings = settings.model_copy(update={"max_metadata_bytes": 2**16})
    async with running(settings, SteeredApp()) as server:
        metadata = [*server.metadata, ("padding", "x" * 2**16)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.devices.ListDevices(LIST, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        metadata = [*server.metadata, ("padding", "x" * (2**16 - 2**10))]
        await server.devices.ListDevices(LIST, metadata=metadata)


async def test_client_that_pings_a_quiet_stream_is_not_cut_off(settings: Settings) -> None:
    """As .NET clients with keep-alive do; by default the third ping ends the connection."""
    async with running(settings, SteeredApp()) as server:
        pinging = [
            ("grpc.keepalive_time_ms", 1_100),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        ]
        async with grpc.aio.insecure_channel(server.ready.address, pinging) as channel:
            stub: Any = device_pb2_grpc.DeviceServiceStub(channel)
            watch = stub.WatchDevices(WATCH, metadata=server.metadata)
            await watch.read()
            silence = asyncio.ensure_future(watch.read())
            done, _ = await asyncio.wait({silence}, timeout=4.5)
            assert not done
            silence.cancel()


async def test_metrics_are_served_and_their_port_let_go(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = settings.model_copy(update={"metrics_port": port})
    async with running(settings, SteeredApp()) as server:
        await server.devices.ListDevices(LIST, metadata=server.metadata)
        assert server.ready.metrics_address == f"127.0.0.1:{port}"
        figures = await scrape(server.ready.metrics_address)
        method = "/deviceops.v1.DeviceService/ListDevices"
        assert figures[f'deviceops_calls_total{{code="OK",method="{method}"}}'] == 1
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize("name", ["port", "metrics_port"])
async def test_port_in_use_ends_with_code_3_and_a_sentence(
    settings: Settings, name: str, log_lines: list[dict[str, Any]]
) -> None:
    app = SteeredApp()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        taken = settings.model_copy(update={name: port})
        assert await exit_code(taken, app) == 3
    [line] = log_lines
    assert str(port) in line["event"]
    assert "another program" in line["event"]
    assert app.log == []
    async with running(settings, app):  # everything was let go
        pass


@pytest.mark.parametrize("name", ["port", "metrics_port"])
async def test_a_port_that_the_system_keeps_back_is_told_so(
    settings: Settings,
    name: str,
    log_lines: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(socket, "create_server", refuse)
        kept_back = settings.model_copy(update={name: port})
        assert await exit_code(kept_back, SteeredApp()) == 3
    [line] = log_lines
    assert str(port) in line["event"]
    assert "the system keeps that port back" in line["event"]


async def test_an_address_that_is_no_machine_s_is_told_so(
    settings: Settings, log_lines: list[dict[str, Any]]
) -> None:
    elsewhere = settings.model_copy(update={"host": "192.0.2.1", "port": 50051})
    assert await exit_code(elsewhere, SteeredApp()) == 3
    [line] = log_lines
    assert "192.0.2.1:50051: the address is not this machine's." in line["event"]


async def test_two_servers_cannot_share_a_port(settings: Settings, tmp_path: Any) -> None:
    async with running(settings, SteeredApp()) as server:
        port = int(server.ready.address.rpartition(":")[2])
        second = Settings(port=port, metrics_port=0, data_dir=tmp_path / "second")
        assert await exit_code(second, SteeredApp()) == 3


async def test_data_folder_in_use_ends_with_code_3_and_a_sentence(
    settings: Settings, log_lines: list[dict[str, Any]]
) -> None:
    settings.data_dir.mkdir()
    lock = FolderLock(settings.data_dir)
    assert await exit_code(settings, SteeredApp()) == 3
    lock.release()
    [line] = log_lines
    assert str(settings.data_dir) in line["event"]
    assert str(os.getpid()) in line["event"]


async def test_folder_that_is_a_file_ends_with_code_2(
    settings: Settings, log_lines: list[dict[str, Any]]
) -> None:
    settings.data_dir.touch()
    assert await exit_code(settings, SteeredApp()) == 2
    assert str(settings.data_dir) in log_lines[0]["event"]


@pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX")
async def test_token_file_open_to_others_ends_with_code_2(
    settings: Settings, log_lines: list[dict[str, Any]]
) -> None:
    token.load_or_create(settings.token_path)
    settings.token_path.chmod(0o644)
    assert await exit_code(settings, SteeredApp()) == 2
    assert "is open to other users" in log_lines[0]["event"]


async def test_failed_start_stops_the_app_and_ends_with_code_1(
    settings: Settings, log_lines: list[dict[str, Any]]
) -> None:
    app = SteeredApp(start_error=RuntimeError("no journal"))
    assert await exit_code(settings, app) == 1
    assert app.log == ["start", "stop"]
    assert app.graces == [0]
    assert portfile.read(settings.runtime_dir) is None
    async with running(settings, SteeredApp()):
        pass


async def test_cancelled_server_stops_its_app_and_lets_everything_go(
    settings: Settings,
) -> None:
    app = SteeredApp()
    async with running(settings, app) as server:
        server.exit_code.cancel()
        await asyncio.wait({server.exit_code}, timeout=20)
        assert server.exit_code.cancelled()
        assert app.graces == [0]
        assert portfile.read(settings.runtime_dir) is None
        async with running(settings, SteeredApp()):
            pass


async def test_failed_composition_ends_with_code_1(
    settings: Settings, log_lines: list[dict[str, Any]]
) -> None:
    def compose(_: Settings) -> Any:
        raise RuntimeError("no such root")

    assert await serve.run(settings, compose=compose) == 1
    assert [line for line in log_lines if line["event"] == "the server cannot start"]
    async with running(settings, SteeredApp()):
        pass


async def test_app_that_never_stops_is_left_behind(settings: Settings) -> None:
    class Stuck(SteeredApp):
        async def stop(self, grace_seconds: float) -> None:
            await asyncio.Event().wait()

    settings = settings.model_copy(update={"drain_seconds": 0, "cancel_grace_seconds": 0.1})
    async with running(settings, Stuck()) as server:
        assert await server.stopped() == 1


async def test_drain_lets_a_call_end_and_refuses_new_ones(settings: Settings) -> None:
    app = SteeredApp()
    async with running(settings, app) as server:
        held = asyncio.ensure_future(server.devices.GetDevice(GET, metadata=server.metadata))
        await app.device.held.wait()
        server.ready.stop()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.devices.ListDevices(LIST, metadata=server.metadata)
        assert told(caught.value).reason == "SHUTTING_DOWN"
        for name in ("", *SERVICE_NAMES):
            assert await health(server, name) == NOT_SERVING
        assert app.log == ["start", "drain"]
        app.device.released.set()
        assert await held == device_pb2.GetDeviceResponse()
        assert await asyncio.wait_for(server.exit_code, 30) == 0
    assert app.log == ["start", "drain", "stop"]
    assert 0 < app.graces[0] <= settings.drain_seconds


async def test_health_watcher_sees_the_drain(settings: Settings) -> None:
    app = SteeredApp()
    async with running(settings, app) as server:
        held = asyncio.ensure_future(server.devices.GetDevice(GET, metadata=server.metadata))
        await app.device.held.wait()
        watch = health_pb2_grpc.HealthStub(server.channel).Watch(
            health_pb2.HealthCheckRequest(service=SERVICE_NAMES[0])
        )
        assert (await watch.read()).status == SERVING
        server.ready.stop()
        assert (await watch.read()).status == NOT_SERVING
        app.device.released.set()
        await held


async def test_watches_end_after_the_app_has_stopped(settings: Settings) -> None:
    app = SteeredApp()
    settings = settings.model_copy(update={"drain_seconds": 3600})  # watches do not get them
    async with running(settings, app) as server:
        watch = server.devices.WatchDevices(WATCH, metadata=server.metadata)
        await watch.read()
        assert await server.stopped() == 0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert told(caught.value).reason == "SHUTTING_DOWN"
        assert app.log == ["start", "drain", "stop"]


async def test_call_that_outlives_the_drain_is_ended(settings: Settings) -> None:
    settings = settings.model_copy(update={"drain_seconds": 0.2})
    app = SteeredApp()
    async with running(settings, app) as server:
        held = asyncio.ensure_future(server.devices.GetDevice(GET, metadata=server.metadata))
        await app.device.held.wait()
        assert await server.stopped() == 0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await held
        assert told(caught.value).reason == "SHUTTING_DOWN"


async def test_second_request_to_stop_cuts_the_drain_short(settings: Settings) -> None:
    settings = settings.model_copy(update={"drain_seconds": 3600})
    app = SteeredApp()
    async with running(settings, app) as server:
        held = asyncio.ensure_future(server.devices.GetDevice(GET, metadata=server.metadata))
        await app.device.held.wait()
        server.ready.stop()
        server.ready.stop()
        assert await asyncio.wait_for(server.exit_code, 30) == 0
        with pytest.raises(grpc.aio.AioRpcError):
            await held
    assert app.graces == [0]


async def test_second_request_cuts_the_app_s_own_stop_short(settings: Settings) -> None:
    settings = settings.model_copy(update={"drain_seconds": 3600})
    app = SteeredApp(stop_hangs=True)
    async with running(settings, app) as server:
        server.ready.stop()
        await app.stopping.wait()
        server.ready.stop()
        assert await asyncio.wait_for(server.exit_code, 30) == 0
    assert app.graces[1:] == [0]


@pytest.mark.parametrize("grace", [0, 5])
async def test_failed_stop_ends_with_code_1_and_lets_everything_go(
    settings: Settings, grace: float, log_lines: list[dict[str, Any]]
) -> None:
    settings = settings.model_copy(update={"drain_seconds": grace})
    app = SteeredApp(stop_error=RuntimeError("stuck"))
    async with running(settings, app) as server:
        assert await server.stopped() == 1
    assert app.graces[-1] == 0  # tried without grace at last
    assert len(app.graces) == (2 if grace else 1)
    assert [line for line in log_lines if "did not stop" in line["event"]]
    async with running(settings, SteeredApp()):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="sends itself a POSIX signal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_ask_it_to_stop_and_are_given_back(
    settings: Settings, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    async with running(settings, SteeredApp()) as server:
        os.kill(os.getpid(), number)
        assert await asyncio.wait_for(server.exit_code, 30) == 0
    assert signal.getsignal(number) is before
