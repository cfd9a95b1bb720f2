"""Models for `bench.models`: copies of the demo model, or SDXL at full shape."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers import ROOT
from domains.values import ModelPlace
from tests.domains.model.corpus import checkpoints
from tests.domains.model.corpus.configurations import CLIP_L, OPENCLIP_G, SDXL, VAE

DEMO = ROOT / "demo" / "models" / "emoji-xl"
_BLOCK = 1 << 24  # numbers that are made; the file repeats them
_SPREAD = 0.02
_SHARD = "20GB"


def random_model(folder: Path) -> ModelPlace:
    """An SDXL checkpoint of random numbers there, written where it is not there yet."""
    place = ModelPlace(folder, Path("one.safetensors"))
    if not place.path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_single_file(place.path, 0)
    return place


def write_single_file(
    path: Path, seed: int, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> int:
    """Tensors of those shapes, without any an SDXL checkpoint in its original layout, float16,
    about 6.9 GB; the file's size in bytes.

    A block of random numbers is repeated over all tensors: writing is as fast as the disk.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, shape in (shapes or checkpoints.sdxl()).items():
        size = 2 * int(np.prod(shape, dtype=np.int64))
        header[name] = {
            "dtype": "F16",
            "shape": list(shape),
            "data_offsets": [end, end + size],
        }
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = np.random.default_rng(seed)
    block = (generator.standard_normal(_BLOCK, np.float32) * _SPREAD).astype(np.float16)
    data = block.tobytes()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        left = end
        while left:
            left -= file.write(data[: min(left, len(data))])
    return path.stat().st_size


def write_folder(path: Path) -> None:
    """The same networks as a folder in the diffusers layout, float16, random numbers.

    Tokenizers and scheduler are the demo model's.
    """
    import diffusers
    import torch
    import transformers
    from accelerate import init_empty_weights  # type: ignore[import-untyped]

    shutil.copytree(DEMO, path, ignore=shutil.ignore_patterns("*.safetensors"))
    with init_empty_weights():
        networks: dict[str, Any] = {
            "unet": diffusers.UNet2DConditionModel(**SDXL, sample_size=128),
            "vae": diffusers.AutoencoderKL(**VAE, sample_size=1024),
            "text_encoder": transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP_L)),
            "text_encoder_2": transformers.CLIPTextModelWithProjection(
                transformers.CLIPTextConfig(**OPENCLIP_G)
            ),
        }
    for name, network in networks.items():
        made = network.to(torch.float16).to_empty(device="cpu")
        for parameter in made.parameters():
            parameter.data.fill_(_SPREAD)
        shutil.rmtree(path / name)
        made.save_pretrained(path / name, max_shard_size=_SHARD)


def copy_demo(path: Path) -> None:
    """The demo model under another name."""
    shutil.copytree(DEMO, path)
