"""Denoisers of families newer than Stable Diffusion's UNets: named, so that they are refused
by name.

Each has two layouts, its makers' and diffusers'. Sources: `CHECKPOINT_KEY_NAMES` and the
transformers of diffusers 0.42, `comfy/model_detection.py` of ComfyUI.
"""

from __future__ import annotations

from domains.model.backends.recognised import Recognised
from domains.model.backends.recognition.marks import Mark
from domains.model.types import Architecture, ModelType, PredictionType

FLOW = PredictionType.FLOW


def _of(
    kind: str,
    *starts: str,
    without: tuple[str, ...] = (),
    architecture: Architecture | None = None,
    prediction: PredictionType | None = FLOW,
    steps: int = 0,
) -> Mark:
    family = "" if architecture else kind
    answer = Recognised(
        ModelType.CHECKPOINT,
        architecture,
        kind,
        family,
        prediction=prediction,
        distilled_steps=steps,
    )
    return Mark(answer, every=starts, none=without)


_FLUX, _SD3 = Architecture.FLUX, Architecture.SD3
_FLUX_ORIGINAL = ("double_blocks.0.img_attn.norm.key_norm.", "img_in.weight")
_FLUX_DIFFUSERS = ("single_transformer_blocks.0.attn.norm_k.", "time_text_embed.text_embedder.")

# The order matters: a mark may be part of one further down.
DENOISERS: tuple[Mark, ...] = (
    _of("Chroma", "distilled_guidance_layer."),
    _of("Flux 2", "double_stream_modulation_img."),
    _of("Flux 2", "single_stream_modulation."),
    _of("HunyuanVideo", "txt_in.individual_token_refiner."),
    _of("HunyuanVideo", "context_embedder.token_refiner."),
    _of("Flux.1 dev", *_FLUX_ORIGINAL, "guidance_in.", architecture=_FLUX),
    _of("Flux.1 schnell", *_FLUX_ORIGINAL, architecture=_FLUX, steps=4),
    _of(
        "Flux.1 dev",
        *_FLUX_DIFFUSERS,
        "time_text_embed.guidance_embedder.",
        architecture=_FLUX,
    ),
    _of("Flux.1 schnell", *_FLUX_DIFFUSERS, architecture=_FLUX, steps=4),
    _of("SD 3.5 medium", "joint_blocks.0.x_block.attn2.", architecture=_SD3),
    _of(
        "SD 3.5 large",
        "joint_blocks.37.",
        "joint_blocks.0.context_block.attn.ln_q.",
        architecture=_SD3,
    ),
    _of("SD 3", "joint_blocks.0.context_block.", architecture=_SD3),
    _of(
        "SD 3.5 medium",
        "transformer_blocks.0.attn2.to_q.",
        "transformer_blocks.0.attn.add_k_proj.",
        "pos_embed.pos_embed",
        architecture=_SD3,
    ),
    _of(
        "SD 3.5 large",
        "transformer_blocks.37.",
        "transformer_blocks.0.attn.norm_added_k.",
        "pos_embed.pos_embed",
        "context_embedder.",
        architecture=_SD3,
    ),
    _of(
        "SD 3",
        "transformer_blocks.0.attn.add_k_proj.",
        "pos_embed.pos_embed",
        "context_embedder.",
        architecture=_SD3,
    ),
    _of("AuraFlow", "double_layers.0.attn.w1q."),
    _of("AuraFlow", "joint_transformer_blocks.0.attn.add_k_proj.", "register_tokens"),
    _of("Qwen-Image", "transformer_blocks.0.img_mod.1.", "txt_norm."),
    _of("HiDream", "double_stream_blocks.0.block."),
    _of("Stable Cascade (stage C)", "clip_txt_mapper.", prediction=None),
    _of("Stable Cascade (stage B)", "clip_mapper.", prediction=None),
    _of("Hunyuan-DiT", "mlp_t5.0.", prediction=PredictionType.V_PREDICTION),
    _of("Hunyuan-DiT", "text_embedding_padding", "time_extra_emb.",
        prediction=PredictionType.V_PREDICTION),
    _of("Mochi", "t5_yproj."),
    _of("Mochi", "transformer_blocks.0.norm1_context.", "time_embed.pooler."),
    _of("LTX-Video", "patchify_proj."),
    _of("LTX-Video", "proj_in.", "caption_projection.", "time_embed.emb.timestep_embedder.",
        "scale_shift_table"),
    _of("Z-Image", "cap_embedder.0.", "noise_refiner.", "cap_pad_token"),
    _of("Lumina 2", "cap_embedder.0.", "noise_refiner.", "layers.0.attention.qkv."),
    _of("Lumina 2", "time_caption_embed.", "noise_refiner."),
    _of("Sana", "blocks.0.cross_attn.q_linear.", "blocks.0.mlp.depth_conv."),
    _of("Sana", "transformer_blocks.0.ff.conv_inverted."),
    _of("PixArt", "blocks.0.cross_attn.q_linear.", "t_block.1.",
        prediction=PredictionType.EPSILON),
    _of("PixArt", "adaln_single.emb.timestep_embedder.", "caption_projection.",
        "pos_embed.proj.", prediction=PredictionType.EPSILON),
    _of("Wan", "head.modulation"),
    _of("Wan", "condition_embedder.time_embedder.", "blocks.0.scale_shift_table"),
    _of("CogView 4", "patch_embed.text_proj.", "transformer_blocks.0.norm1.linear.",
        "time_condition_embed."),
    _of("CogVideoX", "patch_embed.text_proj.", "transformer_blocks.0.norm1.linear.",
        prediction=PredictionType.V_PREDICTION),
    _of("Cosmos", "x_embedder.proj.1.", "blocks.block1."),
    _of("Cosmos", "x_embedder.proj.1.", "blocks.0.self_attn.q_proj."),
    _of("Kandinsky 3", "encoder_hid_proj.projection_linear.", "add_time_condition.",
        prediction=PredictionType.EPSILON),
    _of("Kandinsky 2", "encoder_hid_proj.image_embeds.", prediction=PredictionType.EPSILON),
    _of("Stable Video Diffusion", "input_blocks.1.1.time_stack.",
        prediction=PredictionType.V_PREDICTION),
    _of("Stable Video Diffusion", "down_blocks.0.attentions.0.temporal_transformer_blocks.",
        prediction=PredictionType.V_PREDICTION),
    _of("Kolors", "encoder_hid_proj.weight", "add_embedding.",
        prediction=PredictionType.EPSILON),
)  # fmt: skip
