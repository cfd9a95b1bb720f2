"""A stop at any of the places where one is looked for leaves nothing of itself behind."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest
from msgspec.structs import replace
from safetensors.torch import save_file

from domains.errors import Cancelled
from domains.inference.backends.engine import Engine
from domains.inference.jobs import Companion, GenerationJob
from domains.inference.types import ImageToImage, LoraWeight, PrecisionMode, Toggle
from domains.model.types import ModelType
from domains.picture.types import PictureFile, PreparedPicture
from domains.session.jobs import EncodedImage
from domains.session.types import Phase, PhaseStarted
from domains.values import ModelPlace
from tests.domains.inference.backends.test_loras import UNET, random_pair
from tests.fakes.jobs import Listener, changed
from tests.fakes.tiny_models import save_sdxl

EDGE = 272  # more than one tile
NUMBERS = range(1, 1_000)


def stopping_at(number: int) -> Listener:
    """Somebody who stops the work at that check, by its number from 1."""
    heard = Listener()
    left = [number]

    def check_stop() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Cancelled("Stopped.")

    heard.check_stop = check_stop
    return heard


def drawn(engine: Engine, job: GenerationJob) -> list[bytes]:
    heard = Listener()
    engine.generate(job, heard)
    return [each.data for each in heard.events if isinstance(each, EncodedImage)]


@pytest.fixture
def plain(work: GenerationJob, tmp_path: Path) -> GenerationJob:
    folder = save_sdxl(tmp_path / "tiny")
    return changed(work, model_path=folder, model_id="tiny", width=64, height=64, steps=1)


def test_a_stop_at_any_check_leaves_nothing_behind(
    plain: GenerationJob, tmp_path: Path
) -> None:
    """In loading, encoding a picture in tiles, denoising with a LoRA, decoding in tiles, and
    between pictures: the plain request gives the same bytes afterwards."""
    lora = tmp_path / "noise.safetensors"
    save_file(random_pair(UNET, (8, 8, 3, 3), 4, None, seed=1), lora)
    data = bytes(range(256)) * (EDGE * EDGE * 3 // 256)
    (tmp_path / "start.rgb").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    settings = replace(
        plain.settings,
        width=EDGE,
        height=EDGE,
        steps=2,
        seeds=(7, 8),
        precision=PrecisionMode.EXACT,
        vae_tiling=Toggle.ON,
        loras=(LoraWeight("noise", 1.0, 1.0),),
        image_to_image=ImageToImage(strength=1.0, image=PictureFile(sha256, artifact=False)),
    )
    everything = replace(
        plain,
        settings=settings,
        companions=(Companion("noise", ModelType.LORA, ModelPlace.of(lora)),),
        picture=PreparedPicture(tmp_path / "start.rgb", EDGE, EDGE, sha256),
    )
    wanted = drawn(Engine("cpu"), plain)
    engine = Engine("cpu")
    stopped_in: set[Phase] = set()

    def stop_at(number: int) -> Phase | None:
        """The phase that a stop at that check came in; None where it came too late."""
        heard = stopping_at(number)
        try:
            engine.generate(everything, heard)
        except Cancelled:
            phases = [each.phase for each in heard.events if isinstance(each, PhaseStarted)]
            stopped_in.update(phases[-1:])
            return phases[-1] if phases else Phase.LOADING_MODEL
        return None

    loading = itertools.takewhile(lambda it: it is Phase.LOADING_MODEL, map(stop_at, NUMBERS))
    assert len(list(loading)) > 4
    for phase in itertools.takewhile(lambda it: it is not None, map(stop_at, NUMBERS)):
        assert drawn(engine, plain) == wanted, f"after a stop in {phase}"
    assert stopped_in >= {
        Phase.LOADING_MODEL,
        Phase.PREPARING_INPUT,
        Phase.DENOISING,
        Phase.DECODING,
    }
    assert drawn(engine, plain) == wanted
