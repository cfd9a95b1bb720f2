"""The channel: token, plaintext rules, servers that are not there, odd answers."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from pathlib import Path

import grpc
import grpc_testing  # type: ignore[import-untyped]
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from deviceops.v1 import device_pb2
from server import portfile
from server.cli.client import Target, is_local, over
from server.cli.failures import CallFailed
from server.cli.target import without_scheme
from tests.server.cli.conftest import Run
from tests.server.cli.scripted import ScriptedServer

TOKEN = "t" * 43
_SERVICE = device_pb2.DESCRIPTOR.services_by_name["DeviceService"]
_LIST = _SERVICE.methods_by_name["ListDevices"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write_token(runtime_dir: Path, mode: int = 0o600) -> Path:
    path = runtime_dir / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(mode)
    return path


def test_the_local_token_goes_to_the_local_server(
    against: Run, scripted: ScriptedServer, own_settings: Path
) -> None:
    """As a bearer token, read from its file."""
    _write_token(own_settings)

    assert against("devices").exit_code == 0
    assert scripted.metadata[0]["authorization"] == f"Bearer {TOKEN}"


def test_without_a_token_none_is_sent(against: Run, scripted: ScriptedServer) -> None:
    """A server without auth asks for none."""
    assert against("devices").exit_code == 0
    assert "authorization" not in scripted.metadata[0]


def test_a_token_option_wins_over_the_environment_and_the_file(
    deviceops: Run,
    scripted: ScriptedServer,
    own_settings: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Flags, then environment, then the token file."""
    _write_token(own_settings)
    other = tmp_path / "other"
    other.write_text("o" * 43)
    other.chmod(0o600)
    deviceops("--server", scripted.address, "--token-file", other, "devices")
    monkeypatch.setenv("DEVICEOPS_TOKEN", "from-environment")
    deviceops("--server", scripted.address, "devices")
    deviceops("--server", scripted.address, "--token", "from-flag", "devices")

    sent = [metadata["authorization"] for metadata in scripted.metadata]
    assert sent == ["Bearer " + "o" * 43, "Bearer from-environment", "Bearer from-flag"]


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_a_token_that_others_can_read_is_refused(
    against: Run, scripted: ScriptedServer, own_settings: Path
) -> None:
    """Said before anything is sent."""
    path = _write_token(own_settings, 0o644)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644

    done = against("devices")

    assert done.exit_code == 2
    assert "is open to other users" in done.stderr
    assert scripted.requests == []


def test_a_token_is_never_sent_unencrypted_to_another_machine(deviceops: Run) -> None:
    """Neither by accident nor on request."""
    done = deviceops("--server", "192.0.2.1:50051", "--token", TOKEN, "devices")

    assert done.exit_code == 2
    assert "unencrypted" in done.stderr
    assert "--tls-ca" in done.stderr
    assert TOKEN not in done.output


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("unix:/tmp/x", True),
        ("192.168.1.2:1", False),
        ("localhost.example.org:1", False),
        ("127.0.0.1.example.org:1", False),
    ],
)
def test_what_counts_as_this_machine(address: str, local: bool) -> None:
    """Only loopback, by number or by its one reserved name."""
    assert is_local(address) is local


def test_no_server_says_how_to_start_one(deviceops: Run, own_settings: Path) -> None:
    """Exit code 3, the address that was tried, and the command."""
    port = _free_port()

    done = deviceops("--server", f"127.0.0.1:{port}", "devices")

    assert done.exit_code == 3
    assert f"Error: No server answers at 127.0.0.1:{port}." in done.stderr
    assert "deviceops serve" in done.stderr


def test_generate_without_a_server_says_the_same(deviceops: Run, tmp_path: Path) -> None:
    """Streams and unary calls alike; nothing is created."""
    port = _free_port()

    done = deviceops("--server", f"127.0.0.1:{port}", "generate", "x", "-o", tmp_path / "o")

    assert done.exit_code == 3
    assert f"No server answers at 127.0.0.1:{port}." in done.stderr
    assert not (tmp_path / "o").exists()


def test_the_port_file_leads_to_the_server(
    deviceops: Run, scripted: ScriptedServer, own_settings: Path
) -> None:
    """Without --server, what the running server wrote down counts."""
    location = portfile.ServerLocation(scripted.address, os.getpid(), tls=False, auth=False)
    portfile.write(own_settings, location)

    assert deviceops("devices").exit_code == 0
    assert len(scripted.requests) == 1


