"""Workers that break the rules of the link are ended; the front is not harmed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from pathlib import Path

import psutil
import pytest

from domains.device.jobs import SelfTestJob
from domains.device.types import DeviceState
from domains.errors import DeadlineExceeded, Reason, Unavailable
from domains.inference.jobs import SharedGenerationJob
from domains.memory.types import BufferRegion, Compare, Move
from domains.session.jobs import PeakMemory
from server.worker.front.restart import RestartRules
from server.worker.front.timing import WorkerTiming
from tests.server.worker.workers import (
    accepted,
    lives,
    outcome,
    ready,
    rogue,
    running,
    until,
    work,
)

MOVE = Move(BufferRegion("one"), BufferRegion("other"), 1000)


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ("garbage", "not as declared at `$`"),
        ("empty-frame", "bytes that are no value"),
        ("oversized", "a frame is too large"),
        ("other-session", "about another session"),
        ("future-epoch", "a run that was never ordered"),
        ("unknown-enum", "not as declared at `$.event.phase`"),
        ("unknown-picture", "a picture that is not drawn"),
        ("endless-events", "more events than any run has"),
        ("other-report", "not as declared at `$.type`"),
        ("wrong-hash", "another hash than announced"),
        ("hash-is-no-hash", "not as declared at `$.event.artifact_id`"),
        ("wrong-size", "another size than announced"),
        ("wrong-seed", "not one that was asked for"),
        ("wrong-format", "not one that was asked for"),
        ("wrong-width", "not one that was asked for"),
        ("no-picture", "a picture's file is no picture"),
        ("cut-picture", "a picture's file is no picture"),
        ("smaller-picture", "another picture than announced"),
        ("done-without-pictures", "done without all its pictures"),
        ("missing-file", "cannot be opened"),
        ("link-for-file", "cannot be opened"),
        ("pipe-for-file", "cannot be opened"),
    ],
)
async def test_a_broken_rule_ends_the_worker(tmp_path: Path, how: str, rule: str) -> None:
    rules = RestartRules(first_delay=60.0)
    async with running(tmp_path, rogue(how), rules=rules) as pool:
        process_id = (await ready(pool)).process_id
        explained = asyncio.create_task(
            until(pool, lambda status: status.state is DeviceState.RECOVERING)
        )
        run = pool.run("cpu:0", "session", work(), remaining=20.0)
        # The caller looks once and no more: other events wait.
        first_look = asyncio.ensure_future(anext(run))
        explanation = (await explained).explanation
        assert explanation.startswith("The worker broke the protocol: ")
        assert rule in explanation
        with pytest.raises(Unavailable) as lost:
            await _rest(first_look, run)
        assert lost.value.reason is Reason.WORKER_LOST
        assert accepted(tmp_path) == []
        assert not lives(process_id)


async def test_some_of_the_pictures_are_not_all(tmp_path: Path) -> None:
    async with running(tmp_path, rogue("one-of-two")) as pool:
        await ready(pool)
        result = await outcome(pool)
        assert result.raised(Unavailable).reason is Reason.WORKER_LOST
        assert len(result.images) == 1


async def _rest(first: Awaitable[object], run: AsyncGenerator[object]) -> None:
    await first
    async for _ in run:
        pass


async def test_work_that_draws_nothing_tells_nothing_about_pictures(tmp_path: Path) -> None:
    async with running(tmp_path, rogue("other-event")) as pool:
        await ready(pool)
        explained = asyncio.create_task(
            until(pool, lambda status: status.state is DeviceState.RECOVERING)
        )
        with pytest.raises(Unavailable) as lost:
            await _rest(
                asyncio.sleep(0), pool.run("cpu:0", "session", SelfTestJob(), remaining=20.0)
            )
        assert lost.value.reason is Reason.WORKER_LOST
        assert "an event that this job does not have" in (await explained).explanation


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ("part-that-is-none", "a part ended that the job does not have"),
        ("part-twice", "a part ended twice"),
        ("part-before-its-pictures", "a part ended without all its pictures"),
    ],
)
async def test_a_part_that_cannot_have_ended_ends_the_worker(
    tmp_path: Path, how: str, rule: str
) -> None:
    rules = RestartRules(first_delay=60.0)
    shared = SharedGenerationJob((work(), work()))
    async with running(tmp_path, rogue(how), rules=rules) as pool:
        process_id = (await ready(pool)).process_id
        explained = asyncio.create_task(
            until(pool, lambda status: status.state is DeviceState.RECOVERING)
        )
        with pytest.raises(Unavailable) as lost:
            await _rest(asyncio.sleep(0), pool.run("cpu:0", "session", shared, remaining=20.0))
        assert lost.value.reason is Reason.WORKER_LOST
        explanation = (await explained).explanation
        assert explanation.startswith("The worker broke the protocol: ")
        assert rule in explanation
        assert not lives(process_id)


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ("memory-unknown-ticket", "about no order that waits"),
        ("memory-too-far", "further than it can be"),
        ("memory-backwards", "further than it can be"),
        ("memory-too-short", "done at another length"),
    ],
)
async def test_a_broken_rule_about_memory_ends_the_worker(
    tmp_path: Path, how: str, rule: str
) -> None:
    async with running(tmp_path, rogue(how)) as pool:
        await ready(pool)
        explained = asyncio.create_task(
            until(pool, lambda status: status.state is DeviceState.RECOVERING)
        )
        with pytest.raises(Unavailable) as lost:
            await _rest(asyncio.sleep(0), pool.move("cpu:0", MOVE))
        assert lost.value.reason is Reason.WORKER_LOST
        assert rule in (await explained).explanation


async def test_no_more_bytes_are_equal_than_were_compared(tmp_path: Path) -> None:
    compare = Compare(BufferRegion("one"), BufferRegion("other"), 1000)
    async with running(tmp_path, rogue("memory-more-equal")) as pool:
        await ready(pool)
        explained = asyncio.create_task(
            until(pool, lambda status: status.state is DeviceState.RECOVERING)
        )
        with pytest.raises(Unavailable) as lost:
            await _rest(asyncio.sleep(0), pool.compare("cpu:0", compare))
        assert lost.value.reason is Reason.WORKER_LOST
        assert "done beyond its length" in (await explained).explanation


async def test_a_second_last_answer_ends_the_worker(tmp_path: Path) -> None:
    async with running(tmp_path, rogue("memory-twice")) as pool:
        await ready(pool)
        explained = asyncio.create_task(
            until(pool, lambda status: status.state is DeviceState.RECOVERING)
        )
        await _rest(asyncio.sleep(0), pool.move("cpu:0", MOVE))
        assert "about no order that waits" in (await explained).explanation


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("hello-twice", "broke the protocol: it began twice"),
        ("garbage-when-idle", "broke the protocol: a value is not as declared at `$`"),
        ("close-link", "closed its link and did not end"),
    ],
)
async def test_an_idle_worker_may_not_either(tmp_path: Path, how: str, words: str) -> None:
    timing = WorkerTiming(exit=0.3)
    async with running(tmp_path, rogue(how), timing=timing) as pool:
        status = await until(pool, lambda status: status.state is DeviceState.RECOVERING)
        assert words in status.explanation


async def test_frames_about_a_run_that_is_over_are_dropped(tmp_path: Path) -> None:
    async with running(tmp_path, rogue("stale-epoch")) as pool:
        process_id = (await ready(pool)).process_id
        result = await outcome(pool)
        assert result.report is not None
        *images, peak = result.events
        assert images == result.images
        assert isinstance(peak, PeakMemory)
        assert pool.stale_frames("cpu:0") == 3
        assert pool.status("cpu:0").process_id == process_id


async def test_a_worker_that_stops_reading_holds_up_nobody(tmp_path: Path) -> None:
    timing = WorkerTiming(send=1.0)
    async with running(tmp_path, rogue("stop-reading"), timing=timing) as pool:
        process_id = (await ready(pool)).process_id
        # More than the system keeps for a reader that does not come.
        large = work("x" * 900_000)
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        counting = asyncio.create_task(count_turns())
        error = (await outcome(pool, large)).raised(DeadlineExceeded)
        counting.cancel()
        assert error.reason is Reason.WORKER_HUNG
        assert "took no order" in error.message
        assert turns >= 10  # of about a hundred; none while the loop waits itself
        assert not lives(process_id)


@pytest.mark.parametrize("how", ["endless-steps", "endless-output"])
async def test_a_flood_costs_the_front_next_to_nothing(tmp_path: Path, how: str) -> None:
    async with running(tmp_path, rogue(how)) as pool:
        await ready(pool)
        front = psutil.Process()
        before = front.memory_info().rss
        run = asyncio.create_task(outcome(pool))
        busy = sum(front.cpu_times()[:2])
        began = time.monotonic()
        await asyncio.sleep(2.0)
        busy = sum(front.cpu_times()[:2]) - busy
        assert busy < 0.8 * (time.monotonic() - began)
        assert front.memory_info().rss - before < 20 << 20
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
