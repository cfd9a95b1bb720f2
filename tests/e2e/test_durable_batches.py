"""Durable batches over a real channel to a real worker, and over restarts."""

from __future__ import annotations

import asyncio
import io
import json
import math
import sys
import uuid
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from PIL import Image

from deviceops.v1 import (
    batch_pb2,
    common_pb2,
    device_info_pb2,
    event_pb2,
    finishing_pb2,
    generation_pb2,
    processing_pb2,
    safety_pb2,
    session_pb2,
)
from tests.domains.picture.drawn import painting, saved
from tests.e2e.errors import read
from tests.e2e.programs import run
from tests.fakes.tiny_models import save_sd1
from tests.running import Client, RunningServer, small_request

Settings = generation_pb2.GenerationSettings
COMPLETED = session_pb2.SESSION_STATE_COMPLETED
FAILED = session_pb2.SESSION_STATE_FAILED
CANCELLED = session_pb2.SESSION_STATE_CANCELLED
PAUSED = session_pb2.SESSION_STATE_PAUSED
RUNNING = session_pb2.SESSION_STATE_RUNNING
THROUGHPUT = generation_pb2.BATCH_COMPUTATION_THROUGHPUT
FINAL = (COMPLETED, FAILED, CANCELLED)


@pytest.fixture(scope="module")
def root(models: Path) -> Path:
    """One tiny checkpoint."""
    save_sd1(models / "small")
    return models


def item(name: str, *cleared: str, **settings: Any) -> batch_pb2.BatchItem:
    overlay = generation_pb2.GenerationOverlay(
        settings=Settings(**settings), cleared_fields=FieldMask(paths=cleared)
    )
    return batch_pb2.BatchItem(item_id=name, overlay=overlay)


def asked(*items: batch_pb2.BatchItem, **fields: Any) -> batch_pb2.CreateBatchRequest:
    """A batch over a small request of two steps."""
    template = small_request(steps=2, model_id="small", negative_prompt="blurry").settings
    request = batch_pb2.CreateBatchRequest(template=template, items=items, **fields)
    request.options.request_id = str(uuid.uuid4())
    return request


async def create(client: Client, request: batch_pb2.CreateBatchRequest) -> batch_pb2.Batch:
    answer = await client.processing.CreateBatch(request, metadata=client.metadata)
    return answer.batch


async def get(client: Client, batch_id: str, **fields: Any) -> batch_pb2.GetBatchResponse:
    request = batch_pb2.GetBatchRequest(batch_id=batch_id, **fields)
    return await client.processing.GetBatch(request, metadata=client.metadata)


async def until(
    client: Client, batch_id: str, *states: session_pb2.SessionState.ValueType
) -> batch_pb2.GetBatchResponse:
    """The batch once it is in one of these states."""
    async with asyncio.timeout(60):
        while True:
            found = await get(client, batch_id, page_size=1000)
            if found.batch.state in states:
                return found
            await asyncio.sleep(0.02)


async def until_some_ended(client: Client, batch_id: str, count: int = 1) -> None:
    """So many items have ended."""
    request = batch_pb2.WatchBatchRequest(batch_id=batch_id)
    request.delivery.omit_image_data = True
    call = client.processing.WatchBatch(request, metadata=client.metadata)
    async for answer in call:
        if answer.event.item_finished.done_count >= count:
            call.cancel()
            return


async def watch(
    client: Client, batch_id: str, start: int = 0, *, data: bool = False
) -> list[event_pb2.SessionEvent]:
    request = batch_pb2.WatchBatchRequest(
        batch_id=batch_id,
        from_sequence=start,
        delivery=session_pb2.DeliveryOptions(omit_image_data=not data),
    )
    call = client.processing.WatchBatch(request, metadata=client.metadata)
    return [answer.event async for answer in call]


