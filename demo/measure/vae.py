"""The alternative VAE: PSNR against the base model's, from the same latents."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from demo.measure.figures import Figure
from demo.measure.pictures import MODELS, SEED
from demo.measure.sheet import SHEETS, write_sheet
from demo.train.parts.base import BASE, load_base
from demo.train.parts.compositing import Compositor
from demo.train.parts.emoji import load_emoji
from demo.train.parts.latents import Vae, decode, encode
from demo.train.parts.losses import psnr

PICTURES = 16
AT_ONCE = 4
SHOWN = 6
CONTRAST = 8
GAIN_DB = 1.0


def measure(models: Path = MODELS, sheets: Path = SHEETS) -> list[Figure]:
    """Decode the latents of held-out composites with both VAEs and show the errors."""
    drawn = Compositor(load_emoji(), device="cpu", seed=SEED, held_out=True).draw(PICTURES)
    base: Vae = load_base(device="cpu").vae
    ours: Vae = AutoencoderKL.from_single_file(
        str(models / "emoji-vae.safetensors"),
        config=str(BASE),
        subfolder="vae",
        local_files_only=True,
    )
    parts = torch.split(drawn.pixels, AT_ONCE)
    latents = [encode(base, part) for part in parts]
    moved = max(
        float((encode(ours, part) - latent).abs().max())
        for part, latent in zip(parts[:1], latents[:1], strict=True)
    )
    results = {
        name: torch.cat([decode(vae, latent) for latent in latents])
        for name, vae in (("base VAE", base), ("emoji-vae", ours))
    }
    quality = {name: float(psnr(some, drawn.pixels).mean()) for name, some in results.items()}
    gain = quality["emoji-vae"] - quality["base VAE"]
    rows = [("truth", _unit(drawn.pixels[:SHOWN]))]
    for name, some in results.items():
        error = (some - drawn.pixels)[:SHOWN].abs().clamp(0, 1 / CONTRAST) * CONTRAST
        rows += [(name, _unit(some[:SHOWN])), (f"{name}: error x{CONTRAST // 2}", error)]
    write_sheet(sheets / "vae.webp", rows, drawn.prompts[:SHOWN])
    return [
        Figure("PSNR of the base VAE, dB", quality["base VAE"]),
        Figure("PSNR of emoji-vae, dB", quality["emoji-vae"]),
        Figure("gain, dB", gain, f">= {GAIN_DB} dB", gain >= GAIN_DB),
        Figure(
            "largest difference of latents", moved, "0: the encoder is the same", moved == 0
        ),
    ]


def _unit(pixels: Tensor) -> Tensor:
    return ((pixels + 1) / 2).clamp(0, 1)
