"""Workers on other machines: two nodes of a Ray cluster, both on this machine, and a server."""

from __future__ import annotations

import asyncio
import io
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path

import grpc
import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from deviceops.v1 import (
    batch_pb2,
    common_pb2,
    device_info_pb2,
    device_pb2,
    event_pb2,
    generation_pb2,
    inference_pb2,
    memory_info_pb2,
    processing_pb2,
    session_pb2,
)
from tests.drawings import Drawing, begin, devices_ready, request
from tests.e2e.errors import refusal_of
from tests.e2e.memory_calls import lend
from tests.fakes.pictures import png
from tests.fakes.ray_cluster import Cluster, can_have_other_disks
from tests.fakes.tiny_models import save_sd1
from tests.running import Client, RunningServer, small_request, start_server

pytestmark = [
    pytest.mark.skipif(
        find_spec("ray") is None, reason="Ray is not installed: install the extra [ray]"
    ),
    pytest.mark.skipif(sys.platform != "linux", reason="clusters are tried on Linux only"),
]
A, B = "ray:node-a:cpu:0", "ray:node-b:cpu:0"
PATIENCE = 240.0
RUNNING = session_pb2.SESSION_STATE_RUNNING
COMPLETED = session_pb2.SESSION_STATE_COMPLETED
FINAL = (COMPLETED, session_pb2.SESSION_STATE_FAILED, session_pb2.SESSION_STATE_CANCELLED)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster("node-a", "node-b")
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model root with one tiny model."""
    root = tmp_path_factory.mktemp("models")
    save_sd1(root / "small")
    return root


@pytest.fixture(scope="module")
def machines_server(
    cluster: Cluster, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server with the cluster's machines and one tiny model."""
    data = tmp_path_factory.mktemp("data")
    config = data / "server.toml"
    config.write_text(f'ray_address = "{cluster.address}"\n')
    with start_server(data, "--model-root", str(models), "--config", str(config)) as running:
        yield running


@pytest_asyncio.fixture
async def client(machines_server: RunningServer) -> AsyncIterator[Client]:
    async with machines_server.client() as connected, asyncio.timeout(PATIENCE):
        yield connected


async def listed(client: Client) -> dict[str, device_info_pb2.DeviceInfo]:
    answer = await client.device.ListDevices(
        device_pb2.ListDevicesRequest(), metadata=client.metadata
    )
    return {device.device_id: device for device in answer.devices}


async def test_devices_of_other_machines_are_listed(client: Client) -> None:
    await devices_ready(client, "cpu:0", A, B)
    found = await listed(client)
    assert found.keys() == {"cpu:0", A, B}
    for device_id in (A, B):
        assert found[device_id].kind == device_info_pb2.DEVICE_KIND_CPU
        assert found[device_id].runtime_version == found["cpu:0"].runtime_version
        assert not found[device_id].is_default
        assert not found[device_id].aliases  # "cpu" is this machine's
    assert found["cpu:0"].is_default


async def pixels(client: Client, asked: inference_pb2.GenerateRequest) -> np.ndarray:
    """Those of the one picture that a generation comes to."""
    events, files = await client.draw(asked)
    assert events[-1].WhichOneof("event") == "completed", events[-1]
    [picture] = files.values()
    return np.asarray(Image.open(io.BytesIO(picture)))


@pytest.mark.parametrize("kind", ["text", "image"])
async def test_another_machine_draws_what_this_one_draws(client: Client, kind: str) -> None:
    """From a text, and from a picture that is brought there; the result is brought back."""
    await devices_ready(client, "cpu:0", A)

    def asked(device_id: str) -> inference_pb2.GenerateRequest:
        made = small_request(steps=2, model_id="small")
        if kind == "image":
            image = common_pb2.InputImage(inline=png(256, 256))
            made.settings.image_to_image.CopyFrom(
                generation_pb2.ImageToImage(image=image, strength=0.8)
            )
        made.placement.device_id = device_id
        return made

    there, here = await pixels(client, asked(A)), await pixels(client, asked("cpu:0"))
    assert np.array_equal(there, here)


async def test_memory_of_another_machine_is_not_for_clients(client: Client) -> None:
    await devices_ready(client, A)
    place = memory_info_pb2.MemoryPlace(device_id=A)
    refused = await refusal_of(lend(client, place, 1 << 20))
    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "DEVICE_UNSUPPORTED"
    assert refused.metadata == {"device_id": A, "node": "node-a"}


async def test_whoever_ends_here_ends_there(client: Client, cluster: Cluster) -> None:
    """The process that stands for a worker is killed: that one is gone before another comes."""
    await devices_ready(client, A, B)
    [before] = cluster.workers("node-a")
    asked = device_pb2.RestartWorkerRequest(device_id=A, force=True)
    async for _ in client.device.RestartWorker(asked, metadata=client.metadata):
        pass
    [after] = cluster.workers("node-a")
    assert after != before
    assert (await listed(client))[A].state == device_info_pb2.DEVICE_STATE_READY


