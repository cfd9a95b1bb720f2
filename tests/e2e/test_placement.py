"""Where work runs and why, over a real channel, on a machine with two cards.

The cards are made up and compute on the processor; their workers, models and pictures are real.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from deviceops.v1 import device_info_pb2, device_pb2, errors_pb2
from domains.device import build as device_build
from domains.device.types import Adapter
from server import serve, token
from server.config import Settings
from server.worker.front.restart import RestartPolicy
from tests.drawings import RUNNING, Drawing, assert_placed, begin, devices_ready, validated
from tests.e2e.errors import refusal_of
from tests.fakes.cards import CardsProbe, computing_card
from tests.fakes.device import unusable
from tests.running import Client

PATIENCE = 120.0
CARDS = ("cuda:0", "cuda:1")
Placement = device_info_pb2.DevicePlacement
Choice = device_info_pb2.DeviceChoice
CUDA = device_info_pb2.DEVICE_KIND_CUDA
CPU = device_info_pb2.DEVICE_KIND_CPU
XPU = device_info_pb2.DEVICE_KIND_XPU
UNKNOWN_KIND: Any = 99


@asynccontextmanager
async def machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cards: Sequence[Adapter]
) -> AsyncIterator[Client]:
    """A client of a server in this process, on a machine with those cards."""
    monkeypatch.setattr(device_build, "ProbeProcesses", lambda _: CardsProbe(*cards))
    settings = Settings(
        port=0,
        metrics_port=0,
        data_dir=folder / "data",
        runtime_dir=folder / "runtime",
        preload=False,
    )
    bound: asyncio.Future[serve.Ready] = asyncio.get_running_loop().create_future()
    server = asyncio.ensure_future(serve.run(settings, ready=bound.set_result))
    ready = await asyncio.wait_for(bound, PATIENCE)
    try:
        async with Client(ready.address, token.read(settings.token_path)) as client:
            yield client
    finally:
        ready.stop()
        ready.stop()
        await asyncio.wait_for(server, PATIENCE)


@pytest.fixture
async def two_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """Two cards and the processor, all of them ready."""
    cards = [computing_card(0), computing_card(1)]
    async with asyncio.timeout(600), machine(tmp_path, monkeypatch, cards) as client:
        await devices_ready(client, *CARDS, "cpu:0")
        yield client


async def said_throughout(drawing: Drawing) -> None:
    """Finish it: its session and its end say of its placement what its beginning said."""
    completed = await drawing.finish()
    assert completed.placement == drawing.accepted.placement
    assert (await drawing.session()).placement == drawing.accepted.placement


async def test_work_goes_where_it_is_done_first(two_cards: Client) -> None:
    """From a machine that measured nothing to one that knows both cards."""
    # Two that name no device run at the same time, on different cards.
    first = await begin(two_cards, steps=30)
    second = await begin(two_cards, steps=30)
    assert_placed(first.accepted.placement, "cuda:0", "DEFAULT", CARDS)
    assert_placed(second.accepted.placement, "cuda:1", "SHORTEST_WAIT", CARDS)
    await asyncio.gather(first.until("step_finished"), second.until("step_finished"))
    assert [(await drawing.session()).state for drawing in (first, second)] == [RUNNING] * 2
    # While both work the processor is idle, and stays so.
    third = await begin(two_cards, steps=2)
    assert_placed(third.accepted.placement, "cuda:0", "DEFAULT", CARDS)
    for drawing in (first, second, third):
        assert not drawing.accepted.placement.HasField("expected_duration")
    await asyncio.gather(*(said_throughout(drawing) for drawing in (first, second, third)))

    # Both are measured. The default has much to do and the other little: the wait decides.
    much = await begin(two_cards, "cuda:0", steps=40)
    little = await begin(two_cards, "cuda:1", steps=8)
    verdict = await validated(two_cards, steps=2)
    fourth = await begin(two_cards, steps=2)
    for placement in (verdict.placement, fourth.accepted.placement):
        assert_placed(placement, "cuda:1", "SHORTEST_WAIT", CARDS)
        assert placement.expected_duration.ToTimedelta().total_seconds() > 0
    assert verdict.queue_position == 1
    # A named one is kept, however busy.
    named = await begin(two_cards, "cuda:0", steps=2)
    assert_placed(named.accepted.placement, "cuda:0", "NAMED", ["cuda:0"])
    assert named.accepted.queue_position == 1
    await asyncio.gather(little.finish(), said_throughout(fourth))
    assert (await much.session()).state == RUNNING
    much.cancel()
    await said_throughout(named)

    # A new worker has no model: the other card need not load it.
    restart = two_cards.device.RestartWorker(
        device_pb2.RestartWorkerRequest(device_id="cuda:0"), metadata=two_cards.metadata
    )
    async for _ in restart:
        pass
    last = await begin(two_cards, steps=2)
    assert_placed(last.accepted.placement, "cuda:1", "MODEL_LOADED", CARDS)
    await last.finish()


async def test_calls_that_come_at_once_are_spread(two_cards: Client) -> None:
    """Each is placed knowing of those before it."""
    drawings = await asyncio.gather(*(begin(two_cards, steps=2) for _ in range(6)))

    devices = sorted(drawing.accepted.placement.device_id for drawing in drawings)
    assert devices == ["cuda:0"] * 3 + ["cuda:1"] * 3
    await asyncio.gather(*(said_throughout(drawing) for drawing in drawings))


async def test_the_best_of_those_asked_for_is_taken(two_cards: Client) -> None:
    for placement, device_id, reason, candidates in (
        (Placement(device_id="cuda:1"), "cuda:1", "NAMED", ["cuda:1"]),
        (Placement(device_id="gpu"), "cuda:0", "NAMED", ["cuda:0"]),
        (Placement(any=Choice(device_ids=["cuda:1"])), "cuda:1", "ONLY_ONE", ["cuda:1"]),
        (Placement(any=Choice(device_ids=["cuda:9", "cpu"])), "cpu:0", "ONLY_ONE", ["cpu:0"]),
        (Placement(any=Choice(kinds=[CPU])), "cpu:0", "ONLY_ONE", ["cpu:0"]),
        (Placement(any=Choice(kinds=[XPU, CUDA])), "cuda:0", "DEFAULT", CARDS),
        # Ids and kinds together: those that are both.
        (
            Placement(any=Choice(device_ids=["cpu", "cuda:1"], kinds=[CUDA])),
            *("cuda:1", "ONLY_ONE", ["cuda:1"]),
        ),
        (
            Placement(any=Choice(device_ids=["cpu", "cuda:1"], kinds=[CUDA, CPU])),
            *("cuda:1", "ONLY_ONE", ["cuda:1"]),
        ),
        (Placement(any=Choice()), "cuda:0", "DEFAULT", CARDS),
        (Placement(), "cuda:0", "DEFAULT", CARDS),
    ):
        verdict = await validated(two_cards, placement)
        assert verdict.valid, placement
        assert_placed(verdict.placement, device_id, reason, candidates)

    for placement, device_id in (
        (Placement(any=Choice(device_ids=["cuda:1"])), "cuda:1"),
        (Placement(any=Choice(kinds=[CPU])), "cpu:0"),
    ):
        drawing = await begin(two_cards, placement, steps=2)
        assert_placed(drawing.accepted.placement, device_id, "ONLY_ONE", [device_id])
        await said_throughout(drawing)


async def test_work_whose_workers_death_takes_its_device_out_of_use_goes_on_elsewhere(
    two_cards: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RestartPolicy, "_out_of_use", lambda self: True)  # at the first death
    drawing = await begin(two_cards, steps=8)
    assert_placed(drawing.accepted.placement, "cuda:0", "DEFAULT", CARDS)
    await drawing.until("step_finished")
    status = await two_cards.device.GetDeviceStatus(
        device_pb2.GetDeviceStatusRequest(device_id="cuda:0"), metadata=two_cards.metadata
    )

    os.kill(status.worker.process_id, signal.SIGKILL)

    await drawing.until("retried")
    completed = await drawing.finish()
    assert_placed(completed.placement, "cuda:1", "ONLY_ONE", ["cuda:1"])


async def test_what_fits_no_device_is_refused_by_its_field(two_cards: Client) -> None:
    missing = (grpc.StatusCode.NOT_FOUND, "DEVICE_NOT_FOUND")
    for placement, field in (
        (Placement(device_id="cuda:9"), None),
        (Placement(any=Choice(device_ids=["cuda:9"])), "placement.any.device_ids"),
        (Placement(any=Choice(kinds=[XPU])), "placement.any.kinds"),
        (
            Placement(any=Choice(device_ids=["cuda:0"], kinds=[CPU])),
            "placement.any.device_ids",
        ),
    ):
        refusal = await refusal_of(begin(two_cards, placement))
        assert (refusal.code, refusal.reason) == missing, placement
        assert refusal.metadata.get("field") == field, placement
        verdict = await validated(two_cards, placement)
        assert not verdict.HasField("placement"), placement
        assert verdict.failure.reason == errors_pb2.ERROR_REASON_DEVICE_NOT_FOUND, placement

    for placement, field in (
        (Placement(device_id="../cpu"), "placement.device_id"),
        (Placement(any=Choice(device_ids=["cpu"] * 65)), "placement.any.device_ids"),
        (Placement(any=Choice(device_ids=["cpu", "../"])), "placement.any.device_ids[1]"),
        (Placement(any=Choice(kinds=[CPU] * 17)), "placement.any.kinds"),
        (Placement(any=Choice(kinds=[CPU, UNKNOWN_KIND])), "placement.any.kinds[1]"),
    ):
        refusal = await refusal_of(begin(two_cards, placement))
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, placement
        assert refusal.fields == [field], placement


async def test_the_processor_is_used_where_nothing_else_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = unusable(computing_card(0), "its driver is too old")
    async with asyncio.timeout(600), machine(tmp_path, monkeypatch, [broken]) as client:
        drawing = await begin(client, steps=2)
        assert_placed(drawing.accepted.placement, "cpu:0", "ONLY_ONE", ["cpu:0"])
        await said_throughout(drawing)
