"""Denoisers of newer families, as diffusers and as their makers name them.

diffusers' come from its classes; of the makers' the names that tell them, from diffusers'
`CHECKPOINT_KEY_NAMES`, its converters and ComfyUI's `model_detection.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from domains.model.types import Architecture, ModelType
from tests.domains.model.corpus.parts import Shapes, part
from tests.domains.model.corpus.sample import Sample

FLUX, SD3 = Architecture.FLUX, Architecture.SD3
COMFY = "model.diffusion_model."


def flux(*, guided: bool) -> Shapes:
    """Flux.1 in Black Forest Labs' names (`src/flux/model.py`)."""
    width = 3072
    shapes: Shapes = {
        "img_in.weight": (width, 64),
        "img_in.bias": (width,),
        "txt_in.weight": (width, 4096),
        "txt_in.bias": (width,),
        "final_layer.linear.weight": (64, width),
        "final_layer.adaLN_modulation.1.weight": (2 * width, width),
    }
    inputs = {"time_in": 256, "vector_in": 768} | ({"guidance_in": 256} if guided else {})
    for name, size in inputs.items():
        shapes[f"{name}.in_layer.weight"] = (width, size)
        shapes[f"{name}.out_layer.weight"] = (width, width)
    for block in range(19):
        for side in ("img", "txt"):
            start = f"double_blocks.{block}.{side}"
            shapes |= {
                f"{start}_mod.lin.weight": (6 * width, width),
                f"{start}_attn.qkv.weight": (3 * width, width),
                f"{start}_attn.norm.query_norm.scale": (128,),
                f"{start}_attn.norm.key_norm.scale": (128,),
                f"{start}_attn.proj.weight": (width, width),
                f"{start}_mlp.0.weight": (4 * width, width),
                f"{start}_mlp.2.weight": (width, 4 * width),
            }
    for block in range(38):
        start = f"single_blocks.{block}"
        shapes |= {
            f"{start}.linear1.weight": (7 * width, width),
            f"{start}.linear2.weight": (width, 5 * width),
            f"{start}.norm.query_norm.scale": (128,),
            f"{start}.norm.key_norm.scale": (128,),
            f"{start}.modulation.lin.weight": (3 * width, width),
        }
    return shapes


def sd3(*, blocks: int, width: int, normed: bool, dual: bool = False) -> Shapes:
    """SD3 in Stability's names (`mmdit.py` of sd3-ref)."""
    shapes: Shapes = {
        "pos_embed": (1, 36864, width),
        "x_embedder.proj.weight": (width, 16, 2, 2),
        "context_embedder.weight": (width, 4096),
        "t_embedder.mlp.0.weight": (width, 256),
        "y_embedder.mlp.0.weight": (width, 2048),
        "final_layer.linear.weight": (64, width),
    }
    for block in range(blocks):
        for side in ("context", "x"):
            start = f"joint_blocks.{block}.{side}_block"
            shapes[f"{start}.attn.qkv.weight"] = (3 * width, width)
            shapes[f"{start}.adaLN_modulation.1.bias"] = (6 * width,)
            if normed:
                shapes[f"{start}.attn.ln_q.weight"] = (64,)
                shapes[f"{start}.attn.ln_k.weight"] = (64,)
            if dual and side == "x" and block < 13:
                shapes[f"{start}.attn2.qkv.weight"] = (3 * width, width)
    return shapes


def _marks(*names: str) -> Shapes:
    return dict.fromkeys(names, (1536, 1536))


