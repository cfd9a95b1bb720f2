"""The benchmarks measure what they say: both arms, in turns, the same work."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cancel import cancel_to_idle
from bench.first_event import first_event_latency
from bench.machine import Others, busy_note, describe_machine
from bench.measure import Arm, Sample, interleave, median, percentile, ratio_of_medians
from bench.openmp import measure
from bench.outcome import Goal, Outcome, compare
from bench.peers import peer
from bench.pictures import fastest_against_diffusers, server_against_engine
from bench.report import Run, as_json, as_text, write
from bench.start import start_to_serving
from bench.turns import pause_and_resume, yield_to_urgent
from bench.work import work_of_round

ROOT = Path(__file__).parents[2]


def scripted(name: str, turns: list[str], seconds: float) -> Arm:
    """An arm that takes what it is told to, and notes when its turn was."""

    async def run(number: int) -> Sample:
        turns.append(f"{name}{number}")
        return Sample(seconds + number)

    return Arm(name, run)


def outcome_of(subject: list[float], baseline: list[float], limit: float) -> Outcome:
    samples = {
        "ours": [Sample(seconds) for seconds in subject],
        "theirs": [Sample(seconds) for seconds in baseline],
    }
    return compare(
        "name", "title", samples, subject="ours", baseline="theirs", limit=limit, settings={}
    )


async def test_arms_take_turns_after_warming_up():
    """A B B A, each round with one number for all, and warm-ups are not samples."""
    turns: list[str] = []
    arms = [scripted("a", turns, 10.0), scripted("b", turns, 20.0)]

    samples = await interleave(arms, rounds=3, warm_ups=1)

    assert turns == ["a-1", "b-1", "a0", "b0", "b1", "a1", "a2", "b2"]
    assert [sample.seconds for sample in samples["a"]] == [10.0, 11.0, 12.0]
    assert [sample.seconds for sample in samples["b"]] == [20.0, 21.0, 22.0]


async def test_arms_of_the_same_name_are_refused():
    """One's samples would stand for the other's."""
    with pytest.raises(AssertionError, match="same name"):
        await interleave([scripted("a", [], 1.0)] * 2, rounds=1, warm_ups=0)


def test_a_ratio_comes_from_both_arms():
    """Of medians, inside its bounds, and each arm moves it in its direction."""
    ours, theirs = [2.0, 2.2, 1.8, 9.0, 2.1], [1.0, 1.1, 0.9, 1.0, 1.05]

    ratio = ratio_of_medians(ours, theirs)

    assert ratio.value == 2.1
    assert ratio.low < 2.1 < ratio.high
    assert ratio_of_medians([2 * value for value in ours], theirs).value == 4.2
    assert ratio_of_medians(ours, [2 * value for value in theirs]).value == 1.05


def test_a_disturbance_of_both_arms_does_not_widen_a_ratio():
    """Rounds are resampled as pairs: what slowed both says nothing about either."""
    drift = [1.0, 3.0, 1.5, 2.0, 8.0, 5.0, 1.2]

    ratio = ratio_of_medians([1.5 * value for value in drift], drift)

    assert (ratio.low, ratio.high) == pytest.approx((1.5, 1.5))


@pytest.mark.parametrize(
    ("goal", "reached", "certain"),
    [
        (Goal("ratio", 1.02, 1.01, "x", 1.0, 1.015), True, True),
        (Goal("ratio", 1.02, 1.01, "x", 0.9, 1.1), True, False),
        (Goal("ratio", 1.02, 1.05, "x", 1.03, 1.1), False, True),
        (Goal("p99", 20.0, 20.0, "ms"), True, True),
        (Goal("p99", 20.0, 20.1, "ms"), False, True),
    ],
)
def test_a_goal_is_reached_or_missed_and_surely_so_or_not(goal, reached, certain):
    """Inside the interval of its ratio, a goal is neither."""
    assert (goal.reached, goal.certain) == (reached, certain)


def test_work_of_others_is_told_from_ones_own():
    """Own processes' work, descendants' included, is no disturbance."""
    machine = replace(describe_machine(), busy_percent=0.0)
    others = Others()
    subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)
    sum(range(20_000_000))

    assert 0 <= others.percent() < 100
    assert busy_note(machine, {"a": 1.0, "b": 2.0}) == ""
    assert "up to 40 % during" in busy_note(machine, {"a": 1.0, "b": 40.0})
    assert "50 % of its processors before" in busy_note(replace(machine, busy_percent=50.0), {})


def test_the_report_says_what_was_measured_and_where(tmp_path):
    """Table, JSON and page tell the same, and a missed goal is plain to see."""
    good, bad = outcome_of([1.0], [1.0], 1.02), outcome_of([2.0], [1.0], 1.02)
    run = Run(describe_machine(), [good, bad], {"quick": True}, {"name": 1.5}, "a note")

    write(tmp_path / "results" / "run.json", run)

    kept = json.loads((tmp_path / "results" / "run.json").read_text())
    page = (tmp_path / "results" / "README.md").read_text()
    assert [outcome["reached"] for outcome in kept["outcomes"]] == [True, False]
    assert kept["outcomes"][1]["ratio"]["value"] == 2.0
    assert kept["machine"]["packages"]["torch"] in page
    assert {"avx512_bf16", "amx_bf16"} <= set(kept["machine"]["flags"])
    assert len(kept["machine"]["load"]) == 3
    assert kept["others_percent"] == {"name": 1.5}
    assert "**a note**" in page
    assert [line.split()[-1] for line in as_text(run.outcomes).splitlines()[1:]] == [
        "pass",
        "FAIL",
    ]
    assert as_json(run)["settings"] == {"quick": True}


def test_every_round_draws_another_text():
    """Otherwise remembered embeddings would stand for encoding them."""
    texts = [work_of_round(number, 1).prompt for number in range(-3, 50)]

    assert len(set(texts)) == len(texts)


async def test_a_peer_that_cannot_start_is_an_error():
    """Not a wait without end."""
    with pytest.raises(RuntimeError, match="ended with code 1"):
        async with peer("nothing"):
            pass


@pytest.mark.parametrize(
    ("measured", "limit", "same", "types"),
    [
        (server_against_engine, 1.02, "1 of 1", {"float32"}),
        (fastest_against_diffusers, 0.70, None, {"float32", "bfloat16"}),
    ],
)
async def test_pictures_are_compared(
    measured: Callable[..., Awaitable[Outcome]],
    limit: float,
    same: str | None,
    types: set[str],
):
    """Through real processes; the ratio is that of the two arms, the types are told."""
    outcome = await measured(1, steps=1)

    ours, theirs = outcome.subject, outcome.baseline
    assert outcome.ratio.value == ours.median / theirs.median == outcome.goal.value
    assert (len(ours.samples), len(theirs.samples)) == (1, 1)
    assert outcome.goal.limit == limit
    assert ours.labels["unet"] in types
    assert theirs.labels["unet"] == "float32"
    assert 0 < ours.facts["accepted"] < ours.facts["first_phase"] < ours.facts["last_chunk"]
    assert ours.facts["last_chunk"] < ours.median
    assert 0 < ours.facts["denoise"] < ours.median
    assert same in (None, outcome.remarks["same_pixels"])


async def test_first_events_are_timed_idle_and_busy():
    """Busy means that another generation really was before it in the queue."""
    idle, busy = await first_event_latency(2)

    assert (idle.subject.facts["queue_position"], busy.subject.facts["queue_position"]) == (
        0,
        1,
    )
    for outcome in (idle, busy):
        values = outcome.subject.samples
        assert len(values) == len(outcome.baseline.samples) == 2
        assert outcome.goal.value == pytest.approx(percentile(values, 99) * 1000)
        assert outcome.ratio.value == median(values) / outcome.baseline.median


async def test_cancelling_is_timed_in_steps_of_its_own_run():
    """From the cancel to the next session's work, over the mean step before it."""
    outcome = await cancel_to_idle(1)

    assert len(outcome.subject.samples) == len(outcome.baseline.samples) == 1
    in_steps = [
        idle / step
        for idle, step in zip(outcome.subject.samples, outcome.baseline.samples, strict=True)
    ]
    assert outcome.goal.value == pytest.approx(percentile(in_steps, 99))
    assert outcome.subject.facts["mean_step"] == pytest.approx(outcome.baseline.median)
    assert 0 < outcome.subject.facts["answered"] < outcome.subject.median


