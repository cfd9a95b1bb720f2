"""IP-Adapters and image encoders from their files: the numbers that diffusers and transformers
make of them, and what is wrong with others by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPVisionModelWithProjection

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.component import plan_component
from domains.model.backends.plans import plan_lone
from domains.model.types import ModelType
from tests.domains.model.backends.test_component import module_at
from tests.domains.model.disk import DEMO, files_at
from tests.domains.model.image_prompts import (
    FACE_ID,
    HIDDEN,
    KINDS,
    PLAIN,
    PLUS,
    PROJECTED,
    adapter_file,
    adapter_tensors,
    encoder_folder,
)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_holds_the_numbers_that_diffusers_loads(tmp_path: Path, kind: str) -> None:
    ours = module_at(adapter_file(tmp_path / "adapter.safetensors", kind))
    parts: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in adapter_tensors(kind).items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    unet: Any = UNet2DConditionModel
    unet = unet.from_config(unet.load_config(DEMO / "unet"))
    unet._load_ip_adapter_weights([parts])

    (theirs,) = unet.encoder_hid_proj.image_projection_layers
    assert type(ours.projection) is type(theirs)
    wanted = theirs.state_dict()
    assert ours.projection.state_dict().keys() == wanted.keys()
    assert all(torch.equal(one, wanted[k]) for k, one in ours.projection.state_dict().items())
    layers = [one for name, one in unet.attn_processors.items() if "attn2" in name]
    assert len(layers) == len(ours.to_keys) == len(ours.to_values)
    for layer, key, value in zip(layers, ours.to_keys, ours.to_values, strict=True):
        assert torch.equal(layer.to_k_ip[0].weight, key.weight)
        assert torch.equal(layer.to_v_ip[0].weight, value.weight)
    assert ours.reads_hidden_states is (kind != PLAIN)
    assert ours.width == (PROJECTED if kind == PLAIN else HIDDEN)
    given = torch.randn((2, PROJECTED) if kind == PLAIN else (2, 257, HIDDEN))
    assert torch.equal(ours.projection(given), theirs(given))


def test_an_encoder_computes_what_transformers_does(tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path / "encoder")
    alone = tmp_path / "alone.safetensors"
    shutil.copy(folder / "model.safetensors", alone)
    kind: Any = CLIPVisionModelWithProjection
    theirs = kind.from_pretrained(folder).eval()
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        wanted = theirs(pixels, output_hidden_states=True)
        for path in (folder, alone):
            found = module_at(path)(pixels, output_hidden_states=True)
            assert torch.equal(found.image_embeds, wanted.image_embeds)
            assert torch.equal(found.hidden_states[-2], wanted.hidden_states[-2])


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        ("image_proj.norm.bias", Reason.MODEL_INCOMPLETE),
        ("image_proj.proj.weight", Reason.MODEL_INCOMPLETE),
        ("ip_adapter.5.to_v_ip.weight", Reason.MODEL_INCOMPLETE),
    ],
)
def test_a_tensor_that_is_missing_is_named(tmp_path: Path, lost: str, reason: Reason) -> None:
    tensors = adapter_tensors(PLAIN)
    del tensors[lost]
    save_file(tensors, tmp_path / "adapter.safetensors")
    with pytest.raises(FailedPrecondition) as caught:
        module_at(tmp_path / "adapter.safetensors")
    assert caught.value.reason is reason


def test_one_of_another_shape_or_name_is_named(tmp_path: Path) -> None:
    path, tensors = tmp_path / "adapter.safetensors", adapter_tensors(PLUS)
    name = "image_proj.layers.1.0.to_q.weight"
    save_file({**tensors, name: tensors[name][:, :-1].contiguous()}, path)
    with pytest.raises(FailedPrecondition) as caught:
        module_at(path)
    assert caught.value.reason is Reason.MODEL_SHAPE_INVALID
    assert caught.value.metadata["tensor"] == name

    save_file({**tensors, "image_proj.layers.1.7.odd.weight": torch.zeros(2)}, path)
    with pytest.raises(FailedPrecondition) as caught:
        module_at(path)
    assert caught.value.reason is Reason.MODEL_INCOMPLETE
    assert "layers.1.7.odd" in caught.value.message


def test_one_that_needs_a_face_recogniser_is_refused_and_says_so(tmp_path: Path) -> None:
    path = adapter_file(tmp_path / "face.safetensors", FACE_ID)
    with pytest.raises(FailedPrecondition, match="face recogniser") as caught:
        plan_lone(files_at(path), ModelType.IMAGE_PROMPT_ADAPTER)
    assert caught.value.reason is Reason.MODEL_INCOMPATIBLE


def test_an_encoder_is_no_adapter(tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path / "encoder")
    assert plan_lone(files_at(folder), ModelType.IMAGE_ENCODER).name == "image_encoder"
    with pytest.raises(FailedPrecondition) as caught:
        plan_lone(files_at(folder), ModelType.IMAGE_PROMPT_ADAPTER)
    assert caught.value.reason is Reason.MODEL_INCOMPATIBLE


@pytest.mark.parametrize("size", [225, 924])
def test_patches_that_do_not_fill_the_picture_or_are_too_many_are_refused(
    tmp_path: Path, size: int
) -> None:
    folder = encoder_folder(tmp_path / "encoder")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"image_size": 224', f'"image_size": {size}'))
    with pytest.raises(FailedPrecondition, match="patches") as caught:
        plan_component(files_at(folder))
    assert caught.value.reason is Reason.MODEL_CONFIG_INVALID
