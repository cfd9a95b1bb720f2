"""Looks at weight files: what they find, how often, and in which threads."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection
from pathlib import Path

import pytest

from domains.model.backends.weight_states import LATELY_SECONDS, WeightStates, unchanged
from domains.model.types import FileState
from domains.values import ModelPlace
from tests.clocks import SteeredTime
from tests.scarcity import NoThreads

PATIENCE = 10.0


class Place:
    """A model of two files, what looks at them, and in which threads."""

    def __init__(self, root: Path) -> None:
        self.clock = SteeredTime()
        self.place = ModelPlace(root, Path("model"))
        self.place.path.mkdir()
        for name in ("a", "b"):
            (self.place.path / name).write_bytes(b"12345")
        self.files = [self.state("a"), self.state("b")]
        self.threads: list[int] = []
        self.answers = threading.Event()
        self.answers.set()
        self.states = WeightStates(self.look, 0.5, lambda: self.clock.seconds)

    def state(self, name: str) -> FileState:
        found = (self.place.path / name).stat()
        return FileState(name, found.st_size, found.st_mtime_ns)

    def change(self) -> None:
        os.utime(self.place.path / "a", ns=(1, 1))

    def look(self, place: ModelPlace, files: Collection[FileState]) -> bool:
        self.threads.append(threading.get_ident())
        assert self.answers.wait(PATIENCE)
        return unchanged(place, files)

    async def now(self) -> bool:
        return await self.states.unchanged(self.place, self.files)

    async def lately(self) -> bool:
        return await self.states.unchanged_lately(self.place, self.files)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_files_are_unchanged_while_size_and_time_are(place: Place) -> None:
    assert unchanged(place.place, place.files)
    place.change()
    assert not unchanged(place.place, place.files)
    assert unchanged(place.place, place.files[1:])
    (place.place.path / "b").unlink()
    assert not unchanged(place.place, place.files[1:])
    alone = ModelPlace(place.place.path, Path("a"))
    found = place.state("a")
    assert unchanged(alone, [found._replace(name="")])
    assert not unchanged(alone, [found._replace(name="", size_bytes=4)])


async def test_a_look_stands_for_those_of_the_next_moment(place: Place) -> None:
    """Of the same files and of some of them; not longer, and not where somebody looks anew."""
    assert await place.now()
    place.change()
    assert await place.lately()
    assert await place.states.unchanged_lately(place.place, place.files[1:])
    assert len(place.threads) == 1
    place.clock.move(1.01 * LATELY_SECONDS)
    assert not await place.lately()
    assert len(place.threads) == 2
    place.files[0] = place.state("a")
    assert await place.now()
    place.change()
    os.utime(place.place.path / "a", ns=(2, 2))
    assert not await place.now()
    assert not await place.lately()  # what was seen before that counts no more


async def test_files_that_were_found_otherwise_are_looked_at(place: Place) -> None:
    assert await place.now()
    place.files[0] = place.files[0]._replace(size_bytes=4)
    assert not await place.lately()
    assert len(place.threads) == 2


async def test_one_thread_does_it_and_more_only_while_they_are_needed(place: Place) -> None:
    for _ in range(3):
        assert await place.now()
    assert len(set(place.threads)) == 1
    place.answers.clear()
    before = threading.active_count()
    looks = [asyncio.create_task(place.now()) for _ in range(4)]
    async with asyncio.timeout(PATIENCE):
        while len(place.threads) < 7:  # noqa: ASYNC110 - a thread tells nobody
            await asyncio.sleep(0.01)
    assert len(set(place.threads)) == 4
    place.answers.set()
    assert all(await asyncio.gather(*looks))
    async with asyncio.timeout(PATIENCE):
        while threading.active_count() > before:  # noqa: ASYNC110 - nor does its end
            await asyncio.sleep(0.01)


async def test_a_disk_that_does_not_answer_costs_one_thread_and_a_moment(place: Place) -> None:
    """Nothing is said of its models until it answers."""
    place.answers.clear()
    place.change()
    assert [await place.now() for _ in range(3)] == [True] * 3
    assert await place.lately()
    assert len(place.threads) == 1
    place.answers.set()
    async with asyncio.timeout(PATIENCE):
        while await place.now():  # noqa: ASYNC110 - a thread tells nobody
            await asyncio.sleep(0.01)


async def test_where_the_system_has_no_thread_left_others_look_or_nothing_is_said(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(divmod, 7, 2)  # there is one now
    threads = NoThreads(monkeypatch)
    place.change()
    assert not await place.now()
    assert threads.refused

    async def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without:
        without.setattr(asyncio, "to_thread", none_left)
        assert await place.now()
    threads.on = False
    assert not await place.now()
