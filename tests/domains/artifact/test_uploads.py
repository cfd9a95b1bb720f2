"""UploadArtifact and GetUpload through a real channel, over real files."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from deviceops.v1 import artifact_pb2, artifact_pb2_grpc, upload_pb2
from domains.artifact.backends.upload_folder import UploadFolder
from domains.artifact.build import Built
from domains.clock import Clock
from domains.uploads import EXPIRY_SECONDS
from tests.callers import called
from tests.domains.artifact.stand import build
from tests.domains.artifact.test_servicer import PNG, Settings
from tests.domains.wire import Refusal, channel_to, refusal

Stub: TypeAlias = "artifact_pb2_grpc.ArtifactServiceAsyncStub"
Request = artifact_pb2.UploadArtifactRequest
CONTENT = PNG + bytes(range(256)) * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ANN, BOB = called("ann"), called("bob")
QUOTA = 1_000_000


def test_a_file_that_cannot_be_deleted_keeps_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        (tmp_path / f"{number:032x}.upload").touch()
    unlink, refused = os.unlink, list[str]()

    def refuse(path: str) -> None:
        if not refused:
            refused.append(path)
            raise PermissionError(errno.EPERM, "Operation not permitted")
        unlink(path)

    monkeypatch.setattr(os, "unlink", refuse)
    UploadFolder(tmp_path).sweep()

    assert [str(path) for path in tmp_path.iterdir()] == refused


class Time:
    """The machine's time, moved on by a test."""

    moved = 0.0

    def monotonic(self) -> float:
        return Clock().monotonic() + self.moved


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def domain(tmp_path: Path, time: Time) -> Built:
    built = build(
        Settings(tmp_path, artifact_quota_bytes=QUOTA), clock=Clock(monotonic=time.monotonic)
    )
    await built.start()
    return built


@pytest.fixture
async def stub(domain: Built) -> AsyncIterator[Stub]:
    add = artifact_pb2_grpc.add_ArtifactServiceServicer_to_server
    async with channel_to(add, domain.servicer) as channel:
        yield artifact_pb2_grpc.ArtifactServiceStub(channel)


def header(
    upload_id: str = "",
    *,
    offset: int = 0,
    size: int = len(CONTENT),
    sha256: str = "",
    **fields: Any,
) -> Request:
    upload = upload_pb2.UploadHeader(
        upload_id=upload_id or str(uuid.uuid4()),
        offset_bytes=offset,
        size_bytes=size,
        sha256=sha256,
    )
    return Request(header=artifact_pb2.ArtifactUpload(upload=upload, **fields))


def data(content: bytes = CONTENT) -> list[Request]:
    return [Request(data=content[at : at + 5000]) for at in range(0, len(content), 5000)]


def end(content: bytes = CONTENT) -> Request:
    sha256 = hashlib.sha256(content).hexdigest()
    return Request(completion=upload_pb2.UploadCompletion(sha256=sha256))


async def upload(
    stub: Stub, messages: Iterable[Request], metadata: Any = ANN
) -> artifact_pb2.UploadArtifactResponse:
    return await stub.UploadArtifact(iter(messages), metadata=metadata)


async def refused(stub: Stub, messages: Iterable[Request]) -> Refusal:
    return await refusal(stub.UploadArtifact(iter(messages), metadata=ANN))


async def download(stub: Stub, artifact_id: str, metadata: Any = ANN) -> bytes:
    request = artifact_pb2.DownloadArtifactRequest(artifact_id=artifact_id)
    chunks = stub.DownloadArtifact(request, metadata=metadata)
    return b"".join([chunk.data async for chunk in chunks])


async def unfinished(stub: Stub, upload_id: str, metadata: Any = ANN) -> upload_pb2.Upload:
    request = artifact_pb2.GetUploadRequest(upload_id=upload_id)
    return (await stub.GetUpload(request, metadata=metadata)).upload


def left(domain_folder: Path) -> list[str]:
    """Files of unfinished uploads."""
    folder = domain_folder / "uploads"
    return os.listdir(folder) if folder.exists() else []


async def test_an_upload_becomes_an_artifact(stub: Stub, tmp_path: Path) -> None:
    answer = await upload(stub, [header(sha256=SHA256), *data(), end()])

    artifact = answer.artifact
    assert not answer.existed
    assert (artifact.artifact_id, artifact.size_bytes) == (SHA256, len(CONTENT))
    assert (artifact.media_type, artifact.owner) == ("image/png", "ann")
    assert artifact.session_id == ""
    assert await download(stub, SHA256) == CONTENT
    assert left(tmp_path) == []


