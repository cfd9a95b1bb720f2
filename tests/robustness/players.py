"""Clients that send work, watch it, lose connections and come back, and note all of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
import uuid
from collections.abc import Coroutine
from random import Random

import grpc
import grpc.aio

from deviceops.v1 import artifact_pb2, batch_pb2, inference_pb2, processing_pb2, session_pb2
from tests.e2e.errors import read
from tests.robustness.cluster import Cluster, Notes
from tests.robustness.history import (
    Acknowledged,
    Cancelled,
    Downloaded,
    Expired,
    Listed,
    Stood,
    Submitted,
)
from tests.running import Client, small_request

_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL)
_FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


async def _wait_unless_refused(error: grpc.aio.AioRpcError) -> None:
    """A moment, before a call that a lost server cost is made again."""
    if error.code() not in (*_LOST, _FULL):
        raise error
    await asyncio.sleep(0.1)


class Player:
    """One client. All that it decides comes from `random`.

    Args:
        name: Its name.
        token: Its token.
        cluster: The servers.
        notes: Where everything goes.
        random: Seeded.
    """

    def __init__(
        self, name: str, token: str, cluster: Cluster, notes: Notes, random: Random
    ) -> None:
        self._name, self._token = name, token
        self._cluster, self._notes, self._random = cluster, notes, random
        self._requests: list[inference_pb2.GenerateRequest] = []
        self._sessions: dict[str, str] = {}  # by request_id
        self._followers: list[asyncio.Task[None]] = []

    async def play(self, count: int) -> None:
        """Send so many pieces of work, and return once all have ended."""
        for _ in range(count):
            await self._send(self._request())
            await asyncio.sleep(self._random.uniform(0.0, 0.3))
            await self._interfere()
        await self.rest()

    def _request(self) -> inference_pb2.GenerateRequest:
        chance = self._random
        request = small_request(
            f"{self._name} {len(self._requests)}", model_id="small", steps=chance.randint(1, 6)
        )
        if chance.random() < 0.5:
            request.settings.ClearField("seed")  # what the server chose is kept
        request.settings.image_count = chance.choice((1, 1, 2))
        options = request.options
        options.request_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        options.priority = chance.choice((1, 2, 2, 3))  # LOW is 1
        options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
        self._requests.append(request)
        return request

    async def _send(self, request: inference_pb2.GenerateRequest) -> None:
        """Have it accepted, however often the server goes away, and follow it from then on."""
        self._submitted(request.options)
        while True:
            client = await self._cluster.connect(self._token)
            call = client.generate(request)
            try:
                event = (await anext(aiter(call))).event
            except grpc.aio.AioRpcError as error:
                await client.channel.close()
                await _wait_unless_refused(error)
            else:
                seeds = tuple(event.accepted.seeds)
                self._acknowledged(request.options.request_id, event.session_id, seeds)
                stream = self._notes.open(event.session_id, 1)
                self._notes.event(stream, event)
                self._keep(self._follow(client, call, stream, event.session_id, event.sequence))
                return

    async def send_batch(self, request: batch_pb2.CreateBatchRequest) -> None:
        """The same for a batch."""
        self._submitted(request.options)
        while True:
            try:
                async with await self._cluster.connect(self._token) as client:
                    answer = await client.processing.CreateBatch(
                        request, metadata=client.metadata
                    )
            except grpc.aio.AioRpcError as error:
                await _wait_unless_refused(error)
            else:
                session_id = answer.batch.session_id
                self._acknowledged(request.options.request_id, session_id, ())
                await self._watch(session_id)
                return

    async def send_one(self) -> None:
        """Something to draw, of its own choice."""
        await self._send(self._request())

    async def rest(self) -> None:
        """Return once everything that is followed has ended."""
        followers, self._followers = self._followers, []
        await asyncio.gather(*followers)

    def _submitted(self, options: session_pb2.WorkOptions) -> None:
        urgency = 4 - (options.priority or session_pb2.PRIORITY_NORMAL)
        self._notes.add(Submitted(time.time(), self._name, options.request_id, urgency))

    def _acknowledged(self, request_id: str, session_id: str, seeds: tuple[int, ...]) -> None:
        self._sessions[request_id] = session_id
        self._notes.add(Acknowledged(time.time(), self._name, request_id, session_id, seeds))

    def _keep(self, follow: Coroutine[None, None, None]) -> None:
        self._followers.append(asyncio.create_task(follow))

    async def _watch(self, session_id: str) -> None:
        """Follow a session from its beginning, beside others who do."""
        client = await self._cluster.connect(self._token)
        stream = self._notes.open(session_id, 1)
        wanted = processing_pb2.WatchSessionRequest(session_id=session_id)
        call = client.processing.WatchSession(wanted, metadata=client.metadata)
        self._keep(self._follow(client, call, stream, session_id, 0))

    async def _follow(
        self, client: Client, call: grpc.aio.Call, stream: int, session_id: str, reached: int
    ) -> None:
        """Read a session to its end, over whatever happens to streams and servers."""
        while True:
            try:
                async for response in call:
                    reached = response.event.sequence
                    self._notes.event(stream, response.event)
                if await call.code() is grpc.StatusCode.OK:
                    return
            except grpc.aio.AioRpcError as error:
                refused = read(error)
                if refused.reason == "EVENTS_EXPIRED":
                    first = (await self._stand(session_id)).first_sequence
                    self._notes.add(Expired(time.time(), stream, reached + 1, first))
                    reached = first - 1
                elif error.code() not in _LOST:
                    raise
            finally:
                await client.channel.close()
            await asyncio.sleep(0.05)
            client = await self._cluster.connect(self._token)
            wanted = processing_pb2.WatchSessionRequest(
                session_id=session_id, from_sequence=reached + 1
            )
            stream = self._notes.open(session_id, reached + 1)
            call = client.processing.WatchSession(wanted, metadata=client.metadata)

    async def _interfere(self) -> None:
        """Something else that clients do; a server that goes away meanwhile ends it."""
        chance = self._random.random()
        session_id = self._random.choice(list(self._sessions.values()))
        again = self._random.choice(self._requests)
        with contextlib.suppress(grpc.aio.AioRpcError):
            if chance < 0.2:
                await self._cancel(session_id)
            elif chance < 0.4:
                await self._list()
            elif chance < 0.6:
                await self._stand(session_id)
            elif chance < 0.8:
                await self._send(again)
            else:
                await self._watch(session_id)

    async def _cancel(self, session_id: str) -> None:
        async with await self._cluster.connect(self._token) as client:
            await client.processing.CancelSession(
                processing_pb2.CancelSessionRequest(session_id=session_id),
                metadata=client.metadata,
            )
            self._notes.add(Cancelled(time.time(), session_id))

    async def _list(self) -> None:
        at = time.time()
        async with await self._cluster.connect(self._token) as client:
            found = await client.processing.ListSessions(
                processing_pb2.ListSessionsRequest(page_size=1000), metadata=client.metadata
            )
        for session in found.sessions:
            self._note(session)
        self._notes.add(
            Listed(at, self._name, tuple(each.session_id for each in found.sessions))
        )

    async def _stand(self, session_id: str) -> session_pb2.Session:
        """How a session stands, asked again while there is no server."""
        while True:
            try:
                async with await self._cluster.connect(self._token) as client:
                    found = await client.processing.GetSession(
                        processing_pb2.GetSessionRequest(session_id=session_id),
                        metadata=client.metadata,
                    )
            except grpc.aio.AioRpcError as error:
                if error.code() not in _LOST:
                    raise
                await asyncio.sleep(0.05)
            else:
                self._note(found.session)
                return found.session

    def _note(self, session: session_pb2.Session) -> None:
        begun = session.HasField("start_time")
        self._notes.add(
            Stood(
                time.time(),
                session.session_id,
                session_pb2.SessionState.Name(session.state).removeprefix("SESSION_STATE_"),
                tuple(
                    (f"{each.item_id}/{each.image_index}", each.artifact_id)
                    for each in session.images
                ),
                session.start_time.ToNanoseconds() / 1e9 if begun else None,
                session.retry_count,
            )
        )

    async def look_back(self) -> None:
        """At rest: how everything stands, what there is, and every picture."""
        await self._list()
        pictures: set[str] = set()
        for session_id in dict.fromkeys(self._sessions.values()):
            found = await self._stand(session_id)
            pictures |= {each.artifact_id for each in found.images}
        async with await self._cluster.connect(self._token) as client:
            for artifact_id in sorted(pictures):
                await self._download(client, artifact_id)

    async def _download(self, client: Client, artifact_id: str) -> None:
        wanted = artifact_pb2.DownloadArtifactRequest(artifact_id=artifact_id)
        content = hashlib.sha256()
        try:
            call = client.artifact.DownloadArtifact(wanted, metadata=client.metadata)
            async for chunk in call:
                content.update(chunk.data)
        except grpc.aio.AioRpcError as error:
            self._notes.add(Downloaded(time.time(), artifact_id, "", read(error).reason))
        else:
            self._notes.add(Downloaded(time.time(), artifact_id, content.hexdigest()))
