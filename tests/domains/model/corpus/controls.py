"""ControlNets and what goes for one, and IP-Adapters.

Names of T2I-Adapters, control-LoRAs and IP-Adapters in their makers' files as ComfyUI and
diffusers read them (`comfy/controlnet.py`, `loaders/unet.py`), of LLLite as kohya-ss/sd-scripts
writes them.
"""

from __future__ import annotations

from collections.abc import Iterator

from domains.model.types import Architecture, ModelType
from tests.domains.model.corpus.parts import Shapes, part
from tests.domains.model.corpus.sample import Sample

SDXL, SD1, SD2 = Architecture.SDXL, Architecture.SD1, Architecture.SD2
CONTROL, PROMPT = ModelType.CONTROL_NET, ModelType.IMAGE_PROMPT_ADAPTER
RANK = 128


def _control_lora() -> Shapes:
    """stabilityai/control-lora: pairs for matrices, and the rest whole."""
    shapes: Shapes = {"lora_controlnet": (0,)}
    for name, shape in part("control-sdxl-original").items():
        whole = name.startswith(("input_hint_block", "zero_convs", "middle_block_out"))
        if whole or not name.endswith(".weight") or len(shape) < 2:
            shapes[name] = shape
        else:
            start = name.removesuffix(".weight")
            shapes[f"{start}.up"] = (shape[0], RANK)
            shapes[f"{start}.down"] = (RANK, *shape[1:])
    return shapes


def _lllite() -> Shapes:
    """`networks/control_net_lllite.py`, for each projection into self-attention."""
    shapes: Shapes = {}
    for name, shape in part("unet-sdxl-original").items():
        if not name.endswith(("attn1.to_q.weight", "attn1.to_k.weight", "attn2.to_q.weight")):
            continue
        size = shape[1]
        start = "lllite_unet_" + name.removesuffix(".weight").replace(".", "_")
        shapes |= {
            f"{start}.conditioning1.0.weight": (16, 3, 4, 4),
            f"{start}.conditioning1.2.weight": (32, 16, 4, 4),
            f"{start}.down.0.weight": (64, size),
            f"{start}.mid.0.weight": (64, 96),
            f"{start}.up.0.weight": (size, 64),
        }
    return shapes


def _sketch_adapter(channels: int) -> Shapes:
    """TencentARC/T2I-Adapter's `adapter.py`."""
    shapes: Shapes = {"conv_in.weight": (320, channels, 3, 3), "conv_in.bias": (320,)}
    for block, width in enumerate((320, 320, 640, 640, 1280, 1280, 1280, 1280)):
        shapes[f"body.{block}.block1.weight"] = (width, width, 3, 3)
        shapes[f"body.{block}.block2.weight"] = (width, width, 1, 1)
    return shapes


def _prompt_adapter(
    width: int, layers: int, projection: Shapes, *, faces: bool = False
) -> Shapes:
    """tencent-ailab/IP-Adapter: a projection of the picture, and k and v of each layer."""
    shapes = {f"image_proj.{name}": shape for name, shape in projection.items()}
    for number in range(1, 2 * layers, 2):
        start = f"ip_adapter.{number}"
        shapes[f"{start}.to_k_ip.weight"] = (640, width)
        shapes[f"{start}.to_v_ip.weight"] = (640, width)
    if faces:
        for number in range(2 * layers):
            for name in ("to_q", "to_k", "to_v", "to_out"):
                start = f"ip_adapter.{number}.{name}_lora"
                shapes[f"{start}.down.weight"] = (RANK, 640)
                shapes[f"{start}.up.weight"] = (640, RANK)
    return shapes


