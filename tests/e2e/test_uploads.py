"""Uploads to the real server: whose they are, how they go on, and what a crash leaves."""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from deviceops.v1 import artifact_pb2, upload_pb2
from tests.e2e.errors import read
from tests.running import Client, RunningServer, launch, start_server, wait_for_address

MIB = 1 << 20
CONTENT = os.urandom(5 * MIB // 2)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def messages(
    upload_id: str, *, offset: int = 0, end: int = len(CONTENT), whole: bool = True
) -> Iterator[artifact_pb2.UploadArtifactRequest]:
    """An upload from `offset` to `end`; with its completion when it is whole."""
    header = upload_pb2.UploadHeader(
        upload_id=upload_id, offset_bytes=offset, size_bytes=len(CONTENT)
    )
    yield artifact_pb2.UploadArtifactRequest(header=artifact_pb2.ArtifactUpload(upload=header))
    for start in range(offset, end, MIB):
        data = CONTENT[start : min(start + MIB, end)]
        yield artifact_pb2.UploadArtifactRequest(data=data)
    if whole:
        completion = upload_pb2.UploadCompletion(sha256=SHA256)
        yield artifact_pb2.UploadArtifactRequest(completion=completion)


async def break_off(client: Client, upload_id: str) -> None:
    """Leave an upload with its first MiB here."""
    with pytest.raises(grpc.aio.AioRpcError) as broken:
        await client.artifact.UploadArtifact(
            messages(upload_id, end=MIB, whole=False), metadata=client.metadata
        )
    refusal = read(broken.value)
    assert refusal.reason == "UPLOAD_INCOMPLETE"
    assert refusal.metadata["received_bytes"] == str(MIB)


async def test_an_upload_goes_on_and_is_its_clients_alone(server: RunningServer) -> None:
    upload_id = str(uuid.uuid4())
    asked = artifact_pb2.GetUploadRequest(upload_id=upload_id)
    ann, bob = await server.named("uploads-ann"), await server.named("uploads-bob")
    async with server.client(ann) as anns:
        await break_off(anns, upload_id)
    async with server.client(bob) as bobs:
        with pytest.raises(grpc.aio.AioRpcError) as hidden:
            await bobs.artifact.GetUpload(asked, metadata=bobs.metadata)
        assert read(hidden.value).reason == "UPLOAD_NOT_FOUND"
    async with server.client(ann) as again:
        here = (await again.artifact.GetUpload(asked, metadata=again.metadata)).upload
        answer = await again.artifact.UploadArtifact(
            messages(upload_id, offset=here.received_bytes), metadata=again.metadata
        )
        assert (answer.artifact.artifact_id, answer.artifact.owner) == (SHA256, "uploads-ann")
        request = artifact_pb2.DownloadArtifactRequest(artifact_id=SHA256)
        chunks = again.artifact.DownloadArtifact(request, metadata=again.metadata)
        assert b"".join([chunk.data async for chunk in chunks]) == CONTENT
    async with server.client(bob) as bobs:
        wanted = artifact_pb2.ListArtifactsRequest(artifact_ids=[SHA256])
        listed = await bobs.artifact.ListArtifacts(wanted, metadata=bobs.metadata)
        assert not listed.artifacts
        answer = await bobs.artifact.UploadArtifact(
            messages(str(uuid.uuid4())), metadata=bobs.metadata
        )
        assert not answer.existed


async def test_a_killed_server_leaves_no_litter(tmp_path: Path) -> None:
    data = tmp_path / "data"
    process = launch(data)
    try:
        address = await asyncio.to_thread(wait_for_address, process, data)
        token = (data / "runtime" / "token").read_text().strip()
        async with Client(address, token) as client:
            await break_off(client, str(uuid.uuid4()))
    finally:
        process.kill()
        process.wait()
    assert len(os.listdir(data / "uploads")) == 1

    with start_server(data):
        assert os.listdir(data / "uploads") == []
