"""Converted files read by diffusers itself are the model that was converted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from demo.train.layouts.checkpoint import sd1_checkpoint, sdxl_checkpoint
from demo.train.layouts.text import open_clip_text
from demo.train.layouts.unet import original_unet
from demo.train.layouts.vae import original_vae
from demo.train.parts.base import BASE

Tensors = dict[str, torch.Tensor]


def part(name: str, file: str) -> Tensors:
    return load_file(BASE / name / f"{file}.fp16.safetensors")


@pytest.fixture(scope="module")
def parts() -> dict[str, Tensors]:
    network = "diffusion_pytorch_model"
    return {
        "unet": part("unet", network),
        "vae": part("vae", network),
        "text_encoder": part("text_encoder", "model"),
        "text_encoder_2": part("text_encoder_2", "model"),
    }


@pytest.fixture(scope="module")
def original() -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(BASE, variant="fp16", dtype=torch.float32)


@pytest.fixture(scope="module")
def converted(
    parts: dict[str, Tensors], tmp_path_factory: pytest.TempPathFactory
) -> StableDiffusionXLPipeline:
    path = tmp_path_factory.mktemp("layouts") / "emoji.safetensors"
    save_file(sdxl_checkpoint(**parts), path)
    return StableDiffusionXLPipeline.from_single_file(
        str(path), config=str(BASE), local_files_only=True, dtype=torch.float32
    )


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_a_single_file_holds_every_tensor_of_the_folder_bit_by_bit(
    name: str, original: StableDiffusionXLPipeline, converted: StableDiffusionXLPipeline
) -> None:
    before = getattr(original, name).state_dict()
    after = getattr(converted, name).state_dict()
    assert before.keys() == after.keys()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []


def test_a_single_file_draws_the_same_picture(
    original: StableDiffusionXLPipeline, converted: StableDiffusionXLPipeline
) -> None:
    pictures = []
    for pipeline in (original, converted):
        pipeline.set_progress_bar_config(disable=True)
        # The latents: two steps already pass through every layer of the UNet.
        latents = pipeline(
            "a robot on a teal background",
            num_inference_steps=2,
            width=256,
            height=256,
            generator=torch.Generator().manual_seed(1),
            output_type="latent",
        ).images
        pictures.append(
            pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
        )
    assert torch.equal(*pictures)
    assert pictures[0].std() > 0.1


def test_a_vae_file_alone_is_the_vae(parts: dict[str, Tensors], tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    save_file(original_vae(parts["vae"]), path)
    vae = AutoencoderKL.from_single_file(
        str(path), config=str(BASE), subfolder="vae", local_files_only=True
    )
    state = vae.state_dict()
    assert state.keys() == parts["vae"].keys()
    for name, tensor in parts["vae"].items():
        assert torch.equal(state[name], tensor.float()), name


def test_checkpoints_have_the_marks_that_programs_look_for(parts: dict[str, Tensors]) -> None:
    sdxl = sdxl_checkpoint(**parts)
    for name in (
        "model.diffusion_model.input_blocks.0.0.weight",
        "model.diffusion_model.label_emb.0.0.weight",
        "model.diffusion_model.output_blocks.5.2.conv.weight",
        "model.diffusion_model.out.2.weight",
        "first_stage_model.encoder.conv_in.weight",
        "first_stage_model.decoder.up.3.upsample.conv.weight",
        "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
        "conditioner.embedders.1.model.transformer.resblocks.4.attn.in_proj_weight",
        "conditioner.embedders.1.model.logit_scale",
    ):
        assert name in sdxl, name
    sd1 = sd1_checkpoint(
        unet=parts["unet"], text_encoder=parts["text_encoder"], vae=parts["vae"]
    )
    assert "cond_stage_model.transformer.text_model.final_layer_norm.weight" in sd1
    assert not any(name.startswith("conditioner.") for name in sd1)


def test_open_clip_fuses_queries_keys_and_values_in_this_order(
    parts: dict[str, Tensors],
) -> None:
    encoder = parts["text_encoder_2"]
    fused = open_clip_text(encoder)["transformer.resblocks.0.attn.in_proj_weight"]
    layer = "text_model.encoder.layers.0.self_attn"
    for letter, third in zip("qkv", fused.chunk(3), strict=True):
        assert torch.equal(third, encoder[f"{layer}.{letter}_proj.weight"])


def test_a_tensor_of_another_network_is_refused() -> None:
    nothing = torch.zeros(1)
    with pytest.raises(ValueError, match=r"conv_more\.weight is not a tensor of a UNet"):
        original_unet({"conv_more.weight": nothing})
    with pytest.raises(ValueError, match="not a tensor of a resnet"):
        original_unet({"down_blocks.0.resnets.0.norm9.weight": nothing})
    with pytest.raises(ValueError, match="not the tensors of a VAE"):
        original_vae({"conv_in.weight": nothing})
    with pytest.raises(ValueError, match="no text_projection"):
        open_clip_text({"text_model.final_layer_norm.weight": nothing})
    projection = {"text_projection.weight": torch.zeros(2, 2)}
    with pytest.raises(ValueError, match="not a tensor of a CLIP text encoder"):
        open_clip_text({**projection, "text_model.other.weight": nothing})
