"""Networks that are models of their own load as the reference loads them, in every layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, ControlNetUnionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from demo.train.layouts.text import open_clip_text
from domains.errors import FailedPrecondition, Reason
from domains.model.backends.component import plan_component
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.networks import build_empty, fill
from tests.domains.model.disk import DEMO, files_at
from tests.domains.model.originals import original_control, parts_of
from tests.libraries import DTYPE

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
    how = options | {DTYPE: torch.float32}
    return kind.from_pretrained(path, local_files_only=True, **how)


@pytest.fixture(scope="module")
def vae() -> Any:
    kind: Any = AutoencoderKL
    return kind.from_single_file(
        str(MODELS / "emoji-vae.safetensors"),
        config=str(DEMO),
        subfolder="vae",
        local_files_only=True,
        **{DTYPE: torch.float32},
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


@pytest.fixture(scope="module")
def union() -> Any:
    """With attention from the second block on, as the only ones there are."""
    torch.manual_seed(6)
    return ControlNetUnionModel(
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=2048,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
        conditioning_embedding_out_channels=(8, 16),
        num_control_type=8,
        num_trans_channel=32,
        num_proj_channel=32,
    ).eval()


def test_a_union_from_folder_and_from_file_with_and_without_its_configuration(tmp_path, union):
    folder = tmp_path / "folder"
    union.save_pretrained(folder)
    same(module_at(folder), union)
    file = folder / "diffusion_pytorch_model.safetensors"
    same(module_at(file), union)
    shutil.copy(file, tmp_path / "alone.safetensors")
    alone = module_at(tmp_path / "alone.safetensors")
    same(alone, union)
    for key in ("num_control_type", "addition_time_embed_dim", "num_trans_layer"):
        assert alone.config[key] == union.config[key]


@pytest.mark.parametrize(
    "said", [{"_class_name": "ControlNetModel"}, {"num_control_type": 6}], ids=str
)
def test_a_unions_tensors_say_what_it_is(tmp_path, union, said):
    """Its makers' configuration calls it a ControlNet, and lies beside unions of six and of
    eight kinds."""
    union.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8")) | said
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    same(module_at(tmp_path), union)
    same(module_at(tmp_path / "diffusion_pytorch_model.safetensors"), union)


@pytest.mark.parametrize("prefix", ["", "control_model."])
def test_a_union_in_the_original_layout(tmp_path, union, prefix):
    path = tmp_path / "union.safetensors"
    tensors = union.state_dict().items()
    save_file({prefix + original_control(k): v.contiguous() for k, v in tensors}, path)
    same(module_at(path), union)
    (model,) = DiskScanner([tmp_path]).scan().models
    assert (model.kind, model.problem) == ("ControlNet union ProMax", None)
    assert "POSE, DEPTH, SOFT_EDGE, EDGE, NORMAL, SEGMENT, TILE, REPAINT" in model.remarks[0]


def test_what_is_marked_as_a_union_and_is_none_is_a_union_that_lacks_parts(tmp_path):
    """Not a ControlNet with tensors left over."""
    tensors = load_file(CANNY / "diffusion_pytorch_model.safetensors") | {
        "task_embedding": torch.zeros(6, 64),
        "control_add_embedding.linear_1.weight": torch.zeros(256, 6 * 32),
        "control_add_embedding.linear_1.bias": torch.zeros(256),
        "control_add_embedding.linear_2.weight": torch.zeros(256, 256),
        "control_add_embedding.linear_2.bias": torch.zeros(256),
    }
    save_file(tensors, tmp_path / "marked.safetensors")
    (model,) = DiskScanner([tmp_path]).scan().models
    assert model.kind == "ControlNet union"
    assert model.problem is not None
    assert model.problem.reason is Reason.MODEL_INCOMPLETE
    assert "spatial_ch_projs.weight" in model.problem.message


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_trans_head", 7), ("num_trans_layer", 33), ("addition_time_embed_dim", None)],
)
def test_a_unions_configuration_is_bounded(tmp_path, union, key, value):
    union.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8")) | {key: value}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(FailedPrecondition) as refused:
        module_at(tmp_path)
    assert refused.value.reason is Reason.MODEL_CONFIG_INVALID
    assert key in refused.value.message
