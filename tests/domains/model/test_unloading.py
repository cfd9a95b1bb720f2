"""Unloading that has main memory keep the model: best effort, within the session's time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from domains.device.jobs import ReleaseReport
from domains.model.core.unloading import Unloads
from domains.model.types import UnloadReport, UnloadRequest
from domains.session.errors import SessionTimedOut
from domains.session.types import WorkOptions
from domains.values import ModelPlace
from tests.domains.model.test_cache import Kept, kept

__all__ = ["kept"]  # a fixture

CARD, SECONDS = "cuda:0", 0.2


class Session:
    """What unloading needs of one, with little time."""

    options = WorkOptions(run_timeout_seconds=SECONDS)
    session_id, device_id, cancel_reason = "session", CARD, None

    def __init__(self) -> None:
        self._until = asyncio.get_running_loop().time() + SECONDS

    def run_left(self) -> float:
        return self._until - asyncio.get_running_loop().time()

    def record(self, event: object) -> None:
        return None


class Card:
    """Holds the model "one", and lets go of it; nothing uses it."""

    def __init__(self) -> None:
        device, component = SimpleNamespace(device_id=CARD), SimpleNamespace(model_id="one")
        held = SimpleNamespace(device_id=CARD, component=component)
        self.devices = SimpleNamespace(devices=[device])
        self.models = SimpleNamespace(held=lambda: [held])

    async def run(self, *about: object, remaining: float) -> AsyncGenerator[Any]:
        yield ReleaseReport(())

    def due(self, *about: object) -> list[Any]:
        return []

    running = due

    async def ended(self, sessions: object) -> None:
        return None


@contextmanager
def leaving(*about: object) -> Iterator[None]:
    yield


async def unloaded(kept: Kept) -> UnloadReport:
    """What becomes of that model, which main memory is to keep."""
    card: Any = Card()
    place = ModelPlace(kept.folder, Path("one"))

    async def get(model_id: str) -> Any:
        return SimpleNamespace(model_id=model_id, place=place)

    catalogue: Any = SimpleNamespace(get=get)
    unloads = Unloads(catalogue, kept.cache, lambda: card, card, card, leaving=leaving)
    request = UnloadRequest("one", (), True, WorkOptions(), b"")
    plan = await unloads.unload(request).prepare()
    session: Any = Session()
    outcome = await plan.work(session)
    assert outcome is not None
    assert isinstance(outcome.report, UnloadReport)
    return outcome.report


async def test_main_memory_keeps_it(kept: Kept) -> None:
    kept.model("one")
    assert (await unloaded(kept)).cached


async def test_a_model_that_cannot_be_read_leaves_the_device_all_the_same(kept: Kept) -> None:
    assert not (await unloaded(kept)).cached


async def test_a_disk_that_hangs_takes_no_longer_than_the_session_may(kept: Kept) -> None:
    kept.model("one")
    kept.reader.go.clear()
    async with asyncio.timeout(10):
        with pytest.raises(SessionTimedOut):
            await unloaded(kept)
