"""TLS on the port: authorities, client certificates, renewal without a restart."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from deviceops.v1 import device_pb2, device_pb2_grpc
from domains.clients import Role
from server import serve
from server.config import Settings
from server.token_list import TokenFiles
from tests.server.apps import Running, SteeredApp, running
from tests.server.echo import told

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="makes its certificates with openssl")
CHECK = health_pb2.HealthCheckRequest()


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder of its own."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self._openssl("req", "-x509", *self._new_key("ca"), "-days", "2", "-subj", "/CN=ca")

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate for this machine, and its key."""
        self._openssl(
            *("req", "-x509", *self._new_key(name), "-days", "2", "-subj", f"/CN={name}"),
            *("-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        )
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def encrypted(self, key: Path) -> Path:
        """The key behind a pass phrase."""
        words = ("pkey", "-aes256", "-passout", "pass:secret", "-out", "locked.key")
        self._openssl(*words, "-in", key.name)
        return self.folder / "locked.key"

    def _new_key(self, name: str) -> list[str]:
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        return [*curve, "-keyout", f"{name}.key", "-out", f"{name}.pem"]

    def _openssl(self, *words: str) -> None:
        subprocess.run(
            [OPENSSL or "", *words],
            cwd=self.folder,
            check=True,
            capture_output=True,
            timeout=60,
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def with_tls(settings: Settings, pair: tuple[Path, Path], **more: Any) -> Settings:
    return Settings(
        **settings.model_dump(exclude={"tls_certificate", "tls_key", "model_roots"}),
        tls_certificate=pair[0],
        tls_key=pair[1],
    ).model_copy(update=more)


def channel(
    server: Running, authority: Authority, pair: tuple[Path, Path] | None = None
) -> grpc.aio.Channel:
    key, chain = (pair[1].read_bytes(), pair[0].read_bytes()) if pair else (None, None)
    credentials = grpc.ssl_channel_credentials(
        authority.certificate.read_bytes(), private_key=key, certificate_chain=chain
    )
    return grpc.aio.secure_channel(server.ready.address, credentials)


async def check(server: Running, authority: Authority, *pair: Any) -> Any:
    async with channel(server, authority, *pair) as secure:
        stub = health_pb2_grpc.HealthStub(secure)
        return (await stub.Check(CHECK, timeout=30)).status


async def test_encrypted_call_with_token(settings: Settings, authority: Authority) -> None:
    settings = with_tls(settings, authority.issue("server"))
    async with running(settings, SteeredApp()) as server:
        async with channel(server, authority) as secure:
            stub: Any = device_pb2_grpc.DeviceServiceStub(secure)
            request = device_pb2.ListDevicesRequest()
            answer = await stub.ListDevices(request, metadata=server.metadata, timeout=30)
            assert answer.default_device_id == "cpu:0"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ListDevices(request, timeout=30)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError) as caught:  # plaintext on the same port
            await server.devices.ListDevices(request, timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_every_address_is_served_with_tls_and_token(
    settings: Settings, authority: Authority
) -> None:
    pair = authority.issue("server")
    async with running(with_tls(settings, pair, host="0.0.0.0"), SteeredApp()) as server:
        port = server.ready.address.rpartition(":")[2]
        local = Running(
            serve.Ready(f"127.0.0.1:{port}", None, server.ready.stop),
            *(server.channel, server.exit_code, server.devices, server.metadata),
        )
        assert await check(local, authority) == health_pb2.HealthCheckResponse.SERVING


async def test_client_refuses_a_stranger_s_server(
    settings: Settings, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger")
    async with running(with_tls(settings, stranger.issue("server")), SteeredApp()) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(server, authority)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_client_certificates(
    settings: Settings, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger")
    pair = authority.issue("server")
    settings = with_tls(settings, pair, tls_client_ca=authority.certificate)
    async with running(settings, SteeredApp()) as server:
        serving = health_pb2.HealthCheckResponse.SERVING
        assert await check(server, authority, authority.issue("client")) == serving
        for wrong in (None, stranger.issue("client")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await check(server, authority, wrong)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_names_its_client_and_a_token_counts_before_it(
    settings: Settings, authority: Authority, log_lines: list[dict[str, Any]]
) -> None:
    pair = authority.issue("server")
    settings = with_tls(settings, pair, tls_client_ca=authority.certificate)
    settings.runtime_dir.mkdir(mode=0o700)
    files = TokenFiles(settings.token_path)
    files.add("reader", Role.READ)
    request = device_pb2.SetDefaultDeviceRequest(device_id="cpu")

    async def reason(server: Running, name: str, *metadata: tuple[str, str]) -> str:
        async with channel(server, authority, authority.issue(name)) as secure:
            stub: Any = device_pb2_grpc.DeviceServiceStub(secure)
            listed = stub.ListDevices(device_pb2.ListDevicesRequest(), metadata=metadata)
            for call in (listed, stub.SetDefaultDevice(request, metadata=metadata)):
                try:
                    await call
                except grpc.aio.AioRpcError as error:
                    what = told(error)
                    return " ".join((what.reason, what.metadata.get("role", ""))).strip()
        return "let in"

    async with running(settings, SteeredApp()) as server:
        assert await reason(server, "ann") == "ROLE_REQUIRED RUN"
        assert await reason(server, "reader") == "ROLE_REQUIRED READ"
        assert await reason(server, "default") == "TOKEN_INVALID"
        assert await reason(server, "Ann Smith") == "TOKEN_INVALID"
        assert await reason(server, "ann", *server.metadata) == "NOT_BUILT"  # through the gate
        wrong = ("authorization", "Bearer " + "x" * 43)
        assert await reason(server, "ann", wrong) == "TOKEN_INVALID"
    clients = {line.get("client") for line in log_lines if line["event"] == "call"}
    assert clients == {"ann", "reader", "default", None}


def replace(target: tuple[Path, Path], source: tuple[Path, Path]) -> None:
    for new, old in zip(source, target, strict=True):
        shutil.copy(new, old)
        ahead = old.stat().st_mtime_ns + 1_000_000_000  # file times may be coarse
        os.utime(old, ns=(ahead, ahead))


def served(server: Running) -> str:
    host, _, port = server.ready.address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)), timeout=30)


async def test_renewed_certificate_is_used_without_a_restart(
    settings: Settings, authority: Authority
) -> None:
    pair, renewed = authority.issue("server"), authority.issue("renewed")
    async with running(with_tls(settings, pair), SteeredApp()) as server:
        before = await asyncio.to_thread(served, server)
        assert before in pair[0].read_text()
        replace(pair, renewed)
        after = await asyncio.to_thread(served, server)
        assert after in renewed[0].read_text()
        assert after != before


async def test_half_written_pair_leaves_the_old_one_in_use(
    settings: Settings, authority: Authority, log_lines: list[dict[str, Any]]
) -> None:
    pair, renewed = authority.issue("server"), authority.issue("renewed")
    async with running(with_tls(settings, pair), SteeredApp()) as server:
        before = await asyncio.to_thread(served, server)
        replace(pair[:1], renewed[:1])  # type: ignore[arg-type]  # the key has not come yet
        assert await asyncio.to_thread(served, server) == before
        assert [line for line in log_lines if line["event"] == "renewed certificate not used"]
        replace(pair, renewed)
        assert await asyncio.to_thread(served, server) in renewed[0].read_text()


@pytest.mark.parametrize("wrong", ["certificate", "key", "authority"])
async def test_unusable_files_end_with_code_2(
    settings: Settings, authority: Authority, wrong: str, log_lines: list[dict[str, Any]]
) -> None:
    certificate, key = authority.issue("server")
    garbage = authority.folder / "garbage.pem"
    garbage.write_text("no certificate")
    if wrong == "authority":
        settings = with_tls(settings, (certificate, key), tls_client_ca=garbage)
    else:
        pair = (garbage, key) if wrong == "certificate" else (certificate, garbage)
        settings = with_tls(settings, pair)
    assert await serve.run(settings, compose=lambda _: SteeredApp()) == 2
    assert "no usable certificate" in log_lines[-1]["event"]


async def test_an_encrypted_key_is_refused_in_a_sentence_and_asks_nobody(
    settings: Settings, tmp_path: Path, log_lines: list[dict[str, Any]]
) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("server")
    locked = authority.encrypted(key)
    encrypted = Settings(
        port=0,
        metrics_port=0,
        data_dir=settings.data_dir,
        tls_certificate=certificate,
        tls_key=locked,
    )
    code = await asyncio.wait_for(serve.run(encrypted, compose=lambda _: SteeredApp()), 30)
    assert code == 2
    assert "locked.key: the key is encrypted" in log_lines[-1]["event"]


@pytest.mark.parametrize("which", ["tls_certificate", "tls_key", "tls_client_ca"])
async def test_a_file_that_may_not_be_read_is_the_one_that_is_named(
    settings: Settings,
    authority: Authority,
    which: str,
    monkeypatch: pytest.MonkeyPatch,
    log_lines: list[dict[str, Any]],
) -> None:
    """A key that root alone may read, for one."""
    protected = with_tls(settings, authority.issue("one"), tls_client_ca=authority.certificate)
    refused = getattr(protected, which)
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **more: Any) -> Any:
        if path == refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", refuse)
    assert await serve.run(protected, compose=lambda _: SteeredApp()) == 2
    assert log_lines[-1]["event"] == f"{refused.name}: cannot be read: Permission denied."
