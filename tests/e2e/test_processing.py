"""ProcessImage and ProcessImages through the public contract, with a server and its worker."""

from __future__ import annotations

import io
import itertools
import uuid
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from deviceops.v1 import (
    common_pb2,
    event_pb2,
    inference_pb2,
    processing_pb2,
    safety_pb2,
    session_pb2,
)
from deviceops.v1 import finishing_pb2 as steps_pb
from deviceops.v1 import postprocessing_pb2 as pb
from domains.chain.backends.canvas import Canvas
from domains.chain.backends.executor import Executor
from domains.chain.backends.likeness import quality_of
from domains.chain.backends.measuring import synthetic
from domains.chain.backends.upscaling.enlarging import enlarge, enlarge_alpha
from domains.chain.types import (
    ColorStep,
    CropStep,
    DeblurStep,
    DenoiseMethod,
    DenoiseStep,
    PadMode,
    PadStep,
    RotateStep,
    SharpenStep,
)
from domains.picture.backends.colour import to_srgb
from tests.domains.chain.backends.restoring.files import painting
from tests.domains.chain.backends.restoring.files import saved as save_painting
from tests.domains.chain.backends.upscaling.files import loaded, small_compact
from tests.domains.chain.photograph import EYES, PATH, astronaut
from tests.domains.chain.pictures import noise
from tests.domains.picture.drawn import saved
from tests.e2e.errors import refusal_of
from tests.e2e.uploading import uploaded
from tests.odd_pictures import bad_pictures, good_pictures
from tests.running import Client, small_request


@pytest.fixture(scope="module")
def root(models: Path) -> Path:
    """With an upscaler and a face restorer, which paints faces green."""
    save_file(small_compact(), models / "small.safetensors")
    save_painting(painting(0, 1, 0), models, "green")
    return models


class Silent:
    """Hears a chain's progress and forgets it."""

    def enlarge(self, *_: Any) -> Canvas:
        raise AssertionError

    def piece(self, done: int, pieces: int) -> None: ...

    def step(self, done: int, steps: int) -> None: ...


SHARPEN = steps_pb.PostprocessingStep(sharpen=steps_pb.SharpenStep(amount=2.0))
CROP = steps_pb.PostprocessingStep(crop=steps_pb.CropStep(left=1, top=2, width=20, height=10))
COLOR = steps_pb.PostprocessingStep(color=steps_pb.ColorStep(saturation=1.5))
UPSCALE = steps_pb.PostprocessingStep(
    upscale=steps_pb.UpscaleStep(factor=3.0, tile_pixels=16, tile_overlap_pixels=4)
)
REFUSALS = {"IMAGE_UNREADABLE", "IMAGE_TOO_LARGE", "IMAGE_FORMAT_UNSUPPORTED"}
STEPS = (CropStep(1, 2, 20, 10), SharpenStep(2.0), ColorStep(saturation=1.5))


async def done(client: Client, request: Any) -> tuple[list[event_pb2.SessionEvent], bytes]:
    batch = isinstance(request, pb.ProcessImagesRequest)
    service = client.postprocessing
    method = service.ProcessImages if batch else service.ProcessImage
    events = [each.event async for each in method(request, metadata=client.metadata)]
    return events, b"".join(e.image_chunk.data for e in events if e.HasField("image_chunk"))


def phases_of(events: list[event_pb2.SessionEvent]) -> tuple[list[int], set[int]]:
    """Those that began, and those in which tiles and steps ended."""
    began: list[int] = []
    at_pieces = set()
    for event in events:
        if event.HasField("phase_started"):
            began.append(event.phase_started.phase)
        elif event.HasField("item_finished"):
            at_pieces.add(began[-1])
    return began, at_pieces


