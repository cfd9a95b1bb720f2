"""From one file is drawn what the folder draws that it was made from, without network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from domains.inference.backends.engine import Engine
from domains.inference.types import Scheduler, SchedulerSettings
from domains.model.backends.companion import CLIP_TOKENS
from domains.model.backends.inspector.conversion import convert
from domains.model.backends.networks import build_empty, fill
from domains.model.backends.plans import plan_model
from domains.model.jobs import ConvertJob, LoadJob
from domains.values import ModelOrigin, ModelPlace
from tests.domains.inference.backends.conftest import MODEL
from tests.domains.inference.backends.test_oracle import same
from tests.domains.inference.backends.test_sd1 import drawn_by, loaded, tiny_pipeline
from tests.domains.model.backends.inspector.context import Told
from tests.domains.model.disk import edit, files_at
from tests.domains.model.originals import (
    parts_of,
    sd1_file,
    sd2_tensors,
    sdxl_file,
    written,
)
from tests.fakes.jobs import Listener

CLIP = Path(plan_model.__code__.co_filename).parent / "bundled" / "clip-tokenizer"
EULER = SchedulerSettings(Scheduler.EULER_DISCRETE)


def test_sdxl_in_one_file_draws_the_folders_picture(draw, tmp_path, offline):
    path = sdxl_file(tmp_path / "xl.safetensors", MODEL, deviceops_configuration="emoji-xl")
    small: dict[str, Any] = {"width": 64, "height": 64, "steps": 2}
    own = draw(model_id="xl", model_path=path, **small)
    folder = draw(model_id="emoji-xl", model_path=MODEL, **small)
    assert np.array_equal(own.pixels[0], folder.pixels[0])
    assert torch.equal(own.latents[0], folder.latents[0])


def rearranged(source: Path, target: Path) -> Path:
    """In the other layout; a target with an ending is a file."""
    folder = target.parent if target.suffix else target
    job = ConvertJob("x", ModelPlace.of(source), folder, target.name, rearrange=True)
    convert(job, Told())
    return target


def test_a_file_made_of_a_folder_draws_its_picture(draw, tmp_path, offline):
    path = rearranged(MODEL, tmp_path / "xl.safetensors")
    same_picture(draw, path, MODEL)


@pytest.mark.parametrize("name", ["emoji-comic", "emoji-sd1"])
def test_a_folder_made_of_a_file_draws_its_picture(draw, tmp_path, offline, name):
    source = MODEL.parent / f"{name}.safetensors"
    same_picture(draw, rearranged(source, tmp_path / name), source)


def same_picture(draw: Any, one: Path, other: Path) -> None:
    small: dict[str, Any] = {"width": 64, "height": 64, "steps": 2}
    found, wanted = (
        draw(model_id=path.stem, model_path=path, **small) for path in (one, other)
    )
    assert np.array_equal(found.pixels[0], wanted.pixels[0])
    assert torch.equal(found.latents[0], wanted.latents[0])
    assert found.pixels[0].std() > 0


def test_what_lies_beside_a_file_is_part_of_what_is_loaded(tmp_path):
    path = sdxl_file(tmp_path / "xl.safetensors", MODEL, deviceops_configuration="mine")
    ignored = shutil.ignore_patterns("*.safetensors", "model_index.json")
    shutil.copytree(MODEL, tmp_path / "mine", ignore=ignored)
    job, engine = LoadJob("xl", ModelPlace.of(path)), Engine("cpu")

    def origin() -> ModelOrigin:
        return engine.load(job, Listener()).origin

    first, again = origin(), origin()
    path.with_suffix(".yaml").write_text("parameterization: v")
    told = origin()
    edit(tmp_path / "mine" / "scheduler" / "scheduler_config.json", steps_offset=0)

    assert (first, again) == (ModelOrigin.DISK, ModelOrigin.LOADED)
    assert told is origin() is ModelOrigin.DISK
    assert origin() is ModelOrigin.LOADED
    engine.unload()


def clip(width: int, layers: int, act: str, **more: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=CLIP_TOKENS,
        hidden_size=width,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        hidden_act=act,
        bos_token_id=49406,
        eos_token_id=49407,
        **more,
    )


def tokenizer(padding: str) -> Any:
    kind: Any = CLIPTokenizer
    return kind.from_pretrained(CLIP, pad_token=padding, local_files_only=True)


SD2_WIDTH = 1024


def small_sd2() -> StableDiffusionPipeline:
    """A small SD 2.x with random weights, which predicts velocities."""
    torch.manual_seed(5)
    width = SD2_WIDTH
    return StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(32, 64, 64, 64),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
        ),
        text_encoder=CLIPTextModel(clip(width, 2, "gelu")),
        tokenizer=tokenizer("!"),
        unet=UNet2DConditionModel(
            sample_size=96,
            block_out_channels=(64, 64, 128, 128),
            down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
            up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
            attention_head_dim=(1, 1, 2, 2),
            cross_attention_dim=width,
            use_linear_projection=True,
            upcast_attention=True,
        ),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type="v_prediction",
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="module")
def sd2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The small SD 2.x as a folder and in one file that says nothing."""
    folder = tmp_path_factory.mktemp("sd2") / "tiny-sd2"
    small_sd2().save_pretrained(folder)
    file = written(folder.parent / "one.safetensors", sd2_tensors(folder, SD2_WIDTH), {})
    return folder, file


