"""LoRA files in both kinds of naming have the same effect when a pipeline loads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from demo.train.layouts.lora import kohya_lora, peft_lora
from demo.train.parts.base import BASE

RANK = 4
UNET = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj")
TEXT = ("q_proj", "v_proj", "out_proj")


@pytest.fixture
def pipeline() -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(BASE, variant="fp16", dtype=torch.float32)


def random_lora(pipeline: StableDiffusionXLPipeline) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, targets in (("unet", UNET), ("text_encoder", TEXT), ("text_encoder_2", TEXT)):
        parts[name] = {}
        for path, module in getattr(pipeline, name).named_modules():
            if isinstance(module, torch.nn.Linear) and path.endswith(targets):
                wide, narrow = module.weight.shape
                down = torch.randn(RANK, narrow, generator=generator) * 0.1
                up = torch.randn(wide, RANK, generator=generator) * 0.1
                parts[name][f"base_model.model.{path}.lora_A.weight"] = down
                parts[name][f"base_model.model.{path}.lora_B.weight"] = up
    return peft_lora(parts)


def loaded(pipeline: StableDiffusionXLPipeline) -> dict[str, torch.Tensor]:
    """What each layer of each part is multiplied with in the end: B A scaled."""
    changes = {}
    for name in ("unet", "text_encoder", "text_encoder_2"):
        for path, module in getattr(pipeline, name).named_modules():
            if hasattr(module, "lora_A") and "file" in module.lora_A:
                changes[f"{name}.{path}"] = module.get_delta_weight("file").detach()
    return changes


@pytest.mark.parametrize("kind", ["peft", "kohya", "kohya at half strength"])
def test_a_file_changes_every_layer_as_it_was_trained(
    kind: str, pipeline: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    lora = random_lora(pipeline)
    alpha = RANK / 2 if kind.endswith("half strength") else None
    path = tmp_path / "lora.safetensors"
    save_file(lora if kind == "peft" else kohya_lora(lora, alpha=alpha), path)
    pipeline.load_lora_weights(
        str(tmp_path), weight_name=path.name, adapter_name="file", local_files_only=True
    )
    changes = loaded(pipeline)
    assert len(changes) == len(lora) // 2
    for name, change in changes.items():
        stem = name.replace("text_encoder.", "text_encoder.text_model.", 1)
        stem = stem if f"{stem}.lora_A.weight" in lora else name
        whole = lora[f"{stem}.lora_B.weight"] @ lora[f"{stem}.lora_A.weight"]
        wanted = whole / 2 if alpha else whole
        torch.testing.assert_close(change, wanted)


def test_kohya_names_are_those_of_sd_scripts() -> None:
    down, up = torch.ones(RANK, 8), torch.ones(8, RANK)
    stem = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0"
    text = "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj"
    names = kohya_lora(
        {
            f"{stem}.lora_A.weight": down,
            f"{stem}.lora_B.weight": up,
            f"{text}.lora_A.weight": down,
            f"{text}.lora_B.weight": up,
        }
    )
    assert set(names) == {
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0.lora_down.weight",
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0.lora_up.weight",
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0.alpha",
        "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
        "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight",
        "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.alpha",
    }
    assert names["lora_te2_text_model_encoder_layers_0_self_attn_q_proj.alpha"] == RANK


def test_names_of_no_lora_are_refused() -> None:
    with pytest.raises(ValueError, match=r"vae\.conv_in\.lora_A\.weight is not a tensor of a"):
        kohya_lora({"vae.conv_in.lora_A.weight": torch.ones(1, 1)})
    with pytest.raises(ValueError, match="not a tensor of a LoRA"):
        peft_lora({"unet": {"conv_in.weight": torch.ones(1)}})


def test_a_file_survives_storing(tmp_path: Path) -> None:
    stem = "unet.up_blocks.0.attentions.2.transformer_blocks.0.attn2.to_k"
    lora = {f"{stem}.lora_A.weight": torch.ones(2, 8, dtype=torch.float16)}
    save_file(kohya_lora(lora), tmp_path / "lora.safetensors")
    stored = load_file(tmp_path / "lora.safetensors")
    name = "lora_unet_output_blocks_2_1_transformer_blocks_0_attn2_to_k"
    assert stored[f"{name}.alpha"].item() == 2.0
    assert stored[f"{name}.lora_down.weight"].dtype == torch.float16
