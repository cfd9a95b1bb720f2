"""Train the base model's VAE: `python -m demo.train.base_vae --out DIR`.

Recipe
- Architecture: SDXL's, with 32/64/128/128 channels, 8 pixels per latent, scale 0.13025.
- Loss: L1, gradients at three scales, and 3e-4 KL, on composites drawn anew at every step.
- AdamW 8e-4 with a cosine, batch 96, 2,000 steps.
- At the end the latents' mean and deviation are folded into the quant convolutions, so that
  pipelines need no shift of their own.

Writes `base-vae.safetensors` (float16, names as in diffusers) and `base-vae.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusers import AutoencoderKL

from demo.train.parts.autoencoder import reconstruction_psnr, train_vae
from demo.train.parts.base import BASE
from demo.train.parts.command import parse
from demo.train.parts.compositing import Compositor
from demo.train.parts.emoji import load_emoji
from demo.train.parts.files import save_half, write_facts

CHECKED = 256


def build_vae() -> Any:
    """The base model's VAE with random weights, from the configuration that it ships with."""
    config: Any = AutoencoderKL.load_config(str(BASE), subfolder="vae")
    return AutoencoderKL.from_config(config)  # type: ignore[no-untyped-call]


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, folds, measures on held-out pictures, writes."""
    options = parse(__doc__, argv, steps=2_000, batch=96)
    device = options.device
    emoji = load_emoji(limit=options.emoji)
    compositor = Compositor(emoji, device=device, seed=options.seed)
    held_out = Compositor(emoji, device=device, seed=options.seed + 1, held_out=True)
    vae = build_vae().to(device)
    plan = options.plan(8e-4)
    training = train_vae(vae, compositor, plan, name="base vae")
    held_out_psnr = reconstruction_psnr(vae, held_out, min(CHECKED, options.batch))
    print(f"base vae: {held_out_psnr:.2f} dB held out", flush=True)
    save_half(vae, options.out / "base-vae.safetensors")
    write_facts(
        options.out / "base-vae.json",
        {
            "psnr_db": held_out_psnr,
            **training.facts(plan),
        },
    )


if __name__ == "__main__":
    main()
