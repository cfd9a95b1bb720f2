"""What is learned of generations that end: counts, times, over restarts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from domains.clock import Clock
from domains.device.core.facts import TransientFacts, keep
from domains.errors import NotFound, Reason, ResourceExhausted
from domains.inference import convert
from domains.inference.core.statistics import (
    StatisticsInquiry,
    StatisticsKeeper,
    Timed,
)
from domains.inference.types import GenerationSettings
from domains.model.types import Model
from domains.session.core.durations import Durations
from domains.session.types import Phase
from server.journal import Journal
from tests.domains.inference.conftest import Bench, FakeDevices, FakeModels, request

MOMENT = datetime(2031, 5, 1, tzinfo=UTC)


async def draw(bench: Bench, settings: GenerationSettings | None = None) -> None:
    async with asyncio.timeout(30):
        async for _ in bench.run(request(settings)):
            pass


def inquiry(keeper: StatisticsKeeper) -> StatisticsInquiry:
    return StatisticsInquiry(keeper, FakeDevices(), FakeModels())


async def test_before_the_first_generation_nothing_is_told(bench: Bench) -> None:
    found = await inquiry(bench.statistics).describe("", "")
    message = convert.statistics_to_proto(found)

    assert not message.HasField("since_time")
    assert not message.HasField("step")
    assert (message.completed_count, len(message.by_model)) == (0, 0)


async def test_each_end_counts_once_and_each_time_where_it_belongs(bench: Bench) -> None:
    await draw(bench, GenerationSettings(steps=3, seeds=(1, 2)))
    bench.pool.failure = ResourceExhausted("full", reason=Reason.DEVICE_OUT_OF_MEMORY)
    with pytest.raises(Exception, match="full"):
        await draw(bench)
    bench.pool.failure, bench.pool.hold = None, asyncio.Event()
    running = asyncio.create_task(draw(bench))
    await bench.pool.holding.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    (session,) = [one for one in bench.sessions.all() if not one.state.final] or [
        bench.sessions.all()[-1]
    ]
    async with asyncio.timeout(30):
        while not session.state.final:
            await session.log.change().wait()

    found = await inquiry(bench.statistics).describe("", "")
    message = convert.statistics_to_proto(found)

    counts = (message.completed_count, message.failed_count, message.cancelled_count)
    assert counts == (1, 1, 1)
    assert message.image_count == 2
    assert message.step.count == 3 + 2  # those of the failed one too
    assert (message.step.total_ms, message.step.p50_ms, message.step.p99_ms) == (1250, 250, 250)
    assert (message.queue.count, message.cancel.count, message.decode.count) == (1, 1, 2)
    assert not message.HasField("load")  # it was loaded already
    (pair,) = message.by_model
    assert (pair.device_id, pair.model_id, pair.step.count) == ("cpu:0", "emoji", 5)
    assert pair.since_time == message.since_time


async def test_sessions_are_told_by_how_many_pictures_they_are_of(bench: Bench) -> None:
    for seeds in ((1, 2), (3,), (4, 5)):
        await draw(bench, GenerationSettings(steps=2, seeds=seeds))
    bench.pool.failure = ResourceExhausted("full", reason=Reason.DEVICE_OUT_OF_MEMORY)
    with pytest.raises(Exception, match="full"):
        await draw(bench, GenerationSettings(steps=2, seeds=(6, 7)))

    message = convert.statistics_to_proto(await inquiry(bench.statistics).describe("", ""))

    one, two = message.by_batch_size
    assert [one.asked_image_count, one.completed_count, one.failed_count, one.image_count] == [
        1,
        1,
        0,
        1,
    ]
    assert [two.asked_image_count, two.completed_count, two.failed_count, two.image_count] == [
        2,
        2,
        1,
        4,
    ]
    assert (one.work.count, two.work.count, message.work.count) == (1, 2, 3)
    assert (one.step.count, two.step.count, two.decode.count) == (2, 2 * 3, 4)
    (pair,) = message.by_model  # of both sizes together
    assert (pair.completed_count, pair.failed_count, pair.step.count) == (3, 1, 8)
    assert pair.work.count == 3


async def test_of_what_an_earlier_version_kept_the_sizes_are_not_told(bench: Bench) -> None:
    await draw(bench)
    (account,) = bench.statistics.accounts("", "")
    facts = TransientFacts()
    keep(facts, "inference.statistics", (structs.replace(account, batch_size=0),))

    message = convert.statistics_to_proto(
        await inquiry(StatisticsKeeper(facts, Clock())).describe("", "")
    )

    assert message.completed_count == 1
    assert len(message.by_batch_size) == 0


async def test_sizes_beyond_the_bound_are_forgotten_the_one_used_longest_ago_first(
    bench: Bench,
) -> None:
    await draw(bench)
    (session,) = bench.sessions.all()
    keeper = StatisticsKeeper(TransientFacts(), Clock())
    for size in range(1, 131):
        session.done.image_count = size
        keeper.note(session)

    sizes = {one.batch_size for one in keeper.accounts("", "")}
    assert sizes == set(range(3, 131))


async def test_phases_are_those_that_the_report_times(bench: Bench) -> None:
    await draw(bench)
    (session,) = bench.sessions.all()
    end = session.log.terminal
    assert end is not None

    times = bench.statistics.accounts("", "")[0].times

    assert times[Timed.DECODE].count == 1
    assert times[Timed.QUEUE].total == pytest.approx(end.timings[Phase.QUEUED])  # type: ignore[union-attr]
    assert Timed.PREPARE_INPUT not in times


async def test_filters_name_devices_and_models_and_unknown_ones_are_refused(
    bench: Bench,
) -> None:
    await draw(bench)
    asked = inquiry(bench.statistics)

    assert len((await asked.describe("cpu:0", "emoji")).accounts) == 1
    assert (await asked.describe("cpu", "")).accounts != ()  # an alias
    with pytest.raises(NotFound) as refused:
        await asked.describe("", "nothing")
    assert refused.value.reason is Reason.MODEL_NOT_FOUND


async def test_they_survive_a_restart(bench: Bench, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.open()
    first = StatisticsKeeper(journal, Clock(wall=lambda: MOMENT))
    await draw(bench)
    (session,) = bench.sessions.all()
    first.note(session)
    await first.save()
    journal.close()
    again = Journal(tmp_path / "journal.sqlite")
    again.open()

    second = StatisticsKeeper(again, Clock())
    assert second.accounts("", "") == first.accounts("", "")
    second.note(session)
    (account,) = second.accounts("", "")
    again.close()

    assert (account.completed, account.since) == (2, MOMENT)


async def test_what_is_damaged_on_disk_is_left_out(bench: Bench) -> None:
    facts = TransientFacts()
    facts.put("inference.statistics", b"\x93\x01\x02")

    assert StatisticsKeeper(facts, Clock()).accounts("", "") == ()


async def test_nothing_new_is_not_written(bench: Bench) -> None:
    class Counting(TransientFacts):
        puts = 0

        def put(self, key: str, value: bytes) -> None:
            self.puts += 1
            super().put(key, value)

    facts = Counting()
    keeper = StatisticsKeeper(facts, Clock())
    await draw(bench)
    await keeper.save()
    keeper.note(bench.sessions.all()[0])
    await keeper.save()
    await keeper.save()

    assert facts.puts == 1


async def test_pairs_beyond_the_bound_are_forgotten_the_one_used_longest_ago_first(
    bench: Bench,
) -> None:
    await draw(bench)
    (session,) = bench.sessions.all()
    keeper = StatisticsKeeper(TransientFacts(), Clock())
    for number in range(66):
        session.placement = replace(session.placement, device_id=f"cuda:{number}")
        keeper.note(session)
        session.placement = replace(session.placement, device_id="cuda:0")
        for session.done.image_count in (1, 2):  # a pair goes with all of its sizes
            keeper.note(session)

    devices = {one.device_id for one in keeper.accounts("", "")}
    assert len(devices) == 64
    assert "cuda:0" in devices
    assert "cuda:1" not in devices


def test_percentiles_are_of_the_newest_and_sums_of_all() -> None:
    times = Durations()
    for _ in range(500):
        times = times.with_time(9.0)
    for _ in range(128):
        times = times.with_time(1.0)

    assert set(times.newest) == {1.0}
    assert (times.count, times.total) == (628, 500 * 9.0 + 128)


def test_two_windows_share_the_room() -> None:
    many, few = Durations(), Durations()
    for _ in range(128):
        many = many.with_time(1.0)
    for _ in range(3):
        few = few.with_time(2.0)

    both = many.and_of(few)

    assert len(both.newest) == 128
    assert both.newest.count(2.0) == 3
    assert both.count == 131


async def test_models_that_draw_only_with_something_lent_have_statistics_too(
    bench: Bench,
) -> None:
    class Asked(FakeModels):
        async def resolve(self, model_id: str, **how: Any) -> Model:
            self.used += [name for name in ("masks", "vae") if how[name]]
            return await super().resolve(model_id, **how)

    models = Asked()
    asked = StatisticsInquiry(bench.statistics, FakeDevices(), models)
    await asked.describe("", models.model.model_id)
    assert models.used == ["masks", "vae"]
