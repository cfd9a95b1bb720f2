"""Small image encoders and IP-Adapters of random numbers, laid out as their makers' files.

Sources: h94/IP-Adapter on Hugging Face (`models/image_encoder`, `sdxl_models/*.safetensors`),
`ip_adapter.py` and `resampler.py` of tencent-ailab/IP-Adapter.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from tests.domains.model.disk import DEMO

PLAIN, PLUS, FULL_FACE, FACE_ID = "plain", "plus", "full-face", "faceid"
"""Kinds of adapters; those of `FACE_ID` need a face recogniser and are refused."""
KINDS = (PLAIN, PLUS, FULL_FACE)
HIDDEN, PROJECTED = 128, 96
"""Width of the encoder's hidden states, and of what it makes of a whole picture."""
PIXELS, PATCH = 224, 14
"""As ViT-L, H and bigG have them: 256 patches, so that a picture has 257 hidden states."""
PLAIN_TOKENS, PLUS_TOKENS = 4, 8

Tensors = dict[str, torch.Tensor]


def encoder_folder(path: Path, *, seed: int = 0, **config: Any) -> Path:
    """A folder of `CLIPVisionModelWithProjection` with `config.json` and `model.safetensors`.

    Args:
        path: It is made.
        seed: Of its numbers.
        config: Keys of its configuration that are to be others.
    """
    torch.manual_seed(seed)
    keys = {
        "hidden_size": HIDDEN,
        "intermediate_size": 4 * HIDDEN,
        "num_attention_heads": HIDDEN // 64,
        "num_hidden_layers": 3,
        "projection_dim": PROJECTED,
        "image_size": PIXELS,
        "patch_size": PATCH,
        "hidden_act": "gelu",
    }
    CLIPVisionModelWithProjection(CLIPVisionConfig(**(keys | config))).save_pretrained(path)
    return path


def adapter_file(
    path: Path, kind: str = PLAIN, seed: int = 0, *, unet: Path = DEMO / "unet"
) -> Path:
    """An IP-Adapter for the UNet of a folder, in its makers' layout; see `adapter_tensors`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(adapter_tensors(kind, seed, unet=unet), path)
    return path


def adapter_tensors(kind: str, seed: int = 0, *, unet: Path = DEMO / "unet") -> Tensors:
    """The tensors of an adapter that goes with `encoder_folder` and with a UNet.

    Args:
        kind: One of `KINDS`, or `FACE_ID`.
        seed: Of its numbers.
        unet: A folder with the UNet's `config.json`.
    """
    width = json.loads((unet / "config.json").read_text("utf-8"))["cross_attention_dim"]
    shapes = {f"image_proj.{name}": shape for name, shape in _PROJECTIONS[kind](width).items()}
    for number, inner in enumerate(attention_widths(unet)):
        # Self-attention has the even numbers, and nothing of an adapter.
        for name in ("to_k_ip", "to_v_ip"):
            shapes[f"ip_adapter.{2 * number + 1}.{name}.weight"] = (inner, width)
    numbers = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=numbers) * 0.1 + _around(name)
        for name, shape in shapes.items()
    }


@lru_cache(maxsize=4)
def attention_widths(unet: Path = DEMO / "unet") -> tuple[int, ...]:
    """The inner width of each cross-attention of a UNet, in the order of its processors."""
    with init_empty_weights():
        network: Any = UNet2DConditionModel
        network = network.from_config(json.loads((unet / "config.json").read_text("utf-8")))
    modules = dict(network.named_modules())
    places = (name.removesuffix(".processor") for name in network.attn_processors)
    return tuple(modules[place].inner_dim for place in places if place.endswith("attn2"))


def _around(name: str) -> float:
    """Layer norms multiply by what is about one."""
    norm = ".norm" in name or ".1.0." in name or "proj.3." in name
    return 1.0 if norm and name.endswith(".weight") else 0.0


def _plain(width: int) -> dict[str, tuple[int, ...]]:
    """`ImageProjModel`."""
    return {
        "proj.weight": (PLAIN_TOKENS * width, PROJECTED),
        "proj.bias": (PLAIN_TOKENS * width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }


def _full_face(width: int) -> dict[str, tuple[int, ...]]:
    """`MLPProjModel`."""
    return {
        "proj.0.weight": (HIDDEN, HIDDEN),
        "proj.0.bias": (HIDDEN,),
        "proj.2.weight": (width, HIDDEN),
        "proj.2.bias": (width,),
        "proj.3.weight": (width,),
        "proj.3.bias": (width,),
    }


def _plus(width: int, inner: int = 64, depth: int = 4) -> dict[str, tuple[int, ...]]:
    """`Resampler`, with heads of 64."""
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (1, PLUS_TOKENS, inner),
        "proj_in.weight": (inner, HIDDEN),
        "proj_in.bias": (inner,),
        "proj_out.weight": (width, inner),
        "proj_out.bias": (width,),
        "norm_out.weight": (width,),
        "norm_out.bias": (width,),
    }
    for number in range(depth):
        attends, feeds = f"layers.{number}.0", f"layers.{number}.1"
        for norm in (f"{attends}.norm1", f"{attends}.norm2", f"{feeds}.0"):
            shapes |= {f"{norm}.weight": (inner,), f"{norm}.bias": (inner,)}
        shapes |= {
            f"{attends}.to_q.weight": (inner, inner),
            f"{attends}.to_kv.weight": (2 * inner, inner),
            f"{attends}.to_out.weight": (inner, inner),
            f"{feeds}.1.weight": (4 * inner, inner),
            f"{feeds}.3.weight": (inner, 4 * inner),
        }
    return shapes


def _face_id(width: int) -> dict[str, tuple[int, ...]]:
    """`MLPProjModel` of `ip_adapter_faceid.py`: it takes what a face recogniser gives."""
    return {
        "proj.0.weight": (1024, 512),
        "proj.0.bias": (1024,),
        "proj.2.weight": (PLAIN_TOKENS * width, 1024),
        "proj.2.bias": (PLAIN_TOKENS * width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }


_PROJECTIONS = {PLAIN: _plain, PLUS: _plus, FULL_FACE: _full_face, FACE_ID: _face_id}
