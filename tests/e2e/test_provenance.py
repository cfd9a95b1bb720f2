"""Marks of pictures through the public contract: asked for, made, read, and told."""

from __future__ import annotations

import hashlib
import io
import zlib
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deviceops.v1 import (
    artifact_pb2,
    common_pb2,
    event_pb2,
    inference_pb2,
    postprocessing_pb2,
)
from tests.domains.picture.drawn import painting, saved
from tests.drawings import validated
from tests.e2e.errors import Refusal, refusal_of
from tests.odd_pictures import bad_pictures
from tests.running import Client, RunningServer, small_request

ON, OFF = common_pb2.TOGGLE_ON, common_pb2.TOGGLE_OFF
JPEG = common_pb2.IMAGE_FILE_FORMAT_JPEG
WEBP = common_pb2.IMAGE_FILE_FORMAT_WEBP
TRUSTED = inference_pb2.SIGNATURE_STATE_TRUSTED
BROKEN = inference_pb2.SIGNATURE_STATE_BROKEN
NONE = inference_pb2.SIGNATURE_STATE_UNSPECIFIED


@pytest.fixture(scope="module")
def running(server: RunningServer) -> RunningServer:
    """The shared one, which neither signs nor marks of itself."""
    return server


def output(manifest: Any = OFF, watermark: Any = OFF, **more: Any) -> common_pb2.OutputSettings:
    marks = common_pb2.Provenance(manifest=manifest, watermark=watermark)
    return common_pb2.OutputSettings(provenance=marks, **more)


async def drawn(
    client: Client, wanted: common_pb2.OutputSettings | None
) -> tuple[event_pb2.SessionEvent, bytes]:
    """The last event, and the first picture's file.

    The seed is no other test's: a file that was made twice names the session that made it
    first.
    """
    request = small_request(steps=1, seed=1_618_033, output=wanted)
    events = [answer.event async for answer in client.generate(request)]
    data = b"".join(e.image_chunk.data for e in events if e.HasField("image_chunk"))
    return events[-1], data


async def verified(client: Client, **source: Any) -> inference_pb2.VerifyImageResponse:
    request = inference_pb2.VerifyImageRequest(image=common_pb2.InputImage(**source))
    return await client.inference.VerifyImage(request, metadata=client.metadata)


