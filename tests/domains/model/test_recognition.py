"""Single files are recognised by what is in them."""

from __future__ import annotations

import pytest

from domains.model.backends.recognition import Tensors, recognise
from domains.model.backends.safetensors_header import read_header
from domains.model.types import Architecture, ModelType
from tests.domains.model.disk import DEMO, files_at

SDXL, SD1 = Architecture.SDXL, Architecture.SD1
KOHYA = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight"
PEFT = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight"
UNET = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
CONTROL = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"


@pytest.mark.parametrize(
    ("shapes", "type", "architecture"),
    [
        ({KOHYA: (8, 2048)}, ModelType.LORA, SDXL),
        ({KOHYA: (8, 768)}, ModelType.LORA, SD1),
        ({KOHYA: (8, 1024)}, ModelType.LORA, Architecture.SD2),
        ({PEFT: (4, 2048)}, ModelType.LORA, SDXL),
        ({"lora_te2_text_model_layers_0.lora_up.weight": (8, 8)}, ModelType.LORA, SDXL),
        ({"lora_unet_mid.hada_w1_a": (8, 8)}, ModelType.LORA, None),
        (
            {UNET: (640, 2048), "conditioner.embedders.1.model.x": (1,)},
            ModelType.CHECKPOINT,
            SDXL,
        ),
        ({UNET: (320, 768), "cond_stage_model.transformer.x": (1,)}, ModelType.CHECKPOINT, SD1),
        ({UNET: (320, 1024)}, ModelType.CHECKPOINT, None),
        (
            {UNET: (128, 320), "conditioner.embedders.1.model.x": (1,)},
            ModelType.CHECKPOINT,
            SDXL,
        ),
        ({UNET: (64, 128), "cond_stage_model.transformer.x": (1,)}, ModelType.CHECKPOINT, SD1),
        ({UNET: (768, 1280), "conditioner.embedders.0.model.x": (1,)}, ModelType.REFINER, SDXL),
        (
            {"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3), CONTROL: (640, 2048)},
            ModelType.CONTROL_NET,
            SDXL,
        ),
        (
            {"control_model.input_hint_block.0.weight": (16, 3, 3, 3)},
            ModelType.CONTROL_NET,
            None,
        ),
        (
            {
                "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
                "add_embedding.linear_1.weight": (1280, 2816),
            },
            ModelType.CONTROL_NET,
            SDXL,
        ),
        (
            {"concept_embeds": (17, 768), "special_care_embeds": (3, 768)},
            ModelType.SAFETY_CLASSIFIER,
            None,
        ),
        ({"first_stage_model.decoder.conv_out.weight": (3, 128, 3, 3)}, ModelType.VAE, None),
        ({"clip_l": (2, 768), "clip_g": (2, 1280)}, ModelType.EMBEDDING, SDXL),
        ({"emb_params": (2, 768)}, ModelType.EMBEDDING, SD1),
        ({"<my-word>": (1, 1024)}, ModelType.EMBEDDING, Architecture.SD2),
        (
            {"conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": (1,)},
            ModelType.UPSCALER,
            None,
        ),
        ({"params_ema.conv_first.weight": (64, 3, 3, 3), "x": (1,)}, ModelType.UPSCALER, None),
        (
            {"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64,)},
            ModelType.UPSCALER,
            None,
        ),
        (
            {"params.body.0.weight": (64, 3, 3, 3), "params.body.1.weight": (64,)},
            ModelType.UPSCALER,
            None,
        ),
        ({"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64, 64, 3, 3)}, None, None),
        ({"model.layers.0.self_attn.q_proj.weight": (8, 8), "lm_head": (1, 2)}, None, None),
        ({"conv_in.weight": (320, 4, 3, 3), CONTROL: (640, 2048)}, None, None),
    ],
)
def test_tensors_tell_what_a_file_is(
    shapes: dict[str, tuple[int, ...]],
    type: ModelType | None,
    architecture: Architecture | None,
) -> None:
    found = recognise(Tensors(shapes))

    assert (found.type, found.architecture) == (type, architecture)


@pytest.mark.parametrize(
    ("part", "type"),
    [
        ("vae/diffusion_pytorch_model", ModelType.VAE),
        ("text_encoder/model", ModelType.TEXT_ENCODER),
        ("text_encoder_2/model", ModelType.TEXT_ENCODER),
        ("unet/diffusion_pytorch_model", ModelType.CHECKPOINT),
    ],
)
def test_the_parts_of_the_demo_model_are_recognised(part: str, type: ModelType) -> None:
    header = read_header(files_at(DEMO / f"{part}.fp16.safetensors"))

    recognised = recognise(Tensors.of(header))

    assert recognised.type is type
