"""ProcessingService through a real channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias, cast

import grpc.aio
import pytest

from deviceops.v1 import inference_pb2, processing_pb2, processing_pb2_grpc, session_pb2
from domains.clients import Role
from domains.memory.core.leases import Leases
from domains.processing.batches.servicer import BatchParts
from domains.processing.core.control import SessionControl
from domains.processing.core.lists import SessionLists
from domains.processing.servicer import ProcessingServicer
from domains.processing.workflows.convert.running import WorkflowRequests
from domains.processing.workflows.core.picture_work import PictureWork
from domains.processing.workflows.core.stepping import SessionServices
from domains.processing.workflows.core.store import WorkflowStore
from domains.processing.workflows.servicer import WorkflowParts
from domains.session.convert import SessionConverter, SessionStreams, Starters
from domains.session.core.reading import SessionReader
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.types import WorkOptions
from tests.callers import called
from tests.clocks import SteeredTime
from tests.domains.processing.batches.conftest import place
from tests.domains.processing.workflows.disk import Memory
from tests.domains.session.conftest import finish, idle, picture, started, submit
from tests.domains.session.test_queue import Device
from tests.domains.sessions import until_final
from tests.domains.wire import channel_to

OPERATOR = called("operator", Role.ADMIN)
Stub: TypeAlias = "processing_pb2_grpc.ProcessingServiceAsyncStub"


async def no_generation(
    request: inference_pb2.GenerateRequest,
) -> inference_pb2.ValidateGenerationResponse:
    raise AssertionError("no test here has a workflow judged")


@pytest.fixture
async def stub(
    sessions: Sessions,
    control: SessionControl,
    lists: SessionLists,
    reader: SessionReader,
    clock: SteeredTime,
) -> AsyncIterator[Stub]:
    converter, starters = SessionConverter({}), Starters()
    runner, store = (
        SessionRunner(sessions, reader),
        WorkflowStore((), Memory(), clock.clock.wall),
    )
    services = SessionServices(sessions, runner, reader)
    pictures = cast("PictureWork", None)  # no run here has a step that needs any
    leases = cast("Leases", None)  # nor memory
    requests = WorkflowRequests(
        *(store, starters, services, no_generation, lambda method: None, pictures, leases)
    )
    streams = SessionStreams(runner, converter, starters)
    here = place(clock, sessions)
    servicer = ProcessingServicer(
        sessions,
        control,
        lists,
        reader,
        converter,
        BatchParts(here.batches, here.control, starters, runner, reader, converter),
        WorkflowParts(store, requests, streams),
    )
    add = processing_pb2_grpc.add_ProcessingServiceServicer_to_server
    async with channel_to(add, servicer) as channel:
        yield processing_pb2_grpc.ProcessingServiceStub(channel)


async def test_sessions_with_all_the_metadata_they_may_have_are_listed(
    stub: Stub, sessions: Sessions
) -> None:
    """Fifty of them outgrow a message: pages end before, and together hold every one."""
    most = {f"key{number}": "\N{ROBOT FACE}" * 1024 for number in range(32)}
    options = WorkOptions(tags=("\N{ROBOT FACE}" * 64,) * 32, metadata=most)
    opened = []

    async def at_once(session: Session) -> None:
        finish(session)

    for _ in range(50):
        opened.append(submit(sessions, at_once, options))
        await until_final(opened[-1])

    listed: list[str] = []
    token = ""
    while token or not listed:
        request = processing_pb2.ListSessionsRequest(
            page_size=1000, page_token=token, view=session_pb2.SESSION_VIEW_FULL
        )
        page = await stub.ListSessions(
            request, metadata=OPERATOR
        )  # with the channel's own limit of 4 MiB
        listed += [session.session_id for session in page.sessions]
        token = page.next_page_token

    assert listed == [session.session_id for session in reversed(opened)]


async def test_a_watch_shows_the_session_and_leaves_it_alone(
    stub: Stub, sessions: Sessions
) -> None:
    session = await started(sessions)
    watch = stub.WatchSession(
        processing_pb2.WatchSessionRequest(session_id=session.session_id), metadata=OPERATOR
    )
    first = (await watch.read()).event
    finish(session)
    last = (await watch.read()).event

    assert first.WhichOneof("event") == "accepted"
    assert last.WhichOneof("event") == "completed"
    assert await watch.read() is grpc.aio.EOF
    got = await stub.GetSession(
        processing_pb2.GetSessionRequest(session_id=session.session_id), metadata=OPERATOR
    )
    assert got.terminal_event == last


async def test_a_waiting_session_is_changed_paused_resumed_and_cancelled_while_others_watch(
    stub: Stub, sessions: Sessions
) -> None:
    work = Device()
    submit(sessions, work.work)
    await work.started.wait()
    submit(sessions, work.work)
    waiting = submit(sessions, work.work)
    watch = stub.WatchSessions(processing_pb2.WatchSessionsRequest(), metadata=OPERATOR)
    kinds = [(await watch.read()).kind for _ in range(4)]
    assert kinds[-1] == processing_pb2.SESSION_CHANGE_KIND_SNAPSHOT_END
    session_id = waiting.session_id

    options = session_pb2.WorkOptions(priority=session_pb2.PRIORITY_HIGH)
    update = processing_pb2.UpdateSessionRequest(
        session_id=session_id, options=options, update_fields={"paths": ["priority"]}
    )
    changed = await stub.UpdateSession(update, metadata=OPERATOR)
    queue = await stub.ListQueue(processing_pb2.ListQueueRequest(), metadata=OPERATOR)
    pause = processing_pb2.PauseSessionRequest(session_id=session_id, reason_text="lunch")
    paused = await stub.PauseSession(pause, metadata=OPERATOR)
    resume = processing_pb2.ResumeSessionRequest(session_id=session_id)
    resumed = await stub.ResumeSession(resume, metadata=OPERATOR)
    cancel = processing_pb2.CancelSessionsRequest(
        filter={"states": [session_pb2.SESSION_STATE_QUEUED]}, reason_text="enough"
    )
    cancelled = await stub.CancelSessions(cancel, metadata=OPERATOR)

    assert changed.session.options.priority == session_pb2.PRIORITY_HIGH
    assert [each.session_id for each in queue.sessions][:1] == [session_id]
    assert paused.session.state == session_pb2.SESSION_STATE_PAUSED
    assert resumed.session.state == session_pb2.SESSION_STATE_QUEUED
    assert cancelled.cancelled_count == queue.total_count
    ended = set()
    while len(ended) < cancelled.cancelled_count:
        change = await watch.read()
        if change.kind == processing_pb2.SESSION_CHANGE_KIND_ENDED:
            ended.add(change.session.session_id)
            assert change.revision > 0
    assert session_id in ended
    got = await stub.GetSession(
        processing_pb2.GetSessionRequest(session_id=session_id), metadata=OPERATOR
    )
    assert got.terminal_event.cancelled.reason_text == "enough"
    assert got.terminal_event.cancelled.cancelled_by == "operator"
    watch.cancel()
    work.release.set()


async def test_what_became_of_a_session_is_answered_once_it_is_on_disk(
    stub: Stub, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await started(sessions)
    written = asyncio.Event()

    async def settled(of: Session) -> None:
        assert of is session
        await written.wait()

    monkeypatch.setattr(sessions, "settled", settled)
    request = processing_pb2.GetSessionRequest(session_id=session.session_id)
    answer = asyncio.ensure_future(stub.GetSession(request, metadata=OPERATOR))
    await asyncio.sleep(0.1)
    assert not answer.done()
    written.set()
    assert (await answer).session.session_id == session.session_id


async def test_what_is_somebody_elses_is_not_there(stub: Stub, sessions: Sessions) -> None:
    session = submit(sessions, idle, owner="mary")
    request = processing_pb2.GetSessionRequest(session_id=session.session_id)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.GetSession(request, metadata=called("john"))
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    mine = await stub.GetSession(request, metadata=called("mary"))
    assert mine.session.owner == "mary"


async def test_a_session_is_told_with_its_pictures_once(stub: Stub, sessions: Sessions) -> None:
    session = await started(sessions)
    session.finish_image(picture(0))
    finish(session)

    got = await stub.GetSession(
        processing_pb2.GetSessionRequest(session_id=session.session_id), metadata=OPERATOR
    )

    assert len(got.session.images) == 1
    assert got.terminal_event.completed.image_count == 1
    assert not got.terminal_event.completed.images