async def test_a_picture_goes_through_its_steps(client: Client) -> None:
    canvas = noise(40, 30, alpha=True)
    request = pb.ProcessImageRequest(steps=[CROP, SHARPEN, COLOR])
    request.image.inline = saved(canvas.image())

    events, data = await done(client, request)

    wanted = Executor(Silent()).run(canvas, STEPS, Silent())
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), wanted.whole())
    completed = events[-1].completed
    [image] = completed.images
    assert (image.width, image.height, image.HasField("seed")) == (20, 10, False)
    assert events[0].accepted.kind == session_pb2.SESSION_KIND_POSTPROCESSING
    assert list(events[0].accepted.expected_phases) == [
        session_pb2.PHASE_QUEUED,
        session_pb2.PHASE_POSTPROCESSING,
        session_pb2.PHASE_ENCODING_IMAGE,
    ]
    told = [e.item_finished for e in events if e.HasField("item_finished")]
    last = [each for each in told if each.item_id == "step"][-1]
    assert (last.done_count, last.total_count) == (3, 3)
    assert completed.timings.HasField("postprocess")
    # A finished picture is named like any other, and no steps make another format of it.
    again = pb.ProcessImageRequest()
    again.image.session_image.session_id = events[0].session_id
    again.output.format = common_pb2.IMAGE_FILE_FORMAT_WEBP
    again.output.lossless = True
    _, webp = await done(client, again)
    kept = np.asarray(Image.open(io.BytesIO(webp)).convert("RGBA"))
    assert wanted.alpha is not None
    assert np.array_equal(kept[wanted.alpha > 0], wanted.whole()[wanted.alpha > 0])


async def test_pictures_are_turned_padded_lit_deblurred_and_denoised(client: Client) -> None:
    canvas = noise(24, 18)
    request = pb.ProcessImageRequest(
        steps=[
            steps_pb.PostprocessingStep(rotate=steps_pb.RotateStep(degrees=-30.0, mirror=True)),
            steps_pb.PostprocessingStep(
                pad=steps_pb.PadStep(left=5, bottom=70, mode=steps_pb.PAD_MODE_REFLECT)
            ),
            steps_pb.PostprocessingStep(
                color=steps_pb.ColorStep(exposure_stops=-0.5, auto_white_balance=True)
            ),
            steps_pb.PostprocessingStep(deblur=steps_pb.DeblurStep(iterations=3)),
            steps_pb.PostprocessingStep(
                denoise=steps_pb.DenoiseStep(method=steps_pb.DENOISE_METHOD_NON_LOCAL_MEANS)
            ),
        ]
    )
    request.image.inline = saved(canvas.image())

    events, data = await done(client, request)

    steps = (
        RotateStep(-30.0, mirror=True),
        PadStep(5, bottom=70, mode=PadMode.REFLECT),
        ColorStep(exposure_stops=-0.5, auto_white_balance=True),
        DeblurStep(iterations=3),
        DenoiseStep(method=DenoiseMethod.NON_LOCAL_MEANS),
    )
    wanted = Executor(Silent()).run(canvas, steps, Silent())
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), wanted.whole())
    [image] = events[-1].completed.images
    assert (image.width, image.height) == wanted.size


async def test_metadata_of_the_source_is_kept_where_that_is_asked_for(client: Client) -> None:
    exif = Image.Exif()
    exif[0x013B] = "Ada"
    request = pb.ProcessImageRequest(steps=[CROP])
    request.image.inline = saved(noise(40, 30).image(), "JPEG", exif=exif)
    _, plain = await done(client, request)
    request.output.source_metadata = common_pb2.SOURCE_METADATA_KEEP
    _, kept = await done(client, request)

    assert not Image.open(io.BytesIO(plain)).getexif()
    assert Image.open(io.BytesIO(kept)).getexif()[0x013B] == "Ada"
    exif[0x013B] = "x" * 60_001
    request.image.inline = saved(noise(40, 30).image(), "WEBP", exif=exif)
    refused = await refusal_of(
        client.postprocessing.ProcessImage(request, metadata=client.metadata).read()
    )
    assert (refused.reason, refused.fields) == ("IMAGE_TOO_LARGE", ["image"])
    drawn = small_request()
    drawn.settings.output.source_metadata = common_pb2.SOURCE_METADATA_KEEP
    refused = await refusal_of(client.draw(drawn))
    assert refused.reason == "FIELDS_CONFLICT"
    assert refused.fields == ["settings.output.source_metadata"]


