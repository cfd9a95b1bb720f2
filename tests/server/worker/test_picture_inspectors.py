"""Hostile pictures in real inspectors: what ends one ends it alone, by a typed refusal."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import psutil
import pytest

from domains.clients import Caller, Role, calling
from domains.errors import Reason
from domains.picture.core import KeptPicture, Pictures
from domains.picture.errors import InvalidPicture
from domains.picture.types import Canvas, InputImage, ResizeFit
from server.worker.front.inspectors import InspectorOptions, Inspectors
from tests.domains.picture.drawn import painting, saved
from tests.domains.picture.stand import stand_at

FIELD = "settings.image_to_image.image"
GOOD = saved(painting())


@pytest.fixture
async def pictures(tmp_path: Path) -> Pictures:
    """As the server has them, with inspectors that are processes."""
    return (await stand_at(tmp_path, Inspectors(InspectorOptions()))).pictures


async def prepare(pictures: Pictures, data: bytes, client: str = "anna") -> KeptPicture:
    with calling(Caller(client, Role.RUN)):
        async with asyncio.timeout(120):
            return await pictures.prepare(
                InputImage(inline=data), FIELD, Canvas(256, 256, 256, 256), ResizeFit.STRETCH
            )


async def test_an_inspector_that_is_killed_is_a_refusal_and_others_go_on(
    pictures: Pictures, tmp_path: Path
) -> None:
    other = asyncio.create_task(prepare(pictures, GOOD, "otto"))
    kept = await other
    struck = asyncio.create_task(prepare(pictures, GOOD))
    async with asyncio.timeout(60):
        while not (found := inspectors()):  # noqa: ASYNC110  nobody tells of a process
            await asyncio.sleep(0.001)
    found[0].kill()

    with pytest.raises(InvalidPicture) as refused:
        await struck

    (broken,) = refused.value.violations
    assert (broken.field, broken.reason) == (FIELD, Reason.IMAGE_UNREADABLE)
    assert kept.prepared.path.stat().st_size == 256 * 256 * 3
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == [
        kept.prepared.path.name
    ]
    assert (await prepare(pictures, GOOD)).prepared.sha256 == kept.prepared.sha256


@pytest.mark.demonstration
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
async def test_changed_files_are_pictures_or_refusals(pictures: Pictures, format: str) -> None:
    chance = random.Random(3)
    for _ in range(8):
        data = bytearray(saved(painting(), format))
        for _ in range(chance.randint(1, 12)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with contextlib.suppress(InvalidPicture):
            await prepare(pictures, bytes(data))


def inspectors() -> list[psutil.Process]:
    found = psutil.Process().children()
    return [child for child in found if "inspector" in " ".join(child.cmdline())]
