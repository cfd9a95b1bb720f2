"""Reflection as grpcurl uses it, and as a client of v1 and v1alpha sees it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]

from server.app import SERVICE_NAMES
from server.config import Settings
from server.reflection import V1_NAME, V1ALPHA_NAME
from tests.server.apps import Running, SteeredApp, running
from tests.server.echo import told

GRPCURL = shutil.which("grpcurl", path=str(Path(sys.executable).parent)) or shutil.which(
    "grpcurl"
)


async def ask(server: Running, version: str, **question: Any) -> Any:
    call: Any = server.channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(**question)
    return await call(iter([request]), metadata=server.metadata).read()


@pytest.mark.parametrize("version", [V1_NAME, V1ALPHA_NAME])
async def test_both_versions_list_and_describe_everything(
    settings: Settings, version: str
) -> None:
    async with running(settings, SteeredApp()) as server:
        listed = await ask(server, version, list_services="")
        names = {service.name for service in listed.list_services_response.service}
        assert names == {*SERVICE_NAMES, "grpc.health.v1.Health", V1_NAME, V1ALPHA_NAME}
        for name in names:
            answer = await ask(server, version, file_containing_symbol=name)
            files = [
                descriptor_pb2.FileDescriptorProto.FromString(data)
                for data in answer.file_descriptor_response.file_descriptor_proto
            ]
            services = [f"{file.package}.{one.name}" for file in files for one in file.service]
            assert name in services


async def test_needs_the_token_and_can_be_turned_off(settings: Settings) -> None:
    async with running(settings, SteeredApp()) as server:
        server.metadata.clear()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(server, V1_NAME, list_services="")
        assert told(caught.value).reason == "TOKEN_MISSING"
    async with running(
        settings.model_copy(update={"reflection": False}), SteeredApp()
    ) as server:
        # Not a stream: its client may be refused while it still sends.
        call: Any = server.channel.unary_unary(f"/{V1_NAME}/ServerReflectionInfo")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", metadata=server.metadata)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is packaged for Linux only")
async def test_grpcurl_lists_describes_and_calls_with_one_header(settings: Settings) -> None:
    async with running(settings, SteeredApp()) as server:

        async def grpcurl(*words: str, header: str) -> tuple[int | None, str]:
            process = await asyncio.create_subprocess_exec(
                GRPCURL or "",
                "-plaintext",
                "-H",
                header,
                *words,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await asyncio.wait_for(process.communicate(), 30)
            return process.returncode, output.decode()

        header = f"{server.metadata[0][0]}: {server.metadata[0][1]}"
        address = server.ready.address
        code, output = await grpcurl(address, "list", header=header)
        assert code == 0, output
        assert set(SERVICE_NAMES) <= set(output.split())
        code, output = await grpcurl(address, "describe", header=header)
        assert code == 0, output
        method = "deviceops.v1.DeviceService/ListDevices"
        code, output = await grpcurl(address, method, header=header)
        assert code == 0, output
        assert list(json.loads(output).values()) == ["cpu:0"]
        code, output = await grpcurl(address, "list", header="authorization: Bearer wrong")
        assert code != 0
        assert "not this server's" in output
