"""GetThumbnail through a real channel, over real files and real decoders."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
from PIL import Image

from deviceops.v1 import artifact_pb2, artifact_pb2_grpc
from domains.artifact.backends.thumbnail_folder import ThumbnailFolder
from domains.artifact.build import Built
from domains.artifact.types import Thumbnail
from domains.clients import Role
from domains.clock import Clock
from tests.callers import called
from tests.domains.artifact.stand import InspectorHere, build
from tests.domains.artifact.test_servicer import Settings
from tests.domains.picture.drawn import painting, saved
from tests.domains.wire import Refusal, channel_to, refusal

Stub: TypeAlias = "artifact_pb2_grpc.ArtifactServiceAsyncStub"
ANN, BOB = called("ann"), called("bob")
PICTURE = saved(painting(480, 320))


@pytest.fixture
def inspectors() -> InspectorHere:
    return InspectorHere()


@pytest.fixture
async def domain(tmp_path: Path, inspectors: InspectorHere) -> Built:
    built = build(Settings(tmp_path), clock=Clock(), inspectors=inspectors)
    await built.start()
    return built


@pytest.fixture
async def stub(domain: Built) -> AsyncIterator[Stub]:
    add = artifact_pb2_grpc.add_ArtifactServiceServicer_to_server
    async with channel_to(add, domain.servicer) as channel:
        yield artifact_pb2_grpc.ArtifactServiceStub(channel)


async def keep(domain: Built, folder: Path, content: bytes, owner: str = "ann") -> str:
    digest = hashlib.sha256(content).hexdigest()
    path = folder / "finished"
    path.write_bytes(content)
    await domain.store.adopt(path, digest, owner)
    return digest


async def shrunk(stub: Stub, name: str, edge: int | None = None, who: Any = ANN) -> Any:
    request = artifact_pb2.GetThumbnailRequest(artifact_id=name, edge_pixels=edge)
    return await stub.GetThumbnail(request, metadata=who)


async def refused(stub: Stub, name: str, edge: int | None = None, who: Any = ANN) -> Refusal:
    request = artifact_pb2.GetThumbnailRequest(artifact_id=name, edge_pixels=edge)
    return await refusal(stub.GetThumbnail(request, metadata=who))


def files(tmp_path: Path) -> list[str]:
    found = (tmp_path / "thumbnails").rglob("*.webp")
    return sorted(f"{path.parent.name[:4]}/{path.name}" for path in found)


@pytest.mark.parametrize(
    ("edge", "size"),
    [(None, (256, 171)), (32, (32, 21)), (300, (300, 200)), (1024, (480, 320))],
)
async def test_a_picture_is_made_small_and_never_larger(
    stub: Stub, domain: Built, tmp_path: Path, edge: int | None, size: tuple[int, int]
) -> None:
    small = await shrunk(stub, await keep(domain, tmp_path, PICTURE), edge)

    assert (small.width, small.height, small.media_type) == (*size, "image/webp")
    with Image.open(io.BytesIO(small.data)) as image:
        assert (image.format, image.size, image.mode) == ("WEBP", size, "RGB")
        left, right = image.getpixel((0, size[1] - 1)), image.getpixel((size[0] - 1, 1))
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    assert left[0] < 60 < 200 < right[0]


async def test_what_is_transparent_stays_so_and_what_lies_is_stood_up(
    stub: Stub, domain: Built, tmp_path: Path
) -> None:
    clear = Image.new("RGBA", (64, 48), (200, 0, 0, 0))
    clear.paste((0, 200, 0, 255), (0, 0, 32, 48))
    turned = Image.Exif()
    turned[0x0112] = 6
    lying = saved(painting(64, 48), "JPEG", exif=turned.tobytes())

    small = await shrunk(stub, await keep(domain, tmp_path, saved(clear)), 32)
    upright = await shrunk(stub, await keep(domain, tmp_path, lying), 32)

    with Image.open(io.BytesIO(small.data)) as image:
        assert image.mode == "RGBA"
        alpha = image.getchannel("A")
        assert alpha.getpixel((4, 12)) == 255
        assert alpha.getpixel((28, 12)) == 0
    assert (upright.width, upright.height) == (24, 32)


async def test_it_is_made_once_for_all_and_kept_over_a_restart(
    stub: Stub, domain: Built, tmp_path: Path, inspectors: InspectorHere
) -> None:
    name = await keep(domain, tmp_path, PICTURE)
    await keep(domain, tmp_path, PICTURE, "bob")

    first, *others = await asyncio.gather(*(shrunk(stub, name, 64) for _ in range(4)))
    assert others == [first] * 3
    assert await shrunk(stub, name, 64, BOB) == first
    assert inspectors.jobs == 1
    assert (await shrunk(stub, name, 65)).width == 65
    assert inspectors.jobs == 2
    assert files(tmp_path) == [f"{name[:4]}/64.webp", f"{name[:4]}/65.webp"]

    unknown = tmp_path / "thumbnails" / ("0" * 64)
    unknown.mkdir()
    (unknown / "64.webp").write_bytes(first.data)
    (tmp_path / "thumbnails" / name / "66.webp.abcdefgh.part").write_bytes(b"half")
    again = build(Settings(tmp_path), clock=Clock(), inspectors=inspectors)
    await again.start()
    assert [path.name for path in (tmp_path / "thumbnails").iterdir()] == [name]
    assert len(list((tmp_path / "thumbnails" / name).iterdir())) == 2
    assert domain.store.usage().used_bytes == len(PICTURE)


async def test_it_goes_with_its_artifact_and_not_before(
    stub: Stub, domain: Built, tmp_path: Path
) -> None:
    name = await keep(domain, tmp_path, PICTURE)
    await keep(domain, tmp_path, PICTURE, "bob")
    await shrunk(stub, name)
    request = artifact_pb2.DeleteArtifactRequest(artifact_id=name)

    await stub.DeleteArtifact(request, metadata=ANN)
    assert (await refused(stub, name)).reason == "ARTIFACT_NOT_FOUND"
    assert (await shrunk(stub, name, who=BOB)).width == 256
    await stub.DeleteArtifact(request, metadata=BOB)
    assert files(tmp_path) == []
    assert (await refused(stub, name, who=BOB)).reason == "ARTIFACT_NOT_FOUND"

    outside = await keep(domain, tmp_path, PICTURE)
    await shrunk(stub, outside)
    (tmp_path / "artifacts" / outside).unlink()
    assert (await refused(stub, outside)).reason == "ARTIFACT_NOT_FOUND"
    assert files(tmp_path) == []


async def test_another_clients_is_not_there(stub: Stub, domain: Built, tmp_path: Path) -> None:
    name = await keep(domain, tmp_path, PICTURE)
    await shrunk(stub, name)

    wrong = await refused(stub, name, who=BOB)

    assert (wrong.code, wrong.reason) == (grpc.StatusCode.NOT_FOUND, "ARTIFACT_NOT_FOUND")
    assert (await shrunk(stub, name, who=called("root", Role.ADMIN))).width == 256


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no picture", "IMAGE_UNREADABLE"),
        (PICTURE[:200], "IMAGE_UNREADABLE"),
        (saved(painting(), "GIF"), "IMAGE_FORMAT_UNSUPPORTED"),
    ],
)
async def test_what_is_no_picture_has_none(
    stub: Stub, domain: Built, tmp_path: Path, content: bytes, reason: str
) -> None:
    wrong = await refused(stub, await keep(domain, tmp_path, content))

    assert (wrong.code, wrong.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert wrong.fields == ("artifact_id",)
    assert files(tmp_path) == []
    assert list((tmp_path / "pictures").iterdir()) == []


@pytest.mark.parametrize("edge", [-1, 0, 31, 1025])
async def test_edges_are_bounded(stub: Stub, domain: Built, tmp_path: Path, edge: int) -> None:
    wrong = await refused(stub, await keep(domain, tmp_path, PICTURE), edge)

    assert (wrong.reason, wrong.fields) == ("FIELD_OUT_OF_RANGE", ("edge_pixels",))


@pytest.mark.parametrize("content", [b"", b"damaged", PICTURE])
async def test_one_that_was_damaged_is_made_again(
    stub: Stub, domain: Built, tmp_path: Path, content: bytes
) -> None:
    name = await keep(domain, tmp_path, PICTURE)
    first = await shrunk(stub, name)
    (tmp_path / "thumbnails" / name / "256.webp").write_bytes(content)

    assert await shrunk(stub, name) == first


async def test_a_damaged_artifact_has_none(stub: Stub, domain: Built, tmp_path: Path) -> None:
    name = await keep(domain, tmp_path, PICTURE)
    (tmp_path / "artifacts" / name).write_bytes(PICTURE[:-1] + b"x")

    wrong = await refused(stub, name)

    assert (wrong.code, wrong.reason) == (grpc.StatusCode.DATA_LOSS, "DATA_CORRUPTED")


async def test_without_a_folder_to_keep_it_in_it_is_made_each_time(
    stub: Stub, domain: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await keep(domain, tmp_path, PICTURE)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("domains.artifact.backends.thumbnail_folder.prepare", refuse)

    assert (await shrunk(stub, name)).width == 256
    assert files(tmp_path) == []


def test_those_not_asked_for_the_longest_give_way(tmp_path: Path) -> None:
    folder = ThumbnailFolder(tmp_path, most_bytes=3 * 1000)
    data = saved(painting(32, 20), "WEBP")
    small = Thumbnail(data + bytes(1000 - len(data)), 32, 20)
    names = [character * 64 for character in "abcd"]

    for moment, name in enumerate(names[:3]):
        folder.keep(name, 32, small)
        os.utime(tmp_path / name / "32.webp", (moment, moment))
    assert sorted(path.name for path in tmp_path.iterdir()) == names[:3]
    folder.keep(names[3], 32, small)

    assert sorted(path.name for path in tmp_path.iterdir()) == names[1:]


def test_a_disk_that_is_nearly_full_keeps_none(tmp_path: Path) -> None:
    folder = ThumbnailFolder(tmp_path / "thumbnails", min_free_bytes=1 << 60)

    folder.keep("a" * 64, 32, Thumbnail(saved(painting(32, 20), "WEBP"), 32, 20))

    assert files(tmp_path) == []