async def test_each_item_is_drawn_as_a_call_of_its_own(client: Client) -> None:
    batch = await create(
        client,
        asked(
            item("plain", "negative_prompt", prompt="a pear"),
            item("as the template"),
            item("two", seeds=[3, 9], steps=3),
        ),
    )
    assert (batch.item_count, batch.sealed) == (3, True)
    events = await watch(client, batch.batch_id, data=True)
    alone = [
        small_request("a pear", steps=2, model_id="small"),
        small_request(steps=2, model_id="small", negative_prompt="blurry"),
        small_request(
            steps=3, model_id="small", negative_prompt="blurry", seed=None, seeds=[3, 9]
        ),
    ]
    drawn = [list((await client.draw(request))[1].values()) for request in alone]
    found = await until(client, batch.batch_id, *FINAL)
    ids = [[image.artifact_id for image in each.images] for each in found.items]
    assert [len(each) for each in ids] == [1, 1, 2]
    assert [each.item_id for each in found.items] == ["plain", "as the template", "two"]
    assert {each.state for each in found.items} == {COMPLETED}
    assert {each.attempt_count for each in found.items} == {1}
    chunks: dict[tuple[str, int], bytes] = {}
    for event in events:
        if event.HasField("image_chunk"):
            key = event.item_id, event.image_chunk.image_index
            chunks[key] = chunks.get(key, b"") + event.image_chunk.data
    names = [("plain", 0), ("as the template", 0), ("two", 0), ("two", 1)]
    assert [chunks[name] for name in names] == [data for files in drawn for data in files]
    ends = [event for event in events if event.HasField("item_finished")]
    assert sorted(each.item_finished.done_count for each in ends) == [1, 2, 3]
    assert all(each.item_finished.session_id for each in ends)
    assert events[0].accepted.kind == session_pb2.SESSION_KIND_BATCH
    assert events[-1].HasField("completed")
    assert (await watch(client, batch.batch_id, 3))[0].sequence == 3
    session = await client.processing.GetSession(
        processing_pb2.GetSessionRequest(session_id=found.items[0].session_id),
        metadata=client.metadata,
    )
    assert session.session.parent_session_id == batch.session_id
    assert found.batch.completed_count == 3
    assert found.batch.end_time.seconds


