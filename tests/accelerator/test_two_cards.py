"""Work on two graphics cards of one machine, or on two made-up ones of the processor."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from demo.measure.sd1 import sd1_pipeline
from deviceops.v1 import (
    common_pb2,
    device_info_pb2,
    device_pb2,
    generation_pb2,
    session_pb2,
    system_pb2,
)
from tests.drawings import RUNNING, Drawing, assert_placed, begin, devices_ready, validated
from tests.running import Client, RunningServer, start_server

CARDS = ("cuda:0", "cuda:1")
MODEL = "emoji-sd1"
MUCH: dict[str, Any] = {"width": 512, "height": 512, "steps": 150, "image_count": 9}
"""Seconds of work for the fastest cards; it is stopped where its end is not needed."""
CROWD = 40
ANY_PROCESSOR = device_info_pb2.DevicePlacement(
    any=device_info_pb2.DeviceChoice(kinds=[device_info_pb2.DEVICE_KIND_CPU])
)


@dataclass(frozen=True)
class Machine:
    """Two cards: which server finds them, how long it may take, how memory is measured."""

    program: str
    patience: float
    peak_source: str


REAL = Machine("server", 120, "torch.cuda.max_memory_allocated()")
MADE_UP = Machine(
    "tests.fakes.server_with_cards", 280, "VmHWM of /proc/self/status, the whole worker"
)
needs_cards = pytest.mark.skipif(
    torch.version.hip is not None or torch.cuda.device_count() != 2,
    reason="needs two NVIDIA graphics cards (of more, CUDA_VISIBLE_DEVICES can choose two)",
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(REAL, id="real", marks=needs_cards),
        pytest.param(MADE_UP, id="made-up"),
    ],
)
def machine(request: pytest.FixtureRequest) -> Machine:
    """The two cards."""
    found: Machine = request.param
    return found


@pytest.fixture(scope="module")
def server(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server process with the demo's small SD 1.x model and no other."""
    folder = tmp_path_factory.mktemp("two-cards")
    sd1_pipeline().save_pretrained(folder / "models" / MODEL)
    config = folder / "config.toml"
    config.write_text(f'model_roots = ["{folder / "models"}"]\n', "utf-8")
    flags = ("--config", str(config))
    with start_server(folder / "data", *flags, program=machine.program) as running:
        yield running


@pytest.fixture
async def client(server: RunningServer, machine: Machine) -> AsyncIterator[Client]:
    """A client of it; both cards and the processor are ready."""
    async with asyncio.timeout(machine.patience), server.client() as connected:
        await devices_ready(connected, *CARDS, "cpu:0")
        yield connected


async def states(*drawings: Drawing) -> list[session_pb2.SessionState]:
    """Where they stand, asked one after the other."""
    return [(await drawing.session()).state for drawing in drawings]


def seconds(placement: device_info_pb2.PlacementDecision) -> float:
    """When it is expected to be done, which is known."""
    assert placement.HasField("expected_duration"), placement
    return placement.expected_duration.ToTimedelta().total_seconds()


async def test_work_goes_where_it_is_done_first(client: Client) -> None:
    """It stands first: it begins on a machine that has measured nothing."""
    # Two that name no device run at the same time.
    first, second = await begin(client, **MUCH), await begin(client, **MUCH)
    assert_placed(first.accepted.placement, "cuda:0", "DEFAULT", CARDS)
    assert_placed(second.accepted.placement, "cuda:1", "SHORTEST_WAIT", CARDS)
    for drawing in (first, second):
        assert not drawing.accepted.placement.HasField("expected_duration")
    await asyncio.gather(first.until("step_finished"), second.until("step_finished"))
    assert await states(first, second, first) == [RUNNING] * 3
    first.cancel()
    second.cancel()

    # From measurements the end of work is foretold.
    measured = await asyncio.gather(*(begin(client, card, steps=20) for card in CARDS))
    for drawing, card in zip(measured, CARDS, strict=True):
        assert_placed((await drawing.finish()).placement, card, "NAMED", [card])
    verdict = await validated(client, steps=4)
    assert verdict.valid
    assert verdict.effective_settings.model_id == MODEL
    assert sorted(verdict.placement.candidate_device_ids) == list(CARDS)
    soon = seconds(verdict.placement)
    assert soon > 0

    # One card has much to do and the other little: a third goes to that one, and ends first.
    much = await begin(client, "cuda:0", **MUCH)
    await much.until("step_finished")
    little = await begin(client, "cuda:1", steps=20)
    third = await begin(client, steps=4)
    assert_placed(third.accepted.placement, "cuda:1", "SHORTEST_WAIT", CARDS)
    # A named card is kept though it is busy.
    named = await begin(client, "cuda:0", steps=4)
    assert_placed(named.accepted.placement, "cuda:0", "NAMED", ["cuda:0"])
    assert named.accepted.queue_position == 1
    assert seconds(named.accepted.placement) > seconds(third.accepted.placement) > 0
    done = (await third.finish()).placement
    assert done == third.accepted.placement == (await third.session()).placement
    assert await states(much, named) == [RUNNING, session_pb2.SESSION_STATE_QUEUED]
    much.cancel()
    await little.finish()
    assert (await named.finish()).placement == named.accepted.placement

    # The processor works where it is asked for.
    slow = await begin(client, ANY_PROCESSOR, steps=2)
    assert_placed(slow.accepted.placement, "cpu:0", "ONLY_ONE", ["cpu:0"])
    assert (await slow.finish()).placement.device_id == "cpu:0"