async def batch_of(client: Client, count: int, steps: int = 8) -> str:
    """A batch of so many items on both nodes; its id."""
    asked = batch_pb2.CreateBatchRequest(
        template=small_request(steps=steps, model_id="small").settings,
        items=[
            batch_pb2.BatchItem(
                item_id=f"item-{number}",
                overlay=generation_pb2.GenerationOverlay(
                    settings=generation_pb2.GenerationSettings(seed=number)
                ),
            )
            for number in range(count)
        ],
        devices=device_info_pb2.DeviceChoice(device_ids=[A, B]),
    )
    asked.options.request_id = str(uuid.uuid4())
    made = await client.processing.CreateBatch(asked, metadata=client.metadata)
    return made.batch.batch_id


async def items_of(client: Client, batch_id: str) -> list[batch_pb2.BatchItemStatus]:
    """Those of a batch, once it is final."""
    asked = batch_pb2.GetBatchRequest(batch_id=batch_id, page_size=1000)
    while True:
        found = await client.processing.GetBatch(asked, metadata=client.metadata)
        if found.batch.state in FINAL:
            return list(found.items)
        await asyncio.sleep(0.1)


async def sessions_of(
    client: Client, items: list[batch_pb2.BatchItemStatus]
) -> list[session_pb2.Session]:
    """The sessions that did these items."""
    found = []
    for item in items:
        asked = processing_pb2.GetSessionRequest(session_id=item.session_id)
        answer = await client.processing.GetSession(asked, metadata=client.metadata)
        found.append(answer.session)
    return found


def places_of(sessions: list[session_pb2.Session]) -> Counter[str]:
    """How many of them each device did."""
    return Counter(session.placement.device_id for session in sessions)


async def drawn_at(client: Client, batch_id: str, device_id: str) -> str:
    """A session of the batch that is in the middle of its work on that device."""
    asked = batch_pb2.GetBatchRequest(batch_id=batch_id, page_size=1000)
    while True:
        found = await client.processing.GetBatch(asked, metadata=client.metadata)
        running = [item for item in found.items if item.state == RUNNING]
        for session in await sessions_of(client, running):
            if session.placement.device_id == device_id and session.progress > 0:
                return session.session_id
        await asyncio.sleep(0.02)


async def events_of(client: Client, session_id: str, kind: str) -> list[event_pb2.SessionEvent]:
    """What a session that has ended says of that kind."""
    asked = processing_pb2.WatchSessionRequest(session_id=session_id)
    watch = client.processing.WatchSession(asked, metadata=client.metadata)
    events = [answer.event async for answer in watch]
    return [event for event in events if event.WhichOneof("event") == kind]


async def ends_of(client: Client, batch_id: str) -> list[str]:
    """The items of which the batch says that they ended, each as often as it says so."""
    asked = batch_pb2.WatchBatchRequest(batch_id=batch_id)
    watch = client.processing.WatchBatch(asked, metadata=client.metadata)
    events = [answer.event async for answer in watch]
    named = [event for event in events if event.WhichOneof("event") == "item_finished"]
    return [event.item_finished.item_id for event in named]


def assert_each_once(items: list[batch_pb2.BatchItemStatus], count: int) -> None:
    """Every item is done and has one picture, which no other has."""
    assert [item.state for item in items] == [COMPLETED] * count, items
    assert [len(item.images) for item in items] == [1] * count
    assert len({item.images[0].artifact_id for item in items}) == count


async def test_a_batch_spreads_over_both_nodes(client: Client) -> None:
    await devices_ready(client, A, B)
    items = await items_of(client, await batch_of(client, 6))
    assert_each_once(items, 6)
    places = places_of(await sessions_of(client, items))
    assert places.keys() == {A, B}
    assert min(places.values()) >= 2


async def test_what_a_killed_node_had_is_done_elsewhere_once(
    client: Client, cluster: Cluster
) -> None:
    """In the middle of a batch: nothing is lost, nothing is done twice, the device is LOST."""
    await devices_ready(client, A, B)
    batch_id = await batch_of(client, 8, steps=40)
    watched = asyncio.ensure_future(ends_of(client, batch_id))
    at_work = await drawn_at(client, batch_id, B)
    await asyncio.to_thread(cluster.kill, "node-b")
    items = await items_of(client, batch_id)
    assert_each_once(items, 8)
    assert sorted(await watched) == sorted(item.item_id for item in items)
    sessions = await sessions_of(client, items)
    assert places_of(sessions)[A] >= 5
    retried = await events_of(client, at_work, "retried")
    assert [event.retried.retry_count for event in retried] == [1]
    assert at_work in {session.session_id for session in sessions}
    assert len(await events_of(client, at_work, "image_finished")) == 1

    lost = (await listed(client))[B]
    assert lost.state == device_info_pb2.DEVICE_STATE_LOST
    assert lost.explanation
    refused = await refusal_of(client.generate(request(B, model_id="small")).read())
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.UNAVAILABLE,
        "DEVICE_UNAVAILABLE",
    )
    await (await begin(client, A, model_id="small")).finish()


async def used_again(client: Client, device_id: str) -> None:
    """Return once work is taken for it."""
    while True:
        drawing = Drawing(client, request(device_id, model_id="small"))
        try:
            await drawing.finish()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.5)
        else:
            return


