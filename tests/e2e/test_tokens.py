"""A token that is revoked in mid-stream: what it leaves, and what goes on."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from deviceops.v1 import (
    device_pb2,
    errors_pb2,
    event_pb2,
    inference_pb2,
    processing_pb2,
    session_pb2,
)
from domains.clients import Role
from tests.e2e.errors import read, refusal_of
from tests.running import Client, RunningServer, small_request

LONG = 150


async def test_a_revoked_token_s_streams_end_and_only_its_detached_sessions_go_on(
    server: RunningServer,
) -> None:
    token = await server.named("passing")
    async with server.client(token) as passing, server.client() as staying:
        attached = small_request(steps=LONG)
        detached = small_request(steps=12, seed=8)
        detached.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
        calls = [passing.generate(request) for request in (attached, detached)]
        ids = [(await call.read()).event.session_id for call in calls]  # type: ignore[union-attr]

        await asyncio.to_thread(server.revoke, "passing")
        for call in calls:
            ended = await asyncio.wait_for(end_of(call), 30)
            assert (ended.code(), read(ended).reason) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "TOKEN_INVALID",
            )
        refused = await refusal_of(passing.generate(small_request()).read())
        assert refused.reason == "TOKEN_INVALID"

        first, second = [await last_event_of(staying, id_) for id_ in ids]
        assert first.cancelled.reason == errors_pb2.ERROR_REASON_CLIENT_DISCONNECTED
        assert second.HasField("completed")


async def end_of(
    call: grpc.aio.UnaryStreamCall[
        inference_pb2.GenerateRequest, inference_pb2.GenerateResponse
    ],
) -> grpc.aio.AioRpcError:
    async def rest() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rest()
    return caught.value


async def last_event_of(client: Client, session_id: str) -> event_pb2.SessionEvent:
    """How the session ended, once it has."""
    request = processing_pb2.WatchSessionRequest(session_id=session_id)
    watch = client.processing.WatchSession(request, metadata=client.metadata)
    events = [response.event async for response in watch]
    return events[-1]


async def test_a_role_is_enough_or_is_not(server: RunningServer) -> None:
    async with server.client(await server.named("looking", Role.READ)) as looking:
        await looking.device.ListDevices(
            device_pb2.ListDevicesRequest(), metadata=looking.metadata
        )
        refused = await refusal_of(looking.generate(small_request()).read())
    async with server.client(await server.named("working")) as working:
        events, files = await working.draw(small_request(steps=1))
        chosen = device_pb2.SetDefaultDeviceRequest(device_id="cpu")
        forbidden = await refusal_of(
            working.device.SetDefaultDevice(chosen, metadata=working.metadata)
        )
    assert (events[-1].HasField("completed"), len(files)) == (True, 1)
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "ROLE_REQUIRED",
    )
    assert refused.metadata == {"role": "READ", "required_role": "RUN"}
    assert forbidden.metadata == {"role": "RUN", "required_role": "ADMIN"}
    for name in ("looking", "working"):
        server.revoke(name)
