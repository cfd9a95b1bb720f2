"""Advice: each rule at its threshold, evidence that is true, order by gain."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.device.types import LoadedComponent
from domains.memory.core.recommendations import Advice, PlaceFacts, recommend
from domains.memory.types import History, HolderUsage, MemoryHolder, Place
from domains.values import ByteFigure, TensorDataType

NOW = datetime(2030, 1, 1, tzinfo=UTC)
GIB = 1 << 30
CALM = History(
    place=Place("cuda:0"),
    samples=(),
    peak_bytes=3 * GIB,
    p50_bytes=2 * GIB,
    p95_bytes=3 * GIB,
    holders=(HolderUsage("sdxl", GIB, 2 * GIB), HolderUsage(MemoryHolder.OTHERS, GIB, 5 * GIB)),
    eviction_count=0,
    out_of_memory_count=0,
    fragmentation_p95=0.1,
)
FACTS = PlaceFacts(CALM, total=10 * GIB, free=7 * GIB, now=NOW)


def part(
    model: str = "sdxl",
    component: str = "unet",
    size: int = GIB,
    data_type: TensorDataType = TensorDataType.FLOAT16,
    unused: float = 0.0,
    in_use: bool = False,
) -> LoadedComponent:
    moment = NOW - timedelta(seconds=unused)
    figure = ByteFigure.measured(size, "test")
    return LoadedComponent(model, component, figure, data_type, moment, in_use)


def kinds(facts: PlaceFacts) -> list[Advice]:
    return [advice.kind for advice in recommend([facts])]


def used(facts: PlaceFacts, share: float) -> PlaceFacts:
    size = int(facts.total * share)
    return replace(facts, history=replace(facts.history, peak_bytes=size, p95_bytes=size))


def test_nothing_is_advised_when_all_is_well() -> None:
    held = (part(unused=5000, data_type=TensorDataType.FLOAT32),)
    assert recommend([replace(FACTS, models=held, half_precision=True)]) == ()


def test_an_unused_model_is_named_while_memory_is_short() -> None:
    facts = used(replace(FACTS, models=(part(unused=700), part(component="vae"))), 0.85)
    assert kinds(facts) == []
    facts = replace(facts, models=(part(unused=700), part(component="vae", unused=650)))
    (advice,) = recommend([facts])
    assert advice.kind is Advice.UNLOAD_MODEL
    assert advice.evidence["model_id"] == "sdxl"
    assert advice.evidence["unused_seconds"] == "650"
    assert advice.expected_gain.value == 2 * GIB
    busy = replace(facts, models=(*facts.models, part(component="te", in_use=True)))
    assert kinds(busy) == []
    assert kinds(used(facts, 0.79)) == []


@pytest.mark.parametrize(
    ("data_type", "half", "share", "advised"),
    [
        (TensorDataType.FLOAT32, True, 0.85, True),
        (TensorDataType.FLOAT32, False, 0.85, False),
        (TensorDataType.FLOAT16, True, 0.85, False),
        (TensorDataType.FLOAT32, True, 0.75, False),
    ],
)
def test_wide_networks_where_narrow_ones_were_measured_to_do(
    data_type: str, half: bool, share: float, advised: bool
) -> None:
    held = (part(data_type=data_type, in_use=True),)
    facts = used(replace(FACTS, models=held, half_precision=half), share)
    assert kinds(facts) == [Advice.SMALLER_DATA_TYPE] * advised
    if advised:
        assert recommend([facts])[0].expected_gain.value == GIB // 2


def test_failures_ask_for_tiles_unless_it_tiles_already() -> None:
    failed = replace(FACTS, history=replace(CALM, out_of_memory_count=3))
    (advice,) = recommend([failed])
    assert advice.kind is Advice.TILE
    assert advice.evidence["out_of_memory_count"] == "3"
    assert kinds(replace(failed, tiled=True)) == []
    host = replace(failed, history=replace(failed.history, place=Place()))
    assert kinds(host) == []
    leases = (
        HolderUsage(MemoryHolder.ALLOCATIONS, GIB, 2 * GIB),
        HolderUsage(MemoryHolder.OTHERS, GIB, 5 * GIB),
    )
    assert kinds(replace(failed, history=replace(failed.history, holders=leases))) == []


def test_no_more_is_advised_than_an_answer_has_and_what_gains_most_is() -> None:
    held = tuple(part(f"model-{k}", size=k * GIB, unused=700) for k in range(1, 41))
    found = recommend([used(replace(FACTS, models=held), 0.85)])
    assert [advice.evidence["model_id"] for advice in found] == [
        f"model-{k}" for k in range(40, 8, -1)
    ]


def test_pieces_ask_for_defragmentation() -> None:
    torn = replace(FACTS, history=replace(CALM, fragmentation_p95=0.4))
    (advice,) = recommend([torn])
    assert advice.kind is Advice.DEFRAGMENT
    assert advice.evidence == {
        "fragmentation_p95": "0.400",
        "free_bytes": str(7 * GIB),
    }
    assert advice.expected_gain.value == int(7 * GIB * 0.4)
    assert kinds(replace(FACTS, history=replace(CALM, fragmentation_p95=None))) == []


def test_models_that_come_and_go_ask_for_room() -> None:
    facts = replace(FACTS, history=replace(CALM, eviction_count=5))
    (advice,) = recommend([facts])
    assert advice.kind is Advice.RESIZE_CACHE
    assert advice.evidence["largest_model_bytes"] == str(2 * GIB)
    assert kinds(replace(FACTS, history=replace(CALM, eviction_count=4))) == []


def test_only_what_nothing_could_free_asks_for_memory() -> None:
    facts = used(FACTS, 0.95)
    (advice,) = recommend([facts])
    assert advice.kind is Advice.ADD_MEMORY
    # 9.5 GiB are 80 % of 11.875 GiB.
    assert advice.expected_gain.value == pytest.approx(1.875 * GIB, abs=4)
    assert Advice.ADD_MEMORY not in kinds(replace(facts, models=(part(unused=60),)))
    assert kinds(replace(facts, models=(part(in_use=True),))) == [Advice.ADD_MEMORY]


@given(
    share=st.floats(0, 1),
    evictions=st.integers(0, 20),
    failures=st.integers(0, 20),
    fragmentation=st.none() | st.floats(0, 1),
    free=st.integers(0, 10 * GIB),
    models=st.lists(
        st.builds(
            part,
            model=st.sampled_from(["a", "b"]),
            size=st.integers(0, 20 * GIB),
            data_type=st.sampled_from([TensorDataType.FLOAT32, TensorDataType.FLOAT16]),
            unused=st.floats(0, 10_000),
            in_use=st.booleans(),
        ),
        max_size=4,
    ),
    total=st.integers(0, 10 * GIB),
)
def test_advice_is_sorted_gains_something_and_has_evidence(
    share: float,
    evictions: int,
    failures: int,
    fragmentation: float | None,
    free: int,
    models: list[LoadedComponent],
    total: int,
) -> None:
    history = replace(
        CALM,
        eviction_count=evictions,
        out_of_memory_count=failures,
        fragmentation_p95=fragmentation,
    )
    facts = PlaceFacts(history, total, free, NOW, tuple(models), half_precision=True)
    found = recommend([used(facts, share)] * 2)
    gains = [advice.expected_gain.value or 0 for advice in found]
    assert gains == sorted(gains, reverse=True)
    assert all(gain >= 0 for gain in gains)
    for advice in found:
        assert advice.evidence
        assert advice.description.endswith(".")
        assert all(value for value in advice.evidence.values())