def pixels_of(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


async def test_marks_are_made_as_asked_and_read_again(client: Client) -> None:
    plain_end, plain = await drawn(client, None)
    signed_end, signed = await drawn(client, output(ON))
    both_end, both = await drawn(client, output(ON, ON))

    made = [end.completed.images[0] for end in (plain_end, signed_end, both_end)]
    assert [(image.provenance.manifest, image.provenance.watermark) for image in made] == [
        (OFF, OFF),
        (ON, OFF),
        (ON, ON),
    ]
    for image, data in zip(made, (plain, signed, both), strict=True):
        assert image.artifact_id == hashlib.sha256(data).hexdigest()
        assert image.size_bytes == len(data)
    assert np.array_equal(pixels_of(plain), pixels_of(signed))
    texts = [Image.open(io.BytesIO(each)).info for each in (plain, signed, both)]
    assert texts[0]["parameters"] == texts[1]["parameters"] == texts[2]["parameters"]
    assert texts[0]["deviceops"] == texts[1]["deviceops"]
    settings = both_end.completed.generation.effective_settings
    assert settings.output.provenance == common_pb2.Provenance(manifest=ON, watermark=ON)

    found = await verified(client, artifact_id=made[2].artifact_id)
    assert found.signature == TRUSTED
    assert found.signer == "device-operations signer"
    assert found.generator.startswith("device-operations ")
    assert found.HasField("sign_time")
    assert found.watermark_found
    assert found.watermark_confidence > 0.999
    assert found.parameters == texts[0]["parameters"]
    assert found.session_id == both_end.session_id

    found = await verified(client, inline=plain)
    assert (found.signature, found.signer, found.watermark_found) == (NONE, "", False)
    assert found.session_id == plain_end.session_id  # by the hash of its bytes

    # Another file of the same picture: the manifest is gone, the mark is not.
    data = io.BytesIO()
    Image.open(io.BytesIO(both)).crop((0, 0, 240, 246)).save(data, "JPEG", quality=85)
    found = await verified(client, inline=data.getvalue())
    assert (found.signature, found.watermark_found, found.session_id) == (NONE, True, "")

    # Of a file that can be read still, its text was changed.
    begin = signed.index(b"a red apple")
    forged = signed[:begin] + b"a red anvil" + signed[begin + 11 :]
    found = await verified(client, inline=_with_checksums(forged))
    assert (found.signature, found.parameters[:11]) == (BROKEN, "a red anvil")


def _with_checksums(png: bytes) -> bytes:
    """The PNG with the checksums that its chunks have to have."""
    done, place = png[:8], 8
    while place < len(png):
        length = int.from_bytes(png[place : place + 4], "big")
        body = png[place + 4 : place + 8 + length]
        done += png[place : place + 4] + body + zlib.crc32(body).to_bytes(4, "big")
        place += 12 + length
    return done


@pytest.mark.parametrize("format", [JPEG, pytest.param(WEBP, marks=pytest.mark.demonstration)])
async def test_lossy_files_bear_both_and_a_signed_one_names_its_session(
    client: Client, format: Any
) -> None:
    end, data = await drawn(client, output(ON, ON, format=format))
    await client.artifact.DeleteArtifact(
        artifact_pb2.DeleteArtifactRequest(artifact_id=end.completed.images[0].artifact_id),
        metadata=client.metadata,
    )

    found = await verified(client, inline=data)

    assert found.signature == TRUSTED
    assert found.watermark_found
    assert "a red apple on a blue background" in found.parameters
    assert found.session_id == end.session_id  # by the manifest, as its signer is trusted


async def test_items_of_a_batch_are_marked_each_as_it_says(client: Client) -> None:
    request = inference_pb2.GenerateBatchRequest(
        template=small_request(steps=1, output=output(ON)).settings
    )
    request.items.add(item_id="signed")
    marked = request.items.add(item_id="marked").overlay
    marked.settings.output.provenance.watermark = ON
    marked.settings.seed = 8
    call = client.inference.GenerateBatch(request, metadata=client.metadata)
    events = [answer.event async for answer in call]

    marks = {
        image.item_id: (image.provenance.manifest, image.provenance.watermark)
        for image in events[-1].completed.images
    }
    assert marks == {"signed": (ON, OFF), "marked": (OFF, ON)}


async def test_what_a_chain_makes_is_marked_and_not_called_drawn(client: Client) -> None:
    request = postprocessing_pb2.ProcessImageRequest(output=output(ON, ON))
    request.image.inline = saved(painting(300, 200))
    request.steps.add().sharpen.amount = 0.5
    request.output.retention.FromSeconds(90)
    call = client.postprocessing.ProcessImage(request, metadata=client.metadata)
    events = [answer.event async for answer in call]
    (image,) = events[-1].completed.images
    data = b"".join(e.image_chunk.data for e in events if e.HasField("image_chunk"))
    assert image.provenance == common_pb2.Provenance(manifest=ON, watermark=ON)
    assert image.artifact_id == hashlib.sha256(data).hexdigest()

    found = await verified(client, artifact_id=image.artifact_id)

    assert (found.signature, found.watermark_found) == (TRUSTED, True)
    assert found.session_id == events[-1].session_id
    assert b"digitalsourcetype/algorithmicallyEnhanced" in data
    assert b"trainedAlgorithmicMedia" not in data

    request.image.inline = saved(painting(95, 200))
    request.output.retention.FromSeconds(59)
    wrong = await refused(client, request)
    assert wrong.fields == ["output.retention"]
    request.output.ClearField("retention")
    wrong = await refused(client, request)
    assert (wrong.reason, wrong.fields) == (
        "DIMENSIONS_INVALID",
        ["output.provenance.watermark"],
    )


async def refused(client: Client, request: postprocessing_pb2.ProcessImageRequest) -> Refusal:
    call = client.postprocessing.ProcessImage(request, metadata=client.metadata)
    return await refusal_of(call.read())


async def test_a_picture_is_kept_as_long_as_its_request_says(client: Client) -> None:
    wanted = common_pb2.OutputSettings()
    wanted.retention.FromSeconds(90)
    end, _ = await drawn(client, wanted)

    found = await client.artifact.GetArtifact(
        artifact_pb2.GetArtifactRequest(artifact_id=end.completed.images[0].artifact_id),
        metadata=client.metadata,
    )
    kept = found.artifact.expire_time.ToDatetime(UTC) - datetime.now(UTC)
    assert 60 <= kept.total_seconds() <= 91
    wanted.retention.FromSeconds(59)
    (violation,) = (await validated(client, output=wanted)).violations
    assert violation.field == "settings.output.retention"


async def test_what_is_no_picture_is_refused_by_its_field(client: Client) -> None:
    for name in ("cut PNG", "animated WebP"):
        request = inference_pb2.VerifyImageRequest()
        request.image.inline = bad_pictures()[name]
        call = client.inference.VerifyImage(request, metadata=client.metadata)
        refused = await refusal_of(call)
        assert refused.reason in ("IMAGE_UNREADABLE", "IMAGE_TOO_LARGE")
        assert refused.fields == ["image"]
