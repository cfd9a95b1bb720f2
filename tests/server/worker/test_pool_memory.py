"""Memory orders from the front to a worker's buffers and back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from domains.device.types import DeviceState
from domains.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    NotFound,
    OutOfRange,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from domains.memory.backends.segments import HostSegments
from domains.memory.types import (
    BufferRegion,
    Compare,
    Move,
    Region,
    Segment,
    SegmentRegion,
)
from domains.values import TensorDataType
from server.worker.front.judge import Judge
from server.worker.front.pool import WorkerPool
from server.worker.front.timing import WorkerTiming
from tests.server.worker.workers import (
    PATIENCE,
    SOON,
    eventually,
    outcome,
    ready,
    running,
    scripted,
    until,
)

DEVICE = "cpu:0"
DATA = bytes(range(256)) * 1024  # 256 KiB
ENDLESS = 77  # a length that the scripted worker moves until it is stopped


@pytest.fixture
def segments() -> Iterator[HostSegments]:
    segments = HostSegments()
    yield segments
    segments.close()


@pytest_asyncio.fixture(scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkerPool]:
    async with running(tmp_path_factory.mktemp("spool"), scripted()) as pool:
        yield pool


async def moved(pool: WorkerPool, source: Region, target: Region, length: int) -> None:
    """Move bytes to the end; what is told must rise and end at `length`."""
    async with (
        asyncio.timeout(PATIENCE),
        aclosing(pool.move(DEVICE, Move(source, target, length))) as told,
    ):
        steps = [step async for step in told]
    assert steps == sorted(steps)
    assert steps[-1] == length


async def endless(pool: WorkerPool, buffer_id: str, segment: Segment) -> None:
    """Move until somebody ends it."""
    async for _ in pool.move(
        DEVICE, Move(SegmentRegion(segment), BufferRegion(buffer_id), ENDLESS)
    ):
        pass


async def test_a_buffer_is_counted_at_once_until_it_is_freed(pool: WorkerPool) -> None:
    await pool.allocate(DEVICE, "counted", 5_000_000)
    figures = pool.figures(DEVICE)
    assert figures is not None
    assert figures.leased_bytes == 5_000_000
    assert await pool.free(DEVICE, "counted") == 5_000_000
    figures = pool.figures(DEVICE)
    assert figures is not None
    assert figures.leased_bytes == 0
    with pytest.raises(NotFound) as twice:
        await pool.free(DEVICE, "counted")
    assert twice.value.reason is Reason.ALLOCATION_NOT_FOUND


async def test_figures_name_what_the_engine_holds(pool: WorkerPool) -> None:
    await pool.release_cached(DEVICE)
    figures = pool.figures(DEVICE)
    assert figures is not None
    [component] = figures.models
    assert (component.model_id, component.component) == ("model", "unet")
    assert (component.size.value, component.data_type) == (1000, TensorDataType.FLOAT16)
    assert figures.total.value == 1 << 30
    assert figures.free.value is None
    assert figures.free.source == "a fake"


async def test_a_name_is_for_one_buffer(pool: WorkerPool) -> None:
    await pool.allocate(DEVICE, "taken", 1)
    with pytest.raises(AlreadyExists):
        await pool.allocate(DEVICE, "taken", 2)
    assert await pool.free(DEVICE, "taken") == 1


async def test_bytes_go_in_across_and_out_again(
    pool: WorkerPool, segments: HostSegments
) -> None:
    begin, end = [await segments.allocate(len(DATA) + more) for more in (100, 0)]
    segments.write(SegmentRegion(begin, 100), DATA)
    await pool.allocate(DEVICE, "first", len(DATA) + 5)
    await pool.allocate(DEVICE, "second", len(DATA) + 3)
    length = len(DATA)
    await moved(pool, SegmentRegion(begin, 100), BufferRegion("first", 5), length)
    await moved(pool, BufferRegion("first", 5), BufferRegion("second", 3), length)
    await moved(pool, BufferRegion("second", 3), SegmentRegion(end), length)
    assert segments.read(SegmentRegion(end), length) == DATA
    both = Compare(BufferRegion("second", 3), SegmentRegion(end), length)
    assert [step async for step in pool.compare(DEVICE, both)][-1] == length
    # What was not written is zero, and nothing was written beyond the target.
    await moved(pool, BufferRegion("second"), SegmentRegion(end), 4)
    assert segments.read(SegmentRegion(end), 4) == bytes(3) + DATA[:1]
    for name in ("first", "second"):
        await pool.free(DEVICE, name)


async def test_regions_lie_within_what_there_is(
    pool: WorkerPool, segments: HostSegments
) -> None:
    segment = await segments.allocate(10)
    await pool.allocate(DEVICE, "small", 10)
    for source, target in (
        (BufferRegion("small", 1), SegmentRegion(segment)),
        (BufferRegion("small"), SegmentRegion(segment, 1)),
    ):
        with pytest.raises(OutOfRange) as beyond:
            await moved(pool, source, target, 10)
        assert beyond.value.metadata["size_bytes"] == "10"
    with pytest.raises(NotFound):
        await moved(pool, BufferRegion("missing"), SegmentRegion(segment), 1)
    await segments.free(segment)
    with pytest.raises(FailedPrecondition):
        await moved(pool, BufferRegion("small"), SegmentRegion(segment), 10)
    await pool.free(DEVICE, "small")


async def test_more_than_there_is_is_refused_untouched_and_less_then_works(
    pool: WorkerPool,
) -> None:
    needed = 1 << 45
    before = pool.status(DEVICE).resident_bytes
    with pytest.raises(ResourceExhausted) as refused:
        await pool.allocate(DEVICE, "huge", needed)
    assert refused.value.reason is Reason.HOST_OUT_OF_MEMORY
    assert refused.value.metadata["needed_bytes"] == str(needed)
    assert 0 < int(refused.value.metadata["free_bytes"]) < needed
    assert pool.status(DEVICE).resident_bytes < before + (64 << 20)
    await pool.allocate(DEVICE, "huge", 1 << 20)
    assert await pool.free(DEVICE, "huge") == 1 << 20


async def test_a_move_nobody_wants_any_more_stops(
    pool: WorkerPool, segments: HostSegments
) -> None:
    segment = await segments.allocate(ENDLESS)
    await pool.allocate(DEVICE, "target", ENDLESS)
    move = Move(SegmentRegion(segment), BufferRegion("target"), ENDLESS)
    told = pool.move(DEVICE, move)
    assert await anext(told) == 1
    # One that waits behind it is stopped without waiting.
    waiting = asyncio.create_task(endless(pool, "target", segment))
    await asyncio.sleep(0.1)
    waiting.cancel()
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await told.aclose()
    await moved(pool, SegmentRegion(segment), BufferRegion("target"), 5)
    await pool.free(DEVICE, "target")


async def test_an_allocation_nobody_waits_for_is_undone(pool: WorkerPool) -> None:
    asking = asyncio.create_task(pool.allocate(DEVICE, "slow", 1000))
    await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    def undone() -> bool:
        figures = pool.figures(DEVICE)
        return figures is not None and figures.leased_bytes == 0

    await eventually(undone)
    with pytest.raises(NotFound):
        await pool.free(DEVICE, "slow")


async def test_main_memory_is_not_pinned_for_a_processor(
    pool: WorkerPool, segments: HostSegments
) -> None:
    segment = await segments.allocate(4096)
    with pytest.raises(FailedPrecondition) as refused:
        await pool.pin(DEVICE, segment)
    assert refused.value.reason is Reason.DEVICE_UNSUPPORTED
    await pool.unpin(DEVICE, segment)


async def test_a_defect_is_one_orders_matter(pool: WorkerPool) -> None:
    process_id = (await ready(pool)).process_id
    with pytest.raises(Internal) as failed:
        await pool.allocate(DEVICE, "defect", 1)
    assert "secret" not in str(failed.value)
    await pool.release_cached(DEVICE)
    assert pool.status(DEVICE).process_id == process_id


@pytest.mark.parametrize("how", ["", "single-threaded"])
async def test_orders_do_not_wait_for_the_end_of_a_run(tmp_path: Path, how: str) -> None:
    async with running(tmp_path, scripted(*filter(None, [how]))) as pool:
        await pool.allocate(DEVICE, "before", 10)
        stepping = asyncio.Event()
        run = asyncio.create_task(
            outcome(pool, "slowly", on_event=lambda _event: stepping.set())
        )
        await stepping.wait()
        await pool.allocate(DEVICE, "during", 1 << 20)
        assert await pool.free(DEVICE, "before") == 10
        figures = pool.figures(DEVICE)
        assert figures is not None
        assert figures.leased_bytes == 1 << 20
        assert not run.done()
        pool.cancel(DEVICE, "session")
        await run


async def test_a_worker_that_is_killed_takes_its_buffers_along(
    tmp_path: Path, segments: HostSegments
) -> None:
    lost: list[str] = []
    async with running(tmp_path, scripted()) as pool:
        end = pool.on_buffers_lost(lost.append)
        segment = await segments.allocate(ENDLESS)
        await pool.allocate(DEVICE, "doomed", ENDLESS)
        process_id = (await ready(pool)).process_id
        move = Move(SegmentRegion(segment), BufferRegion("doomed"), ENDLESS)
        told = pool.move(DEVICE, move)
        await anext(told)
        os.kill(process_id, signal.SIGKILL)
        with pytest.raises(Unavailable) as gone:
            async for _ in told:
                pass
        assert gone.value.reason is Reason.WORKER_LOST
        assert gone.value.metadata["signal"] == "SIGKILL"
        assert lost == [DEVICE]
        # A new worker takes its place, without the buffer; allocating waits for it.
        await pool.allocate(DEVICE, "doomed", 3)
        assert await pool.free(DEVICE, "doomed") == 3
        end()
        end()
        await pool.restart(DEVICE, force=True)
        assert lost == [DEVICE]


async def test_an_order_that_is_not_answered_ends_the_worker(tmp_path: Path) -> None:
    timing = WorkerTiming(hang=0.4)
    async with running(tmp_path, scripted(), timing=timing) as pool:
        process_id = (await ready(pool)).process_id
        run = asyncio.create_task(outcome(pool, "slowly"))
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded) as hung:
            await pool.allocate(DEVICE, "hang", 1)
        assert hung.value.reason is Reason.WORKER_HUNG
        assert time.monotonic() - started < SOON
        assert (await run).raised(Unavailable).reason is Reason.WORKER_LOST
        await until(
            pool,
            lambda now: now.state is DeviceState.READY and now.process_id != process_id,
        )


async def test_a_move_that_goes_on_does_not_hide_an_order_that_hangs(
    tmp_path: Path, segments: HostSegments
) -> None:
    async with running(tmp_path, scripted(), timing=WorkerTiming(hang=1.5)) as pool:
        segment = await segments.allocate(ENDLESS)
        await pool.allocate(DEVICE, "target", ENDLESS)
        moving = asyncio.create_task(endless(pool, "target", segment))
        await asyncio.sleep(2.0)
        assert not moving.done()  # it makes progress, though only a byte
        with pytest.raises(DeadlineExceeded):
            await pool.allocate(DEVICE, "hang", 1)
        with pytest.raises(DeadlineExceeded):
            await moving


async def test_orders_of_a_single_thread_wait_for_each_other_without_suspicion(
    tmp_path: Path, segments: HostSegments
) -> None:
    timing = WorkerTiming(hang=1.5)
    async with running(tmp_path, scripted("single-threaded"), timing=timing) as pool:
        segment = await segments.allocate(ENDLESS)
        await pool.allocate(DEVICE, "target", ENDLESS)
        moving = asyncio.create_task(endless(pool, "target", segment))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(pool.allocate(DEVICE, "waits", 1))
        await asyncio.sleep(2.0)
        assert not moving.done()
        assert not waiting.done()
        moving.cancel()
        await waiting
        with pytest.raises(asyncio.CancelledError):
            await moving


@pytest.mark.parametrize("how", ["lost", "break-device"])
async def test_an_order_that_loses_the_device_ends_the_worker(tmp_path: Path, how: str) -> None:
    async with running(tmp_path, scripted()) as pool:
        process_id = (await ready(pool)).process_id
        with pytest.raises(Unavailable) as lost:
            await pool.allocate(DEVICE, how, 1)
        assert lost.value.reason is Reason.DEVICE_LOST
        status = await until(
            pool,
            lambda now: now.state is DeviceState.READY and now.process_id != process_id,
        )
        assert status.restart_count == 1


async def test_a_device_is_not_ready_while_its_workers_end_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judging, goes_on, real = asyncio.Event(), asyncio.Event(), Judge.judge

    async def slow(*given: Any) -> Any:
        judging.set()
        await goes_on.wait()
        return await real(*given)

    monkeypatch.setattr(Judge, "judge", slow)
    async with running(tmp_path, scripted()) as pool:
        await ready(pool)
        with pytest.raises(Unavailable):
            await pool.allocate(DEVICE, "lost", 1)
        await judging.wait()
        status = pool.status(DEVICE)
        goes_on.set()
        assert (status.state, status.process_id) == (DeviceState.RECOVERING, 0)
        assert status.explanation == "The worker has ended."
        assert (await ready(pool)).process_id


async def test_stopping_the_pool_ends_orders(tmp_path: Path, segments: HostSegments) -> None:
    async with running(tmp_path, scripted()) as pool:
        segment = await segments.allocate(ENDLESS)
        await pool.allocate(DEVICE, "target", ENDLESS)
        moving = asyncio.create_task(endless(pool, "target", segment))
        await asyncio.sleep(0.1)
        await pool.stop(0.0)
        with pytest.raises(Unavailable) as ended:
            await moving
        assert ended.value.reason is Reason.SHUTTING_DOWN
        with pytest.raises(Unavailable):
            await pool.allocate(DEVICE, "late", 1)
        assert pool.figures(DEVICE) is None


async def test_a_device_without_a_worker_has_no_memory_to_give(pool: WorkerPool) -> None:
    with pytest.raises(Unavailable) as missing:
        await pool.allocate("cuda:9", "buffer", 1)
    assert missing.value.reason is Reason.DEVICE_UNAVAILABLE
    assert pool.figures("cuda:9") is None
