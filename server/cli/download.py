"""Fetch an artifact into a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

import grpc

from deviceops.v1 import artifact_pb2
from server.cli.client import Client
from server.cli.failures import CallFailed, CallFailure
from server.cli.files import new_file
from server.cli.pictures import damaged
from server.cli.transfers import Meter, with_patience


def download(
    client: Client, artifact_id: str, output: Path, *, replace: bool
) -> tuple[Path, int]:
    """Save the artifact; the path it went to and its size in bytes.

    A lost connection is made again and goes on after the last byte, a bounded number of
    times.

    Raises:
        CallFailed: There is none, it arrived damaged, or it cannot be written.
    """
    try:
        with new_file(output, replace=replace) as made:
            fetch = _Fetch(client, artifact_id, made.file)
            with_patience(fetch.go_on, lambda: fetch.done_bytes)
            fetch.check()
    except OSError as error:
        message = f"{output} cannot be written: {error.strerror or error}"
        raise CallFailed(CallFailure(status="LOCAL", message=message)) from error
    return made.path, fetch.done_bytes


class _Fetch:
    """One artifact over as many calls as it takes; `done_bytes` are in the file."""

    def __init__(self, client: Client, artifact_id: str, file: BinaryIO) -> None:
        self._client = client
        self._artifact_id = artifact_id
        self._file = file
        self._hash = hashlib.sha256()
        self._meter = Meter("Downloading")
        self.done_bytes = 0

    def go_on(self) -> None:
        """Fetch what is missing.

        Raises:
            CallFailed: The call failed, or a chunk does not follow the one before it.
        """
        call = self._client.artifacts.DownloadArtifact(
            artifact_pb2.DownloadArtifactRequest(
                artifact_id=self._artifact_id, offset_bytes=self.done_bytes
            )
        )
        try:
            for chunk in call:
                if chunk.offset_bytes != self.done_bytes:
                    raise damaged(self._artifact_id, "part of it is missing")
                self._file.write(chunk.data)
                self._hash.update(chunk.data)
                self.done_bytes += len(chunk.data)
                self._meter.show(self.done_bytes, chunk.total_bytes)
        except grpc.RpcError as error:
            raise CallFailed(self._client.explain(error)) from error
        finally:
            call.cancel()

    def check(self) -> None:
        """Raise `CallFailed` (DATA_LOSS) unless the bytes are those of the artifact."""
        found = self._hash.hexdigest()
        if found != self._artifact_id:
            raise damaged(self._artifact_id, f"its SHA-256 is {found}")
