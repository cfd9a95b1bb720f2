"""What was measured is known after a restart, and only to the version that measured it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from domains.codec import encode
from domains.device.core.facts import TransientFacts
from domains.inference import convert
from domains.inference.core.experience import Experience
from domains.inference.core.forecast import MOST_TOLD, MeasuredPeak
from domains.inference.types import GenerationSettings
from domains.session.core.speeds import Effort, Speeds
from domains.session.types import Phase
from server.journal import Journal
from tests.domains.inference.conftest import Bench, request

SETTINGS = GenerationSettings(prompt="a cat", width=512, height=256, steps=2, seed=1)
PEAK = 123_456_789


def experience(bench: Bench, facts: object, version: str = "1.0") -> Experience:
    speeds, forecasts = bench.sessions.speeds, bench.generations._forecasts
    return Experience(facts, speeds, forecasts, version)  # type: ignore[arg-type]


async def draw(bench: Bench) -> None:
    async with asyncio.timeout(30):
        async for _ in bench.run(request(SETTINGS)):
            pass


def forget(bench: Bench) -> None:
    """As a new run of the server: nothing was drawn."""
    bench.sessions.speeds.__init__()  # type: ignore[misc]
    bench.generations._forecasts._peaks.clear()


async def told(bench: Bench) -> tuple[int, bool]:
    """The peak that is expected, and whether a time is."""
    message = convert.verdict_to_proto(await bench.generations.validate(request(SETTINGS)))
    return message.memory.value_bytes, message.HasField("estimated_duration")


async def test_estimates_survive_a_restart(bench: Bench, tmp_path: Path) -> None:
    bench.pool.peak = PEAK
    bench.sessions.speeds.learn("cpu:0", Effort("emoji"), {Phase.LOADING_MODEL: 2.0})
    journal = Journal(tmp_path / "journal.sqlite")
    journal.open()
    first = experience(bench, journal)
    await draw(bench)
    before = await told(bench)
    assert before == (PEAK, True)
    await first.save()
    journal.close()
    forget(bench)
    assert await told(bench) == (0, False)

    again = Journal(tmp_path / "journal.sqlite")
    again.open()
    experience(bench, again).recall()
    again.close()

    assert await told(bench) == before


async def test_another_version_measures_anew(bench: Bench) -> None:
    facts = TransientFacts()
    bench.pool.peak = PEAK
    await draw(bench)
    await experience(bench, facts).save()
    forget(bench)

    experience(bench, facts, "1.1").recall()

    assert await told(bench) == (0, False)


@pytest.mark.parametrize("data", [b"", b"\x93\x01\x02", encode({"version": "1.0"})])
async def test_what_is_damaged_is_left_out(bench: Bench, data: bytes) -> None:
    facts = TransientFacts()
    facts.put("inference.experience", data)

    experience(bench, facts).recall()

    assert await told(bench) == (0, False)


async def test_nothing_new_is_not_written(bench: Bench) -> None:
    facts = TransientFacts()
    await experience(bench, facts).save()
    assert facts.get("inference.experience") is None


def test_the_newest_are_kept_and_come_back_in_their_order(bench: Bench) -> None:
    speeds = Speeds()
    for number in range(MOST_TOLD + 10):
        effort = Effort("emoji", "exact", number, {Phase.DENOISING: 1.0})
        speeds.learn("cpu:0", effort, {Phase.DENOISING: 1.0, Phase.LOADING_MODEL: 2.0})
        speeds.learn("cpu:0", Effort(f"model {number}"), {Phase.LOADING_MODEL: 2.0})
    kept = speeds.measured()
    assert (len(kept.rates), len(kept.loads)) == (MOST_TOLD, MOST_TOLD)
    assert kept.rates[-1].pixels == MOST_TOLD + 9

    later = Speeds()
    later.recall(kept)

    assert later.measured() == kept
    forecasts = bench.generations._forecasts
    peaks = tuple(MeasuredPeak("cpu:0", f"{number:064x}", number) for number in range(5))
    forecasts.recall(peaks)
    assert forecasts.measured() == peaks