async def test_going_first_is_timed_in_steps_of_the_one_that_yields():
    """From the urgent call to its work; the other one goes on."""
    outcome = await yield_to_urgent(1)

    in_steps = outcome.subject.median / outcome.baseline.median
    assert outcome.goal.value == pytest.approx(in_steps)
    assert outcome.subject.facts["back"] > 0


async def test_a_paused_generation_is_timed_beside_a_whole_one():
    """The goal is the pause's own, not the picture's."""
    outcome = await pause_and_resume(1)

    facts = outcome.subject.facts
    assert outcome.goal.value == pytest.approx(facts["stopped"] / facts["mean_step"])
    assert outcome.remarks["back_in_steps_median"] == pytest.approx(
        facts["back"] / facts["mean_step"]
    )
    assert facts["stopped"] + facts["back"] < outcome.subject.median
    assert outcome.ratio.value == outcome.subject.median / outcome.baseline.median


async def test_a_start_is_timed_until_the_server_serves():
    """The address is known before health answers."""
    outcome = await start_to_serving(1)

    assert outcome.ratio.value == outcome.subject.median / outcome.baseline.median
    assert 0 < outcome.subject.facts["address_known"] < outcome.subject.median
    assert outcome.goal.value == outcome.subject.median


async def test_ways_of_waiting_are_compared_with_the_default():
    """Every setting in every state, each against the default of the same run."""
    once = {"idle": 1, "crowded": 1}
    settings = {"first": ("GOMP_SPINCOUNT=1000",), "second": ("OMP_WAIT_POLICY=PASSIVE",)}

    results = await measure(once, once, settings)

    assert set(results) == {"idle", "crowded"}
    for result in results.values():
        assert set(result) == set(settings)
        for figures in result.values():
            expected = figures["median"] / result["first"]["median"]
            assert figures["ratio"]["value"] == pytest.approx(expected)
        assert result["first"]["ratio"]["value"] == 1.0


async def test_the_program_prints_a_table_and_keeps_the_results(tmp_path):
    """`python -m bench` ends with 1 exactly when a goal was missed."""
    out = tmp_path / "run.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", "--quick", "--only", "start", "--out", str(out)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    printed, _ = await process.communicate()

    (outcome,) = json.loads(out.read_text())["outcomes"]
    assert outcome["name"] == "start-to-serving"
    assert "goal" in printed.decode()
    assert any(line.startswith("start-to-serving  ") for line in printed.decode().splitlines())
    assert process.returncode == (0 if outcome["reached"] else 1)
    assert "start-to-serving" in (tmp_path / "README.md").read_text()
