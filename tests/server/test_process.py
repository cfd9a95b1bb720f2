"""The server as a process of its own: signals, exit codes, and what it never imports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from deviceops.v1 import device_pb2, device_pb2_grpc
from server import portfile, token

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from server import config, serve
from tests.server.apps import SteeredApp

settings = config.Settings(
    port=0, metrics_port=0, data_dir=sys.argv[1], drain_seconds=float(sys.argv[2])
)
serve._composed = lambda settings: SteeredApp()
sys.exit(serve.main(settings))
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "generated" / "python")])
    return {**os.environ, "PYTHONPATH": paths}  # noqa: TID251


class ServerProcess:
    """A server in a child process; its log lines as they come."""

    def __init__(self, data_dir: Path, drain_seconds: float) -> None:
        self.runtime_dir = data_dir / "runtime"
        self.child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(data_dir), str(drain_seconds)],
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
        )

    def line(self, event: str) -> dict[str, Any]:
        """The next log line of that event."""
        assert self.child.stderr is not None
        seen = []
        for text in self.child.stderr:
            seen.append(text)
            if text.startswith("{") and json.loads(text)["event"] == event:
                return dict(json.loads(text))
        raise AssertionError(f"it ended with {self.child.wait()}: {''.join(seen)}")

    @property
    def call(self) -> tuple[grpc.Channel, list[tuple[str, str]]]:
        location = portfile.read(self.runtime_dir)
        assert location is not None
        secret = token.read(self.runtime_dir / "token")
        return grpc.insecure_channel(location.address), [("authorization", f"Bearer {secret}")]

    def close(self) -> None:
        self.child.kill()
        self.child.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    started: list[ServerProcess] = []

    def start(drain_seconds: float = 30) -> ServerProcess:
        started.append(ServerProcess(tmp_path / "data", drain_seconds))
        return started[-1]

    yield start
    for server in started:
        server.close()


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_it_with_code_0(start: Any, number: signal.Signals) -> None:
    server = start()
    server.line("serving")
    server.child.send_signal(number)
    server.line("stopped")
    assert server.child.wait(20) == 0
    assert portfile.read(server.runtime_dir) is None


@posix
def test_second_signal_cuts_the_drain_short(start: Any) -> None:
    server = start(drain_seconds=3600)
    server.line("serving")
    channel, metadata = server.call
    with channel:
        held = device_pb2_grpc.DeviceServiceStub(channel).GetDevice.future(
            device_pb2.GetDeviceRequest(), metadata=metadata
        )
        watch = device_pb2_grpc.DeviceServiceStub(channel).WatchDevices(
            device_pb2.WatchDevicesRequest(), metadata=metadata
        )
        next(watch)
        next(watch)  # so the other call is held
        server.child.send_signal(signal.SIGTERM)
        server.line("draining")
        assert server.child.poll() is None
        server.child.send_signal(signal.SIGTERM)
        assert held.code() is grpc.StatusCode.UNAVAILABLE
    assert server.child.wait(20) == 0


@posix
def test_a_second_hangup_does_not_cut_the_drain_short(start: Any) -> None:
    server = start(drain_seconds=3600)
    server.line("serving")
    channel, metadata = server.call
    with channel:
        stub = device_pb2_grpc.DeviceServiceStub(channel)
        held = stub.GetDevice.future(device_pb2.GetDeviceRequest(), metadata=metadata)
        watch = stub.WatchDevices(device_pb2.WatchDevicesRequest(), metadata=metadata)
        next(watch)
        next(watch)  # so the other call is held
        server.child.send_signal(signal.SIGHUP)
        server.line("draining")
        server.child.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            server.child.wait(0.5)
        server.child.send_signal(signal.SIGTERM)
        assert server.child.wait(20) == 0
        held.cancel()


@posix
def test_a_hangup_that_whoever_started_it_ignores_is_ignored(tmp_path: Path) -> None:
    command = ["nohup", sys.executable, "-c", PROGRAM, str(tmp_path / "data"), "30"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment()) as child:
        assert child.stderr is not None
        while b"serving" not in child.stderr.readline():
            pass
        child.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.3)
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0


@posix
def test_it_serves_without_standard_streams(tmp_path: Path) -> None:
    """As a service manager or a program without a console may start it."""
    data_dir = tmp_path / "data"
    command = [sys.executable, "-m", "server", "--data-dir", str(data_dir), "--no-preload"]
    command += ["--port", "0", "--metrics-port", "0"]
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]
    with subprocess.Popen(closed, env=environment()) as child:
        try:
            while portfile.read(data_dir / "runtime") is None:
                assert child.poll() is None
                time.sleep(0.05)
            for number in range(3):
                link = Path(f"/proc/{child.pid}/fd/{number}")
                assert sys.platform != "linux" or os.readlink(link) == os.devnull
            child.send_signal(signal.SIGTERM)
            assert child.wait(60) == 0
        finally:
            child.kill()


HANGING = PROGRAM.replace(
    "serve._composed",
    """
