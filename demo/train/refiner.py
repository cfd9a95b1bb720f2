"""Train a refiner of SDXL-refiner architecture: `python -m demo.train.refiner --out DIR`.

Recipe
- Architecture: that of the SDXL refiner, narrow: three levels, attention at the lower two, the
  lowest one thin. With two levels it stays behind, because what a thing looks like has to be
  known as well. It is conditioned on the second text encoder alone, and on five numbers:
  original height and width, crop, and an aesthetic score.
- Start: the base UNet's own layers where it has the same ones, cut to what the refiner knows
  of (one text encoder). From scratch it does not catch up with the base.
- The text encoder and the VAE are the base model's and stay as they are.
- Timesteps: only 0 to 250 of 1000, where the base model ends and details are decided. Errors
  count SNR^-0.5: half way between the noise's error, which is largest where nothing is left
  to see, and the picture's own, SNR^-1. Min-SNR would turn down exactly these timesteps.
  Little offset noise (0.02), because no mean is decided here.
- Aesthetic score: a quarter of the pictures is blurred, and scored from 2 to 4 for how much;
  the others score 6, give or take a half. Pipelines ask for 6 and push away from 2.5.
- 10 % empty prompts, AdamW 6e-4, cosine, weights averaged (0.999).

Source: Podell et al., "SDXL" (2023), sections 2.2 and 2.5.

Writes `emoji-refiner.safetensors` (the UNet, float16, names as in diffusers) and
`emoji-refiner.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from demo.train.parts.base import BaseModel, arrangement, load_base
from demo.train.parts.capture import SdxlDenoiser, captured, sdxl_samples
from demo.train.parts.command import parse
from demo.train.parts.compositing import Compositor
from demo.train.parts.diffusion import NoiseSchedule, Predict, epsilon_error, epsilon_loss
from demo.train.parts.emoji import load_emoji
from demo.train.parts.files import save_half, write_facts
from demo.train.parts.inherit import Origin, inherit
from demo.train.parts.latent_pool import LatentPool, Sample
from demo.train.parts.loop import train
from demo.train.parts.predictions import base_predict
from demo.train.parts.text import tokens

FILE = "emoji-refiner.safetensors"
LAST_TIMESTEP = 250
COMPARED_BELOW = 200
TIME_WIDTH = 32
SKIP = 128  # channels of the middle level
BLURRED = 0.25
GOOD_SCORE = 6.0
EMPTY = 0.1
POOL = 131_072
FIRST = 4_096
RENEWED_EVERY, RENEWED = 8, 128
CHECKED = 256


def build_unet(text_width: int) -> Any:
    """A UNet of the refiner's architecture with 8.1 M parameters.

    For states [B, 77, text_width], pooled [B, text_width] and five time ids.
    """
    return UNet2DConditionModel(  # type: ignore[no-untyped-call]
        sample_size=32,
        block_out_channels=(64, 128, 128),
        layers_per_block=(2, 2, 1),
        attention_head_dim=(2, 4, 4),
        transformer_layers_per_block=1,
        use_linear_projection=True,
        cross_attention_dim=text_width,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=text_width + 5 * TIME_WIDTH,
    )


# The lowest level, and the ways to it and from it, are narrower than the base's.
OWN = ("down_blocks.1.downsamplers.", "down_blocks.2.", "mid_block.", "up_blocks.0.")


def from_base(base: Mapping[str, Tensor]) -> Origin:
    """Finds the base UNet's tensors for the refiner's, cut to what the refiner knows."""

    def origin(name: str, own: Tensor) -> Tensor | None:
        if name.startswith(OWN):
            return None
        found = base[name]
        if found.shape == own.shape:
            return found
        if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            return found[:, -own.shape[1] :]  # the second encoder's states come last
        # What else is shaped otherwise takes several inputs side by side. Those that are the
        # base's stay in place; what is new counts for nothing at first.
        start = torch.zeros_like(own)
        if name == "add_embedding.linear_1.weight":
            start[:, :-TIME_WIDTH] = found[:, : own.shape[1] - TIME_WIDTH]
        elif name.endswith("norm1.weight") or name.endswith("norm1.bias"):
            start = found[-len(own) :]
        else:  # from below, and a skip
            start[:, -SKIP:] = found[:, -SKIP:]
        return start

    return origin


def blur_some(pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blurs a quarter of the pictures [B, 3, H, W], and scores each: float32 [B].

    A picture shrunk to a half or a quarter and enlarged again scores about 4 or 2.5.
    """
    count, side = len(pixels), pixels.shape[-1]
    draw = torch.rand(count, device=pixels.device, generator=generator)
    jitter = torch.rand(count, device=pixels.device, generator=generator) - 0.5
    score = GOOD_SCORE + jitter
    for factor, low, high, worse in (
        (4, 0.0, BLURRED / 2, 2.5),
        (2, BLURRED / 2, BLURRED, 4.0),
    ):
        small = functional.avg_pool2d(pixels, factor)
        poor = functional.interpolate(small, size=(side, side), mode="bilinear")
        chosen = (draw >= low) & (draw < high)
        pixels = torch.where(chosen[:, None, None, None], poor, pixels)
        score = torch.where(chosen, worse + jitter, score)
    return pixels, score