def samples() -> Iterator[tuple[str, Sample]]:
    """Every kind by a name for tests."""
    for name, architecture in (
        ("control-sd1", SD1),
        ("control-sd2", SD2),
        ("control-sdxl", SDXL),
        ("control-sdxl-mid", SDXL),
        ("control-sdxl-small", SDXL),
    ):
        yield name, Sample(part(name), CONTROL, architecture)
    for name, architecture in (("control-sd1", SD1), ("control-sd2", SD2)):
        original = part(f"{name}-original", "control_model.")
        yield f"{name}-original", Sample(original, CONTROL, architecture)
    yield "control-sdxl-original", Sample(part("control-sdxl-original"), CONTROL, SDXL)
    union = part("control-union")
    yield "control-union", Sample(union, CONTROL, SDXL, "ControlNet union")
    promax = union | {
        "task_embedding": (8, 320),
        "control_add_embedding.linear_1.weight": (1280, 2048),
    }
    yield "control-union-promax", Sample(promax, CONTROL, SDXL, "ControlNet union ProMax")
    yield "control-lora", Sample(_control_lora(), CONTROL, SDXL, "control-LoRA")
    yield "control-lllite", Sample(_lllite(), CONTROL, SDXL, "ControlNet-LLLite")
    for name, channels, architecture in (("sd1", 192, SD1), ("sdxl", 768, SDXL)):
        adapter = part(f"t2i-{name}")
        yield f"t2i-{name}-diffusers", Sample(adapter, CONTROL, architecture, "T2I-Adapter")
        original = _sketch_adapter(channels)
        yield f"t2i-{name}", Sample(original, CONTROL, architecture, "T2I-Adapter")
    light = {f"body.{n}.in_conv.weight": (320, 192, 1, 1) for n in range(4)}
    light |= {f"body.{n}.body.0.block1.weight": (320, 320, 3, 3) for n in range(4)}
    yield "t2i-light-sd1", Sample(light, CONTROL, SD1, "T2I-Adapter")
    flux = {f"controlnet_blocks.{n}.weight": (3072, 3072) for n in range(5)}
    flux |= part("flux-dev") | {"controlnet_x_embedder.weight": (3072, 64)}
    yield "control-flux", Sample(flux, CONTROL, Architecture.FLUX, "Flux ControlNet")
    yield from _prompts()


def _prompts() -> Iterator[tuple[str, Sample]]:
    def plain(width: int, encoder: int) -> Shapes:
        return {
            "proj.weight": (4 * width, encoder),
            "proj.bias": (4 * width,),
            "norm.weight": (width,),
            "norm.bias": (width,),
        }

    def plus(width: int) -> Shapes:
        return {
            "latents": (1, 16, 768),
            "proj_in.weight": (768, 1280),
            "proj_out.weight": (width, 768),
            "norm_out.weight": (width,),
            "layers.0.0.to_q.weight": (768, 768),
            "layers.0.0.to_kv.weight": (1536, 768),
        }

    face = {"proj.0.weight": (1024, 512), "proj.2.weight": (3072, 1024), "norm.weight": (768,)}
    resampled = {f"perceiver_resampler.{name}": shape for name, shape in plus(768).items()}
    full = {
        "proj.0.weight": (1280, 1280),
        "proj.2.weight": (768, 1280),
        "proj.3.weight": (768,),
    }
    sd1, xl = 16, 70
    yield (
        "ip-sd1",
        Sample(_prompt_adapter(768, sd1, plain(768, 1024)), PROMPT, SD1, "IP-Adapter"),
    )
    yield (
        "ip-sdxl",
        Sample(_prompt_adapter(2048, xl, plain(2048, 1280)), PROMPT, SDXL, "IP-Adapter"),
    )
    for name, width, layers, architecture in (("sd1", 768, sd1, SD1), ("sdxl", 2048, xl, SDXL)):
        shapes = _prompt_adapter(width, layers, plus(width))
        yield f"ip-plus-{name}", Sample(shapes, PROMPT, architecture, "IP-Adapter Plus")
    shapes = _prompt_adapter(768, sd1, full)
    yield "ip-full-face", Sample(shapes, PROMPT, SD1, "IP-Adapter Full Face")
    shapes = _prompt_adapter(768, sd1, face, faces=True)
    yield "ip-faceid", Sample(shapes, PROMPT, SD1, "IP-Adapter FaceID")
    shapes = _prompt_adapter(768, sd1, face | resampled, faces=True)
    yield "ip-faceid-plus", Sample(shapes, PROMPT, SD1, "IP-Adapter FaceID Plus")
