"""The callers that are no libraries of ours: grpcurl, buf curl, and our command line."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.running import RunningServer

TOOLS = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


async def run(*command: str, **environment: str) -> tuple[int, str, str]:
    """A program's exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},  # noqa: TID251  the child's own
    )
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


def objects(text: str) -> list[dict[str, Any]]:
    """JSON objects one after another."""
    found = []
    decoder = json.JSONDecoder()
    text = text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].lstrip()
    return found


def grpcurl(server: RunningServer, *arguments: str) -> tuple[str, ...]:
    header = f"authorization: Bearer {server.token}"
    return (str(TOOLS / "grpcurl"), "-plaintext", "-H", header, *arguments)


needs_grpcurl = pytest.mark.skipif(
    not (TOOLS / "grpcurl").exists(), reason="grpcurl is packaged for Linux only"
)


@needs_grpcurl
async def test_grpcurl_finds_the_services_by_reflection(server: RunningServer) -> None:
    code, out, err = await run(*grpcurl(server, server.address, "list"))

    assert code == 0, err
    assert "deviceops.v1.InferenceService" in out
    assert "grpc.health.v1.Health" in out
    code, out, err = await run(
        *grpcurl(server, server.address, "describe", "deviceops.v1.GenerationSettings")
    )
    assert code == 0, err
    assert "optional uint64 seed" in out


@needs_grpcurl
async def test_grpcurl_draws_a_picture(server: RunningServer) -> None:
    request = {"settings": {"prompt": "a red apple", "steps": 2, "seed": "3"}}

    code, out, err = await run(
        *grpcurl(
            server,
            *("-d", json.dumps(request), server.address),
            "deviceops.v1.InferenceService/Generate",
        )
    )

    assert code == 0, err
    events = [answer["event"] for answer in objects(out)]
    assert "accepted" in events[0]
    data = b"".join(
        base64.b64decode(event["image_chunk"]["data"])
        for event in events
        if "image_chunk" in event
    )
    (image,) = events[-1]["completed"]["images"]
    assert hashlib.sha256(data).hexdigest() == image["artifact_id"]


@needs_grpcurl
async def test_grpcurl_shows_what_is_wrong_with_a_request(server: RunningServer) -> None:
    request = {"settings": {"prompt": "x", "width": 257}}

    code, _, err = await run(
        *grpcurl(
            server,
            *("-d", json.dumps(request), server.address),
            "deviceops.v1.InferenceService/Generate",
        )
    )

    assert code != 0
    assert "InvalidArgument" in err
    assert "DIMENSIONS_INVALID" in err
    assert "settings.width" in err


async def test_buf_curl_calls_with_the_protos_and_by_both_reflections(
    server: RunningServer,
) -> None:
    method = f"http://{server.address}/deviceops.v1.DeviceService/ListDevices"
    for schema in (
        ("--schema", str(ROOT / "protos")),
        ("--reflect-protocol", "grpc-v1"),
        ("--reflect-protocol", "grpc-v1alpha"),
    ):
        header = f"authorization: Bearer {server.token}"
        reflected = ("--reflect-header", header) if schema[0] != "--schema" else ()
        code, out, err = await run(
            *(str(TOOLS / "buf"), "curl", "--protocol", "grpc", "--http2-prior-knowledge"),
            *(*schema, *reflected, "--header", header, "-d", "{}", method),
        )
        assert code == 0, err
        assert objects(out)[0]["defaultDeviceId"] == "cpu:0"


def deviceops(server: RunningServer, *arguments: str) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "server.cli", "--server", server.address),
        *("--token-file", str(server.data_dir / "runtime" / "token"), *arguments),
    )


async def test_the_command_line_draws_saves_and_shows(
    server: RunningServer, tmp_path: Path
) -> None:
    target = tmp_path / "apple.png"

    code, out, err = await run(
        *deviceops(server, "generate", "a red apple", "--steps", "2", "--seed", "3"),
        *("-o", str(target), "--json"),
    )

    assert code == 0, err
    lines = objects(out)
    assert target.read_bytes().startswith(b"\x89PNG")
    assert str(target) in json.dumps(lines[-1])
    session_id = lines[-1]["session_id"]
    code, out, err = await run(*deviceops(server, "sessions", "show", session_id, "--json"))
    assert code == 0, err
    assert "COMPLETED" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("devices",), 0, "cpu:0"),
        (("models",), 0, "emoji-xl"),
        (("generate", "x", "--width", "257"), 2, "settings.width"),
        (("generate", "x", "--model", "nothing"), 4, "MODEL_NOT_FOUND"),
    ],
)
async def test_the_command_line_says_what_is_there_and_what_is_wrong(
    server: RunningServer, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)

    got, out, err = await run(*deviceops(server, *arguments), COLUMNS="200")

    assert got == code, out + err
    assert said in out + err