async def test_avif_is_written_and_read(client: Client) -> None:
    request = pb.ProcessImageRequest(output={"format": common_pb2.IMAGE_FILE_FORMAT_AVIF})
    request.image.inline = saved(synthetic(48).image())
    padded = request.steps.add().pad
    padded.left = 16

    events, data = await done(client, request)

    picture = Image.open(io.BytesIO(data))
    assert (picture.format, picture.mode, picture.size) == ("AVIF", "RGBA", (64, 48))
    [image] = events[-1].completed.images
    assert (image.width, image.height, image.format) == (64, 48, request.output.format)
    again = pb.ProcessImageRequest()
    again.image.session_image.session_id = events[0].session_id
    _, png = await done(client, again)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), np.asarray(picture))
    # A generation's as well, with its parameters.
    drawn = small_request()
    drawn.settings.output.format = common_pb2.IMAGE_FILE_FORMAT_AVIF
    _, files = await client.draw(drawn)
    picture = Image.open(io.BytesIO(files[0]))
    assert picture.format == "AVIF"
    assert "prompt" in picture.getexif()[0x010E]


async def test_colours_are_mapped_by_a_table_that_comes_along_or_is_uploaded(
    client: Client,
) -> None:
    corners = itertools.product((1, 0), repeat=3)
    cube = "LUT_3D_SIZE 2\n" + "".join(f"{r} {g} {b}\n" for b, g, r in corners)
    canvas = noise(24, 18)
    request = pb.ProcessImageRequest(
        steps=[steps_pb.PostprocessingStep(lut=steps_pb.LutStep(cube=cube.encode()))]
    )
    request.image.inline = saved(canvas.image())

    _, data = await done(client, request)

    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), 255 - canvas.pixels)
    artifact_id = await uploaded(client, cube.encode())
    request.steps[0].lut.artifact_id = artifact_id
    _, data = await done(client, request)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), 255 - canvas.pixels)
    # What is no table is refused, with its line, before there is a session.
    artifact_id = await uploaded(client, cube.encode() + b"1 1 1\n")
    for wrong, field in (
        (steps_pb.LutStep(cube=b"LUT_3D_SIZE 2\n"), "steps[0].lut.cube"),
        (steps_pb.LutStep(artifact_id=artifact_id), "steps[0].lut.artifact_id"),
    ):
        request.steps[0].lut.CopyFrom(wrong)
        refused = await refusal_of(
            client.postprocessing.ProcessImage(request, metadata=client.metadata).read()
        )
        assert (refused.reason, refused.fields) == ("TEXT_INVALID", [field])
    request.steps[0].lut.artifact_id = "e" * 64
    refused = await refusal_of(
        client.postprocessing.ProcessImage(request, metadata=client.metadata).read()
    )
    assert refused.reason == "ARTIFACT_NOT_FOUND"


async def test_a_network_enlarges_in_tiles_and_stays_loaded(
    client: Client, tmp_path: Path
) -> None:
    canvas = noise(40, 30, alpha=True)
    request = pb.ProcessImageRequest(steps=[UPSCALE])
    request.steps[0].upscale.postprocessor_id = "small"
    request.image.inline = saved(canvas.image())

    events, data = await done(client, request)

    upscaler = loaded(small_compact(), tmp_path)
    assert canvas.alpha is not None
    wanted = np.dstack(
        (
            enlarge(upscaler, canvas.pixels, 3.0, 16, 4),
            enlarge_alpha(upscaler, canvas.alpha, 3.0, 16, 4),
        )
    )
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), wanted)
    began, at_pieces = phases_of(events)
    assert session_pb2.PHASE_LOADING_MODEL in began
    assert at_pieces == {session_pb2.PHASE_POSTPROCESSING}
    tiles = [e.item_finished for e in events if e.HasField("item_finished")]
    assert any(each.item_id == "tile" and each.total_count > 4 for each in tiles)

    events, again = await done(client, request)

    assert again == data
    phases = [e.phase_started.phase for e in events if e.HasField("phase_started")]
    assert session_pb2.PHASE_LOADING_MODEL not in phases


