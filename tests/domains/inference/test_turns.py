"""A generation that is paused while it runs: its turns together are the whole of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from domains.errors import Reason
from domains.inference.types import GenerationSettings
from domains.session.core.session import Session
from domains.session.errors import SessionCancelled
from domains.session.turns import Paused
from domains.session.types import Completed, Phase, SessionEvent, SessionState
from tests.domains.inference.conftest import Bench, request

THREE = GenerationSettings(prompt="x", seed=7, image_count=3, width=256, height=256)


async def begun(bench: Bench) -> tuple[asyncio.Task[list[SessionEvent]], Session]:
    """A generation of three pictures that runs."""

    async def events() -> list[SessionEvent]:
        return [event async for event in bench.run(request(THREE))]

    bench.pool.hold = asyncio.Event()
    call = asyncio.create_task(events())
    await bench.pool.holding.wait()
    (session,) = bench.sessions.all()
    return call, session


async def paused(bench: Bench, session: Session) -> None:
    bench.sessions.pause(session, "lunch", "mary")
    assert session.state is SessionState.PAUSING
    async with asyncio.timeout(30):
        while session.state is not SessionState.PAUSED:
            await session.log.change().wait()


async def test_it_goes_on_with_the_picture_that_is_not_finished(bench: Bench) -> None:
    call, session = await begun(bench)
    await paused(bench, session)
    assert [image.image_index for image in session.images] == [0]
    assert bench.paused.removed == []
    bench.sessions.resume(session, "mary")

    events = await call

    first, second = bench.pool.works
    assert (first.first_image, first.kept_steps) == (0, 0)
    assert (second.first_image, second.kept_steps) == (1, 2)
    assert first.paused_file == second.paused_file == Path("1.paused")
    end = events[-1].event
    assert isinstance(end, Completed)
    assert [image.seed for image in end.images] == [7, 8, 9]
    assert end.timings[Phase.LOADING_MODEL] == 1.0
    assert end.timings[Phase.DENOISING] == 3.0  # of both turns
    assert [each.detail for each in end.degradations] == ["Tiled."]
    assert sum(isinstance(event.event, Paused) for event in events) == 1


@pytest.mark.parametrize("end", ["completed", "cancelled"])
async def test_what_was_kept_goes_when_the_session_ends(bench: Bench, end: str) -> None:
    call, session = await begun(bench)
    await paused(bench, session)
    if end == "completed":
        bench.sessions.resume(session, "")
        await call
    else:
        session.request_cancel(Reason.CANCELLED_BY_CLIENT)
        with pytest.raises(SessionCancelled):
            await call
    assert bench.paused.removed == [Path("1.paused")]


async def test_every_generation_has_a_file_of_its_own(bench: Bench) -> None:
    for _ in range(2):
        async for _event in bench.run(request(THREE)):
            pass
    assert [job.paused_file for job in bench.pool.works] == [
        Path("1.paused"),
        Path("2.paused"),
    ]