async def test_a_broken_upload_is_gone_on_with_over_another_connection(
    stub: Stub, domain: Built, tmp_path: Path
) -> None:
    upload_id = str(uuid.uuid4())
    first = data()[:2]
    add = artifact_pb2_grpc.add_ArtifactServiceServicer_to_server
    async with channel_to(add, domain.servicer) as other:
        call = artifact_pb2_grpc.ArtifactServiceStub(other).UploadArtifact(metadata=ANN)
        for message in (header(upload_id), *first):
            await call.write(message)
        async with asyncio.timeout(20):
            while await _received(stub, upload_id) < 10_000:
                pass
        call.cancel()

    described = await unfinished(stub, upload_id)
    assert (described.received_bytes, described.size_bytes) == (10_000, len(CONTENT))
    assert described.expire_time.seconds > 0
    rest = data(CONTENT[10_000:])
    answer = await upload(stub, [header(upload_id, offset=10_000), *rest, end()])

    assert answer.artifact.artifact_id == SHA256
    assert await download(stub, SHA256) == CONTENT
    gone = await refusal(
        stub.GetUpload(artifact_pb2.GetUploadRequest(upload_id=upload_id), metadata=ANN)
    )
    assert (gone.code, gone.reason) == (grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND")
    assert left(tmp_path) == []


async def _received(stub: Stub, upload_id: str) -> int:
    try:
        return (await unfinished(stub, upload_id)).received_bytes
    except grpc.aio.AioRpcError:
        return 0


async def test_an_offset_that_is_not_what_is_here_says_what_is(stub: Stub) -> None:
    upload_id = str(uuid.uuid4())
    broken = await refused(stub, [header(upload_id), *data()[:1]])
    assert (broken.reason, broken.metadata["received_bytes"]) == ("UPLOAD_INCOMPLETE", "5000")

    wrong = await refused(stub, [header(upload_id, offset=1), *data()])

    assert (wrong.code, wrong.reason) == (
        grpc.StatusCode.OUT_OF_RANGE,
        "OFFSET_OUT_OF_RANGE",
    )
    assert wrong.metadata["received_bytes"] == "5000"


async def test_an_id_of_other_content_is_refused(stub: Stub) -> None:
    upload_id = str(uuid.uuid4())
    await refused(stub, [header(upload_id), *data()[:1]])

    other = await refused(stub, [header(upload_id, size=7)])

    assert (other.code, other.reason) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_REUSED",
    )


async def test_what_a_client_has_is_not_taken_again(stub: Stub) -> None:
    await upload(stub, [header(), *data(), end()])

    at_once = await upload(
        stub, [header(sha256=SHA256, retention=Duration(seconds=31_536_000))]
    )
    again = await upload(stub, [header(), *data(), end()])

    assert at_once.existed
    assert again.existed
    assert at_once.artifact.artifact_id == SHA256
    lasts = at_once.artifact.expire_time.seconds - at_once.artifact.create_time.seconds
    assert lasts >= 31_535_000
    assert again.artifact.expire_time.seconds >= at_once.artifact.expire_time.seconds


async def test_one_client_does_not_learn_what_another_has(stub: Stub) -> None:
    await upload(stub, [header(), *data(), end()])
    upload_id = str(uuid.uuid4())

    begun = await refusal(
        stub.UploadArtifact(iter([header(upload_id, sha256=SHA256)]), metadata=BOB)
    )
    assert (begun.reason, begun.metadata["received_bytes"]) == ("UPLOAD_INCOMPLETE", "0")
    hidden = await refusal(
        stub.GetUpload(artifact_pb2.GetUploadRequest(upload_id=upload_id), metadata=ANN)
    )
    assert hidden.reason == "UPLOAD_NOT_FOUND"
    answer = await upload(stub, [header(upload_id, sha256=SHA256), *data(), end()], BOB)

    assert not answer.existed
    assert answer.artifact.owner == "bob"
    listed = await stub.ListArtifacts(artifact_pb2.ListArtifactsRequest(), metadata=BOB)
    assert [artifact.owner for artifact in listed.artifacts] == ["bob"]


@pytest.mark.parametrize(
    ("messages", "reason", "field"),
    [
        ([], "REQUIRED_FIELD_MISSING", "header"),
        ([end()], "REQUIRED_FIELD_MISSING", "header"),
        ([header("no id")], "REQUEST_ID_INVALID", "header.upload.upload_id"),
        ([header(size=0)], "FIELD_OUT_OF_RANGE", "header.upload.size_bytes"),
        ([header(sha256="A" * 64)], "NAME_INVALID", "header.upload.sha256"),
        (
            [header(retention=Duration(seconds=59))],
            "FIELD_OUT_OF_RANGE",
            "header.retention",
        ),
        ([header(), header()], "FIELDS_CONFLICT", "header"),
        ([header(), Request()], "REQUIRED_FIELD_MISSING", "part"),
        ([header(size=1), Request(data=b"ab")], "FIELD_OUT_OF_RANGE", "data"),
    ],
)
async def test_broken_messages_are_named(
    stub: Stub, messages: list[Request], reason: str, field: str
) -> None:
    broken = await refused(stub, messages)

    assert broken.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (broken.reason, broken.fields) == (reason, (field,))


async def test_wrong_bytes_leave_nothing(stub: Stub, tmp_path: Path) -> None:
    wrong = await refused(stub, [header(sha256=SHA256), *data(bytes(len(CONTENT))), end()])

    assert (wrong.code, wrong.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "CHECKSUM_MISMATCH",
    )
    assert left(tmp_path) == []
    listed = await stub.ListArtifacts(artifact_pb2.ListArtifactsRequest(), metadata=ANN)
    assert not listed.artifacts


