"""The callers that are no libraries of ours: grpcurl and buf curl."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path

import pytest

from tests.e2e.programs import objects, run
from tests.running import RunningServer

TOOLS = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


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
    assert "optional int64 seed" in out


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