async def until_lost(client: Client, device_id: str) -> None:
    """Return once it is said to be."""
    while True:
        if (await listed(client))[device_id].state == device_info_pb2.DEVICE_STATE_LOST:
            return
        await asyncio.sleep(0.2)


async def killed(client: Client, cluster: Cluster) -> None:
    """Have the second node dead, if it is not, and known to be lost."""
    if cluster.has("node-b"):
        await devices_ready(client, B)
        await asyncio.to_thread(cluster.kill, "node-b")
    await until_lost(client, B)


async def test_a_node_that_comes_back_is_used_again(client: Client, cluster: Cluster) -> None:
    await killed(client, cluster)
    await asyncio.to_thread(cluster.join, "node-b")
    await used_again(client, B)
    assert (await listed(client))[B].state == device_info_pb2.DEVICE_STATE_READY
    assert len(cluster.workers("node-b")) == 1
    asked = small_request(steps=2, model_id="small")
    asked.placement.device_id = B
    there = await pixels(client, asked)
    asked.placement.device_id = "cpu:0"
    assert np.array_equal(there, await pixels(client, asked))


async def paused_after_steps(client: Client, drawing: Drawing, count: int) -> None:
    """Pause it once it has made so many steps."""
    for _ in range(count):
        event = await drawing.until("step_finished")
    asked = processing_pb2.PauseSessionRequest(session_id=event.session_id)
    await client.processing.PauseSession(asked, metadata=client.metadata)
    await drawing.until("paused")


async def resumed(client: Client, drawing: Drawing) -> tuple[int, str]:
    """Resume it to its end: how many steps were kept, and what the picture is."""
    asked = processing_pb2.ResumeSessionRequest(session_id=drawing.events[0].session_id)
    await client.processing.ResumeSession(asked, metadata=client.metadata)
    before = len(drawing.events)
    completed = await drawing.finish()
    phases = [each.phase_started for each in drawing.events[before:]]
    return max(each.kept_steps for each in phases), completed.images[0].artifact_id


async def test_what_is_paused_on_a_node_goes_on_there(client: Client) -> None:
    """Its steps come here with the pause, and go there again with the work."""
    await devices_ready(client, A)
    drawing = Drawing(client, request(A, model_id="small", steps=60))
    await drawing.until("accepted")
    await paused_after_steps(client, drawing, 3)
    assert (await drawing.session()).placement.device_id == A
    kept, picture = await resumed(client, drawing)
    assert kept >= 3
    whole = Drawing(client, request("cpu:0", model_id="small", steps=60))
    assert (await whole.finish()).images[0].artifact_id == picture


async def test_what_is_paused_on_a_node_that_dies_goes_on_elsewhere(
    client: Client, cluster: Cluster
) -> None:
    """After the steps that it had made."""
    await devices_ready(client, A, B)
    either = device_info_pb2.DevicePlacement(
        any=device_info_pb2.DeviceChoice(device_ids=[A, B])
    )
    drawing = Drawing(client, request(either, model_id="small", steps=60))
    await drawing.until("accepted")
    await paused_after_steps(client, drawing, 3)
    first = (await drawing.session()).placement.device_id
    other = {A: B, B: A}[first]
    node = first.split(":")[1]
    await asyncio.to_thread(cluster.kill, node)
    await until_lost(client, first)
    kept, picture = await resumed(client, drawing)
    assert kept >= 3
    assert (await drawing.session()).placement.device_id == other
    whole = Drawing(client, request("cpu:0", model_id="small", steps=60))
    assert (await whole.finish()).images[0].artifact_id == picture
    await asyncio.to_thread(cluster.join, node)
    await used_again(client, first)


@pytest.mark.skipif(not can_have_other_disks(), reason="nodes cannot have disks of their own")
async def test_a_model_of_other_content_on_a_node_is_noticed(
    client: Client, cluster: Cluster, models: Path, tmp_path: Path
) -> None:
    """Its files have the sizes that they have here, and one byte is another one."""
    other = tmp_path / "models"
    shutil.copytree(models, other)
    weights = next((other / "small" / "unet").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    await killed(client, cluster)
    await asyncio.to_thread(cluster.join, "node-b", instead=(models, other))
    while True:
        drawing = Drawing(client, request(B, model_id="small"))
        refused = await refusal_of(drawing.finish())
        if refused.code is not grpc.StatusCode.UNAVAILABLE:
            break
        await asyncio.sleep(0.5)
    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "MODEL_INCOMPLETE"
    assert refused.metadata["node"] == "node-b"
    assert refused.metadata["file"] == weights.name
    shutil.copyfile(models / "small" / "unet" / weights.name, weights)
    await used_again(client, B)


async def test_a_server_works_where_ray_cannot_be_imported(tmp_path: Path) -> None:
    program = "tests.fakes.server_without_ray"
    with start_server(tmp_path, program=program) as running:
        async with running.client() as client, asyncio.timeout(PATIENCE):
            await devices_ready(client, "cpu:0")
            await (await begin(client, "cpu:0", steps=1)).finish()