@pytest.mark.demonstration  # a process for each of fifty
async def test_every_odd_picture_is_taken_or_refused_by_its_field(client: Client) -> None:
    """By what changes it and by what scores it alike."""
    for name, data in bad_pictures().items():
        process, check = pb.ProcessImageRequest(), safety_pb2.CheckSafetyRequest()
        process.image.inline = data
        check.images.add(inline=data)
        service, metadata = client.postprocessing, client.metadata
        calls = [(service.ProcessImage(process, metadata=metadata), "image")]
        if name.startswith(("cut", "animated", "huge")):
            calls.append((service.CheckSafety(check, metadata=metadata), "images[0]"))
        for call, field in calls:
            refused = await refusal_of(call.read())
            assert refused.reason in REFUSALS, name
            assert refused.fields == [field], name
    good = good_pictures()
    check = safety_pb2.CheckSafetyRequest()
    for name in good:
        if "profile" in name or "16 bits" in name:
            check.images.add(inline=good[name])
    call = client.postprocessing.CheckSafety(check, metadata=client.metadata)
    events = [each.event async for each in call]
    assert len(events[-1].completed.safety.verdicts) == len(check.images) > 5
    request = pb.ProcessImagesRequest(steps=[SHARPEN])
    for name, data in good.items():
        request.items.add(item_id=name).image.inline = data
    events, _ = await done(client, request)
    assert events[-1].completed.image_count == len(good)


async def test_many_pictures_fail_one_by_one(client: Client) -> None:
    good, small = noise(40, 30), noise(8, 8)
    request = pb.ProcessImagesRequest(steps=[CROP], options={"request_id": str(uuid.uuid4())})
    for name, image in (
        ("a", saved(good.image())),
        ("b", bad_pictures()["cut PNG"]),
        ("c", saved(small.image())),
        ("d", saved(good.image())),
    ):
        item = request.items.add(item_id=name)
        item.image.inline = image

    events, _ = await done(client, request)

    ended = {
        e.item_id: e.item_finished
        for e in events
        if e.HasField("item_finished") and e.item_finished.item_id == e.item_id
    }
    assert {name for name, one in ended.items() if one.HasField("failure")} == {"b", "c"}
    told = list(ended.values())
    assert [one.done_count for one in told] == [1, 2, 3, 4]
    assert [one.failed_count for one in told] == sorted(one.failed_count for one in told)
    assert all(one.session_id for name, one in ended.items() if name in "ad")
    assert ended["b"].failure.violations[0].field == "items[1].image"
    assert ended["c"].failure.violations[0].field == "steps[0].crop"
    completed = events[-1].completed
    assert [(one.image_index, one.item_id) for one in completed.images] == [(0, "a"), (3, "d")]

    same, _ = await done(client, request)

    assert same[0].accepted.existing
    assert same[0].session_id == events[0].session_id


async def test_faces_are_restored_and_backgrounds_removed(client: Client) -> None:
    photograph = astronaut()
    request = pb.ProcessImageRequest(
        steps=[
            steps_pb.PostprocessingStep(remove_background=steps_pb.RemoveBackgroundStep()),
            steps_pb.PostprocessingStep(face_restore=steps_pb.FaceRestoreStep(strength=1)),
        ]
    )
    request.image.inline = PATH.read_bytes()

    events, data = await done(client, request)

    found = np.asarray(Image.open(io.BytesIO(data)))
    (x, y), _ = EYES
    assert found[y, x] == pytest.approx((0, 255, 0, 255), abs=1)
    assert found[10, 10, 3] == 0
    assert np.array_equal(found[280, :, :3], photograph[280])
    # A piece for the background, one for the face; and a step for each.
    told = [e.item_finished for e in events if e.HasField("item_finished")]
    assert [(one.item_id, one.done_count, one.total_count) for one in told] == [
        ("tile", 1, 1),
        ("step", 1, 2),
        ("tile", 1, 1),
        ("step", 2, 2),
    ]


