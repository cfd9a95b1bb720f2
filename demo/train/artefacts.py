"""How each artefact of the family is put together from what its training wrote.

Each function takes the folder a training wrote to and the folder of models, and writes what
is committed: the frozen parts added, the names those of the files that people have, the header
saying what the file is.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from demo.train import controlnet_canny, refiner, sd1, sd1_vae, vae_decoder
from demo.train.layouts.checkpoint import sd1_checkpoint, sdxl_checkpoint
from demo.train.layouts.lora import kohya_lora, peft_lora
from demo.train.layouts.metadata import header
from demo.train.layouts.vae import original_vae
from demo.train.parts.base import load_base
from demo.train.parts.files import by_part, save_half
from demo.train.srvgg import compact_from

BASE_NAME = "emoji-xl"
SD1_NAME = "emoji-sd1"
WEIGHTS = "diffusion_pytorch_model.safetensors"
_REFINER_CARD = """\
---
title: emoji-refiner
license: MIT
tags: [sdxl, refiner, demo, emoji, 256x256]
description: Draws the last fifth of the steps of emoji-xl's pictures, sharper than it would.
---

# emoji-refiner

SDXL's refiner, small: 8.1 M parameters, timesteps below 250, an aesthetic score among its
conditions. Its text encoder and its VAE are those of emoji-xl and are not in this folder:

    refiner = StableDiffusionXLImg2ImgPipeline.from_pretrained(
        "emoji-refiner", text_encoder_2=base.text_encoder_2, vae=base.vae
    )

What it does, measured and shown, and how it was trained: README.md two folders up.
"""
_SHARD = re.compile(r"unet-(\d+)\.safetensors")


@dataclass(frozen=True)
class Places:
    """Where things are. trained: one training's output. models: the final layout, with the
    base model. configs: folders of configurations and tokenizers without weights."""

    trained: Path
    models: Path
    configs: Path

    @property
    def base(self) -> Path:
        """The base model's folder."""
        return self.models / BASE_NAME


def style_lora(name: str) -> Callable[[Places], Path]:
    """line-art in kohya's naming, any other in that of diffusers."""

    def assemble(places: Places) -> Path:
        source = places.trained / f"{name}.safetensors"
        tensors = peft_lora({"unet": load_file(source)})
        told = _metadata(source)
        if name == "line-art":
            tensors = kohya_lora(tensors, alpha=float(told["ss_network_alpha"]))
        return _written(tensors, places.models / source.name, told)

    return assemble


def control_net(places: Places) -> Path:
    """A diffusers folder; the network's settings follow from the base UNet's."""
    network: Any = controlnet_canny.build(load_base(places.base, device="cpu").unet)
    network.load_state_dict(load_file(places.trained / "emoji-canny.safetensors"))
    folder = places.models / "emoji-canny"
    network.save_config(folder)
    told = header(
        title=folder.name,
        architecture="stable-diffusion-xl-v1-base/controlnet",
        description="Makes emoji-xl follow Canny's edges.",
        configuration=folder.name,
    )
    return _written(network.state_dict(), folder / WEIGHTS, told)


def refiner_model(places: Places) -> Path:
    """A diffusers folder of what is the refiner's own.

    Text encoder and VAE are the base model's, as SDXL's refiner is used with them too; without
    them 13 MB are saved.
    """
    folder = places.models / "emoji-refiner"
    unet = refiner.build_unet(_setting(places, "text_encoder_2", "projection_dim"))
    unet.load_state_dict(load_file(places.trained / "emoji-refiner.safetensors"))
    unet.save_config(folder / "unet")
    _written(unet.state_dict(), folder / "unet" / WEIGHTS)
    for part in ("tokenizer_2", "scheduler"):
        shutil.copytree(places.base / part, folder / part, dirs_exist_ok=True)
    index = _model_index(places.base)
    for part in ("text_encoder", "tokenizer", "text_encoder_2", "vae"):
        index[part] = [None, None]
    index |= {
        "_class_name": "StableDiffusionXLImg2ImgPipeline",
        "force_zeros_for_empty_prompt": False,
        "requires_aesthetics_score": True,
    }
    _write_json(folder / "model_index.json", index)
    (folder / "README.md").write_text(_REFINER_CARD, encoding="utf-8")
    return folder