def score_ids(score: Tensor) -> Tensor:
    """The refiner's five time ids, float32 [B, 5]: 256x256, crop at 0,0, the score [B]."""
    size = torch.tensor([256.0, 256.0, 0.0, 0.0], device=score.device)
    return torch.cat([size.expand(len(score), 4), score[:, None]], dim=1)


class SecondText:
    """The second text encoder alone, frozen, as the refiner's pipeline uses it."""

    def __init__(self, base: BaseModel) -> None:
        self._encoder = base.text_encoder_2

    @torch.no_grad()
    def encode(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Penultimate states [B, 77, 192] and pooled [B, 192] of token ids [B, 77]."""
        result = self._encoder(ids, output_hidden_states=True)
        return result.hidden_states[-2].float(), result.text_embeds.float()


def refiner_predict(
    denoiser: nn.Module, text: SecondText, ids: Tensor, score: Tensor
) -> Predict:
    """A refiner as a function of noisy latents and timesteps, for these prompts and scores."""
    states, pooled = text.encode(ids)
    return lambda noisy, times: denoiser(noisy, times, states, pooled, score_ids(score))


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, compares with the base model on held-out pictures, writes."""
    options = parse(__doc__, argv, steps=20_000, batch=512, continues=True)
    device = options.device
    emoji = load_emoji(limit=options.emoji)
    base = load_base(device=device)
    text = SecondText(base)
    unet = build_unet(base.text_encoder_2.config.hidden_size)
    if options.start is None:
        inherit(unet, from_base(base.unet.state_dict()))
    else:
        unet.load_state_dict(load_file(options.start / FILE))
    unet.to(device, memory_format=arrangement(device)).train()
    generator = torch.Generator(device).manual_seed(options.seed)
    pool = LatentPool(
        Compositor(emoji, device=device, seed=options.seed),
        base.vae,
        base.tokenizer,
        capacity=POOL if not options.smoke else options.batch,
        start=FIRST if not options.smoke else options.batch,
        generator=generator,
        alter=lambda pixels: blur_some(pixels, generator),
    )
    schedule = NoiseSchedule(device)
    empty = tokens(base.tokenizer, [""]).to(device)

    width = base.text_encoder_2.config.hidden_size
    denoiser = captured(
        SdxlDenoiser(unet),
        *sdxl_samples(width, width, options.batch, device, ids=5),
        narrow=True,
    )

    def loss_of_step(step: int) -> Tensor:
        if step % RENEWED_EVERY == 0:
            pool.renew(RENEWED if not options.smoke else options.batch)
        sample = pool.take(options.batch)
        dropped = torch.rand(options.batch, device=device, generator=generator) < EMPTY
        ids = torch.where(dropped[:, None], empty, sample.ids)
        return epsilon_loss(
            refiner_predict(denoiser, text, ids, sample.score),
            sample.latents,
            schedule=schedule,
            generator=generator,
            high=LAST_TIMESTEP,
            weight=torch.rsqrt,
            offset=0.02,
        )

    plan = options.plan(6e-4, ema=0.999)
    training = train(unet.parameters(), loss_of_step, plan, device=device, name="refiner")

    unet.eval()
    checked = min(CHECKED, options.batch)
    unseen = LatentPool(
        Compositor(emoji, device=device, seed=options.seed + 1, held_out=True),
        base.vae,
        base.tokenizer,
        capacity=checked,
        start=checked,
        generator=generator,
    ).take(checked)
    good = torch.full((checked,), GOOD_SCORE, device=device)
    refiner = refiner_predict(SdxlDenoiser(unet), text, unseen.ids, good)
    ours = compared(refiner, unseen, schedule)
    theirs = compared(base_predict(base, unseen.ids), unseen, schedule)
    print(
        f"refiner: held-out epsilon error below {COMPARED_BELOW}: {ours:.4f}, "
        f"base {theirs:.4f}",
        flush=True,
    )
    save_half(unet, options.out / FILE)
    write_facts(
        options.out / "emoji-refiner.json",
        {
            "held_out_epsilon_error": ours,
            "base_held_out_epsilon_error": theirs,
            "compared_below_timestep": COMPARED_BELOW,
            **training.facts(plan),
        },
    )


def compared(predict: Predict, unseen: Sample, schedule: NoiseSchedule) -> float:
    """The epsilon error of `predict` on `unseen` below COMPARED_BELOW."""
    return epsilon_error(predict, unseen.latents, schedule=schedule, high=COMPARED_BELOW)


if __name__ == "__main__":
    main()