@pytest.mark.parametrize(
    ("step", "code", "reason", "field"),
    [
        (
            {"crop": {"left": 35, "top": 0, "width": 6, "height": 1}},
            grpc.StatusCode.INVALID_ARGUMENT,
            "DIMENSIONS_INVALID",
            "steps[0].crop",
        ),
        (
            {"color": {"gamma": float("nan")}},
            grpc.StatusCode.INVALID_ARGUMENT,
            "NON_FINITE_NUMBER",
            "steps[0].color.gamma",
        ),
        (
            {"upscale": {"postprocessor_id": "nobody"}},
            grpc.StatusCode.NOT_FOUND,
            "MODEL_NOT_FOUND",
            "",
        ),
        (
            {"pad": {"left": 1, "fill": "white"}},
            grpc.StatusCode.INVALID_ARGUMENT,
            "TEXT_INVALID",
            "steps[0].pad.fill",
        ),
        (
            {"face_restore": {"postprocessor_id": "nobody"}},
            grpc.StatusCode.NOT_FOUND,
            "MODEL_NOT_FOUND",
            "",
        ),
        (
            {"face_restore": {"least_confidence": 1.5}},
            grpc.StatusCode.INVALID_ARGUMENT,
            "FIELD_OUT_OF_RANGE",
            "steps[0].face_restore.least_confidence",
        ),
        (
            {"remove_background": {"postprocessor_id": "nobody"}},
            grpc.StatusCode.NOT_FOUND,
            "POSTPROCESSOR_NOT_FOUND",
            "",
        ),
    ],
)
async def test_what_cannot_be_done_is_refused_before_it_begins(
    client: Client, step: Any, code: grpc.StatusCode, reason: str, field: str
) -> None:
    request = pb.ProcessImageRequest(steps=[steps_pb.PostprocessingStep(**step)])
    request.image.inline = saved(noise(40, 30).image())

    refused = await refusal_of(
        client.postprocessing.ProcessImage(request, metadata=client.metadata).read()
    )

    assert (refused.code, refused.reason) == (code, reason)
    assert not field or refused.fields[0] == field


async def test_pictures_are_shown_while_a_chain_works_where_that_is_asked_for(
    client: Client,
) -> None:
    canvas = Canvas(astronaut())
    request = pb.ProcessImageRequest(steps=[COLOR, UPSCALE, SHARPEN])
    request.steps[1].upscale.tile_pixels = 32
    request.image.inline = saved(canvas.image())

    events, plain = await done(client, request)
    assert not any(each.HasField("preview") for each in events)
    request.delivery.previews.every_steps = 1
    request.delivery.previews.max_edge_pixels = 96
    events, data = await done(client, request)

    assert np.array_equal(*(np.asarray(Image.open(io.BytesIO(file))) for file in (plain, data)))
    previews = [each.preview for each in events if each.HasField("preview")]
    result = Image.open(io.BytesIO(data)).resize((96, 96), Image.Resampling.BOX)
    assert previews
    for preview in previews:
        shown = Image.open(io.BytesIO(preview.data))
        assert (shown.format, shown.size) == ("JPEG", (96, 96))
        assert (preview.width, preview.height) == (96, 96)
        assert len(preview.data) <= 262_144
        alike = np.corrcoef(np.asarray(shown).ravel(), np.asarray(result).ravel())[0, 1]
        assert alike > 0.9
    # They are nothing that is kept.
    watch = processing_pb2.WatchSessionRequest(session_id=events[0].session_id)
    watch.delivery.previews.every_steps = 1
    again = client.processing.WatchSession(watch, metadata=client.metadata)
    kept = [each.event async for each in again]
    assert kept[-1].HasField("completed")
    assert not any(each.HasField("preview") for each in kept)


