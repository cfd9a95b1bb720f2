"""Work that names no device, over a real channel, on a machine with two cards.

The cards are made up and compute on the processor; their workers, models and pictures are real.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deviceops.v1 import device_info_pb2, device_pb2, event_pb2, inference_pb2
from domains.device.types import Adapter
from domains.session.core.session import Session
from domains.values import PlacementReason
from server.compose import Composition
from tests.fakes.cards import computing_card
from tests.fakes.device import unusable
from tests.running import Client, small_request
from tests.serving_cards import serving_cards

CARDS = ("cuda:0", "cuda:1")
READY = device_info_pb2.DEVICE_STATE_READY


class Machine:
    """A server in this process and its client; it also shows what sessions remember."""

    def __init__(self, app: Composition, client: Client) -> None:
        self._app = app
        self.client = client

    def session(self, event: event_pb2.SessionEvent) -> Session:
        """The session that the event is of."""
        return self._app.sessions.get(event.session_id)

    async def devices_ready(self, *device_ids: str) -> None:
        """Wait for the workers of those devices."""
        watch = self.client.device.WatchDevices(
            device_pb2.WatchDevicesRequest(), metadata=self.client.metadata
        )
        waiting = set(device_ids)
        async for answer in watch:
            if answer.device.state == READY:
                waiting.discard(answer.device.device_id)
            if not waiting:
                watch.cancel()
                return

    async def begin(self, device_id: str = "", **settings: Any) -> Drawing:
        """Start a generation; returns when it is accepted."""
        request = small_request(**settings)
        if device_id:
            request.placement.device_id = device_id
        request.delivery.omit_image_data = True
        drawing = Drawing(self.client.generate(request))
        await drawing.until("accepted")
        return drawing

    def placed(self, drawing: Drawing) -> tuple[str, PlacementReason]:
        """Which device the generation got, and why."""
        placement = self.session(drawing.events[0]).placement
        assert placement.device_id == drawing.device_id
        return placement.device_id, placement.reason


class Drawing:
    """A generation that is followed event by event."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.events: list[event_pb2.SessionEvent] = []

    async def until(self, kind: str) -> event_pb2.SessionEvent:
        """The first event of that kind."""
        while True:
            answer = await self._call.read()
            assert isinstance(answer, inference_pb2.GenerateResponse), "it ended before that"
            self.events.append(answer.event)
            if answer.event.WhichOneof("event") == kind:
                return self.events[-1]

    @property
    def device_id(self) -> str:
        """The device that its first event names."""
        return self.events[0].accepted.placement.device_id

    async def finish(self) -> None:
        """Follow it to its end, which is a good one."""
        await self.until("completed")

    def cancel(self) -> None:
        """Stop it."""
        self._call.cancel()


@asynccontextmanager
async def machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cards: Sequence[Adapter]
) -> AsyncIterator[Machine]:
    """A server on a machine with those cards."""
    async with (
        serving_cards(folder, monkeypatch, cards) as served,
        Client(served.address, served.token) as client,
    ):
        yield Machine(served.app, client)


@pytest.fixture
async def two_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    """Two cards and the processor, all of them ready."""
    cards = [computing_card(0), computing_card(1)]
    async with asyncio.timeout(600), machine(tmp_path, monkeypatch, cards) as found:
        await found.devices_ready(*CARDS, "cpu:0")
        yield found


async def test_work_goes_where_it_is_done_first(two_cards: Machine) -> None:
    """From a machine that measured nothing to one that knows both cards."""
    # Two that name no device run at the same time, on different cards.
    first = await two_cards.begin(steps=30)
    second = await two_cards.begin(steps=30)
    assert two_cards.placed(first) == ("cuda:0", PlacementReason.DEFAULT)
    assert two_cards.placed(second) == ("cuda:1", PlacementReason.SHORTEST_WAIT)
    await asyncio.gather(first.until("step_finished"), second.until("step_finished"))
    states = [two_cards.session(drawing.events[0]).state for drawing in (first, second)]
    assert [state.value for state in states] == ["running", "running"]
    # While both work the processor is idle, and stays so.
    third = await two_cards.begin(steps=2)
    assert two_cards.placed(third) == ("cuda:0", PlacementReason.DEFAULT)
    assert two_cards.session(third.events[0]).placement.expected_seconds is None
    assert two_cards.session(third.events[0]).placement.candidate_device_ids == CARDS
    await asyncio.gather(first.finish(), second.finish(), third.finish())

    # Both are measured. The default has much to do and the other little: the wait decides.
    much = await two_cards.begin("cuda:0", steps=40)
    little = await two_cards.begin("cuda:1", steps=8)
    fourth = await two_cards.begin(steps=2)
    assert two_cards.placed(fourth) == ("cuda:1", PlacementReason.SHORTEST_WAIT)
    expected = two_cards.session(fourth.events[0]).placement.expected_seconds
    assert expected is not None
    assert expected > 0
    # A named one is kept, however busy.
    named = await two_cards.begin("cuda:0", steps=2)
    assert two_cards.placed(named) == ("cuda:0", PlacementReason.NAMED)
    assert named.events[0].accepted.queue_position == 1
    await asyncio.gather(little.finish(), fourth.finish())
    assert two_cards.session(much.events[0]).state.final is False
    much.cancel()
    await named.finish()
    # The end of each says it again.
    for drawing in (fourth, named):
        assert drawing.events[-1].completed.placement.device_id == drawing.device_id
        session = two_cards.session(drawing.events[0])
        end = session.log.terminal
        assert getattr(end, "placement", None) == session.placement

    # A new worker has no model: the other card need not load it.
    restart = two_cards.client.device.RestartWorker(
        device_pb2.RestartWorkerRequest(device_id="cuda:0"), metadata=two_cards.client.metadata
    )
    async for _ in restart:
        pass
    last = await two_cards.begin(steps=2)
    assert two_cards.placed(last) == ("cuda:1", PlacementReason.MODEL_LOADED)
    await last.finish()


async def test_calls_that_come_at_once_are_spread(two_cards: Machine) -> None:
    """Each is placed knowing of those before it."""
    drawings = await asyncio.gather(*(two_cards.begin(steps=2) for _ in range(6)))

    assert sorted(drawing.device_id for drawing in drawings) == ["cuda:0"] * 3 + ["cuda:1"] * 3
    await asyncio.gather(*(drawing.finish() for drawing in drawings))


async def test_the_processor_is_used_where_nothing_else_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = unusable(computing_card(0), "its driver is too old")
    async with asyncio.timeout(600), machine(tmp_path, monkeypatch, [broken]) as found:
        drawing = await found.begin(steps=2)
        assert found.placed(drawing) == ("cpu:0", PlacementReason.ONLY_ONE)
        await drawing.finish()