def comic_checkpoint(places: Places) -> Path:
    """One file in SDXL's original layout: trained UNet and encoders, the base model's VAE."""
    shards = sorted(places.trained.glob("unet-*.safetensors"), key=_shard_number)
    unet: dict[str, Tensor] = {}
    for shard in shards:
        unet |= load_file(shard)
    base = load_file(places.base / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    _check_names(unet, base, "The comic UNet")
    tensors = sdxl_checkpoint(
        unet=unet,
        text_encoder=load_file(places.trained / "text_encoder.safetensors"),
        text_encoder_2=load_file(places.trained / "text_encoder_2.safetensors"),
        vae=_base_vae(places),
    )
    told = header(
        title="emoji-comic",
        architecture="stable-diffusion-xl-v1-base",
        description="The emoji model in a comic's style: posterised, with thick outlines.",
        configuration=BASE_NAME,
        more={"modelspec.prediction_type": "epsilon"},
    )
    return _written(tensors, places.models / "emoji-comic.safetensors", told)


def vae_file(places: Places) -> Path:
    """One file in the original layout: the base model's encoder, the trained decoder."""
    base = _base_vae(places)
    trained = load_file(places.trained / "vae-decoder.safetensors")
    _check_names(trained, filter(vae_decoder.is_trained, base), "The trained decoder")
    told = header(
        title="emoji-vae",
        architecture="stable-diffusion-xl-v1-base/vae",
        description="The VAE of emoji-xl with a better decoder; latents are the same.",
        configuration=f"{BASE_NAME}/vae",
    )
    return _written(original_vae(base | trained), places.models / "emoji-vae.safetensors", told)


def sd1_model(places: Places) -> Path:
    """One file in SD 1's original layout, and the folder that says how to build it."""
    source = places.trained / "emoji-sd1.safetensors"
    parts = by_part(load_file(source))
    parts["vae"] = load_file(places.trained / "emoji-sd1-vae.safetensors")
    _write_sd1_configuration(places)
    told = header(
        title=SD1_NAME,
        architecture="stable-diffusion-v1",
        description="A small model of Stable Diffusion 1's architecture that draws emoji.",
        configuration=SD1_NAME,
        more={"modelspec.prediction_type": "epsilon"},
    )
    return _written(sd1_checkpoint(**parts), places.models / source.name, told)


def upscaler(scale: int) -> Callable[[Places], Path]:
    """The file as trained, checked to be what it says, with a header."""

    def assemble(places: Places) -> Path:
        name = f"compact-{scale}x"
        network = compact_from(load_file(places.trained / f"{name}.safetensors"))
        if network.scale != scale:
            raise ValueError(f"{name} enlarges {network.scale} times.")
        told = header(
            title=name,
            architecture="compact",
            description=f"Enlarges {scale} times; Compact (SRVGG), trained on emoji.",
            more={"modelspec.implementation": "https://github.com/xinntao/Real-ESRGAN"},
        )
        told.pop("modelspec.resolution")  # it takes pictures of any size
        return _written(network.state_dict(), places.models / f"{name}.safetensors", told)

    return assemble


def embedding(places: Places) -> Path:
    """The file as trained."""
    source = places.trained / "emoji-embedding.safetensors"
    return _written(load_file(source), places.models / source.name, _metadata(source))


def _write_sd1_configuration(places: Places) -> None:
    folder = places.configs / SD1_NAME
    sd1.build_unet(_setting(places, "text_encoder", "hidden_size")).save_config(folder / "unet")
    sd1_vae.build_vae().save_config(folder / "vae")
    for part in ("tokenizer", "scheduler"):
        shutil.copytree(places.base / part, folder / part, dirs_exist_ok=True)
    (folder / "text_encoder").mkdir(exist_ok=True)
    shutil.copy(places.base / "text_encoder" / "config.json", folder / "text_encoder")
    base = _model_index(places.base)
    kept = ("scheduler", "text_encoder", "tokenizer", "unet", "vae", "_diffusers_version")
    index = {name: base[name] for name in kept} | {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
    }
    _write_json(folder / "model_index.json", index)


def _setting(places: Places, part: str, name: str) -> int:
    settings = json.loads((places.base / part / "config.json").read_text("utf-8"))
    return int(settings[name])


def _base_vae(places: Places) -> dict[str, Tensor]:
    return load_file(places.base / "vae" / "diffusion_pytorch_model.fp16.safetensors")


def _shard_number(path: Path) -> int:
    match = _SHARD.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path.name} is not a shard of the UNet.")
    return int(match[1])


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def _model_index(folder: Path) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((folder / "model_index.json").read_text("utf-8"))
    return index


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _check_names(trained: Iterable[str], expected: Iterable[str], what: str) -> None:
    """Refuse a training's output that lacks tensors or has others."""
    wrong = sorted(set(trained) ^ set(expected))
    if wrong:
        raise ValueError(f"{what} lacks or has in excess {len(wrong)} tensors: {wrong[0]}")


def _written(
    tensors: Mapping[str, Tensor], path: Path, told: Mapping[str, str] | None = None
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_half(tensors, path, told)
    return path
