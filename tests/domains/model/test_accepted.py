"""Which content of models work was accepted for, from their files alone."""

from __future__ import annotations

import itertools
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domains.device.core.facts import TransientFacts
from domains.errors import Reason
from domains.model.backends.weight_states import WeightStates
from domains.model.core.accepted import ModelContents
from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.hashing import Hashing
from domains.model.errors import ModelReplaced
from domains.values import ModelContent
from tests.domains.model.disk import write_safetensors
from tests.domains.model.test_hashing import LORA, Server, sha256

NAME = "style"


class Place:
    """A root with one model, what knows its content, and what reads it."""

    def __init__(self, root: Path) -> None:
        self.file = root / f"{NAME}.safetensors"
        write_safetensors(self.file, LORA)
        self.server = Server(root, TransientFacts())
        self.contents = ModelContents(
            ModelCatalogue(self.server.contents, clock=lambda: datetime.now(UTC)),
            WeightStates(monotonic=itertools.count().__next__),  # no look is lately
            self.hashing.now,
        )

    @property
    def hashing(self) -> Hashing:
        return self.server.hashing

    @property
    def read(self) -> list[str]:
        """Files that were read whole."""
        return self.server.hasher.opened

    async def accepted(self, *, hashed: bool = False) -> ModelContent:
        await self.server.contents.known()
        if hashed:
            (model,) = self.server.contents.now().values()
            assert await self.hashing.now(model, lambda: False) == sha256(self.file)
            self.server.contents.tell_hash(NAME)
            self.read.clear()
        (content,) = await self.contents.of([NAME])
        return content

    async def holds(self, content: ModelContent, *, stopped: bool = False) -> bool:
        try:
            await self.contents.check([content], lambda: stopped)
        except ModelReplaced:
            return False
        return True

    def touch(self) -> None:
        """A copy of the same content in its place."""
        shutil.copyfile(self.file, copy := self.file.with_suffix(".new"))
        os.utime(copy, ns=(10**18, 10**18))
        copy.rename(self.file)

    def replace(self) -> None:
        """Other content of the same size."""
        data = bytearray(self.file.read_bytes())
        data[-1] ^= 1
        self.file.write_bytes(data)
        os.utime(self.file, ns=(10**18, 10**18))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_nothing_is_read_while_files_are_as_they_were(place: Place) -> None:
    """Neither when work is accepted nor when its turn comes."""
    content = await place.accepted()
    assert content.size_bytes == place.server.contents.now()[NAME].weights[0].size_bytes
    assert await place.holds(content)
    assert await place.contents.of([NAME]) == (content,)
    assert content.sha256 == ""
    assert place.read == []


async def test_what_was_replaced_a_moment_ago_is_what_is_accepted(place: Place) -> None:
    """No look through the roots has found it yet."""
    before = await place.accepted()
    place.replace()
    (now,) = await place.contents.of([NAME])
    assert now != before
    assert await place.holds(now)
    assert not await place.holds(before)
    assert place.read == []  # it is not known what was there, so that it is of no use


@pytest.mark.parametrize("hashed", [True, False])
async def test_a_copy_of_the_same_content_is_the_same_where_that_can_be_shown(
    place: Place, hashed: bool
) -> None:
    content = await place.accepted(hashed=hashed)
    assert bool(content.sha256) is hashed
    place.touch()
    assert await place.holds(content) is hashed
    assert len(place.read) == hashed
    assert await place.holds(content) is hashed
    assert len(place.read) == hashed  # once


async def test_other_content_of_the_same_size_is_told_by_its_hash(place: Place) -> None:
    content = await place.accepted(hashed=True)
    place.replace()
    with pytest.raises(ModelReplaced) as refusal:
        await place.contents.check([content], lambda: False)
    assert refusal.value.reason is Reason.MODEL_CHECKSUM_MISMATCH
    assert refusal.value.metadata == {
        "model_id": NAME,
        "accepted_sha256": content.sha256,
        "sha256": sha256(place.file),
    }


async def test_another_size_needs_no_reading(place: Place) -> None:
    content = await place.accepted(hashed=True)
    write_safetensors(place.file, {**LORA, "more": (4,)})
    assert not await place.holds(content)
    assert place.read == []


async def test_nobody_waits_for_a_hash_once_the_work_is_to_stop(place: Place) -> None:
    content = await place.accepted(hashed=True)
    place.replace()
    assert await place.holds(content, stopped=True)


async def test_what_cannot_be_read_is_not_shown_to_be_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = await place.accepted(hashed=True)
    place.touch()

    def failing(*about: object) -> None:
        raise OSError("The disk is gone.")

    monkeypatch.setattr(place.server.hasher, "open", failing)
    assert not await place.holds(content)


async def test_what_is_not_there_is_left_to_whoever_needs_it(place: Place) -> None:
    content = await place.accepted()
    place.file.unlink()
    assert await place.holds(content)
    assert await place.contents.of([NAME, "never-was"]) == ()
