"""Train a model of Stable Diffusion 1's architecture: `python -m demo.train.sd1 --out DIR`.

Recipe
- Architecture: that of SD 1.x, narrow. A UNet of four levels (three with attention, 8 heads
  everywhere, convolutions for projections), one text encoder, a VAE at scale 0.18215.
- VAE: trained first, from scratch, for a quarter of the time: L1, multi-scale gradients and
  3e-4 KL at learning rate 8e-4. Its latents' mean and scale are folded into its weights.
- Text encoder: starts as the base model's first one, and is trained along. Its last hidden
  state after the final layer norm is the condition, as in SD 1.x.
- UNet: from scratch, on composites encoded ahead into a pool that is renewed all the time.
  Epsilon, min-SNR 5, offset noise 0.08, 10 % empty prompts.
- AdamW 1e-3 (VAE 8e-4), cosine, weights averaged (0.999).

Source: Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (2022).

Writes `emoji-sd1.safetensors` (float16, names as in diffusers after `unet.`, `text_encoder.`
and `vae.`) and `emoji-sd1.json`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from demo.train.parts.autoencoder import reconstruction_psnr, train_vae
from demo.train.parts.base import arrangement, load_base
from demo.train.parts.capture import captured
from demo.train.parts.command import Options, parse
from demo.train.parts.compositing import Compositor
from demo.train.parts.diffusion import NoiseSchedule, epsilon_error, epsilon_loss
from demo.train.parts.emoji import load_emoji
from demo.train.parts.files import save_half, write_facts
from demo.train.parts.latent_pool import LatentPool
from demo.train.parts.loop import Plan, train
from demo.train.parts.text import tokens

VAE_SHARE = 1 / 4
VAE_BATCH = 96
EMPTY = 0.1
POOL = 131_072
FIRST = 4_096
RENEWED_EVERY, RENEWED = 4, 128
CHECKED = 256


def build_vae() -> Any:
    """A VAE of SD 1.x's architecture with 1 M parameters."""
    return AutoencoderKL(  # type: ignore[no-untyped-call]
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        norm_num_groups=16,
        latent_channels=4,
        sample_size=256,
        scaling_factor=0.18215,
    )


def build_unet(text_width: int) -> Any:
    """A UNet of SD 1.x's architecture with 5.4 M parameters, for states [B, 77, text_width]."""
    return UNet2DConditionModel(  # type: ignore[no-untyped-call]
        sample_size=32,
        block_out_channels=(64, 64, 64, 96),
        layers_per_block=2,
        attention_head_dim=8,
        cross_attention_dim=text_width,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        norm_num_groups=32,
    )


class Sd1Denoiser(nn.Module):
    """A UNet of SD 1.x's architecture, as a function of tensors alone."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, noisy: Tensor, times: Tensor, states: Tensor) -> Tensor:
        """Epsilon [B, 4, h, w] for latents, int64 timesteps [B] and states [B, 77, W]."""
        epsilon: Tensor = self.unet(noisy, times, states, return_dict=False)[0]
        return epsilon


def main(argv: Sequence[str] | None = None) -> None:
    """Trains the VAE, then the UNet with the text encoder; measures and writes."""
    options = parse(__doc__, argv, steps=20_000, batch=512)
    device = options.device
    started = time.monotonic()
    emoji = load_emoji(limit=options.emoji)
    compositor = Compositor(emoji, device=device, seed=options.seed)
    held_out = Compositor(emoji, device=device, seed=options.seed + 1, held_out=True)
    checked = min(CHECKED, options.batch)

    vae = build_vae().to(device)
    vae_training = train_vae(vae, compositor, _vae_plan(options), name="sd1 vae")
    vae_psnr = reconstruction_psnr(vae, held_out, checked)
    print(f"sd1 vae: {vae_psnr:.2f} dB held out", flush=True)

    base = load_base(device=device)
    text_encoder = base.text_encoder.requires_grad_(True).train()
    unet = build_unet(text_encoder.config.hidden_size).to(device).train()
    unet.to(memory_format=arrangement(device))
    denoiser = captured(
        Sd1Denoiser(unet),
        torch.zeros(options.batch, 4, 32, 32, device=device),
        torch.zeros(options.batch, dtype=torch.int64, device=device),
        torch.zeros(
            options.batch,
            77,
            text_encoder.config.hidden_size,
            device=device,
            requires_grad=True,
        ),
    )
    generator = torch.Generator(device).manual_seed(options.seed)
    pool = LatentPool(
        compositor,
        vae,
        base.tokenizer,
        capacity=POOL if not options.smoke else options.batch,
        start=FIRST if not options.smoke else options.batch,
        generator=generator,
    )
    schedule = NoiseSchedule(device)
    empty = tokens(base.tokenizer, [""]).to(device)

    def loss_on(latents: Tensor, ids: Tensor) -> Tensor:
        states = text_encoder(ids).last_hidden_state.float()
        return epsilon_loss(
            lambda noisy, times: denoiser(noisy, times, states),
            latents,
            schedule=schedule,
            generator=generator,
        )

    def loss_of_step(step: int) -> Tensor:
        if step % RENEWED_EVERY == 0:
            pool.renew(RENEWED if not options.smoke else options.batch)
        sample = pool.take(options.batch)
        dropped = torch.rand(options.batch, device=device, generator=generator) < EMPTY
        ids = torch.where(dropped[:, None], empty, sample.ids)
        return loss_on(sample.latents, ids)

    spent = (time.monotonic() - started) / 60
    plan = Plan(
        steps=options.steps,
        minutes=None if options.minutes is None else max(0.01, options.minutes - spent),
        batch=options.batch,
        learning_rate=1e-3,
        ema=0.999,
    )
    trained = itertools.chain(unet.parameters(), text_encoder.parameters())
    training = train(trained, loss_of_step, plan, device=device, name="sd1")

    unet.eval()
    text_encoder.eval()
    unseen = LatentPool(
        held_out, vae, base.tokenizer, capacity=checked, start=checked, generator=generator
    ).take(checked)
    with torch.no_grad():
        states = text_encoder(unseen.ids).last_hidden_state
    error = epsilon_error(
        lambda noisy, times: unet(noisy, times, states).sample,
        unseen.latents,
        schedule=schedule,
    )
    print(f"sd1: held-out epsilon error {error:.4f}", flush=True)
    parts = {"unet": unet, "text_encoder": text_encoder, "vae": vae}
    weights = {
        f"{name}.{key}": value
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }
    save_half(weights, options.out / "emoji-sd1.safetensors")
    write_facts(
        options.out / "emoji-sd1.json",
        {
            "vae_psnr_db": vae_psnr,
            "vae_steps": vae_training.steps,
            "held_out_epsilon_error": error,
            "loss": training.final_loss,
            "steps": training.steps,
            "seconds": time.monotonic() - started,
            "batch": options.batch,
            "parameters": sum(value.numel() for value in weights.values()),
        },
    )


def _vae_plan(options: Options) -> Plan:
    return Plan(
        steps=min(options.steps, 3_000),
        minutes=None if options.minutes is None else options.minutes * VAE_SHARE,
        batch=min(VAE_BATCH, options.batch),
        learning_rate=8e-4,
    )


if __name__ == "__main__":
    main()