import asyncio, threading
class Hanging(SteeredApp):
    async def start(self):
        print("starting", file=sys.stderr, flush=True)
        await asyncio.to_thread(threading.Event().wait)
SteeredApp = Hanging
serve._composed""",
    1,
)


@posix
def test_a_signal_ends_a_start_that_hangs(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HANGING, str(tmp_path / "data"), "30"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment()) as child:
        assert child.stderr is not None
        while b"starting" not in child.stderr.readline():
            pass
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
    assert portfile.read(tmp_path / "data" / "runtime") is None


def heeds_signals(process_id: int) -> bool:
    """Whether it has a handler for SIGTERM, which takes Python itself a moment."""
    status = Path(f"/proc/{process_id}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("number", "delay"),
    [
        *((signal.SIGTERM, delay) for delay in (0.0, 0.1, 0.4, 0.9)),
        (signal.SIGHUP, 0.2),
        (signal.SIGINT, 0.2),
    ],
)
def test_a_signal_in_the_first_second_ends_it_cleanly(
    tmp_path: Path, number: signal.Signals, delay: float
) -> None:
    data = tmp_path / "data"
    flags = ("--data-dir", str(data), "--port", "0", "--metrics-port", "0")
    with subprocess.Popen(
        [sys.executable, "-m", "server", *flags],
        env=environment() | {"TMPDIR": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    ) as child:
        while not heeds_signals(child.pid):
            assert child.poll() is None
        time.sleep(delay)
        child.send_signal(number)
        assert child.wait(20) == 0
    assert portfile.read(data / "runtime") is None
    assert [path.name for path in tmp_path.iterdir() if path != data] == []
    assert not [one for one in psutil.process_iter() if str(data) in _command(one)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_second_server_on_the_same_data_ends_with_code_3(start: Any) -> None:
    first = start()
    first.line("serving")
    second = start()
    assert second.child.wait(20) == 3
    assert second.child.stderr is not None
    text = second.child.stderr.read()
    assert f"in use by the server with process id {first.child.pid}" in text
    assert portfile.read(first.runtime_dir).pid == first.child.pid  # type: ignore[union-attr]


@posix
def test_killed_server_leaves_nothing_that_stops_the_next(start: Any) -> None:
    first = start()
    first.line("serving")
    _, metadata = first.call
    first.child.kill()
    first.child.wait()
    second = start()
    second.line("serving")
    channel, metadata_after = second.call
    with channel:
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert status.status == health_pb2.HealthCheckResponse.SERVING
    assert metadata_after == metadata
    assert portfile.read(second.runtime_dir).pid == second.child.pid  # type: ignore[union-attr]


def output_of(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_serving_imports_nothing_heavy() -> None:
    """Health must answer within a second of the start; torch alone takes longer."""
    code = (
        "import sys, server.serve, server.config\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'scipy', 'PIL'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    assert output_of(code) == "[]\n"


def test_composing_does_not_import_torch() -> None:
    assert output_of("import sys, server.compose; print('torch' in sys.modules)") == "False\n"
