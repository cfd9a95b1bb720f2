"""Tiles: the same picture as diffusers' tiled decoder, and stops between tiles."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL

from domains.errors import Cancelled
from domains.inference.backends.tiled_decode import TILE_LATENTS, decode_tiled, needs_tiles


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    torch.manual_seed(0)
    kind = {"down_block_types": ["DownEncoderBlock2D"] * 3}
    kind |= {"up_block_types": ["UpDecoderBlock2D"] * 3}
    model = AutoencoderKL(
        block_out_channels=(4, 4, 4),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
        sample_size=4 * TILE_LATENTS,
        **kind,
    )
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize(
    "size", [(64, 65), (96, 80), (112, 100), (50, 130), (65, 20), (49, 64), (97, 97)]
)
def test_the_picture_is_diffusers(vae: AutoencoderKL, size: tuple[int, int]) -> None:
    latents = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(1))
    expected = vae.tiled_decode(latents, return_dict=False)[0]
    tiled = decode_tiled(vae, latents, scale=4, check_stop=lambda: None)
    assert torch.equal(tiled, expected)


def test_a_picture_of_one_tile_needs_none() -> None:
    assert not needs_tiles(torch.zeros(1, 4, TILE_LATENTS, TILE_LATENTS))
    assert needs_tiles(torch.zeros(1, 4, TILE_LATENTS, TILE_LATENTS + 1))


def test_a_stop_is_looked_for_before_each_tile(vae: AutoencoderKL) -> None:
    seen = 0

    def check_stop() -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        decode_tiled(vae, torch.zeros(1, 4, 65, 65), scale=4, check_stop=check_stop)
    assert seen == 3