@pytest.mark.parametrize(
    "prompt",
    # The second has the word with which SD 2.x fills up what is empty.
    [pytest.param("a robot", marks=pytest.mark.demonstration), "wow! a robot!"],
)
def test_sd2_draws_as_the_reference_does_from_folder_and_file(draw, sd2, offline, prompt):
    folder, file = sd2
    expected = drawn_by(loaded(folder), prompt=prompt)
    changes: dict[str, Any] = {"prompt": prompt, "width": 64, "height": 64, "steps": 3}
    changes["scheduler"] = SchedulerSettings(Scheduler.DDIM)
    for path in (folder, file):
        same(draw(model_id=path.stem, model_path=path, **changes), expected)


@pytest.mark.demonstration
def test_sd2_goes_both_ways_with_the_layer_that_is_never_read(draw, sd2, tmp_path, offline):
    folder, _ = sd2
    path = rearranged(folder, tmp_path / "sd2.safetensors")
    same_picture(draw, path, folder)
    start = "cond_stage_model.model.transformer.resblocks."
    layers = {name.removeprefix(start)[0] for name in load_file(path) if start in name}
    assert (
        len(layers) == 1 + plan_model(files_at(folder)).networks[0].config["num_hidden_layers"]
    )
    found, wanted = parts_of(rearranged(path, tmp_path / "back")), parts_of(folder)
    for part, tensors in wanted.items():
        # Versions of transformers differ in the beginning.
        own = {key.removeprefix("text_model."): tensor for key, tensor in found[part].items()}
        tensors = {key.removeprefix("text_model."): each for key, each in tensors.items()}
        assert own.keys() == tensors.keys()
        assert all(torch.equal(own[key], tensor) for key, tensor in tensors.items())


def test_sd1_in_one_file_that_says_nothing_is_what_the_folder_is(tmp_path, offline):
    """With the vocabulary of CLIP, all of the rest is what SD 1.x has."""
    pipeline = tiny_pipeline()
    pipeline.text_encoder = CLIPTextModel(clip(128, 2, "quick_gelu"))
    pipeline.tokenizer = tokenizer("<|endoftext|>")
    folder = tmp_path / "folder"
    pipeline.unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(32, 64, 64, 64),
        attention_head_dim=8,
        cross_attention_dim=128,
        layers_per_block=2,
    )
    pipeline.vae = AutoencoderKL(
        block_out_channels=(32, 64, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
    )
    pipeline.save_pretrained(folder)
    equal(plan_model(files_at(sd1_file(tmp_path / "one.safetensors", folder))), folder)


@pytest.mark.demonstration
def test_sdxl_in_one_file_that_says_nothing_is_what_the_folder_is(tmp_path, offline):
    torch.manual_seed(6)
    first, second = 64, 128
    folder = tmp_path / "folder"
    StableDiffusionXLPipeline(
        vae=AutoencoderKL(
            block_out_channels=(32, 64),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=2,
            scaling_factor=0.13025,
            sample_size=1024,
        ),
        text_encoder=CLIPTextModel(clip(first, 2, "quick_gelu")),
        text_encoder_2=CLIPTextModelWithProjection(clip(second, 2, "gelu", projection_dim=128)),
        tokenizer=tokenizer("<|endoftext|>"),
        tokenizer_2=tokenizer("!"),
        unet=UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(64, 64, 128),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(1, 1, 2),
            transformer_layers_per_block=(1, 2, 3),
            cross_attention_dim=first + second,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=128 + 6 * 256,
        ),
        scheduler=DDIMScheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)
    equal(plan_model(files_at(sdxl_file(tmp_path / "one.safetensors", folder))), folder)


TOLD_BY_NO_SHAPE = {
    *("attention_head_dim", "scaling_factor", "force_upcast", "norm_num_groups", "act_fn"),
    *("hidden_act", "num_attention_heads", "layer_norm_eps", "eos_token_id"),
    *("addition_time_embed_dim", "transformer_layers_per_block", "layers_per_block"),
}


def equal(plan: Any, folder: Path) -> None:
    """A plan's networks are a folder's: weights, and what no shape tells."""
    wanted = {network.name: network for network in plan_model(files_at(folder)).networks}
    for network in plan.networks:
        ours, theirs = (built(each) for each in (network, wanted[network.name]))
        found, expected = ours.state_dict(), theirs.state_dict()
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), name
        for key in filter(lambda key: hasattr(theirs.config, key), TOLD_BY_NO_SHAPE):
            told = (getattr(ours.config, key), getattr(theirs.config, key))
            assert told[0] == told[1] or list(told[0]) == list(told[1]), (key, told)


def built(network: Any) -> Any:
    """A network with its weights."""
    empty = build_empty(network)
    cpu = torch.device("cpu")
    return fill(empty, data_type=torch.float32, device=cpu, on_bytes=lambda _: None)