def test_a_port_file_of_a_dead_server_is_said(
    deviceops: Run, own_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is gone; the file stayed after a crash."""
    gone = 2**22 + 1  # above every process id that Linux gives
    address = f"127.0.0.1:{_free_port()}"
    portfile.write(own_settings, portfile.ServerLocation(address, gone, False, False))

    done = deviceops("devices")

    assert done.exit_code == 3
    assert f"(process {gone}) is gone" in done.stderr


def test_without_a_port_file_the_configured_port_is_tried(
    deviceops: Run, own_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the message says that no server announced itself."""
    port = _free_port()
    monkeypatch.setenv("DEVICEOPS_PORT", str(port))

    done = deviceops("devices")

    assert done.exit_code == 3
    assert f"127.0.0.1:{port}" in done.stderr
    assert "No server has announced itself on this machine." in done.stderr


def test_a_wrong_setting_is_said_as_such(
    deviceops: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the name of the variable, exit code 2, and JSON where that is asked for."""
    monkeypatch.setenv("DEVICEOPS_PORT", "many")

    done = deviceops("devices", "--json")

    assert done.exit_code == 2
    assert "DEVICEOPS_PORT" in json.loads(done.stdout)["message"]


def _failing(
    code: grpc.StatusCode, text: str, trailers: tuple[tuple[str, bytes], ...]
) -> CallFailed:
    """What one call raises when a server answers it so; no server involved."""
    channel = grpc_testing.channel([_SERVICE], grpc_testing.strict_real_time())
    client = over(channel, Target("127.0.0.1:1"))

    def answer() -> None:
        _, _, call = channel.take_unary_unary(_LIST)
        call.send_initial_metadata(())
        call.terminate(None, trailers, code, text)

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(CallFailed) as raised:
        client.ask(client.devices.ListDevices, device_pb2.ListDevicesRequest())
    thread.join()
    return raised.value


def test_details_of_another_status_are_not_believed() -> None:
    """Code and details that contradict each other: the code counts, nothing breaks."""
    status = status_pb2.Status(code=5, message="not found")
    trailer = ("grpc-status-details-bin", status.SerializeToString())

    failure = _failing(grpc.StatusCode.INTERNAL, "boom", (trailer,)).failure

    assert (failure.status, failure.message, failure.reason) == ("INTERNAL", "boom", "")


def test_details_that_do_not_parse_are_left_out() -> None:
    """A proxy may put anything there."""
    trailer = ("grpc-status-details-bin", b"\xff\xff\xff")

    failure = _failing(grpc.StatusCode.INTERNAL, "boom", (trailer,)).failure

    assert (failure.status, failure.message) == ("INTERNAL", "boom")


def test_reasons_of_another_domain_are_not_ours() -> None:
    """ErrorInfo of a gateway does not make its UNAVAILABLE our server's word."""
    status = status_pb2.Status(code=14, message="no backend")
    packed = AnyMessage()
    packed.Pack(error_details_pb2.ErrorInfo(reason="NO_BACKEND", domain="gateway"))
    status.details.append(packed)
    trailer = ("grpc-status-details-bin", status.SerializeToString())

    failure = _failing(grpc.StatusCode.UNAVAILABLE, "no backend", (trailer,)).failure

    assert failure.reason == ""
    assert failure.message == "No server answers at 127.0.0.1:1."
    assert failure.metadata == {"detail": "no backend"}


def test_another_program_on_the_port_is_suspected() -> None:
    """UNIMPLEMENTED without our reason."""
    failure = _failing(grpc.StatusCode.UNIMPLEMENTED, "Method not found!", ()).failure

    assert "Another program, or an older device-operations" in failure.advice


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051"),
        ("http://127.0.0.1:50051", "127.0.0.1:50051"),
        ("HTTP://[::1]:50051/", "[::1]:50051"),
        ("", ""),
    ],
)
def test_an_address_may_be_as_browsers_write_it(address: str, plain: str) -> None:
    assert without_scheme(address) == plain


@pytest.mark.parametrize("address", ["https://gpu:50051", "dns:///gpu:50051"])
def test_another_scheme_is_told_and_what_to_write(address: str) -> None:
    with pytest.raises(CallFailed, match="HOST:PORT"):
        without_scheme(address)