_DIFFUSERS = (
    ("flux-dev", FLUX, "Flux.1 dev"),
    ("flux-schnell", FLUX, "Flux.1 schnell"),
    ("sd3", SD3, "SD 3"),
    ("sd3.5-large", SD3, "SD 3.5 large"),
    ("chroma", None, "Chroma"),
    ("pixart", None, "PixArt"),
    ("auraflow", None, "AuraFlow"),
    ("hunyuan-dit", None, "Hunyuan-DiT"),
    ("hunyuan-video", None, "HunyuanVideo"),
    ("cascade-c", None, "Stable Cascade (stage C)"),
    ("lumina-2", None, "Lumina 2"),
    ("sana", None, "Sana"),
    ("qwen-image", None, "Qwen-Image"),
    ("wan", None, "Wan"),
    ("ltx", None, "LTX-Video"),
    ("mochi", None, "Mochi"),
    ("cogvideox", None, "CogVideoX"),
    ("cogview-4", None, "CogView 4"),
    ("z-image", None, "Z-Image"),
    ("kandinsky-3", None, "Kandinsky 3"),
    ("unet-kolors", None, "Kolors"),
    ("svd", None, "Stable Video Diffusion"),
)
_ORIGINAL = (
    (
        "chroma",
        None,
        "Chroma",
        flux(guided=False) | _marks("distilled_guidance_layer.in_proj.bias"),
    ),
    (
        "flux-2",
        None,
        "Flux 2",
        _marks(
            "img_in.weight",
            "double_stream_modulation_img.lin.weight",
            "single_stream_modulation.lin.weight",
            "double_blocks.0.img_attn.norm.key_norm.scale",
        ),
    ),
    (
        "hidream",
        None,
        "HiDream",
        _marks("double_stream_blocks.0.block.adaLN_modulation.1.bias"),
    ),
    (
        "auraflow",
        None,
        "AuraFlow",
        _marks(
            "double_layers.0.attn.w2q.weight",
            "double_layers.0.attn.w1q.weight",
            "cond_seq_linear.weight",
            "t_embedder.mlp.0.weight",
            "positional_encoding",
        ),
    ),
    (
        "pixart",
        None,
        "PixArt",
        _marks(
            "x_embedder.proj.weight",
            "t_block.1.weight",
            "y_embedder.y_proj.fc1.weight",
            "blocks.0.cross_attn.q_linear.weight",
            "blocks.0.cross_attn.kv_linear.weight",
            "blocks.0.scale_shift_table",
        ),
    ),
    (
        "hunyuan-dit",
        None,
        "Hunyuan-DiT",
        _marks(
            "mlp_t5.0.weight",
            "extra_embedder.0.weight",
            "x_embedder.proj.weight",
            "blocks.0.attn1.Wqkv.weight",
        ),
    ),
    (
        "hunyuan-video",
        None,
        "HunyuanVideo",
        _marks(
            "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias",
            "double_blocks.0.img_attn_qkv.weight",
            "single_blocks.0.linear1.weight",
        ),
    ),
    (
        "lumina-2",
        None,
        "Lumina 2",
        _marks(
            "cap_embedder.0.weight",
            "noise_refiner.0.attention.qkv.weight",
            "layers.0.attention.qkv.weight",
        ),
    ),
    (
        "sana",
        None,
        "Sana",
        _marks(
            "blocks.0.cross_attn.q_linear.weight",
            "blocks.0.cross_attn.kv_linear.weight",
            "blocks.0.mlp.depth_conv.conv.weight",
        ),
    ),
    (
        "wan",
        None,
        "Wan",
        _marks("head.modulation", "blocks.0.self_attn.q.weight", "patch_embedding.weight"),
    ),
    (
        "ltx",
        None,
        "LTX-Video",
        _marks(
            "patchify_proj.weight",
            "adaln_single.emb.timestep_embedder.linear_1.bias",
            "transformer_blocks.27.scale_shift_table",
        ),
    ),
    ("mochi", None, "Mochi", _marks("blocks.0.attn.qkv_x.weight", "t5_yproj.weight")),
    (
        "cascade-b",
        None,
        "Stable Cascade (stage B)",
        _marks("clf.1.weight", "clip_mapper.weight", "down_blocks.1.0.channelwise.0.weight"),
    ),
    ("sd3", SD3, "SD 3", sd3(blocks=24, width=1536, normed=False)),
    ("sd3.5-medium", SD3, "SD 3.5 medium", sd3(blocks=24, width=1536, normed=True, dual=True)),
    ("sd3.5-large", SD3, "SD 3.5 large", sd3(blocks=38, width=2432, normed=True)),
    ("flux-dev", FLUX, "Flux.1 dev", flux(guided=True)),
    ("flux-schnell", FLUX, "Flux.1 schnell", flux(guided=False)),
)


def samples() -> Iterator[tuple[str, Sample]]:
    """Every denoiser by a name for tests, and whole files of some as ComfyUI has them."""
    for name, architecture, kind in _DIFFUSERS:
        told = {} if architecture else {"family": kind}
        yield (
            f"{name}-diffusers",
            Sample(part(name), ModelType.CHECKPOINT, architecture, kind, told),
        )
    for name, architecture, kind, shapes in _ORIGINAL:
        told = {} if architecture else {"family": kind}
        for prefix in ("", COMFY):
            renamed = {prefix + key: shape for key, shape in shapes.items()}
            yield (
                f"{name}-original{'-comfy' if prefix else ''}",
                Sample(renamed, ModelType.CHECKPOINT, architecture, kind, told),
            )
    encoders = part("clip-l", "text_encoders.clip_l.transformer.")
    whole = {COMFY + name: shape for name, shape in flux(guided=True).items()}
    yield (
        "flux-whole",
        Sample(
            whole | encoders | part("vae-16-original", "vae."),
            ModelType.CHECKPOINT,
            FLUX,
            "Flux.1 dev",
            {"lacks": ()},
        ),
    )
    fp8 = {COMFY + name: shape for name, shape in flux(guided=True).items()}
    scaled = {
        name.removesuffix("weight") + "scale_weight": ()
        for name in fp8
        if name.endswith(".weight")
    }
    yield (
        "flux-scaled-fp8",
        Sample(
            fp8 | scaled | {f"{COMFY}scaled_fp8": (0,)},
            ModelType.CHECKPOINT,
            FLUX,
            "Flux.1 dev",
            {"quantisation": "scaled fp8"},
            data_types=dict.fromkeys(fp8, "F8_E4M3")
            | dict.fromkeys(scaled, "F32")
            | {f"{COMFY}scaled_fp8": "F8_E4M3"},
        ),
    )
