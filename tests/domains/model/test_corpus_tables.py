"""The corpus's tables are those of the real classes, in both of their layouts."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from diffusers.loaders import single_file_utils as converters

from tests.domains.model.corpus import configurations as c
from tests.domains.model.corpus.derive import NETWORKS
from tests.domains.model.corpus.parts import Shapes, part

pytestmark = pytest.mark.demonstration
UNETS = {
    "unet-sd1": c.SD1,
    "unet-sd2": c.SD2,
    "unet-x4": c.UPSCALER_X4,
    "unet-sdxl": c.SDXL,
    "unet-refiner": c.REFINER,
    "unet-ssd-1b": c.SSD_1B,
    "unet-vega": c.VEGA,
    "unet-koala-700m": c.KOALA_700M,
    "unet-koala-1b": c.KOALA_1B,
}
# Of SDXL only control-LoRAs have the original layout, which diffusers does not convert.
CONTROLS = {"control-sd1": c.SD1, "control-sd2": c.SD2}


def empty(shapes: Shapes, prefix: str = "") -> dict[str, torch.Tensor]:
    """Tensors without numbers."""
    return {prefix + n: torch.empty(s, device="meta") for n, s in shapes.items()}


def shapes_of(tensors: dict[str, Any]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", ["unet-sdxl", "vae", "clip-l", "flux-dev", "control-union"])
def test_a_table_is_its_class(name: str) -> None:
    with torch.device("meta"):
        assert NETWORKS[name]() == part(name)


@pytest.mark.parametrize("name", UNETS)
def test_an_original_unet_converts_to_its_own_in_diffusers(name: str) -> None:
    original = empty(part(f"{name}-original"), "model.diffusion_model.")
    with torch.device("meta"):
        config = dict(diffusers.UNet2DConditionModel(**UNETS[name]).config)

    converted = converters.convert_ldm_unet_checkpoint(original, config)

    assert shapes_of(converted) == part(name)


@pytest.mark.parametrize("name", CONTROLS)
def test_an_original_control_net_converts_to_its_own_in_diffusers(name: str) -> None:
    original = empty(part(f"{name}-original"), "control_model.")
    with torch.device("meta"):
        config = dict(diffusers.ControlNetModel(**CONTROLS[name]).config)

    converted = converters.convert_controlnet_checkpoint(original, config)

    assert shapes_of(converted) == part(name)


@pytest.mark.parametrize(("name", "config"), [("vae", c.VAE), ("vae-16", c.VAE_16)])
def test_an_original_vae_converts_to_its_own_in_diffusers(
    name: str, config: dict[str, Any]
) -> None:
    original = empty(part(f"{name}-original"), "first_stage_model.")

    converted = converters.convert_ldm_vae_checkpoint(original, config)

    assert shapes_of(converted) == part(name)
