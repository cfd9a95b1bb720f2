"""Parts of a generation together: over the channel, from the command line and in the engine
alone they are the same picture; what does not go together is refused by both names."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image, ImageDraw

from deviceops.v1 import event_pb2, generation_pb2, inference_pb2, session_pb2
from domains.inference import convert
from domains.inference.backends.engine import Engine
from domains.inference.jobs import Companion, ControlPictures, GenerationJob
from domains.inference.types import GenerationSettings
from domains.model.types import ModelType
from domains.picture.backends.preparing import prepare
from domains.picture.jobs import PictureJob
from domains.picture.types import Canvas, ControlPreprocessor, PreparedPicture, ResizeFit
from domains.session.jobs import EncodedImage
from domains.values import ModelPlace
from tests.domains.model.disk import DEMO
from tests.domains.picture.drawn import painting, saved
from tests.e2e.errors import refusal_of
from tests.e2e.programs import run
from tests.e2e.test_image_to_image import pixels
from tests.fakes.jobs import Listener
from tests.running import Client, RunningServer, small_request

SIDE, LARGE = 256, 320
CANNY, REFINER = "emoji-canny", "emoji-refiner"
Settings = generation_pb2.GenerationSettings


@dataclass(frozen=True)
class Files:
    """A picture, what of it is redrawn, and one to follow."""

    photo: Path
    mask: Path
    scene: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("pictures")
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (144, 80, 224, 176))
    scene = Image.new("RGB", (300, 300), "#2244cc")
    ImageDraw.Draw(scene).ellipse((150, 40, 240, 130), "#dd2211")
    found = Files(folder / "photo.png", folder / "mask.png", folder / "scene.png")
    for image, path in (
        (painting(SIDE, SIDE), found.photo),
        (mask, found.mask),
        (scene, found.scene),
    ):
        path.write_bytes(saved(image))
    return found


@dataclass(frozen=True)
class Part:
    """Something that is asked for: in a request, and on the command line."""

    put: Callable[[Settings, Files], None]
    options: Callable[[Files], tuple[str, ...]]


def _second_pass(settings: Settings, _: Files) -> None:
    settings.second_pass.scale, settings.second_pass.strength = LARGE / SIDE, 0.75
    settings.second_pass.steps = 4


def _control_net(settings: Settings, files: Files) -> None:
    net = settings.control_nets.add(model_id=CANNY)
    net.image.inline = files.scene.read_bytes()
    net.preprocessor.canny.low = 60


def _inpainting(settings: Settings, files: Files) -> None:
    start = settings.inpainting
    start.strength = 0.75
    start.image.inline, start.mask.inline = files.photo.read_bytes(), files.mask.read_bytes()


def _cropped(settings: Settings, files: Files) -> None:
    _inpainting(settings, files)
    settings.inpainting.crop_margin_pixels = 24


def _refiner(settings: Settings, _: Files) -> None:
    settings.sdxl.refiner.model_id, settings.sdxl.refiner.switch_at = REFINER, 0.5


def _in_a_hole(files: Files) -> tuple[str, ...]:
    return ("--inpaint", str(files.photo), "--mask", str(files.mask), "--strength", "0.75")


PARTS = {
    "second pass": Part(
        _second_pass,
        lambda _: (
            *("--second-pass", str(LARGE / SIDE)),
            *("--set", "second_pass.strength=0.75", "--set", "second_pass.steps=4"),
        ),
    ),
    "control net": Part(
        _control_net,
        lambda files: ("--control", f"{CANNY}:{files.scene}", "--preprocess", "canny:60"),
    ),
    "inpainting": Part(_inpainting, _in_a_hole),
    "cropped": Part(_cropped, lambda files: (*_in_a_hole(files), "--crop-margin", "24")),
    "refiner": Part(_refiner, lambda _: ("--refiner", REFINER, "--refiner-switch", "0.5")),
}
TOGETHER = [
    ("second pass", "control net"),
    ("second pass", "inpainting"),
    ("inpainting", "refiner"),
    ("second pass", "refiner"),
    ("cropped", "control net"),
    ("second pass", "control net", "inpainting", "refiner"),
]


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    async with server.client() as connected:
        yield connected


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("cpu")


@pytest.mark.parametrize("names", TOGETHER, ids="+".join)
async def test_parts_together_are_the_engines_picture_and_all_told(
    names: tuple[str, ...],
    client: Client,
    server: RunningServer,
    engine: Engine,
    files: Files,
    tmp_path: Path,
) -> None:
    request = small_request(steps=4)
    for name in names:
        PARTS[name].put(request.settings, files)
    events, drawn = await client.draw(request)
    again = tmp_path / "again.png"
    code, _, err = await run(
        *(sys.executable, "-m", "server.cli", "--server", server.address),
        *("--token-file", str(server.data_dir / "runtime" / "token")),
        *("generate", request.settings.prompt, "--steps", "4", "--seed", "7", "-o", str(again)),
        *itertools.chain.from_iterable(PARTS[name].options(files) for name in names),
    )

    assert code == 0, err
    assert again.read_bytes() == drawn[0]
    facts = events[-1].completed.generation
    effective = facts.effective_settings
    job = job_of(convert.settings_from_proto(effective), files, tmp_path)
    alone = await asyncio.to_thread(picture_of, engine, job)
    assert np.array_equal(pixels(drawn[0]), alone)
    assert alone.shape[0] == (LARGE if "second pass" in names else SIDE)
    used = {model.model_id for model in facts.models} - {DEMO.name}
    assert used == {one.model_id for one in job.companions}
    told = json.loads(Image.open(io.BytesIO(drawn[0])).info["deviceops"])
    for part, by in (
        (told["second_pass"], {"second pass"}),
        (told["control_nets"], {"control net"}),
        (told["inpainting"], {"inpainting", "cropped"}),
        ((told["sdxl"] or {}).get("refiner"), {"refiner"}),
    ):
        assert bool(part) == bool(by & set(names)), told
    assert phases(events) >= {
        phase
        for name, phase in (
            ("second pass", session_pb2.PHASE_SECOND_PASS),
            ("refiner", session_pb2.PHASE_REFINING),
        )
        if name in names
    }


def phases(events: list[event_pb2.SessionEvent]) -> set[int]:
    return {
        event.phase_started.phase
        for event in events
        if event.WhichOneof("event") == "phase_started"
    }


def picture_of(engine: Engine, job: GenerationJob) -> Any:
    heard = Listener()
    engine.generate(job, heard)
    (image,) = [event for event in heard.events if isinstance(event, EncodedImage)]
    return pixels(image.data)


def job_of(settings: GenerationSettings, files: Files, folder: Path) -> GenerationJob:
    """What the server gives its worker for these settings, made without it."""
    numbers = itertools.count()

    def prepared(
        source: Path, edge: int, control: ControlPreprocessor | None = None, **how: bool
    ) -> PreparedPicture:
        target, canvas = folder / f"{next(numbers)}.rgb", Canvas(edge, edge, edge, edge)
        target.touch()
        job = PictureJob(source, target, canvas, ResizeFit.STRETCH, control, **how)
        prepare(job, Listener())
        return PreparedPicture(target, edge, edge, "0" * 64, **how)

    named, controls = [], []
    for net in settings.control_nets:
        first, larger = (
            ControlPictures((prepared(files.scene, edge, net.preprocessor),))
            for edge in (SIDE, LARGE)
        )
        if settings.second_pass is not None:
            first = ControlPictures(first.images, larger=larger)
        controls.append(first)
        named.append((net.model_id, ModelType.CONTROL_NET))
    if settings.sdxl is not None and settings.sdxl.refiner is not None:
        named.append((settings.sdxl.refiner.model_id, ModelType.REFINER))
    masked = settings.inpainting is not None
    return GenerationJob(
        settings,
        ModelPlace.of(DEMO),
        companions=tuple(
            Companion(name, kind, ModelPlace.of(DEMO.parent / name)) for name, kind in named
        ),
        picture=prepared(files.photo, SIDE) if masked else None,
        mask=prepared(files.mask, SIDE, grey=True) if masked else None,
        controls=tuple(controls),
    )


def _unguided(settings: Settings, files: Files) -> None:
    _control_net(settings, files)
    settings.control_nets[0].guess_mode = True
    settings.guidance.scale = 1


def _enlarged_twice(settings: Settings, files: Files) -> None:
    _cropped(settings, files)
    _second_pass(settings, files)


def _refined_by_itself(settings: Settings, files: Files) -> None:
    _second_pass(settings, files)
    settings.sdxl.refiner.model_id = DEMO.name


def _levels_of_one_pass(settings: Settings, files: Files) -> None:
    _second_pass(settings, files)
    settings.ClearField("steps")
    settings.scheduler.sigmas.extend((14.6, 3.1))


@pytest.mark.parametrize(
    ("put", "field", "other"),
    [
        (_enlarged_twice, "second_pass", "crop_margin_pixels"),
        (_unguided, "control_nets[0].guess_mode", "guidance"),
        (_refined_by_itself, "sdxl.refiner.model_id", DEMO.name),
        (_levels_of_one_pass, "second_pass.steps", "scheduler.sigmas"),
    ],
)
async def test_what_does_not_go_together_is_refused_by_both_names(
    client: Client,
    files: Files,
    put: Callable[[Settings, Files], None],
    field: str,
    other: str,
) -> None:
    request = small_request(steps=4)
    put(request.settings, files)
    told = await client.inference.ValidateGeneration(
        inference_pb2.ValidateGenerationRequest(request=request), metadata=client.metadata
    )
    refusal = await refusal_of(client.draw(request))

    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FIELDS_CONFLICT",
    )
    assert refusal.fields == [f"settings.{field}"] == [one.field for one in told.violations]
    assert other in told.violations[0].description
