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
from domains.session.types import Completed, ImageResult, Phase, SessionEvent, SessionState
from domains.values import ImageFileFormat
from tests.domains.inference.conftest import Bench, request
from tests.domains.sessions import runner_of, until_final

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


async def test_a_pause_costs_nothing_of_what_a_device_is_known_by(bench: Bench) -> None:
    call, session = await begun(bench)
    await paused(bench, session)
    bench.sessions.resume(session, "mary")
    await call
    (rate,) = bench.sessions.speeds.measured().rates
    assert session.effort is not None
    seconds = rate.seconds[Phase.DENOISING] * session.effort.amounts[Phase.DENOISING]
    assert seconds == pytest.approx(3.0)


@pytest.mark.parametrize(("lost_before", "teaches"), [(0, True), (2, False)])
async def test_pictures_whose_worker_was_lost_behind_them_teach_nothing_of_the_device(
    bench: Bench, lost_before: int, teaches: bool
) -> None:
    """How long those took went with the worker."""
    bench.pool.lost_before = lost_before
    async for _event in bench.run(request(THREE)):
        pass
    (session,) = bench.sessions.all()
    assert (session.retry_count, len(session.images)) == (1, 3)
    assert [job.first_image for job in bench.pool.works] == [0, lost_before]
    assert (bench.sessions.speeds.lessons == 1) is teaches


async def test_what_is_drawn_beside_an_earlier_servers_pictures_teaches_nothing_of_the_device(
    bench: Bench,
) -> None:
    runner = runner_of(bench.sessions, bench.artifacts)
    session = await runner.begin(bench.generations.generate(request(THREE)))
    session.images = (ImageResult(0, 7, "a" * 64, ImageFileFormat.PNG, 256, 256, 10),)
    await until_final(session)
    assert session.state is SessionState.COMPLETED
    assert [job.first_image for job in bench.pool.works] == [1]
    assert bench.sessions.speeds.lessons == 0
