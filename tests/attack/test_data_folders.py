"""Servers that start on damaged data folders: each serves, or says in a sentence why not.

What is damaged, where, and how is chosen by seed from every place in the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest

from deviceops.v1 import artifact_pb2, device_info_pb2, device_pb2, memory_history_pb2
from server import portfile, token
from tests.attack.test_machine_faults import READY, until_state
from tests.e2e.errors import read, refusal_of
from tests.odd_files import ODD
from tests.running import START_SECONDS, Client, launch, small_request, start_server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files of POSIX systems")

STARTS = 32
STOP_SECONDS = 20.0
PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
PNG_ID = hashlib.sha256(PNG).hexdigest()
OTHER_ID = hashlib.sha256(b"other").hexdigest()

Damage = Callable[[Path, random.Random], None]


def _odd(make: Callable[[Path], None]) -> Damage:
    def damage(path: Path, _: random.Random) -> None:
        _clear(path)
        make(path)

    return damage


def _garbage(path: Path, chance: random.Random) -> None:
    _clear(path)
    path.write_bytes(chance.randbytes(chance.choice((0, 1, 100, 100_000))))


def _flipped(path: Path, chance: random.Random) -> None:
    if path.is_file() and path.stat().st_size:
        content = bytearray(path.read_bytes())
        for _ in range(chance.choice((1, 10))):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)


def _mode(path: Path, chance: random.Random) -> None:
    if path.exists():
        path.chmod(chance.choice((0, 0o777, 0o070, 0o444)))


def _gone(path: Path, _: random.Random) -> None:
    _clear(path)


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


DAMAGES: Mapping[str, Damage] = {
    **{kind: _odd(make) for kind, make in ODD.items()},
    **{"garbage": _garbage, "flipped": _flipped, "mode": _mode, "gone": _gone},
}
PLACES = (
    *("artifacts", "spool", "server.lock", "runtime", "runtime/token", "runtime/server.json"),
    *("journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm", "journal.sqlite-journal"),
    *(f"artifacts/{PNG_ID}", f"artifacts/{PNG_ID}.json", f"artifacts/{OTHER_ID}"),
    *("spool/accepted", "spool/worker-cpu-0", "spool/worker-cpu-0/1-0.png"),
)
FOREIGN = (b"holiday.png", b"lost+found", b"artifacts/holiday.png", b"artifacts/caf\xe9.png")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as a server leaves it."""
    folder = tmp_path_factory.mktemp("used") / "data"
    with start_server(folder):
        pass
    (folder / "artifacts" / PNG_ID).write_bytes(PNG)
    (folder / "artifacts" / f"{PNG_ID}.json").write_text('{"session_ids": ["one"]}')
    return folder


def attacked(used: Path, folder: Path, chance: random.Random) -> list[tuple[str, str]]:
    """A copy with damage in it, deepest places first; what was done to it."""
    shutil.copytree(used, folder)
    (folder / "server.log").unlink()
    chosen = chance.sample(PLACES, chance.choice((1, 1, 2, 4)))
    done = []
    for place in sorted(chosen, key=lambda name: -name.count("/")):
        damage = chance.choice(sorted(DAMAGES))
        if (folder / place).parent.is_dir():
            DAMAGES[damage](folder / place, chance)
            done.append((place, damage))
    for name in FOREIGN:
        path = os.path.join(os.fsencode(folder), name)
        if os.path.isdir(os.path.dirname(path)):
            with open(path, "wb") as file:
                file.write(b"mine")
    return done


def foreign(folder: Path) -> set[tuple[bytes, int]]:
    """Every foreign file below the folder, wherever its folder was put."""
    found = set()
    for where, _, names in os.walk(os.fsencode(folder)):
        for name in names:
            if any(name == os.path.basename(one) for one in FOREIGN):
                found.add((name, os.lstat(os.path.join(where, name)).st_ino))
    return found


async def everything_answers(client: Client) -> None:
    """What the folder holds is listed and read, as whole as it is named, or refused."""
    await client.memory.GetMemoryAnalytics(
        memory_history_pb2.GetMemoryAnalyticsRequest(), metadata=client.metadata
    )
    listed = await client.artifact.ListArtifacts(
        artifact_pb2.ListArtifactsRequest(), metadata=client.metadata
    )
    for artifact in listed.artifacts:
        content, refused = await downloaded(client, artifact.artifact_id)
        if refused:
            assert (content, refused) == (b"", "DATA_CORRUPTED")
        else:
            assert hashlib.sha256(content).hexdigest() == artifact.artifact_id


async def devices_are_known(client: Client) -> None:
    """Which takes seconds: a process looks for them."""
    devices = await client.device.ListDevices(
        device_pb2.ListDevicesRequest(), metadata=client.metadata
    )
    assert "cpu:0" in [device.device_id for device in devices.devices]


