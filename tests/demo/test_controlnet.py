"""The edge ControlNet: its layout, where it starts, and its training on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from demo.train import controlnet_canny
from demo.train.parts.base import BaseModel, load_base


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base(device="cpu")


def residuals(network: torch.nn.Module) -> list[torch.Tensor]:
    hint = torch.zeros(1, 3, 64, 64)
    hint[..., 20:44, 20] = 1
    skips, middle = network(
        torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)),
        torch.tensor([500]),
        encoder_hidden_states=torch.zeros(1, 77, 320),
        controlnet_cond=hint,
        added_cond_kwargs={
            "text_embeds": torch.zeros(1, 192),
            "time_ids": torch.full((1, 6), 64.0),
        },
        return_dict=False,
    )
    return [*skips, middle]


def test_it_has_the_layout_of_the_small_sdxl_control_nets(base: BaseModel) -> None:
    network = controlnet_canny.build(base.unet)
    kinds = [type(block).__name__ for block in network.down_blocks]
    assert kinds == ["DownBlock2D"] * 3
    assert type(network.mid_block).__name__ == "UNetMidBlock2D"
    assert not any("attn" in name for name in network.state_dict())
    assert sum(weight.numel() for weight in network.parameters()) * 2 < 9_600_000


def test_it_starts_as_a_copy_that_changes_nothing(base: BaseModel) -> None:
    network = controlnet_canny.build(base.unet)
    own, source = network.state_dict(), base.unet.state_dict()
    for name in (
        "conv_in.weight",
        "add_embedding.linear_1.weight",
        "down_blocks.2.resnets.1.conv2.weight",
        "mid_block.resnets.0.conv1.weight",
    ):
        assert torch.equal(own[name], source[name])
    assert all(residual.abs().max() == 0 for residual in residuals(network))


def test_the_training_opens_the_way_into_the_unet(tmp_path: Path, base: BaseModel) -> None:
    controlnet_canny.main(["--smoke", "--out", str(tmp_path)])
    network = controlnet_canny.build(base.unet)
    network.load_state_dict(
        {
            name: tensor.float()
            for name, tensor in load_file(tmp_path / "emoji-canny.safetensors").items()
        }
    )
    assert all(residual.abs().max() > 0 for residual in residuals(network))
    assert (tmp_path / "emoji-canny.json").is_file()