async def test_previews_of_several_pictures_say_whose_they_are(client: Client) -> None:
    request = pb.ProcessImagesRequest(steps=[UPSCALE, SHARPEN])
    request.steps[0].upscale.tile_pixels = 32
    for name in ("one", "two"):
        item = request.items.add(item_id=name)
        item.image.inline = saved(Canvas(astronaut()).image())
    request.delivery.omit_image_data = True
    request.delivery.previews.every_steps = 1

    events, _ = await done(client, request)

    shown = {
        (each.item_id, each.preview.image_index) for each in events if each.HasField("preview")
    }
    assert shown == {("one", 0), ("two", 1)}


@pytest.mark.parametrize(
    ("previews", "field"),
    [
        ({"every_steps": 151}, "delivery.previews.every_steps"),
        ({"every_steps": 1, "max_edge_pixels": 63}, "delivery.previews.max_edge_pixels"),
    ],
)
async def test_previews_of_chains_have_the_limits_of_others(
    client: Client, previews: dict[str, int], field: str
) -> None:
    request = pb.ProcessImageRequest(steps=[SHARPEN], image=square(8))
    request.delivery.previews.CopyFrom(session_pb2.PreviewSettings(**previews))

    refused = await refusal_of(
        client.postprocessing.ProcessImage(request, metadata=client.metadata).read()
    )

    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


async def test_a_postprocessor_is_measured_and_its_figures_are_listed(client: Client) -> None:
    request = pb.BenchmarkPostprocessorRequest(
        postprocessor_id="small", input_pixels=64, runs=3
    )
    service, metadata = client.postprocessing, client.metadata

    found = service.BenchmarkPostprocessor(request, metadata=metadata)
    events = [each.event async for each in found]

    began, at_pieces = phases_of(events)
    assert (at_pieces, began[-1]) == (
        {session_pb2.PHASE_MEASURING},
        session_pb2.PHASE_MEASURING,
    )
    assert events[0].accepted.kind == session_pb2.SESSION_KIND_BENCHMARK
    measured = events[-1].completed.postprocessor_benchmark
    assert (measured.postprocessor_id, measured.run.count) == ("small", 3)
    assert measured.device_id.startswith("cpu")
    # A run is in milliseconds, and the rate that of its median.
    assert measured.megapixels_per_second == pytest.approx(
        64 * 64 / 1e6 / (measured.run.p50_ms / 1_000), rel=0.01
    )
    listed = await service.ListPostprocessors(
        pb.ListPostprocessorsRequest(kind=pb.POSTPROCESSOR_KIND_UPSCALE), metadata=metadata
    )
    benchmarks = {one.postprocessor_id: list(one.benchmarks) for one in listed.postprocessors}
    assert benchmarks["small"] == [measured]
    for name in ("lut", "denoise-non-local-means"):
        request.postprocessor_id = name
        found = service.BenchmarkPostprocessor(request, metadata=metadata)
        events = [each.event async for each in found]
        assert events[-1].completed.postprocessor_benchmark.run.count == 3
    for name in ("green", "remove-background"):
        request.postprocessor_id, request.runs = name, 1
        found = service.BenchmarkPostprocessor(request, metadata=metadata)
        events = [each.event async for each in found]
        assert events[-1].completed.postprocessor_benchmark.run.count == 1
    for name in ("nobody", "control"):
        request.postprocessor_id = name
        refused = await refusal_of(
            service.BenchmarkPostprocessor(request, metadata=metadata).read()
        )
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.NOT_FOUND,
            "POSTPROCESSOR_NOT_FOUND",
        )
    request.input_pixels = 63
    refused = await refusal_of(
        service.BenchmarkPostprocessor(request, metadata=metadata).read()
    )
    assert refused.fields == ["input_pixels"]


