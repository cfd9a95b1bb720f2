"""Fetch an artifact into a file."""

from __future__ import annotations

from pathlib import Path

import grpc

from deviceops.v1 import artifact_pb2
from server.cli.client import Client
from server.cli.failures import CallFailed, CallFailure
from server.cli.pictures import save, verify

_MOST_BYTES = 2**31  # held in memory until its hash is known to be right


def download(
    client: Client, artifact_id: str, output: Path, *, replace: bool
) -> tuple[Path, int]:
    """Save the artifact; the path it went to and its size in bytes.

    Raises:
        CallFailed: There is none, it arrived damaged, or it cannot be written.
    """
    data = bytearray()
    call = client.artifacts.DownloadArtifact(
        artifact_pb2.DownloadArtifactRequest(artifact_id=artifact_id)
    )
    try:
        for chunk in call:
            if chunk.total_bytes > _MOST_BYTES:
                raise CallFailed(
                    CallFailure(status="LOCAL", message="The artifact is larger than 2 GiB.")
                )
            if chunk.offset_bytes != len(data):
                break  # what is missing shows in the hash
            data += chunk.data
    except grpc.RpcError as error:
        raise CallFailed(client.explain(error)) from error
    finally:
        call.cancel()
    verify(bytes(data), artifact_id)
    try:
        return save(bytes(data), output, replace=replace), len(data)
    except OSError as error:
        message = f"{output} cannot be written: {error.strerror or error}"
        raise CallFailed(CallFailure(status="LOCAL", message=message)) from error
