"""Pictures that are encoded in tiles: as diffusers' tiled encoder does it, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from domains.errors import Cancelled
from domains.inference.backends.tiled_decode import TILE_LATENTS
from domains.inference.backends.tiled_encode import encode_tiled
from domains.inference.types import Toggle
from tests.domains.inference.backends.test_image_to_image import expected as expected
from tests.domains.inference.backends.test_image_to_image import prepared as prepared
from tests.domains.inference.backends.test_image_to_image import redraw as redraw
from tests.domains.inference.backends.test_oracle import same
from tests.domains.inference.backends.test_tiled_decode import vae as vae

SCALE = 4
EDGE = TILE_LATENTS * SCALE


@pytest.mark.parametrize(
    "size", [(EDGE, EDGE + 4), (384, 320), (448, 200), (200, 520), (388, 388), (EDGE + 4, 60)]
)
def test_the_moments_are_diffusers(vae: Any, size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    theirs = vae._tiled_encode(image)
    ours = encode_tiled(vae, image, scale=SCALE, check_stop=lambda: None)
    assert torch.equal(ours, theirs)


def test_a_stop_is_looked_for_before_each_tile(vae: Any) -> None:
    seen: list[int] = []

    def check_stop() -> None:
        seen.append(1)
        if len(seen) == 3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        encode_tiled(
            vae, torch.zeros(1, 3, EDGE + 4, EDGE + 4), scale=SCALE, check_stop=check_stop
        )
    assert len(seen) == 3


def test_a_picture_that_starts_from_one_in_tiles_is_the_pipelines(
    redraw, expected, pipeline
) -> None:
    """There and back in tiles, as the reference with `enable_tiling`."""
    reference = pipeline.vae
    own = reference.tile_sample_min_size, reference.tile_latent_min_size
    scale = 2 ** (len(reference.config.block_out_channels) - 1)
    reference.tile_latent_min_size = TILE_LATENTS
    reference.tile_sample_min_size = TILE_LATENTS * scale
    reference.enable_tiling()
    try:
        wide = {"width": TILE_LATENTS * scale + 64, "height": 64}
        wanted = expected(num_inference_steps=2, size=(wide["width"], 64))
    finally:
        reference.disable_tiling()
        reference.tile_sample_min_size, reference.tile_latent_min_size = own
    same(redraw(steps=2, vae_tiling=Toggle.ON, **wide), wanted)
    whole = redraw(steps=2, vae_tiling=Toggle.OFF, **wide)
    assert not torch.equal(whole.latents[0], wanted[1])
