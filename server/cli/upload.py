"""Send a file as an artifact."""

from __future__ import annotations

import hashlib
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import grpc
from google.protobuf.duration_pb2 import Duration

from deviceops.v1 import artifact_pb2, upload_pb2
from server.cli.advice import more_advice
from server.cli.choices import UnusableOptions
from server.cli.client import Client
from server.cli.failures import CallFailed, CallFailure
from server.cli.transfers import Meter, with_patience

CHUNK_BYTES = 1 << 20


def upload(
    client: Client,
    path: Path,
    upload_id: str | None,
    retention: Duration | None,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> artifact_pb2.UploadArtifactResponse:
    """Store the file's bytes; what the server says of them.

    A lost connection is made again and goes on after the bytes that the server has, a
    bounded number of times. What still fails can go on later, by the id of the upload.

    Args:
        client: The server.
        path: The file.
        upload_id: An earlier upload of the same file, to go on with; None begins one.
        retention: How long it is kept after its last use; None leaves it to the server.
        labels: What it is called.

    Raises:
        UnusableOptions: The file cannot be read or is empty.
        CallFailed: The server refused, or the connection was lost for good.
    """
    try:
        sending = _Sending(client, path, upload_id, retention, labels)
    except OSError as error:
        raise UnusableOptions(f"{path} cannot be read: {error.strerror or error}") from error
    if not sending.size_bytes:
        raise UnusableOptions(f"{path} is empty")
    try:
        with_patience(sending.go_on, lambda: sending.received_bytes)
    except CallFailed as error:
        if error.failure.status != "UNAVAILABLE":
            raise
        raise CallFailed(more_advice(error.failure, sending.later)) from error
    except KeyboardInterrupt:
        left = CallFailure(status="CANCELLED", message="Interrupted.", advice=sending.later)
        raise CallFailed(left) from None
    return sending.answer


class _Sending:
    """One upload over as many calls as it takes."""

    def __init__(
        self,
        client: Client,
        path: Path,
        upload_id: str | None,
        retention: Duration | None,
        labels: Mapping[str, str],
    ) -> None:
        self._client = client
        self._retention = retention
        self._labels = labels
        self._path = path
        self._meter = Meter(f"Uploading {path.name}")
        with path.open("rb") as file:
            self._sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self.size_bytes = path.stat().st_size
        self.upload_id = upload_id or str(uuid.uuid4())
        self.received_bytes = 0
        self.answer = artifact_pb2.UploadArtifactResponse()
        self._begun = upload_id is not None
        self._fault: OSError | None = None  # of this side's file, while it was being sent

    @property
    def later(self) -> str:
        """How a person goes on with it."""
        return f"Go on later: deviceops upload {self._path} --upload-id {self.upload_id}"

    def go_on(self) -> None:
        """Send what the server does not have.

        Raises:
            CallFailed: The call failed.
        """
        if self._begun:
            self.received_bytes = self._received()
        self._begun = True
        try:
            self.answer = self._client.artifacts.UploadArtifact(
                self._messages(self.received_bytes)
            )
        except grpc.RpcError as error:
            if self._fault is not None:
                message = f"{self._path} cannot be read: {self._fault.strerror or self._fault}"
                raise CallFailed(CallFailure(status="LOCAL", message=message)) from error
            raise CallFailed(self._client.explain(error)) from error

    def _received(self) -> int:
        """Bytes that the server has; 0 where it does not know the upload any more."""
        request = artifact_pb2.GetUploadRequest(upload_id=self.upload_id)
        try:
            found = self._client.ask(self._client.artifacts.GetUpload, request)
        except CallFailed as error:
            if error.failure.reason != "UPLOAD_NOT_FOUND":
                raise
            print("The server has nothing of it; sending from the start.", file=sys.stderr)
            return 0
        return found.upload.received_bytes

    def _messages(self, offset: int) -> Iterator[artifact_pb2.UploadArtifactRequest]:
        header = upload_pb2.UploadHeader(
            upload_id=self.upload_id,
            offset_bytes=offset,
            size_bytes=self.size_bytes,
            sha256=self._sha256,
        )
        yield artifact_pb2.UploadArtifactRequest(
            header=artifact_pb2.ArtifactUpload(
                upload=header, retention=self._retention, labels=self._labels
            )
        )
        for data in self._chunks(offset):
            yield artifact_pb2.UploadArtifactRequest(data=data)
            offset += len(data)
            self._meter.show(offset, self.size_bytes)
        completion = upload_pb2.UploadCompletion(sha256=self._sha256)
        yield artifact_pb2.UploadArtifactRequest(completion=completion)

    def _chunks(self, offset: int) -> Iterator[bytes]:
        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                while data := file.read(CHUNK_BYTES):
                    yield data
        except OSError as error:
            self._fault = error  # the call would only say that its messages ended
            raise