async def refused(call: Any) -> Any:
    """What a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return read(caught.value)


async def test_what_a_client_breaks_is_named_and_nothing_is_accepted(client: Client) -> None:
    listed = await client.processing.ListBatches(
        batch_pb2.ListBatchesRequest(), metadata=client.metadata
    )
    wrong: list[tuple[batch_pb2.CreateBatchRequest, str, list[str]]] = [
        (asked(), "FIELD_OUT_OF_RANGE", ["items"]),
        (
            asked(item("a"), item("b", width=100), item("a")),
            "FIELDS_CONFLICT",
            ["items[2].item_id"],
        ),
        (
            asked(item("a"), item("b", width=100)),
            "DIMENSIONS_INVALID",
            ["items[1].overlay.settings.width"],
        ),
        (
            asked(item("a", "prompts")),
            "UNKNOWN_FIELD",
            ["items[0].overlay.cleared_fields[0]"],
        ),
        (asked(item("a"), max_parallel=65), "FIELD_OUT_OF_RANGE", ["max_parallel"]),
        (
            asked(item("a"), retry=session_pb2.RetrySettings(max_attempts=11)),
            "FIELD_OUT_OF_RANGE",
            ["retry.max_attempts"],
        ),
        (
            asked(item("a"), matrix=generation_pb2.GenerationMatrix(axes=[{"values": [{}]}])),
            "FIELDS_CONFLICT",
            ["matrix"],
        ),
        (
            asked(item("a"), devices=device_info_pb2.DeviceChoice(device_ids=["a b"])),
            "NAME_INVALID",
            ["devices.device_ids[0]"],
        ),
    ]
    detached = asked(item("a"))
    detached.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    wrong.append((detached, "FIELDS_CONFLICT", ["options.on_disconnect"]))
    for request, reason, fields in wrong:
        told = await refused(create(client, request))
        assert (told.code, told.reason, told.fields) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            reason,
            fields,
        )
    for request, field in (
        (
            asked(item("a"), postprocessing=[{"face_restore": {}}]),
            "postprocessing[0].face_restore",
        ),
        (
            asked(batch_pb2.BatchItem(item_id="a", image=common_pb2.InputImage())),
            "items[0].image",
        ),
        (asked(item("a", image_prompts=[{"model_id": "x"}])), None),
    ):
        told = await refused(create(client, request))
        assert told.reason in (
            "NOT_BUILT",
            "REQUIRED_FIELD_MISSING",
            "POSTPROCESSOR_NOT_FOUND",
        )
        assert field is None or field in told.message
    nowhere = asked(item("a"), devices=device_info_pb2.DeviceChoice(device_ids=["cuda:7"]))
    told = await refused(create(client, nowhere))
    assert told.reason == "DEVICE_NOT_FOUND"
    unknown = await refused(create(client, asked(item("a", model_id="none"))))
    assert unknown.reason == "MODEL_NOT_FOUND"
    after = await client.processing.ListBatches(
        batch_pb2.ListBatchesRequest(), metadata=client.metadata
    )
    assert after == listed


async def test_pictures_that_are_given_are_finished_beside_those_that_are_drawn(
    client: Client,
) -> None:
    def given(name: str, **source: Any) -> batch_pb2.BatchItem:
        return batch_pb2.BatchItem(item_id=name, image=common_pb2.InputImage(**source))

    resize = {"resize": {"width": 64, "height": 48}}
    items = (
        given("broken", inline=b"no picture"),
        given("mine", inline=saved(painting(96, 72))),
        given("gone", artifact_id="0" * 64),
        item("drawn", steps=1),
    )
    batch = await create(
        client,
        asked(*items, postprocessing=[resize], computation=THROUGHPUT),
    )
    found = await until(client, batch.batch_id, *FINAL)

    states = {each.item_id: each.state for each in found.items}
    assert states == {"broken": FAILED, "mine": COMPLETED, "gone": FAILED, "drawn": COMPLETED}
    made = {each.item_id: each.images for each in found.items}
    for name in ("mine", "drawn"):
        (image,) = made[name]
        assert (image.width, image.height) == (64, 48)
    failures = {each.item_id: each.failure for each in found.items}
    assert failures["broken"].violations[0].field == "image"
    wrong = asked(items[1], postprocessing=[{"resize": {"width": 0, "height": 48}}])
    told = await refused(create(client, wrong))
    assert told.fields == ["postprocessing[0].resize.width"]
    told = await refused(create(client, asked(given("a", artifact_id="x"))))
    assert told.fields == ["items[0].image.artifact_id"]


async def test_a_matrix_is_drawn_with_the_seeds_that_were_decided(client: Client) -> None:
    matrix = generation_pb2.GenerationMatrix(
        axes=[
            {"values": [{"settings": {"steps": 1}}, {"settings": {"steps": 2}}]},
            {"values": [{"settings": {"prompt": "a"}}, {"settings": {"prompt": "b"}}]},
        ],
        runs=2,
    )
    batch = await create(client, asked(matrix=matrix))
    assert batch.item_count == 8
    found = await until(client, batch.batch_id, *FINAL)
    assert [each.item_id for each in found.items][:3] == ["0-0-0", "0-0-1", "0-1-0"]
    assert [each.images[0].seed for each in found.items][:3] == [7, 8, 7]
    assert found.batch.completed_count == 8


@pytest.mark.parametrize("computation", generation_pb2.BatchComputation.values()[1:])
async def test_every_picture_goes_through_the_batchs_steps(
    client: Client, computation: generation_pb2.BatchComputation.ValueType
) -> None:
    request = asked(
        item("a"),
        item("b", seed=9),
        postprocessing=[
            {"crop": {"width": 40, "height": 24}},
            {"safety": {"policy_id": "none-passes"}},
        ],
        computation=computation,
    )
    assert (await refused(create(client, request))).reason == "POLICY_NOT_FOUND"
    policy = safety_pb2.SafetyPolicy(policy_id="none-passes")
    policy.rules.add(category="porn", threshold=0.0, action=finishing_pb2.SAFETY_ACTION_BLOCK)
    stub, metadata = client.postprocessing, client.metadata
    await stub.CreatePolicy(safety_pb2.CreatePolicyRequest(policy=policy), metadata=metadata)

    batch = await create(client, request)
    found = await until(client, batch.batch_id, *FINAL)

    assert found.batch.state == COMPLETED
    images = [image for each in found.items for image in each.images]
    assert [(each.width, each.height) for each in images] == [(40, 24), (40, 24)]
    assert [(each.artifact_id, each.safety.policy_id) for each in images] == [
        ("", "none-passes")
    ] * 2
    deleted = safety_pb2.DeletePolicyRequest(policy_id="none-passes")
    await stub.DeletePolicy(deleted, metadata=metadata)


async def test_items_are_added_until_the_batch_is_sealed(client: Client) -> None:
    async def add(*items: batch_pb2.BatchItem, seal: bool = False) -> batch_pb2.Batch:
        request = batch_pb2.AddBatchItemsRequest(
            batch_id=batch.batch_id, items=items, seal=seal
        )
        answer = await client.processing.AddBatchItems(request, metadata=client.metadata)
        return answer.batch

    request = asked(keep_open=True)
    batch = await create(client, request)
    assert (batch.item_count, batch.sealed) == (0, False)
    assert (await create(client, request)).batch_id == batch.batch_id
    assert (await add(item("a"), item("b", steps=1))).item_count == 2
    assert (await add(item("b", steps=1), item("c"))).item_count == 3
    told = await refused(add(item("a", steps=1)))
    assert (told.code, told.reason) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN")
    told = await refused(add(item("d", height=1)))
    assert told.fields == ["items[0].overlay.settings.height"]
    await asyncio.sleep(0.5)
    assert (await get(client, batch.batch_id)).batch.state == RUNNING
    assert (await add(item("d"), seal=True)).sealed
    assert (await add(item("d"), seal=True)).item_count == 4
    told = await refused(add(item("e")))
    assert told.reason == "STATE_CONFLICT"
    found = await until(client, batch.batch_id, *FINAL)
    assert [each.item_id for each in found.items] == ["a", "b", "c", "d"]
    assert found.batch.completed_count == 4
    request.max_failures = 3
    told = await refused(create(client, request))
    assert told.reason == "REQUEST_ID_REUSED"


async def test_a_paused_batch_goes_on_with_the_same_pictures(client: Client) -> None:
    batch = await create(client, asked(item("a", steps=20), item("b"), item("c")))
    await until(client, batch.batch_id, RUNNING)
    await asyncio.sleep(0.3)
    pause = batch_pb2.PauseBatchRequest(batch_id=batch.batch_id, reason_text="lunch")
    answer = await client.processing.PauseBatch(pause, metadata=client.metadata)
    assert answer.batch.state in (PAUSED, session_pb2.SESSION_STATE_PAUSING)
    paused = await until(client, batch.batch_id, PAUSED)
    assert paused.batch.completed_count < 3
    await asyncio.sleep(0.3)
    again = await get(client, batch.batch_id)
    assert again.batch.completed_count == paused.batch.completed_count
    resume = processing_pb2.ResumeSessionRequest(session_id=batch.session_id)
    await client.processing.ResumeSession(resume, metadata=client.metadata)
    found = await until(client, batch.batch_id, *FINAL)
    assert found.batch.completed_count == 3
    assert {each.attempt_count for each in found.items} == {1}
    request = small_request(steps=20, model_id="small", negative_prompt="blurry")
    events, _ = await client.draw(request)
    whole = events[-1].completed.images[0].artifact_id
    assert found.items[0].images[0].artifact_id == whole
    events = await watch(client, batch.batch_id)
    assert [e.paused.reason_text for e in events if e.HasField("paused")] == ["lunch"]
    told = await refused(client.processing.PauseBatch(pause, metadata=client.metadata))
    assert told.reason == "STATE_CONFLICT"


async def test_a_cancelled_batch_keeps_what_has_ended_and_can_go_on(client: Client) -> None:
    batch = await create(client, asked(item("a"), item("b", steps=150), item("c")))
    await until_some_ended(client, batch.batch_id)
    cancel = batch_pb2.CancelBatchRequest(batch_id=batch.batch_id, reason_text="enough")
    await client.processing.CancelBatch(cancel, metadata=client.metadata)
    found = await until(client, batch.batch_id, *FINAL)
    assert [each.state for each in found.items] == [COMPLETED, CANCELLED, CANCELLED]
    assert (found.batch.state, found.batch.cancelled_count) == (CANCELLED, 2)
    assert "enough" in found.batch.end_reason
    retry = batch_pb2.RetryBatchItemsRequest(batch_id=batch.batch_id, item_ids=["a"])
    told = await refused(client.processing.RetryBatchItems(retry, metadata=client.metadata))
    assert told.reason == "STATE_CONFLICT"
    retry.item_ids[:] = ["c"]
    answer = await client.processing.RetryBatchItems(retry, metadata=client.metadata)
    assert answer.retried_count == 1
    assert answer.batch.session_id != batch.session_id
    found = await until(client, batch.batch_id, *FINAL)
    assert [each.state for each in found.items] == [COMPLETED, CANCELLED, COMPLETED]
    assert (found.batch.state, found.batch.end_reason) == (COMPLETED, "")
    # Cancelled while its session was being begun, it may have come to a first step.
    assert found.items[2].attempt_count in (1, 2)
    events = await watch(client, batch.batch_id)
    assert events[0].sequence == 1
    assert [e.item_id for e in events if e.HasField("item_finished")] == ["c"]
    listed = await client.processing.ListBatches(
        batch_pb2.ListBatchesRequest(states=[COMPLETED], page_size=1), metadata=client.metadata
    )
    assert listed.batches[0].batch_id == batch.batch_id
    delete = batch_pb2.DeleteBatchRequest(batch_id=batch.batch_id)
    await client.processing.DeleteBatch(delete, metadata=client.metadata)
    told = await refused(get(client, batch.batch_id))
    assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "BATCH_NOT_FOUND")


async def test_items_that_fail_are_tried_again_and_end_the_batch(client: Client) -> None:
    """A picture that takes longer than it may."""
    late = asked(
        item("a", steps=150, width=512, height=512),
        item("b", steps=1),
        item("c", steps=150, width=512, height=512),
        item("d", steps=1),
        max_failures=2,
        max_parallel=1,
    )
    late.item_run_timeout.FromMilliseconds(800)
    late.retry.max_attempts = 2
    late.retry.backoff.FromMilliseconds(50)
    batch = await create(client, late)
    found = await until(client, batch.batch_id, *FINAL)
    states = {each.item_id: each.state for each in found.items}
    assert (states["a"], states["c"]) == (FAILED, FAILED)
    assert found.batch.state == COMPLETED
    assert found.batch.failed_count == 2
    assert found.items[0].attempt_count == 2
    assert found.items[0].failure.metadata["timeout"] == "run"
    assert found.batch.completed_count + found.batch.cancelled_count == 2
    failed = await get(client, batch.batch_id, item_states=[FAILED], page_size=1)
    assert [each.item_id for each in failed.items] == ["a"]
    more = await get(
        client,
        batch.batch_id,
        item_states=[FAILED],
        page_size=1,
        page_token=failed.next_page_token,
    )
    assert [each.item_id for each in more.items] == ["c"]
    assert not more.next_page_token


@pytest.mark.demonstration
async def test_the_command_line_makes_shows_and_controls_batches(
    running: RunningServer, tmp_path: Path
) -> None:
    async with running.client() as client:
        await client.draw(small_request(model_id="small", steps=1))  # loaded from here on
    table = tmp_path / "items.csv"
    table.write_text(
        "item_id,prompt,steps,width,height\nred,an apple,,,\nlong,a robot,150,1024,1024\n"
    )

    async def deviceops(*arguments: str) -> tuple[int, str, str]:
        token = str(running.data_dir / "runtime" / "token")
        return await run(
            *(sys.executable, "-m", "server.cli", "--server", running.address),
            *("--token-file", token, "batch", *arguments),
        )

    make = ("--model", "small", "--width", "256", "--height", "256", "--steps", "2")
    code, out, err = await deviceops(
        "run", str(table), *make, "--item-timeout", "5s", "-o", str(tmp_path / "out")
    )
    assert code == 1, out + err
    assert len(list((tmp_path / "out").glob("red-*.png"))) == 1
    assert "1 of 2 items worked, 1 failed" in err
    assert "deviceops batch retry" in err
    code, out, err = await deviceops("create", str(table), *make, "--tag", "night", "--json")
    assert code == 0, out + err
    batch_id = json.loads(out)["batch_id"]
    code, out, err = await deviceops("pause", batch_id)
    assert (code, "paus" in out) == (0, True), err
    code, out, err = await deviceops("resume", batch_id)
    if code:  # the step of then had not ended
        assert "STATE_CONFLICT" in err
    code, out, err = await deviceops("cancel", batch_id, "--reason", "enough")
    assert code == 0, err
    code, out, err = await deviceops("watch", batch_id)
    assert code == 130, out + err
    code, out, err = await deviceops("show", batch_id, "--state", "cancelled")
    assert (code, "long" in out, "enough" in out) == (0, True, True), err
    code, out, err = await deviceops("--tag", "night")
    assert (code, batch_id in out) == (0, True), err
    code, out, err = await deviceops("retry", batch_id, "--item", "long")
    assert (code, out) == (0, "1 item runs again.\n"), err
    code, out, err = await deviceops("delete", batch_id)
    assert (code, "STATE_CONFLICT" in err) == (1, True)
    code, out, err = await deviceops("cancel", batch_id)  # else others wait for what is long
    assert code == 0, err
    table.write_text("item_id,prompt,steps\nred,an apple,\nlong,a robot,151\n")
    code, out, err = await deviceops("create", str(table), *make)
    assert code == 2, err
    assert f"items[1] is line 3 of {table}" in err
    many = [f"i{number},a robot,150" for number in range(1_005)]
    table.write_text("\n".join(["item_id,prompt,steps", *many, ""]))
    code, out, err = await deviceops("create", str(table), *make, "--json")
    assert code == 0, err
    made = json.loads(out)
    assert (made["item_count"], made["sealed"]) == (1_005, True)
    code, out, err = await deviceops("cancel", made["batch_id"])
    assert code == 0, err
    table.write_text("\n".join(["item_id,prompt,steps", *many[:1_003], "last,a robot,151"]))
    code, out, err = await deviceops("create", str(table), *make)
    assert f"items[3] is line 1005 of {table}" in err


async def test_items_that_share_passes_are_those_of_exact_ones_but_for_rounding(
    client: Client,
) -> None:
    prompts = ["a pear", "an apple", "a robot"]
    batch = await create(
        client,
        asked(
            *(item(each, prompt=each, steps=3) for each in prompts),
            computation=generation_pb2.BATCH_COMPUTATION_THROUGHPUT,
        ),
    )
    events = await watch(client, batch.batch_id, data=True)
    found = await until(client, batch.batch_id, *FINAL)
    assert found.batch.completed_count == 3
    (session_id,) = {each.session_id for each in found.items}
    shared = await client.processing.GetSession(
        processing_pb2.GetSessionRequest(session_id=session_id), metadata=client.metadata
    )
    assert shared.session.kind == session_pb2.SESSION_KIND_GENERATION_BATCH
    for each in prompts:
        data = b"".join(
            event.image_chunk.data
            for event in events
            if event.item_id == each and event.HasField("image_chunk")
        )
        request = small_request(each, steps=3, model_id="small", negative_prompt="blurry")
        (exact,) = (await client.draw(request))[1].values()
        assert psnr(data, exact) >= 40


def psnr(one: bytes, other: bytes) -> float:
    """How alike two pictures are, in dB."""
    pixels = [
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float64)
        for data in (one, other)
    ]
    error = float(np.mean((pixels[0] - pixels[1]) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)
