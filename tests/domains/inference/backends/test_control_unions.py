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
from msgspec.structs import replace
from PIL import Image
from torch import nn

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends import sharing
from domains.inference.types import (
    GuidanceSettings,
    ImageToImage,
    Inpainting,
    Scheduler,
    SchedulerSettings,
)
from domains.picture.types import PreparedPicture
from domains.values import ControlNetType
from tests.domains.inference.backends.test_control_nets import (
    CANNY,
    EDGE,
    SMALL,
    drawn_by,
    edges,
    file_of,
    follow,
    job_of,
    network,
)
from tests.domains.inference.backends.test_image_to_image import painting
from tests.domains.inference.backends.test_inpainting import hole
from tests.domains.inference.backends.test_oracle import same
from tests.domains.inference.backends.test_pausing import Turns, after, whole
from tests.domains.inference.backends.test_shared_passes import assert_all_alike
from tests.fakes.jobs import changed

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
def test_guessing(follow, expected, union, kinds) -> None:
    """Against a reference that is mended: diffusers' pipelines give the half that guesses the
    kinds of both halves, and fail."""
    how = [{"control_type": each, "guess_mode": True} for each in kinds]
    drawn = follow(*((union, edges(k), each) for k, each in enumerate(how)))
    theirs = reference(union)
    forward = theirs.forward

    def mended(sample: Any, *args: Any, control_type: Any, **further: Any) -> Any:
        return forward(sample, *args, control_type=control_type[: len(sample)], **further)

    theirs.forward = mended
    wanted = expected(
        theirs,
        control_image=[edges(k) for k in range(len(kinds))],
        control_mode=[each.number for each in kinds],
        guess_mode=True,
    )
    same(drawn, wanted)


@FULL
def test_without_guidance(follow, expected, union) -> None:
    how = {"control_type": LINES}
    drawn = follow((union, edges(), how), guidance=GuidanceSettings(1.0))
    wanted = expected(
        reference(union), control_image=[edges()], control_mode=3, guidance_scale=1.0
    )
    same(drawn, wanted)


def test_from_a_picture(follow, expected, union, file_of) -> None:
    picture = painting(EDGE, EDGE)
    drawn = follow(
        (union, edges(), {"control_type": LINES, "end": 0.5}),
        (union, picture, {"control_type": TILE}),
        picture=file_of(picture),
        image_to_image=ImageToImage(0.7),
        steps=4,
    )
    wanted = expected(
        reference(union),
        StableDiffusionXLControlNetUnionImg2ImgPipeline,
        image=picture,
        control_image=[edges(), picture],
        control_mode=[3, 6],
        strength=0.7,
        num_inference_steps=4,
        control_guidance_end=[0.5, 1.0],
    )
    same(drawn, wanted)


def test_in_a_hole(follow, expected, union, file_of, tmp_path) -> None:
    picture, mask = painting(EDGE, EDGE), hole(EDGE)
    control = Image.composite(Image.new("RGB", picture.size), picture, mask.convert("L"))
    data = mask.tobytes()
    (tmp_path / "mask").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    drawn = follow(
        (union, control, {"control_type": REPAINT}),
        picture=file_of(picture),
        mask=PreparedPicture(tmp_path / "mask", EDGE, EDGE, sha256, True),
        inpainting=Inpainting(strength=0.6, mask_blur_pixels=0),
        steps=4,
    )
    wanted = expected(
        reference(union),
        StableDiffusionXLControlNetUnionInpaintPipeline,
        image=picture,
        mask_image=mask,
        control_image=[control],
        control_mode=7,
        strength=0.6,
        num_inference_steps=4,
    )
    same(drawn, wanted)


class _AsOne(nn.Module):
    """A union with one kind, called as a ControlNet with one purpose."""

    def __init__(self, union: Any, kind: ControlNetType) -> None:
        super().__init__()
        self.union, self.kind, self.config = union, kind, union.config

    def forward(self, sample: Any, controlnet_cond: Any, **how: Any) -> Any:
        marks = torch.zeros(len(sample), self.config.num_control_type)
        marks[:, self.kind.number] = 1
        names = ("timestep", "encoder_hidden_states", "conditioning_scale")
        names += ("added_cond_kwargs", "guess_mode", "return_dict")
        return self.union(
            sample,
            controlnet_cond=[controlnet_cond],
            control_type=marks,
            control_type_idx=[self.kind.number],
            **{name: how[name] for name in names},
        )