async def test_the_peak_of_memory_is_that_of_each_session(
    client: Client, machine: Machine
) -> None:
    """The larger picture comes first: its peak must not stay."""
    peaks = []
    for edge in (1024, 256):
        drawing = await begin(client, "cuda:1", width=edge, height=edge, steps=2)
        peak = (await drawing.finish()).peak_memory
        assert peak.quality == common_pb2.FIGURE_QUALITY_MEASURED
        assert peak.source == machine.peak_source
        assert (await drawing.session()).peak_memory == peak
        peaks.append(peak.value_bytes)
    assert peaks[0] > peaks[1] > 0


async def test_both_cards_draw_the_same_bytes(client: Client) -> None:
    exact = generation_pb2.PRECISION_MODE_EXACT
    wanted = {"seed": 11, "steps": 20, "precision": exact, "image_count": 2}
    drawings = await asyncio.gather(*(begin(client, card, **wanted) for card in CARDS))
    ends = [await drawing.finish() for drawing in drawings]

    assert [end.placement.device_id for end in ends] == list(CARDS)
    here, there = ([image.artifact_id for image in end.images] for end in ends)
    assert here == there
    assert len(set(here)) == 2


async def test_the_server_says_what_it_is_and_has(client: Client, machine: Machine) -> None:
    info = await client.system.GetServerInfo(
        system_pb2.GetServerInfoRequest(), metadata=client.metadata
    )
    assert info.server_version
    assert info.contract_version
    assert not info.draining
    assert info.client_role != system_pb2.CLIENT_ROLE_UNSPECIFIED
    built = {feature.name for feature in info.features if feature.built}
    assert {"InferenceService.Generate", "DeviceService.ListDevices"} <= built
    assert info.limits
    listed = await client.device.ListDevices(
        device_pb2.ListDevicesRequest(), metadata=client.metadata
    )
    ready = device_info_pb2.DEVICE_STATE_READY
    assert [device.device_id for device in listed.devices] == [*CARDS, "cpu:0"]
    assert {device.state for device in listed.devices} == {ready}
    assert listed.default_device_id == "cuda:0"
    assert [device.device_id for device in listed.devices if device.is_default] == ["cuda:0"]
    cards = listed.devices[:2]
    assert {card.kind for card in cards} == {device_info_pb2.DEVICE_KIND_CUDA}
    assert len({card.hardware_id for card in cards} - {""}) == 2
    if machine is REAL:
        for card in cards:
            assert card.total_memory.quality == common_pb2.FIGURE_QUALITY_MEASURED
            assert card.total_memory.value_bytes > 1 << 30
            assert card.runtime_version


async def test_a_crowd_is_shared_between_both(client: Client) -> None:
    drawings = await asyncio.gather(
        *(begin(client, seed=seed, steps=2) for seed in range(CROWD))
    )
    ends = await asyncio.gather(*(drawing.finish() for drawing in drawings))

    shares = Counter(end.placement.device_id for end in ends)
    assert set(shares) == set(CARDS)
    assert min(shares.values()) * 3 >= CROWD, shares
    for drawing, end in zip(drawings, ends, strict=True):
        assert end.placement == drawing.accepted.placement
        assert [image.seed for image in end.images] == list(drawing.accepted.seeds)
