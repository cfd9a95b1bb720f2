"""Networks that are models of their own load as the reference loads them, in every layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from demo.train.layouts.text import open_clip_text
from domains.errors import FailedPrecondition, Reason
from domains.model.backends.component import plan_component
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.networks import build_empty, fill
from tests.domains.model.disk import DEMO, files_at
from tests.domains.model.originals import original_control, parts_of

MODELS = DEMO.parent
CANNY = MODELS / "emoji-canny"


def module_at(path: Path) -> Any:
    return fill(
        build_empty(plan_component(files_at(path))),
        data_type=torch.float32,
        device=torch.device("cpu"),
        on_bytes=lambda _: None,
    )


def same(found: Any, wanted: Any) -> None:
    ours, theirs = found.state_dict(), wanted.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def reference(kind: Any, path: Path, **options: Any) -> Any:
    return kind.from_pretrained(path, dtype=torch.float32, local_files_only=True, **options)


@pytest.fixture(scope="module")
def vae() -> Any:
    kind: Any = AutoencoderKL
    return kind.from_single_file(
        str(MODELS / "emoji-vae.safetensors"),
        config=str(DEMO),
        subfolder="vae",
        dtype=torch.float32,
        local_files_only=True,
    )


def test_a_vae_in_the_original_layout(vae):
    ours = module_at(MODELS / "emoji-vae.safetensors")
    same(ours, vae)
    assert ours.config["scaling_factor"] == vae.config["scaling_factor"] == 0.13025
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(ours.decode(latents).sample, vae.eval().decode(latents).sample)


def test_weights_require_gradients_where_the_libraries_do(vae):
    """By it torch chooses how it multiplies, and so what the last bits are."""
    ours = dict(module_at(MODELS / "emoji-vae.safetensors").named_parameters())
    theirs = {name: weight.requires_grad for name, weight in vae.named_parameters()}
    assert {name: weight.requires_grad for name, weight in ours.items()} == theirs


def test_a_vae_with_the_names_of_a_checkpoint_and_of_a_folder(tmp_path, vae):
    metadata = {"deviceops.configuration": "emoji-xl/vae"}
    whole = load_file(MODELS / "emoji-vae.safetensors")
    renamed = {f"first_stage_model.{name}": tensor for name, tensor in whole.items()}
    save_file(renamed, tmp_path / "in-checkpoint.safetensors", metadata)
    same(module_at(tmp_path / "in-checkpoint.safetensors"), vae)
    folders = vae.state_dict()
    save_file(folders, tmp_path / "in-folder.safetensors", metadata)
    same(module_at(tmp_path / "in-folder.safetensors"), vae)
    old = {
        name.replace("to_q", "query")
        .replace("to_k", "key")
        .replace("to_v", "value")
        .replace("to_out.0", "proj_attn"): tensor
        for name, tensor in folders.items()
    }
    save_file(old, tmp_path / "old.safetensors", metadata)
    same(module_at(tmp_path / "old.safetensors"), vae)


def test_a_vae_with_averaged_weights_beside_its_own(tmp_path, vae):
    extras = {"model_ema.decay": torch.zeros(()), "loss.logvar": torch.zeros(())}
    path = tmp_path / "trained.safetensors"
    save_file(vae.state_dict() | extras, path, {"deviceops.configuration": "emoji-xl/vae"})
    same(module_at(path), vae)


def test_a_control_net_from_file_with_and_without_its_configuration(tmp_path):
    wanted = reference(ControlNetModel, CANNY)
    file = "diffusion_pytorch_model.safetensors"
    same(module_at(CANNY), wanted)
    same(module_at(CANNY / file), wanted)
    shutil.copy(CANNY / file, tmp_path / "canny.safetensors")
    alone = module_at(tmp_path / "canny.safetensors")
    same(alone, wanted)
    assert alone.config["down_block_types"] == wanted.config["down_block_types"]


@pytest.mark.parametrize("prefix", ["", "control_model."])
def test_a_control_net_in_the_original_layout(tmp_path, prefix):
    torch.manual_seed(4)
    wanted = ControlNetModel(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        cross_attention_dim=768,
    ).eval()
    tensors = {
        prefix + original_control(name): tensor.contiguous()
        for name, tensor in wanted.state_dict().items()
    }
    path = tmp_path / "control.safetensors"
    save_file(tensors, path)
    same(module_at(path), wanted)


def test_text_encoders_in_both_layouts(tmp_path):
    tensors = parts_of(DEMO)["text_encoder"]
    wanted = reference(CLIPTextModel, DEMO, subfolder="text_encoder", variant="fp16")
    save_file(tensors, tmp_path / "clip.safetensors")
    same(module_at(tmp_path / "clip.safetensors"), wanted)
    projected = parts_of(DEMO)["text_encoder_2"]
    save_file(open_clip_text(projected), tmp_path / "open.safetensors")
    found = module_at(tmp_path / "open.safetensors").state_dict()
    stored = {name.removeprefix("text_model."): t for name, t in projected.items()}
    assert {name.removeprefix("text_model.") for name in found} == stored.keys()
    projection = found["text_projection.weight"]
    assert torch.equal(projection, stored["text_projection.weight"].float())


def test_other_things_are_refused():
    for name in ("line-art", "compact-2x", "emoji-comic"):
        with pytest.raises(FailedPrecondition) as refused:
            plan_component(files_at(MODELS / f"{name}.safetensors"))
        assert refused.value.reason is Reason.MODEL_FORMAT_UNSUPPORTED


def test_a_vae_that_cannot_be_loaded_is_listed_with_the_reason(tmp_path):
    tensors = load_file(MODELS / "emoji-vae.safetensors")
    del tensors["encoder.conv_in.weight"]
    save_file(tensors, tmp_path / "broken.safetensors")
    (model,) = DiskScanner([tmp_path]).scan().models
    assert model.problem is not None
    assert model.problem.reason is Reason.MODEL_INCOMPLETE
    assert "encoder.conv_in.weight" in model.problem.message