def test_beside_another_control_net(follow, expected, union) -> None:
    drawn = follow(
        (union, edges(), {"control_type": DEPTH, "conditioning_scale": 0.7}),
        (CANNY, edges(1), {"end": 0.7}),
    )
    nets: list[Any] = [_AsOne(reference(union), DEPTH), network(CANNY)]
    several = MultiControlNetModel([network(CANNY), network(CANNY)])
    several.nets = nn.ModuleList(nets)
    wanted = expected(
        several,
        StableDiffusionXLControlNetPipeline,
        image=[edges(), edges(1)],
        controlnet_conditioning_scale=[0.7, 1.0],
        control_guidance_start=[0.0, 0.0],
        control_guidance_end=[1.0, 0.7],
    )
    same(drawn, wanted)


@FULL
def test_each_picture_may_have_its_own(follow, union) -> None:
    """Pictures of one work are as alone, although a union's rows look at each other."""
    together = follow(
        (union, [edges(1), edges(2)], {"control_type": LINES}),
        (union, edges(3), {"control_type": DEPTH}),
        seeds=(7, 8),
    )
    for index, seed in enumerate((7, 8)):
        alone = follow(
            (union, edges(index + 1), {"control_type": LINES}),
            (union, edges(3), {"control_type": DEPTH}),
            seeds=(seed,),
        )
        assert torch.equal(together.latents[index], alone.latents[0])


@pytest.fixture(scope="module")
def six(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("unions") / "six", pipeline.unet, num_control_type=6)


@pytest.mark.parametrize(
    ("net", "how", "words"),
    [
        ("six", {}, "six is a union of 6 kinds and was not told"),
        ("six", {"control_type": TILE}, "six is a union of 6 kinds, of which TILE is none"),
        ("canny", {"control_type": LINES}, "emoji-canny is no union"),
    ],
)
def test_what_its_files_do_not_hold_is_refused(follow, six, net, how, words) -> None:
    """Whatever the catalogue knew of them."""
    with pytest.raises(FailedPrecondition) as caught:
        follow((six if net == "six" else CANNY, edges(), how))
    assert caught.value.reason is Reason.MODEL_INCOMPATIBLE
    assert words in caught.value.message
    assert caught.value.metadata["field"] == "settings.control_nets[0].control_type"


def test_one_for_another_unet_is_refused(follow, pipeline, tmp_path) -> None:
    other = saved(tmp_path / "other", pipeline.unet, num_control_type=8)
    kind: Any = ControlNetUnionModel
    config = dict(kind.load_config(other)) | {"projection_class_embeddings_input_dim": 999}
    kind.from_config(config).save_pretrained(other)
    with pytest.raises(FailedPrecondition) as caught:
        follow((other, edges(), {"control_type": LINES}))
    assert caught.value.reason is Reason.MODEL_INCOMPATIBLE
    assert "999 as its numbers in further inputs" in caught.value.message
    assert "emoji-xl" in caught.value.message


@FULL
def test_a_pause_goes_on_to_the_same_bytes(engine, work, follow, union, file_of, tmp_path):
    nets = [
        (union, edges(), {"control_type": LINES, "start": 0.2}),
        (union, edges(1), {"control_type": DEPTH, "end": 0.6}),
    ]
    sampler = SchedulerSettings(Scheduler.EULER_ANCESTRAL_DISCRETE)
    job = changed(work, **(SMALL | job_of(file_of, *nets)), scheduler=sampler)
    job = replace(job, paused_file=tmp_path / "paused" / "one.paused")
    wanted, turns = whole(engine, job), Turns(job)
    turns.pause(engine, after(2))
    assert turns.job.kept_steps == 2
    turns.finish(engine)
    assert [image.data for image in turns.images] == wanted


def test_pictures_that_share_passes_do_not_look_at_each_other(
    engine, work, file_of, union, monkeypatch, calls
) -> None:
    """The UNet is shared, a union is not: a picture is as alone, whoever its neighbour is."""
    shared: list[int] = []
    call = sharing.call_together

    def count(network: Any, asked: Any) -> Any:
        shared.append(len(asked))
        return call(network, asked)

    monkeypatch.setattr(sharing, "call_together", count)
    jobs = [
        changed(
            work,
            **(SMALL | job_of(file_of, (union, edges(k), {"control_type": kind}))),
            seeds=(k,),
        )
        for k, kind in enumerate((POSE, LINES))
    ]
    assert_all_alike(engine, jobs)
    assert 2 in shared
    assert all(len(kinds) == 1 for _, kinds in calls)
