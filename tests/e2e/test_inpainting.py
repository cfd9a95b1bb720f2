"""Inpainting and outpainting through the public contract."""

from __future__ import annotations

import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from deviceops.v1 import generation_pb2, inference_pb2
from tests.domains.picture.drawn import painting, saved
from tests.e2e.errors import refusal_of
from tests.e2e.programs import run
from tests.e2e.test_image_to_image import pixels
from tests.running import Client, RunningServer, small_request

PICTURE = painting(256, 256)
MASK = Image.new("L", (256, 256))
MASK.paste(255, (128, 0, 256, 256))


@pytest.fixture(scope="module")
def running(server: RunningServer) -> RunningServer:
    """The shared one: these tests leave it as it was."""
    return server


def redrawing(mask: Image.Image | None = MASK) -> inference_pb2.GenerateRequest:
    request = small_request(steps=1)
    start = request.settings.inpainting
    start.strength = 1
    start.image.inline = saved(PICTURE)
    if mask is not None:
        start.mask.inline = saved(mask)
    return request


async def test_the_kept_half_stays_bit_for_bit_where_that_is_promised(client: Client) -> None:
    request = redrawing()
    request.settings.inpainting.keep_unmasked_pixels = True
    request.settings.inpainting.mask_blur_pixels = 0
    events, files = await client.draw(request)

    drawn, before = pixels(files[0]), np.asarray(PICTURE)
    assert np.array_equal(drawn[:, :128], before[:, :128])
    assert not np.array_equal(drawn[:, 128:], before[:, 128:])
    told = events[-1].completed.generation.effective_settings.inpainting
    assert told.keep_unmasked_pixels
    assert (told.strength, told.fill) == (1, generation_pb2.INPAINTING_FILL_ORIGINAL)


@pytest.mark.parametrize(
    ("mask", "reason", "field"),
    [
        (None, "REQUIRED_FIELD_MISSING", "mask"),
        (painting(256, 248), "IMAGE_SIZE_MISMATCH", "mask"),
        (Image.new("L", (256, 256)), "FIELD_OUT_OF_RANGE", "mask"),
    ],
)
async def test_a_mask_that_does_not_go_is_refused(
    client: Client, mask: Image.Image | None, reason: str, field: str
) -> None:
    refusal = await refusal_of(client.draw(redrawing(mask)))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert refusal.fields == [f"settings.inpainting.{field}"]


async def test_it_is_among_the_modes(client: Client) -> None:
    request = inference_pb2.GetCapabilitiesRequest()
    found = await client.inference.GetCapabilities(request, metadata=client.metadata)

    assert generation_pb2.GENERATION_MODE_INPAINTING in found.modes
    (told,) = [one for one in found.features if one.feature.endswith(".inpainting")]
    assert told.available
    assert "Inpainting.mask_blur_pixels" in {limit.field for limit in found.limits}


async def test_the_command_line_makes_a_picture_larger(
    running: RunningServer, tmp_path: Path
) -> None:
    source, target = tmp_path / "photo.png", tmp_path / "larger.png"
    PICTURE.save(source)

    code, _, err = await run(
        *(sys.executable, "-m", "server.cli", "--server", running.address),
        *("--token-file", str(running.data_dir / "runtime" / "token")),
        *("generate", "a red apple", "--inpaint", str(source), "--margins", "0,0,64,0"),
        *("--mask-blur", "0", "--keep-unmasked", "--steps", "2", "-o", str(target)),
    )

    assert code == 0, err
    drawn = pixels(target.read_bytes())
    assert drawn.shape == (256, 320, 3)
    assert np.array_equal(drawn[:, :256], np.asarray(PICTURE))
