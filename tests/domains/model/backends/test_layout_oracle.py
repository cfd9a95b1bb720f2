"""A file that was made of a folder, converted back by diffusers itself, is the folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.loaders import single_file_utils as oracle
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from domains.model.backends.inspector.conversion import convert
from domains.model.jobs import ConvertJob
from domains.values import ModelPlace
from tests.domains.model.backends.inspector.context import Told
from tests.domains.model.disk import DEMO
from tests.domains.model.originals import parts_of

MODELS = DEMO.parent
Tensors = dict[str, torch.Tensor]


def changed(source: Path, target: Path) -> Path:
    folder = target if not target.suffix else target.parent
    job = ConvertJob("x", ModelPlace.of(source), folder, target.name, rearrange=True)
    convert(job, Told())
    return target


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> Tensors:
    """The demo folder as one file."""
    return load_file(changed(DEMO, tmp_path_factory.mktemp("one") / "xl.safetensors"))


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(DEMO, variant="fp16")


def alike(found: Tensors, wanted: Tensors) -> None:
    assert found.keys() == wanted.keys()
    assert [key for key in wanted if not torch.equal(found[key], wanted[key])] == []


def test_the_unet_is_what_diffusers_makes_of_the_file(
    tensors: Tensors, pipeline: StableDiffusionXLPipeline
) -> None:
    config = dict(pipeline.unet.config)
    found = oracle.convert_ldm_unet_checkpoint(dict(tensors), config)
    alike(found, parts_of(DEMO)["unet"])


def test_the_vae_is_what_diffusers_makes_of_the_file(
    tensors: Tensors, pipeline: StableDiffusionXLPipeline
) -> None:
    found = oracle.convert_ldm_vae_checkpoint(dict(tensors), dict(pipeline.vae.config))
    wanted = parts_of(DEMO)["vae"]
    # Its loader makes matrices of the convolutions that attention is stored as.
    alike({key: tensor.reshape(wanted[key].shape) for key, tensor in found.items()}, wanted)


def test_the_second_encoder_is_what_diffusers_makes_of_the_file(
    tensors: Tensors, pipeline: StableDiffusionXLPipeline
) -> None:
    found = oracle.convert_open_clip_checkpoint(
        pipeline.text_encoder_2, dict(tensors), prefix="conditioner.embedders.1.model."
    )
    wanted = parts_of(DEMO)["text_encoder_2"]
    alike({_hubs(key): tensor for key, tensor in found.items()}, wanted)


def _hubs(name: str) -> str:
    """Versions of transformers differ in the beginning."""
    if name.startswith(("text_model.", "text_projection")):
        return name
    return f"text_model.{name}"


def test_diffusers_draws_from_the_folder_that_a_file_becomes(tmp_path: Path) -> None:
    folder = changed(MODELS / "emoji-comic.safetensors", tmp_path / "comic")
    found = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    wanted = StableDiffusionXLPipeline.from_single_file(
        str(MODELS / "emoji-comic.safetensors"), config=str(DEMO), local_files_only=True
    )
    kinds = (CLIPTextModel, CLIPTextModelWithProjection, AutoencoderKL)
    assert isinstance(found.text_encoder, kinds[0])
    assert isinstance(found.text_encoder_2, kinds[1])
    assert isinstance(found.vae, kinds[2])
    for name in ("text_encoder", "text_encoder_2", "unet", "vae"):
        state = getattr(wanted, name).state_dict()
        alike(
            getattr(found, name).state_dict(),
            {k: tensor.float() for k, tensor in state.items()},
        )
    prompt = "a robot"
    assert found.tokenizer(prompt).input_ids == wanted.tokenizer(prompt).input_ids
    assert dict(found.scheduler.config)["prediction_type"] == "epsilon"


def test_diffusers_reads_sd1_too(tmp_path: Path) -> None:
    folder = changed(MODELS / "emoji-sd1.safetensors", tmp_path / "sd1")
    found = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    assert found.safety_checker is None
    assert found.unet.config["cross_attention_dim"] == found.text_encoder.config.hidden_size