def address_of(process: subprocess.Popen[bytes], folder: Path) -> str | None:
    """Where the server answers; None when it has ended instead."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        location = portfile.read(folder / "runtime")
        if location is not None and location.pid == process.pid:
            return location.address
        if time.monotonic() > deadline:
            ended(process)
            raise AssertionError("it neither serves nor ends")
        time.sleep(0.02)
    return None


async def downloaded(client: Client, artifact_id: str) -> tuple[bytes, str]:
    """What came, and the reason when it ended with one."""
    wanted = artifact_pb2.DownloadArtifactRequest(artifact_id=artifact_id)
    content = b""
    try:
        async for part in client.artifact.DownloadArtifact(wanted, metadata=client.metadata):
            content += part.data
    except grpc.aio.AioRpcError as error:
        return content, read(error).reason
    return content, ""


def ended(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError("a signal did not end it") from None


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "part", [0, *(pytest.param(part, marks=pytest.mark.matrix) for part in (1, 2, 3))]
)
async def test_a_server_starts_on_whatever_its_folder_holds(
    used: Path, tmp_path: Path, part: int
) -> None:
    served = 0
    for seed in range(part, STARTS, 4):
        folder = tmp_path / str(seed)
        what = attacked(used, folder, random.Random(seed))
        before = foreign(folder)
        process = launch(folder)
        address = address_of(process, folder)
        if address is None:
            assert process.returncode == 2, (seed, what)
            last = json.loads((folder / "server.log").read_text().splitlines()[-1])
            assert last["level"] == "error"
            assert last["event"].endswith("."), (seed, what, last)
        else:
            try:
                async with Client(address, token.read(folder / "runtime" / "token")) as client:
                    await everything_answers(client)
                    if seed % 8 == part:
                        await devices_are_known(client)
            finally:
                assert ended(process) == 0, (seed, what)
            served += 1
        log = (folder / "server.log").read_text()
        assert "Traceback" not in log, (seed, what, log)
        assert '"incident' not in log, (seed, what, log)
        assert foreign(folder) == before, (seed, what)
    assert served >= STARTS // 4 // 2


# A full disk, as a limit on how large files may become.


def launch_without_room(data_dir: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a server that, with its workers, can make no file larger than one byte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "server", "--data-dir", str(data_dir)),
                *("--port", str(port), "--metrics-port", "0", "--log-format", "json"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[2],
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def give_room(process: subprocess.Popen[bytes]) -> None:
    """From now on it can write, and so can its workers."""
    front = psutil.Process(process.pid)
    for one in (front, *front.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            most = resource.prlimit(one.pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (most, most))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until_ready(client: Client) -> None:
    """The processor's worker can draw."""
    wanted = device_pb2.GetDeviceRequest(device_id="cpu:0")
    async with asyncio.timeout(120):
        while True:
            answer = await client.device.GetDevice(
                wanted, metadata=client.metadata, wait_for_ready=True
            )
            if answer.device.state == device_info_pb2.DEVICE_STATE_READY:
                return
            await asyncio.sleep(0.1)


@pytest.mark.timeout(200)
async def test_a_server_that_starts_on_a_full_disk_works_when_there_is_room(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    with start_server(folder) as server:
        async with server.client() as client:
            await until_state(client, READY)
            await client.draw(small_request(steps=1))
            await client.device.SetDefaultDevice(
                device_pb2.SetDefaultDeviceRequest(device_id="cpu"), metadata=client.metadata
            )
        secret = server.token
    [picture] = (path.name for path in (folder / "artifacts").iterdir() if len(path.name) == 64)

    process = launch_without_room(folder, port := free_port())
    assert process.stdout is not None
    with process.stdout as log:
        async with Client(f"127.0.0.1:{port}", secret) as client:
            await until_ready(client)
            devices = await client.device.ListDevices(
                device_pb2.ListDevicesRequest(), metadata=client.metadata
            )
            assert devices.default_device_id == "cpu:0"
            kept = await client.artifact.GetArtifact(
                artifact_pb2.GetArtifactRequest(artifact_id=picture), metadata=client.metadata
            )
            assert kept.artifact.size_bytes > 0
            refused = await refusal_of(client.draw(small_request(steps=1, seed=8)))
            assert refused.reason == "DISK_FULL"
            assert "disk" in refused.message

            give_room(process)
            events, files = await client.draw(small_request(steps=1, seed=8))
            assert events[-1].WhichOneof("event") == "completed"
            assert len(files) == 1
            async with asyncio.timeout(120):
                while not (folder / "runtime" / "server.json").exists():  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        assert ended(process) == 0
        lines = log.read().decode()
    assert "Traceback" not in lines
    assert list(folder.rglob("*.unusable-*")) == []
