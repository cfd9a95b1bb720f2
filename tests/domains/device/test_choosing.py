"""The rule by which a device is chosen, and what can never happen under it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.device.core.choosing import Candidate, choose
from domains.values import PlacementReason

Reason = PlacementReason
SECONDS = st.none() | st.floats(min_value=0.0, max_value=1e6)


def card(index: int, **values: object) -> Candidate:
    """A card that is idle, ready and without the model; the first one is the default."""
    usual: dict[str, object] = {"is_default": index == 0}
    return Candidate(f"cuda:{index}", **(usual | values))  # type: ignore[arg-type]


def timed(index: int, queue: float, load: float, work: float, **values: object) -> Candidate:
    """A card of which everything is measured."""
    return card(index, queue_seconds=queue, load_seconds=load, work_seconds=work, **values)


PROCESSOR = Candidate("cpu:0", last_choice=True)


@pytest.mark.parametrize(
    ("candidates", "device_id", "reason"),
    [
        pytest.param([card(0)], "cuda:0", Reason.ONLY_ONE, id="one"),
        pytest.param([card(1), card(0)], "cuda:0", Reason.DEFAULT, id="default"),
        pytest.param(
            [card(0, sessions=1), card(1)], "cuda:1", Reason.SHORTEST_WAIT, id="fewer"
        ),
        pytest.param(
            [card(0), card(1, loaded=True)], "cuda:1", Reason.MODEL_LOADED, id="loaded"
        ),
        pytest.param(
            [card(0, tflops=10.0), card(1, tflops=40.0)], "cuda:1", Reason.FASTER, id="faster"
        ),
        pytest.param(
            [card(0, tflops=39.0), card(1, tflops=40.0)],
            "cuda:0",
            Reason.DEFAULT,
            id="hardly faster",
        ),
        pytest.param(
            [card(0, tflops=10.0), card(1)], "cuda:0", Reason.DEFAULT, id="one speed unknown"
        ),
        pytest.param(
            [timed(0, 9, 0, 5), timed(1, 0, 0, 5)],
            "cuda:1",
            Reason.SHORTEST_WAIT,
            id="ends first",
        ),
        pytest.param(
            [timed(0, 0, 0, 5, sessions=9, loaded=True), timed(1, 0, 3, 5)],
            "cuda:0",
            Reason.MODEL_LOADED,
            id="time counts, not sessions",
        ),
        pytest.param(
            [timed(0, 0, 3, 5), timed(1, 0, 0, 5, loaded=True)],
            "cuda:1",
            Reason.MODEL_LOADED,
            id="need not load",
        ),
        pytest.param(
            [timed(0, 0, 0, 9), timed(1, 0, 0, 2)], "cuda:1", Reason.FASTER, id="works faster"
        ),
        pytest.param(
            [timed(0, 0, 9, 2), timed(1, 0, 1, 2)], "cuda:1", Reason.FASTER, id="loads faster"
        ),
        pytest.param(
            [timed(0, 20, 0, 2, loaded=True), timed(1, 0, 3, 9)],
            "cuda:1",
            Reason.SHORTEST_WAIT,
            id="slower and idle",
        ),
        pytest.param(
            [timed(1, 0, 0, 100.0), timed(0, 0, 0, 101.0)],
            "cuda:0",
            Reason.DEFAULT,
            id="a hair",
        ),
        pytest.param(
            [timed(0, 0, 0.1, 100.0), timed(1, 0, 0, 100.0, loaded=True)],
            "cuda:1",
            Reason.MODEL_LOADED,
            id="a hair, and loaded",
        ),
        pytest.param(
            [timed(0, 50, 0, 5), card(1, work_seconds=None)],
            "cuda:0",
            Reason.DEFAULT,
            id="one unmeasured: sessions count for all",
        ),
        pytest.param(
            [PROCESSOR, card(0, sessions=64, ready=True)],
            "cuda:0",
            Reason.ONLY_ONE,
            id="busy card, idle processor",
        ),
        pytest.param(
            [PROCESSOR, card(0, ready=False)],
            "cuda:0",
            Reason.ONLY_ONE,
            id="a card that starts, an idle processor",
        ),
        pytest.param(
            [card(0, ready=False), card(1, sessions=5)], "cuda:1", Reason.ONLY_ONE, id="ready"
        ),
        pytest.param(
            [timed(0, 0, 0, 1, full=True), timed(1, 90, 9, 9)],
            "cuda:1",
            Reason.ONLY_ONE,
            id="sooner, but full",
        ),
        pytest.param(
            [PROCESSOR, card(0, full=True)], "cuda:0", Reason.ONLY_ONE, id="full, no card else"
        ),
        pytest.param([PROCESSOR], "cpu:0", Reason.ONLY_ONE, id="processor"),
    ],
)
def test_who_is_chosen_and_why(
    candidates: list[Candidate], device_id: str, reason: PlacementReason
) -> None:
    decision = choose(candidates)

    assert (decision.device_id, decision.reason) == (device_id, reason)


@st.composite
def machines(draw: st.DrawFn) -> list[Candidate]:
    """Up to six devices, one of them the default or none, in any state and order."""
    count = draw(st.integers(1, 6))
    default = draw(st.integers(-1, count - 1))
    return [
        Candidate(
            f"device:{index}",
            last_choice=draw(st.booleans()),
            is_default=index == default,
            ready=draw(st.booleans()),
            full=draw(st.booleans()),
            loaded=(loaded := draw(st.booleans())),
            sessions=draw(st.integers(0, 64)),
            queue_seconds=draw(SECONDS),
            load_seconds=0.0 if loaded else draw(SECONDS),
            work_seconds=draw(SECONDS),
            tflops=draw(st.none() | st.floats(min_value=0.1, max_value=1e4)),
        )
        for index in range(count)
    ]


@given(machines())
def test_the_chosen_one_is_the_best_of_the_best_class(candidates: list[Candidate]) -> None:
    decision = choose(candidates)
    by_id = {one.device_id: one for one in candidates}
    chosen = by_id[decision.device_id]
    group = [by_id[device_id] for device_id in decision.candidate_device_ids]

    assert chosen in group
    # Nobody of a better class is left out, nobody of a worse one is in.
    best = min((one.last_choice, not one.ready, one.full) for one in candidates)
    assert group == [
        one for one in candidates if (one.last_choice, not one.ready, one.full) == best
    ]
    assert (decision.reason is PlacementReason.ONLY_ONE) == (len(group) == 1)
    assert decision.expected_seconds == chosen.seconds
    ends = [one.seconds for one in group]
    if None not in ends:
        assert chosen.seconds is not None
        assert chosen.seconds <= min(end for end in ends if end is not None) * 1.05
    else:
        assert chosen.sessions == min(one.sessions for one in group)
    if decision.reason is PlacementReason.MODEL_LOADED:
        assert chosen.loaded


@given(machines(), st.randoms(use_true_random=False))
def test_the_order_of_devices_decides_only_between_equals(
    candidates: list[Candidate], random: object
) -> None:
    """Where the default takes part and is as good as the best, it is chosen in any order."""
    equal = [
        replace(
            one,
            loaded=False,
            load_seconds=None,
            sessions=0,
            tflops=None,
            last_choice=False,
            ready=True,
            full=False,
        )
        for one in candidates
    ]
    shuffled = list(equal)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    default = [one.device_id for one in equal if one.is_default]

    for order in (equal, shuffled):
        assert choose(order).device_id == (default[0] if default else order[0].device_id)


@given(machines(), st.integers(0, 5))
def test_more_to_do_on_the_others_changes_nothing(
    candidates: list[Candidate], more: int
) -> None:
    """What was best stays so when the rest gets busier."""
    chosen = choose(candidates).device_id
    busier = [
        one
        if one.device_id == chosen
        else replace(
            one,
            sessions=one.sessions + more,
            queue_seconds=None if one.queue_seconds is None else one.queue_seconds + more,
        )
        for one in candidates
    ]

    assert choose(busier).device_id == chosen
