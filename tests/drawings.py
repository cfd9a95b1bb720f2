"""Generations over a real channel, followed event by event, and where they were placed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc.aio

from deviceops.v1 import (
    device_info_pb2,
    device_pb2,
    event_pb2,
    inference_pb2,
    processing_pb2,
    session_pb2,
)
from tests.running import Client, small_request

RUNNING = session_pb2.SESSION_STATE_RUNNING


class Followed:
    """A session whose stream is read as far as a test needs.

    Args:
        client: Who asks of it.
        call: The stream that has started it.
    """

    def __init__(self, client: Client, call: Any) -> None:
        self._client, self._call = client, call
        self.events: list[event_pb2.SessionEvent] = []

    @property
    def session_id(self) -> str:
        """Once an event has come."""
        return self.events[0].session_id

    async def until(self, kind: str) -> event_pb2.SessionEvent:
        """The next event of that kind; those before it are kept in `events`."""
        while True:
            answer = await self._call.read()
            assert answer is not grpc.aio.EOF, f"it ended before {kind}"
            self.events.append(answer.event)
            if answer.event.WhichOneof("event") == kind:
                return answer.event

    @property
    def accepted(self) -> event_pb2.SessionAccepted:
        """Its first entry."""
        return self.events[0].accepted

    async def finish(self) -> event_pb2.SessionCompleted:
        """Follow it to its end, which is a good one."""
        return (await self.until("completed")).completed

    async def session(self) -> session_pb2.Session:
        """What the server says of its session now."""
        request = processing_pb2.GetSessionRequest(session_id=self.events[0].session_id)
        found = await self._client.processing.GetSession(
            request, metadata=self._client.metadata
        )
        return found.session

    def cancel(self) -> None:
        """Drop the stream, which stops the session."""
        self._call.cancel()


class Drawing(Followed):
    """A generation."""

    def __init__(self, client: Client, request: inference_pb2.GenerateRequest) -> None:
        super().__init__(client, client.generate(request))


def request(
    placement: device_info_pb2.DevicePlacement | str = "", **settings: Any
) -> inference_pb2.GenerateRequest:
    """A small generation without picture data; a text names its device, "" leaves it open."""
    made = small_request(**settings)
    made.delivery.omit_image_data = True
    if isinstance(placement, device_info_pb2.DevicePlacement):
        made.placement.CopyFrom(placement)
    elif placement:
        made.placement.device_id = placement
    return made


async def begin(
    client: Client, placement: device_info_pb2.DevicePlacement | str = "", **settings: Any
) -> Drawing:
    """Start a generation; returns when it is accepted."""
    drawing = Drawing(client, request(placement, **settings))
    await drawing.until("accepted")
    return drawing


async def validated(
    client: Client, placement: device_info_pb2.DevicePlacement | str = "", **settings: Any
) -> inference_pb2.ValidateGenerationResponse:
    """What the server says of a generation without starting it."""
    asked = inference_pb2.ValidateGenerationRequest(request=request(placement, **settings))
    return await client.inference.ValidateGeneration(asked, metadata=client.metadata)


async def devices_ready(client: Client, *device_ids: str) -> None:
    """Wait for the workers of those devices."""
    watch = client.device.WatchDevices(
        device_pb2.WatchDevicesRequest(), metadata=client.metadata
    )
    waiting = set(device_ids)
    async for answer in watch:
        if answer.device.state == device_info_pb2.DEVICE_STATE_READY:
            waiting.discard(answer.device.device_id)
        if not waiting:
            watch.cancel()
            return


def assert_placed(
    placement: device_info_pb2.PlacementDecision,
    device_id: str,
    reason: str,
    candidates: Sequence[str],
) -> None:
    """It is that device, for that reason, of those candidates."""
    named = device_info_pb2.PlacementReason.Name(placement.reason)
    told = (
        placement.device_id,
        named.removeprefix("PLACEMENT_REASON_"),
        sorted(placement.candidate_device_ids),
    )
    assert told == (device_id, reason, sorted(candidates))