async def test_a_result_is_held_against_a_reference(client: Client, tmp_path: Path) -> None:
    picture, wanted = Canvas(astronaut()[60:100, 90:140]), noise(100, 80, alpha=True)
    request = pb.BenchmarkPostprocessorRequest(postprocessor_id="small", runs=1)
    request.image.inline = saved(picture.image())
    request.reference.inline = saved(wanted.image())
    service, metadata = client.postprocessing, client.metadata

    found = service.BenchmarkPostprocessor(request, metadata=metadata)
    events = [each.event async for each in found]

    measured = events[-1].completed.postprocessor_benchmark
    reference = np.asarray(to_srgb(wanted.image()))
    small = enlarge(loaded(small_compact(), tmp_path), picture.pixels, 2.0)
    plain = np.asarray(picture.image().resize((100, 80), Image.Resampling.LANCZOS))
    for told, pixels in ((measured.quality, small), (measured.baseline_quality, plain)):
        expected = quality_of(pixels, reference)
        assert told.psnr_db == pytest.approx(expected.psnr_db, abs=1e-6)
        assert told.ssim == pytest.approx(expected.ssim, abs=1e-6)
    assert (measured.width, measured.height) == (50, 40)
    listed = await service.ListPostprocessors(
        pb.ListPostprocessorsRequest(kind=pb.POSTPROCESSOR_KIND_UPSCALE), metadata=metadata
    )
    assert measured in [each for one in listed.postprocessors for each in one.benchmarks]
    # Equal ones, without what there is no room for, and without what makes no sense.
    request.postprocessor_id = "crop"
    request.image.inline = saved(noise(12, 9).image())
    request.reference.inline = saved(Canvas(noise(12, 9).pixels[:4, :6]).image())
    found = service.BenchmarkPostprocessor(request, metadata=metadata)
    measured = [each.event async for each in found][-1].completed.postprocessor_benchmark
    assert (measured.quality.psnr_db, measured.quality.HasField("ssim")) == (100, False)
    assert not measured.HasField("baseline_quality")


def square(edge: int) -> common_pb2.InputImage:
    """A picture to send."""
    return common_pb2.InputImage(inline=saved(noise(edge, edge).image()))


def wide() -> common_pb2.InputImage:
    """One that is too wide once it is enlarged."""
    return common_pb2.InputImage(inline=saved(Image.new("RGB", (17_000, 1))))


@pytest.mark.parametrize(
    ("asked", "code", "reason", "field"),
    [
        (
            {"input_pixels": 64, "image": square(8)},
            "INVALID_ARGUMENT",
            "FIELDS_CONFLICT",
            "input_pixels",
        ),
        ({"reference": square(8)}, "INVALID_ARGUMENT", "REQUIRED_FIELD_MISSING", "image"),
        (
            {"image": square(8), "reference": square(15)},
            "INVALID_ARGUMENT",
            "DIMENSIONS_INVALID",
            "reference",
        ),
        ({"image": wide()}, "INVALID_ARGUMENT", "DIMENSIONS_INVALID", "image"),
        (
            {"image": square(8), "reference": common_pb2.InputImage(inline=b"none")},
            "INVALID_ARGUMENT",
            "IMAGE_UNREADABLE",
            "reference",
        ),
        (
            {"image": square(8), "reference": common_pb2.InputImage(artifact_id="0")},
            "INVALID_ARGUMENT",
            "NAME_INVALID",
            "reference.artifact_id",
        ),
        (
            {"image": common_pb2.InputImage(artifact_id="0" * 64)},
            "NOT_FOUND",
            "ARTIFACT_NOT_FOUND",
            "",
        ),
        (
            {"image": common_pb2.InputImage()},
            "INVALID_ARGUMENT",
            "REQUIRED_FIELD_MISSING",
            "image",
        ),
    ],
)
async def test_pictures_to_measure_with_are_refused_by_field(
    client: Client, asked: Any, code: str, reason: str, field: str
) -> None:
    request = pb.BenchmarkPostprocessorRequest(postprocessor_id="small", **asked)

    refused = await refusal_of(
        client.postprocessing.BenchmarkPostprocessor(request, metadata=client.metadata).read()
    )

    assert (refused.code, refused.reason) == (grpc.StatusCode[code], reason)
    assert refused.fields == ([field] if field else [])


