"""Pictures that follow unions of ControlNets are those of diffusers' union pipelines, bit for
bit: with one kind of picture, with several in one call, and beside other ControlNets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    ControlNetUnionModel,
    EulerDiscreteScheduler,
    MultiControlNetModel,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLControlNetUnionImg2ImgPipeline,
    StableDiffusionXLControlNetUnionInpaintPipeline,
    StableDiffusionXLControlNetUnionPipeline,
)
from PIL import Image
from torch import nn

from domains.errors import FailedPrecondition, Reason
from domains.inference.types import (
    GuidanceSettings,
    ImageToImage,
    Inpainting,
    Scheduler,
    SchedulerSettings,
)
from domains.model.unions import ControlNetType
from domains.picture.types import PreparedPicture
from tests.domains.inference.backends.test_control_nets import (
    CANNY,
    EDGE,
    SMALL,
    drawn_by,
    edges,
    file_of,
    follow,
    network,
)
from tests.domains.inference.backends.test_image_to_image import painting
from tests.domains.inference.backends.test_inpainting import hole
from tests.domains.inference.backends.test_oracle import same

__all__ = ["file_of", "follow"]

FULL = pytest.mark.demonstration
POSE, DEPTH, LINES = ControlNetType.POSE, ControlNetType.DEPTH, ControlNetType.EDGE
TILE, REPAINT = ControlNetType.TILE, ControlNetType.REPAINT


def saved(folder: Path, unet: Any, **config: Any) -> Path:
    """A union for a UNet, with numbers in the layers that training begins as zeros."""
    torch.manual_seed(9)
    width = unet.config.block_out_channels[0]
    sizes = {"num_trans_channel": width, "num_proj_channel": width}
    pictures = {"conditioning_embedding_out_channels": (16, 32, 96, 256)}
    kind: Any = ControlNetUnionModel
    union = kind.from_config(dict(unet.config) | sizes | pictures | config)
    for module in ("down_blocks", "mid_block", "conv_in", "time_embedding", "add_embedding"):
        getattr(union, module).load_state_dict(getattr(unet, module).state_dict(), strict=False)
    for name, parameter in union.named_parameters():
        if name.startswith(("controlnet_", "spatial_ch_projs")):
            nn.init.normal_(parameter, std=0.03)
    union.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def union(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of eight kinds, as ProMax."""
    folder = tmp_path_factory.mktemp("unions") / "promax"
    return saved(folder, pipeline.unet, num_control_type=8)


def reference(path: Path) -> Any:
    return network(path, ControlNetUnionModel)


@pytest.fixture
def expected(pipeline: Any, work: Any) -> Callable[..., Any]:
    """Pixels and final latents of the reference pipelines."""

    def call(
        controlnet: Any, kind: Any = StableDiffusionXLControlNetUnionPipeline, **arguments: Any
    ) -> Any:
        reference = kind(**pipeline.components, controlnet=controlnet)
        reference.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
        settings = {"prompt": work.settings.prompt, "num_inference_steps": SMALL["steps"]}
        settings |= {"width": EDGE, "height": EDGE, "controlnet_conditioning_scale": 1.0}
        return drawn_by(reference, **(settings | arguments))

    return call


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"control_type": LINES}, {"control_mode": 3}),
        pytest.param({"control_type": REPAINT}, {"control_mode": 7}, marks=FULL),
        (
            {"control_type": POSE, "conditioning_scale": 0.6, "start": 0.3, "end": 0.7},
            {
                "control_mode": 0,
                "controlnet_conditioning_scale": 0.6,
                "control_guidance_start": 0.3,
                "control_guidance_end": 0.7,
            },
        ),
    ],
)
def test_one_picture(follow, expected, union, ours, theirs) -> None:
    wanted = expected(reference(union), control_image=[edges()], **theirs)
    same(follow((union, edges(), ours)), wanted)


def test_what_it_takes_a_picture_for_changes_the_result(follow, union) -> None:
    as_pose, as_lines = (
        follow((union, edges(), {"control_type": each})) for each in (POSE, LINES)
    )
    assert not torch.equal(as_pose.latents[0], as_lines.latents[0])


def test_several_pictures_are_one_call(follow, expected, union) -> None:
    """Also in the steps of which one's share is over."""
    how = [
        {"control_type": DEPTH, "conditioning_scale": 0.9, "end": 0.7},
        {"control_type": LINES, "conditioning_scale": 1.3},
        {"control_type": DEPTH, "conditioning_scale": 0.4, "start": 0.3},
    ]
    drawn = follow(*((union, edges(k), how[k]) for k in range(3)))
    wanted = expected(
        reference(union),
        control_image=[edges(k) for k in range(3)],
        control_mode=[1, 3, 1],
        controlnet_conditioning_scale=[0.9, 1.3, 0.4],
        control_guidance_start=[0.0, 0.0, 0.3],
        control_guidance_end=[0.7, 1.0, 1.0],
    )
    same(drawn, wanted)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The kinds that each call of a union was for, and the networks that were called."""
    seen: list[Any] = []
    forward = ControlNetUnionModel.forward

    def note(self: Any, *args: Any, **how: Any) -> Any:
        seen.append((id(self), how["control_type_idx"]))
        return forward(self, *args, **how)

    monkeypatch.setattr(ControlNetUnionModel, "forward", note)
    return seen


def test_those_that_work_elsewhere_are_calls_of_the_same_network(
    follow, expected, union, calls
) -> None:
    """A white mask is everywhere, but says where: what it masks is one answer."""
    white = Image.new("RGB", (EDGE, EDGE), "white")
    drawn = follow(
        (union, edges(), {"control_type": DEPTH, "conditioning_scale": 0.8}),
        (union, edges(1), {"control_type": TILE, "mask": white}),
    )
    assert [kinds for _, kinds in calls] == [[1], [6]] * SMALL["steps"]
    assert len({network for network, _ in calls}) == 1
    wanted = expected(
        [reference(union), reference(union)],
        control_image=[edges(), edges(1)],
        control_mode=[1, 6],
        controlnet_conditioning_scale=[0.8, 1.0],
    )
    same(drawn, wanted)


@pytest.mark.parametrize("kinds", [[LINES], pytest.param([POSE, LINES], marks=FULL)])
def test_guessing(follow, expected, union, monkeypatch, kinds) -> None:
    how = [{"control_type": each, "guess_mode": True} for each in kinds]
    drawn = follow(*((union, edges(k), each) for k, each in enumerate(how)))
    theirs = reference(union)
    wanted = expected(
        theirs,
        control_image=[edges(k) for k in range(len(kinds))],
        control_mode=[each.number for each in kinds],
        guess_mode=True,
    )
    same(drawn, wanted)