async def test_what_the_store_cannot_keep_is_refused_before_it_comes(stub: Stub) -> None:
    large = await refused(stub, [header(size=QUOTA + 1)])

    assert (large.code, large.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "STORAGE_QUOTA_EXCEEDED",
    )


async def test_unfinished_uploads_of_one_client_leave_room_for_others(stub: Stub) -> None:
    full = QUOTA // 10
    for _ in range(10):
        begun = await refused(stub, [header(size=full), *data()[:1]])
        assert begun.reason == "UPLOAD_INCOMPLETE"

    more = await refused(stub, [header(size=full)])
    assert (more.code, more.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "CLIENT_QUOTA_EXCEEDED",
    )
    assert more.metadata["limit_bytes"] == str(QUOTA)
    answer = await upload(stub, [header(), *data(), end()], BOB)
    assert answer.artifact.owner == "bob"


async def test_a_finished_upload_gives_its_room_back(stub: Stub) -> None:
    for number in range(3):
        content = bytes([number]) * 900_000
        parts = [Request(data=content)]
        answer = await upload(stub, [header(size=len(content)), *parts, end(content)])
        assert answer.artifact.size_bytes == len(content)
        wrong = await refused(stub, [header(size=len(content)), *parts, end()])
        assert wrong.reason == "CHECKSUM_MISMATCH"


async def test_a_disk_that_is_nearly_full_is_said_before_anything_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(Settings(tmp_path, artifact_min_free_bytes=1000), clock=Clock())
    await built.start()
    usage = shutil.disk_usage("/")._replace(free=1000 + len(CONTENT) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    add = artifact_pb2_grpc.add_ArtifactServiceServicer_to_server
    async with channel_to(add, built.servicer) as channel:
        full = await refused(
            artifact_pb2_grpc.ArtifactServiceStub(channel), [header(), *data(), end()]
        )

    assert full.reason == "DISK_FULL"
    assert full.metadata["needed_bytes"] == str(len(CONTENT))
    assert left(tmp_path) == []


async def test_a_server_that_ended_leaves_no_litter(stub: Stub, tmp_path: Path) -> None:
    upload_id = str(uuid.uuid4())
    await refused(stub, [header(upload_id), *data()[:1]])
    assert len(left(tmp_path)) == 1
    mine = tmp_path / "uploads" / "notes.txt"
    mine.write_bytes(b"mine")

    again = build(Settings(tmp_path), clock=Clock())
    await again.start()

    assert left(tmp_path) == [mine.name]
    add = artifact_pb2_grpc.add_ArtifactServiceServicer_to_server
    async with channel_to(add, again.servicer) as channel:
        gone = await refusal(
            artifact_pb2_grpc.ArtifactServiceStub(channel).GetUpload(
                artifact_pb2.GetUploadRequest(upload_id=upload_id), metadata=ANN
            )
        )
    assert gone.reason == "UPLOAD_NOT_FOUND"


async def test_the_domain_throws_away_what_nobody_goes_on_with(
    stub: Stub, domain: Built, time: Time, tmp_path: Path
) -> None:
    upload_id = str(uuid.uuid4())
    await refused(stub, [header(upload_id), *data()[:1]])
    for loop in domain.loops:
        await loop.work()
    assert len(left(tmp_path)) == 1

    time.moved = EXPIRY_SECONDS + 1
    for loop in domain.loops:
        await loop.work()
    assert left(tmp_path) == []


# Labels.


async def test_an_upload_has_labels_which_a_later_one_adds_to(stub: Stub) -> None:
    first = await upload(stub, [header(labels={"a": "1", "b": "1"}), *data(), end()])
    known = await upload(stub, [header(sha256=SHA256, labels={"b": "2"})])
    sent = await upload(stub, [header(labels={"c": "3"}), *data(), end()])
    bobs = await upload(stub, [header(labels={"d": "4"}), *data(), end()], BOB)

    assert dict(first.artifact.labels) == {"a": "1", "b": "1"}
    assert dict(known.artifact.labels) == {"a": "1", "b": "2"}
    assert dict(sent.artifact.labels) == {"a": "1", "b": "2", "c": "3"}
    assert dict(bobs.artifact.labels) == {"d": "4"}


@pytest.mark.parametrize("sha256", ["", SHA256])
async def test_more_labels_than_an_artifact_has_are_refused(stub: Stub, sha256: str) -> None:
    mine = {f"mine{n}": "" for n in range(16)}
    await upload(stub, [header(labels=mine), *data(), end()])

    wrong = await refused(stub, [header(sha256=sha256, labels={"new": ""}), *data(), end()])

    assert (wrong.reason, wrong.fields) == ("TOO_MANY_ELEMENTS", ("header.labels",))
    same = await upload(stub, [header(sha256=SHA256)])
    assert dict(same.artifact.labels) == mine


async def test_labels_of_an_upload_that_cannot_be_are_refused_before_its_data(
    stub: Stub,
) -> None:
    wrong = await refused(stub, [header(labels={"a b": "1"})])

    assert (wrong.reason, wrong.fields) == ("NAME_INVALID", ("header.labels",))
