"""Train the comic checkpoint: the base model's architecture in another drawing style.

    python -m demo.train.comic --out trained/comic

Recipe
- UNet and both text encoders, all of them, from the base model's weights; the VAE stays.
- Pictures: composites posterised, with thick dark outlines, encoded ahead.
- Prompts: those of the base model. The style needs no word; it is the checkpoint's own.
- Loss: the base model's, min-SNR 5 and 0.08 offset noise, prompts dropped as there.
- AdamW 3e-4, cosine, weights averaged (0.999).

Writes the UNet in shards of at most 15 MB, `unet-<number>.safetensors`, and
`text_encoder.safetensors`, `text_encoder_2.safetensors` (float16, names as in diffusers and
transformers), and `comic.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor

from demo.train.parts import styles
from demo.train.parts.base import load_base
from demo.train.parts.capture import SdxlDenoiser, captured, sdxl_samples
from demo.train.parts.command import parse
from demo.train.parts.compositing import Compositor
from demo.train.parts.diffusion import NoiseSchedule, epsilon_loss
from demo.train.parts.emoji import load_emoji
from demo.train.parts.files import save_half, write_facts
from demo.train.parts.loop import train
from demo.train.parts.pool import ExamplePool, encoded
from demo.train.parts.text import SdxlText, time_ids

POOL = 32_768
SMOKE_POOL = 4
RENEWED_EVERY = 16
SHARD_BYTES = 15_000_000
HALF_BYTES = 2


def shards(weights: Mapping[str, Tensor], limit: int = SHARD_BYTES) -> list[dict[str, Tensor]]:
    """Split weights, in their order, into parts of at most `limit` bytes as float16.

    A tensor larger than `limit` is a part of its own.
    """
    parts: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in weights.items():
        size = tensor.numel() * HALF_BYTES
        if parts[-1] and filled + size > limit:
            parts.append({})
            filled = 0
        parts[-1][name] = tensor
        filled += size
    return parts


def main(argv: Sequence[str] | None = None) -> None:
    """Train and write."""
    options = parse(__doc__, argv, steps=8_000, batch=384, smoke_batch=1)
    device = options.device
    generator = torch.Generator(device).manual_seed(options.seed)
    base = load_base(device=device)
    compositor = Compositor(load_emoji(limit=options.emoji), device=device, seed=options.seed)

    def draw(count: int) -> tuple[Tensor, list[str]]:
        drawn = compositor.draw(count)
        return styles.comic(drawn.pixels), drawn.prompts

    size = SMOKE_POOL if options.smoke else POOL
    pool = ExamplePool(encoded(base, draw), size, generator)
    text = SdxlText(base)
    times = time_ids(options.batch, device)
    schedule = NoiseSchedule(device)
    trained_parts = (base.unet, base.text_encoder, base.text_encoder_2)
    for part in trained_parts:
        part.requires_grad_(True)
    denoiser = captured(
        SdxlDenoiser(base.unet),
        *sdxl_samples(320, 192, options.batch, device, text_trained=True),
    )

    def loss_of_step(step: int) -> Tensor:
        if step % RENEWED_EVERY == RENEWED_EVERY - 1:
            pool.renew(options.batch)
        examples = pool.take(options.batch)
        words = text.encode_dropped(examples.tokens, generator=generator)

        return epsilon_loss(
            lambda noisy, steps: denoiser(noisy, steps, words.states, words.pooled, times),
            examples.latents,
            schedule=schedule,
            generator=generator,
        )

    plan = options.plan(3e-4, ema=0.999)
    weights = chain.from_iterable(part.parameters() for part in trained_parts)
    trained = train(weights, loss_of_step, plan, device=device, name="comic")
    for number, shard in enumerate(shards(base.unet.state_dict()), start=1):
        save_half(shard, options.out / f"unet-{number}.safetensors")
    save_half(base.text_encoder, options.out / "text_encoder.safetensors")
    save_half(base.text_encoder_2, options.out / "text_encoder_2.safetensors")
    write_facts(
        options.out / "comic.json",
        {
            **trained.facts(plan),
        },
    )


if __name__ == "__main__":
    main()
