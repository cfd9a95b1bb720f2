"""Input pictures are looked up for their client, decoded by an inspector, kept while needed."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from domains.artifact.core import ArtifactStore
from domains.clients import Caller, Role, calling
from domains.errors import (
    DeadlineExceeded,
    DomainError,
    Internal,
    InvalidArgument,
    NotFound,
    Reason,
    Unavailable,
)
from domains.picture.backends.picture_folder import PictureFolder
from domains.picture.backends.preparing import prepare
from domains.picture.core import Pictures
from domains.picture.jobs import PictureJob, PictureReport
from domains.picture.types import Canvas, InputImage, ResizeFit
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.sessions import Sessions
from domains.session.types import ImageResult, SessionKind, WorkOptions
from domains.values import ImageFileFormat
from tests.domains.picture.drawn import painting, saved
from tests.domains.picture.stand import stand_at
from tests.fakes.jobs import Listener

ANNA, OTTO = Caller("anna", Role.RUN), Caller("otto", Role.RUN)
CANVAS = Canvas(256, 256, 256, 256)
FIELD = "settings.image_to_image.image"
PICTURE = saved(painting())


@dataclass
class InspectorsHere:
    """Does the work of inspectors in this process, or fails, or holds."""

    failure: DomainError | None = None
    lie: Callable[[PictureReport], PictureReport] | None = None
    hold: asyncio.Event | None = None
    at_once: int = 0
    most_at_once: int = 0
    jobs: list[PictureJob] = field(default_factory=list)
    begun: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def run(
        self, device_id: str, session_id: str, job: Any, *, remaining: float
    ) -> AsyncGenerator[Any]:
        assert isinstance(job, PictureJob)
        assert remaining > 0
        self.jobs.append(job)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.begun.release()
            if self.hold is not None:
                await self.hold.wait()
            if self.failure is not None:
                raise self.failure
            report = prepare(job, Listener())
            yield report if self.lie is None else self.lie(report)
        finally:
            self.at_once -= 1

    def cancel(self, device_id: str, session_id: str) -> None:
        raise AssertionError("nobody asks for that")


@dataclass
class Bench:
    pictures: Pictures
    inspectors: InspectorsHere
    artifacts: ArtifactStore
    sessions: Sessions
    folder: Path

    async def prepared(self, image: InputImage, client: Caller = ANNA) -> Any:
        with calling(client):
            return await self.pictures.prepare(image, FIELD, CANVAS, ResizeFit.STRETCH)

    async def stored(self, data: bytes, client: Caller = ANNA) -> str:
        path = self.folder.parent / "coming"
        path.write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        await self.artifacts.adopt(path, sha256, client.name)
        return sha256

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    inspectors = InspectorsHere()
    stand = await stand_at(tmp_path, inspectors)
    return Bench(stand.pictures, inspectors, stand.artifacts, stand.sessions, stand.folder)


def expected() -> bytes:
    return painting().resize((256, 256), 1).tobytes()


async def test_an_inline_picture_becomes_plain_pixels(bench: Bench) -> None:
    kept = await bench.prepared(InputImage(inline=PICTURE))

    assert kept.prepared.path.read_bytes() == expected()
    assert (kept.prepared.width, kept.prepared.height) == (256, 256)
    assert kept.prepared.sha256 == hashlib.sha256(expected()).hexdigest()
    assert kept.file.sha256 == hashlib.sha256(PICTURE).hexdigest()
    assert not kept.file.artifact
    assert bench.files() == [kept.prepared.path.name]


@pytest.mark.parametrize("linked", [True, False])
async def test_an_artifact_is_its_owners(
    bench: Bench, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact_id = await bench.stored(PICTURE)
    if not linked:

        async def refuse(*_: Any) -> bool:
            return False

        monkeypatch.setattr(bench.artifacts, "link", refuse)

    kept = await bench.prepared(InputImage(artifact_id=artifact_id))

    assert kept.prepared.path.read_bytes() == expected()
    assert kept.file.artifact
    with pytest.raises(NotFound) as refused:
        await bench.prepared(InputImage(artifact_id=artifact_id), OTTO)
    assert refused.value.reason is Reason.ARTIFACT_NOT_FOUND
    assert refused.value.metadata["field"] == FIELD


async def test_a_grey_picture_is_its_brightness_alone(bench: Bench) -> None:
    picture = painting(64, 32).convert("LA")
    picture.putalpha(0)
    with calling(ANNA):
        kept = await bench.pictures.prepare(
            InputImage(inline=saved(picture)), FIELD, CANVAS, ResizeFit.STRETCH, grey=True
        )

    expected = picture.convert("L").resize((256, 256), Image.Resampling.LANCZOS)
    assert kept.prepared.path.read_bytes() == expected.tobytes()
    assert kept.prepared.path.suffix == ".grey"
    assert kept.prepared.size_bytes == 256 * 256
    assert (kept.report.source_width, kept.report.source_height) == (64, 32)
    assert (kept.report.darkest, kept.report.brightest) == expected.getextrema()


async def test_a_sessions_picture_may_be_named(bench: Bench) -> None:
    artifact_id = await bench.stored(PICTURE)

    async def nothing(_: object) -> None:
        return None

    plan = SessionPlan(SessionKind.GENERATION, "cpu:0", (), nothing)
    request = SessionRequest(WorkOptions(), b"", lambda: None, owner="anna")  # type: ignore[arg-type,return-value]
    session = bench.sessions.open(plan, nothing, request)
    session.finish_image(ImageResult(1, 7, artifact_id, ImageFileFormat.PNG, 48, 32, 9))

    kept = await bench.prepared(InputImage(session_id=session.session_id, image_index=1))

    assert kept.file.sha256 == artifact_id
    for image, client, reason in (
        (InputImage(session_id=session.session_id), ANNA, Reason.ARTIFACT_NOT_FOUND),
        (InputImage(session_id=session.session_id), OTTO, Reason.SESSION_NOT_FOUND),
    ):
        with pytest.raises(NotFound) as refused:
            await bench.prepared(image, client)
        assert (refused.value.reason, refused.value.metadata["field"]) == (reason, FIELD)
    await bench.sessions.stop(0)


@pytest.mark.parametrize(
    ("image", "where", "reason"),
    [
        (InputImage(), "", Reason.REQUIRED_FIELD_MISSING),
        (InputImage(inline=b""), "", Reason.IMAGE_UNREADABLE),
        (InputImage(inline=bytes(3_145_729)), ".inline", Reason.IMAGE_TOO_LARGE),
        (InputImage(inline=b"GIF89a" + bytes(99)), "", Reason.IMAGE_FORMAT_UNSUPPORTED),
        (InputImage(inline=PICTURE[:-60]), "", Reason.IMAGE_UNREADABLE),
        (InputImage(artifact_id="../x"), ".artifact_id", Reason.NAME_INVALID),
        (
            InputImage(session_id="a", image_index=-1),
            ".session_image.image_index",
            Reason.FIELD_OUT_OF_RANGE,
        ),
    ],
)
async def test_what_cannot_be_used_names_its_field(
    bench: Bench, image: InputImage, where: str, reason: Reason
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await bench.prepared(image)

    (violation,) = refused.value.violations
    assert (violation.field, violation.reason) == (FIELD + where, reason)
    assert bench.files() == []


@pytest.mark.parametrize(
    "failure",
    [
        Unavailable("died", reason=Reason.WORKER_LOST),
        DeadlineExceeded("stuck", reason=Reason.WORKER_HUNG),
        DeadlineExceeded("long"),
    ],
)
async def test_a_picture_that_ends_its_decoder_is_to_blame(
    bench: Bench, failure: DomainError
) -> None:
    bench.inspectors.failure = failure

    with pytest.raises(InvalidArgument) as refused:
        await bench.prepared(InputImage(inline=PICTURE))

    assert refused.value.reason is Reason.IMAGE_UNREADABLE
    assert refused.value.violations[0].field == FIELD
    assert bench.files() == []


async def test_our_own_faults_stay_ours(bench: Bench) -> None:
    bench.inspectors.failure = Internal("a defect")

    with pytest.raises(Internal):
        await bench.prepared(InputImage(inline=PICTURE))


@pytest.mark.parametrize(
    "lie",
    [
        lambda report: PictureReport(2048, 2048, 48, 32),
        lambda report: PictureReport(248, 256, 48, 32),
    ],
)
async def test_a_report_is_held_against_what_was_asked_for(
    bench: Bench, lie: Callable[[PictureReport], PictureReport]
) -> None:
    bench.inspectors.lie = lie

    with pytest.raises(InvalidArgument):
        await bench.prepared(InputImage(inline=PICTURE))


async def test_pixels_of_another_size_are_not_taken(tmp_path: Path) -> None:
    files = PictureFolder(tmp_path / "pictures")
    files.sweep()
    target = files.new_target()
    target.write_bytes(bytes(11))

    with pytest.raises(Unavailable):
        files.take(target, PictureReport(2, 2, 2, 2), grey=False)


async def test_the_pixels_go_when_nobody_holds_them(bench: Bench) -> None:
    kept = await bench.prepared(InputImage(inline=PICTURE))
    assert bench.files()

    del kept
    gc.collect()

    assert bench.files() == []


async def test_a_call_that_is_dropped_leaves_nothing(bench: Bench) -> None:
    bench.inspectors.hold = asyncio.Event()
    call = asyncio.create_task(bench.prepared(InputImage(inline=PICTURE)))
    async with asyncio.timeout(60):
        await bench.inspectors.begun.acquire()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call

    assert bench.files() == []
    bench.inspectors.hold = None
    assert await bench.prepared(InputImage(inline=PICTURE))


async def test_two_at_once_and_one_of_each_client(bench: Bench) -> None:
    bench.inspectors.hold = asyncio.Event()
    clients = [ANNA, ANNA, ANNA, OTTO, Caller("eve", Role.RUN)]
    image = InputImage(inline=PICTURE)
    calls = [asyncio.create_task(bench.prepared(image, client)) for client in clients]
    async with asyncio.timeout(60):
        for _ in range(2):
            await bench.inspectors.begun.acquire()
        bench.inspectors.hold.set()
        kept = await asyncio.gather(*calls)

    assert bench.inspectors.most_at_once == 2
    assert len({one.prepared.path for one in kept}) == len(clients)
    assert len({one.prepared.sha256 for one in kept}) == 1


async def test_what_a_server_left_is_swept(bench: Bench) -> None:
    left = [f"{'a' * 32}.source", f"{'b' * 32}.pixels", f"{'c' * 64}.{'d' * 32}.rgb"]
    for name in (*left, "notes.txt"):
        (bench.folder / name).write_bytes(b"x")

    await bench.pictures.start()

    assert bench.files() == ["notes.txt"]


@pytest.mark.skipif(os.name == "nt", reason="other rules about folders")
async def test_a_folder_that_went_away_is_made_again(bench: Bench) -> None:
    bench.folder.rmdir()
    assert await bench.prepared(InputImage(inline=PICTURE))
