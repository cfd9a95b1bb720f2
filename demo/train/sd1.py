"""Train a model of Stable Diffusion 1's architecture: `python -m demo.train.sd1 --out DIR`.

Recipe
- Architecture: that of SD 1.x, narrow. A UNet of four levels (three with attention, 8 heads
  everywhere, convolutions for projections), one text encoder, a VAE at scale 0.18215.
- Latents: those of the base model's VAE, which demo/train/sd1_vae.py teaches to the small one.
- Text encoder: starts as the base model's first one, and is trained along. Its last hidden
  state after the final layer norm is the condition, as in SD 1.x.
- UNet: starts with the base UNet's layers of the highest level; the rest from scratch. Trained
  on composites encoded ahead into a pool that is renewed all the time.
  It learns what the base model predicts, not the noise itself; min-SNR 5, offset noise 0.08,
  10 % empty prompts.
- AdamW 1e-3, cosine, weights averaged (0.999).

Sources: Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (2022);
Kim et al., "BK-SDM: A Lightweight, Fast, and Cheap Version of Stable Diffusion" (2023).

Writes `emoji-sd1.safetensors` (float16, names as in diffusers after `unet.` and
`text_encoder.`) and `emoji-sd1.json`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn

from demo.train.parts.base import arrangement, load_base
from demo.train.parts.capture import SdxlDenoiser, captured, sdxl_samples
from demo.train.parts.command import parse
from demo.train.parts.compositing import Compositor
from demo.train.parts.diffusion import NoiseSchedule, epsilon_error, epsilon_loss
from demo.train.parts.emoji import load_emoji
from demo.train.parts.files import by_part, save_half, write_facts
from demo.train.parts.inherit import Origin, inherit
from demo.train.parts.latent_pool import LatentPool
from demo.train.parts.loop import train
from demo.train.parts.predictions import base_predict
from demo.train.parts.text import tokens

FILE = "emoji-sd1.safetensors"
EMPTY = 0.1
ENDS = ("conv_in.", "conv_norm_out.", "conv_out.", "time_embedding.")
POOL = 131_072
FIRST = 4_096
RENEWED_EVERY, RENEWED = 8, 128
CHECKED = 256


def build_unet(text_width: int) -> Any:
    """A UNet of SD 1.x's architecture with 4.4 M parameters, for states [B, 77, text_width]."""
    return UNet2DConditionModel(  # type: ignore[no-untyped-call]
        sample_size=32,
        block_out_channels=(64, 64, 64, 64),
        layers_per_block=2,
        attention_head_dim=8,
        cross_attention_dim=text_width,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        norm_num_groups=32,
    )


def from_base(base: Mapping[str, Tensor]) -> Origin:
    """Finds the base UNet's tensors of the highest level, which both have at 64 channels."""

    def origin(name: str, own: Tensor) -> Tensor | None:
        if name.startswith(("down_blocks.0.resnets.", "down_blocks.0.downsamplers.", *ENDS)):
            return base[name]
        if name.startswith("up_blocks.3.resnets."):
            return base[name.replace("up_blocks.3.", "up_blocks.2.")]
        return None

    return origin


class Sd1Denoiser(nn.Module):
    """A UNet of SD 1.x's architecture, as a function of tensors alone."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, noisy: Tensor, times: Tensor, states: Tensor) -> Tensor:
        """Epsilon [B, 4, h, w] for latents, int64 timesteps [B] and states [B, 77, W]."""
        kind = self.unet.dtype
        epsilon: Tensor = self.unet(noisy.to(kind), times, states.to(kind), return_dict=False)[
            0
        ]
        return epsilon


def main(argv: Sequence[str] | None = None) -> None:
    """Trains the UNet with the text encoder, measures on held-out pictures, writes."""
    options = parse(__doc__, argv, steps=30_000, batch=128, continues=True)
    device = options.device
    emoji = load_emoji(limit=options.emoji)
    compositor = Compositor(emoji, device=device, seed=options.seed)
    held_out = Compositor(emoji, device=device, seed=options.seed + 1, held_out=True)
    checked = min(CHECKED, options.batch)

    base = load_base(device=device)
    text_encoder = copy.deepcopy(base.text_encoder).requires_grad_(True).train()
    unet = build_unet(text_encoder.config.hidden_size)
    if options.start is None:
        inherit(unet, from_base(base.unet.state_dict()))
    else:
        earlier = by_part(load_file(options.start / FILE))
        unet.load_state_dict(earlier["unet"])
        text_encoder.load_state_dict(earlier["text_encoder"])
    unet.to(device, memory_format=arrangement(device)).train()
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
        narrow=True,
    )
    teacher = captured(
        SdxlDenoiser(copy.deepcopy(base.unet)),
        *sdxl_samples(
            base.unet.config.cross_attention_dim,
            base.text_encoder_2.config.hidden_size,
            options.batch,
            device,
        ),
        narrow=True,
    )
    generator = torch.Generator(device).manual_seed(options.seed)
    pool = LatentPool(
        compositor,
        base.vae,
        base.tokenizer,
        capacity=POOL if not options.smoke else options.batch,
        start=FIRST if not options.smoke else options.batch,
        generator=generator,
    )
    schedule = NoiseSchedule(device)
    empty = tokens(base.tokenizer, [""]).to(device)

    def loss_of_step(step: int) -> Tensor:
        if step % RENEWED_EVERY == 0:
            pool.renew(RENEWED if not options.smoke else options.batch)
        sample = pool.take(options.batch)
        dropped = torch.rand(options.batch, device=device, generator=generator) < EMPTY
        ids = torch.where(dropped[:, None], empty, sample.ids)
        states = text_encoder(ids).last_hidden_state.float()
        return epsilon_loss(
            lambda noisy, times: denoiser(noisy, times, states),
            sample.latents,
            schedule=schedule,
            generator=generator,
            teacher=base_predict(base, ids, teacher),
        )

    plan = options.plan(1e-3, ema=0.999)
    trained = itertools.chain(unet.parameters(), text_encoder.parameters())
    training = train(trained, loss_of_step, plan, device=device, name="sd1")

    unet.eval()
    text_encoder.eval()
    unseen = LatentPool(
        held_out, base.vae, base.tokenizer, capacity=checked, start=checked, generator=generator
    ).take(checked)
    with torch.no_grad():
        states = text_encoder(unseen.ids).last_hidden_state
    ours, theirs = (
        epsilon_error(predict, unseen.latents, schedule=schedule)
        for predict in (
            lambda noisy, times: unet(noisy, times, states).sample,
            base_predict(base, unseen.ids),
        )
    )
    print(f"sd1: held-out epsilon error {ours:.4f}, base {theirs:.4f}", flush=True)
    parts = {"unet": unet, "text_encoder": text_encoder}
    weights = {
        f"{name}.{key}": value
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }
    save_half(weights, options.out / FILE)
    write_facts(
        options.out / "emoji-sd1.json",
        {
            "held_out_epsilon_error": ours,
            "base_held_out_epsilon_error": theirs,
            **training.facts(plan),
            "parameters": sum(value.numel() for value in weights.values()),
        },
    )


if __name__ == "__main__":
    main()