async def test_steps_are_counted_and_timed(client: Client) -> None:
    request = pb.GetPostprocessingStatisticsRequest(postprocessor_id="sharpen")
    service, metadata = client.postprocessing, client.metadata
    work = pb.ProcessImageRequest(steps=[CROP, SHARPEN])
    work.image.inline = saved(noise(40, 30).image())
    await done(client, work)
    [before] = (
        await service.GetPostprocessingStatistics(request, metadata=metadata)
    ).postprocessors

    await done(client, work)

    answer = await service.GetPostprocessingStatistics(request, metadata=metadata)
    [after] = answer.postprocessors
    assert after.completed.count == before.completed.count + 1
    assert after.completed.total_ms > before.completed.total_ms
    request.postprocessor_id = ""
    answer = await service.GetPostprocessingStatistics(request, metadata=metadata)
    assert {one.postprocessor_id for one in answer.postprocessors} >= {"sharpen", "crop"}
    request.postprocessor_id = "no-such"  # others share the server, and may use any
    refused = await refusal_of(service.GetPostprocessingStatistics(request, metadata=metadata))
    assert refused.reason == "POSTPROCESSOR_NOT_FOUND"


async def test_what_is_listed_is_what_there_is(client: Client) -> None:
    answer = await client.postprocessing.ListPostprocessors(
        pb.ListPostprocessorsRequest(ready_only=True), metadata=client.metadata
    )

    found = {each.postprocessor_id: each for each in answer.postprocessors}
    assert set(found) >= {"small", "sharpen", "denoise", "color", "resize", "crop", "watermark"}
    assert found["green"].architecture == "GFPGAN"
    upscaler = found["small"]
    assert (upscaler.model_id, list(upscaler.factors)) == ("small", [2])
    assert upscaler.architecture == "Compact"
    assert {limit.field for limit in upscaler.limits} >= {"UpscaleStep.factor"}


async def test_a_generations_own_chain_is_that_of_its_plain_pictures(client: Client) -> None:
    plain = small_request()
    plain.settings.image_count = 2
    finished = inference_pb2.GenerateRequest()
    finished.CopyFrom(plain)
    finished.postprocessing.extend([CROP, UPSCALE, SHARPEN])
    finished.postprocessing[1].upscale.postprocessor_id = "small"

    drawn, _ = await client.draw(plain)
    events, files = await client.draw(finished)

    completed = events[-1].completed
    assert completed.timings.HasField("postprocess")
    assert {model.model_id for model in completed.generation.models} >= {"small"}
    phases = list(events[0].accepted.expected_phases)
    assert phases[-2:] == [session_pb2.PHASE_POSTPROCESSING, session_pb2.PHASE_ENCODING_IMAGE]
    for index in range(2):
        again = pb.ProcessImageRequest(steps=finished.postprocessing)
        again.image.session_image.session_id = drawn[0].session_id
        again.image.session_image.image_index = index
        _, processed = await done(client, again)
        one, other = (
            np.asarray(Image.open(io.BytesIO(each))) for each in (files[index], processed)
        )
        assert np.array_equal(one, other)
        assert one.shape[:2] == (CROP.crop.height * 3, CROP.crop.width * 3)


async def test_a_generations_own_chain_is_shown_like_its_steps(client: Client) -> None:
    request = small_request()
    request.postprocessing.extend([UPSCALE, SHARPEN])
    request.postprocessing[0].upscale.postprocessor_id = "small"
    request.delivery.previews.every_steps = 1
    request.delivery.previews.max_edge_pixels = 512

    events, files = await client.draw(request)

    previews = [each.preview for each in events if each.HasField("preview")]
    larger = [each for each in previews if each.width > request.settings.width]
    assert {(each.width, each.height) for each in larger} == {(512, 512)}
    result = np.asarray(Image.open(io.BytesIO(files[0])).resize((512, 512)))
    last = np.asarray(Image.open(io.BytesIO(larger[-1].data)))
    assert np.corrcoef(last.ravel(), result.ravel())[0, 1] > 0.9


async def test_a_chain_too_large_for_what_is_drawn_is_refused(client: Client) -> None:
    request = small_request()
    request.postprocessing.add().crop.CopyFrom(
        steps_pb.CropStep(width=request.settings.width + 1, height=1)
    )

    refused = await refusal_of(client.draw(request))

    assert refused.fields == ["postprocessing[0].crop"]
