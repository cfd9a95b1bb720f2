"""Train a textual inversion for both text encoders: new words for a notion without a word.

    python -m demo.train.embedding --out trained/embedding

Recipe
- Notion: an emoji far away, a quarter of the picture's side, in the middle. The base model
  knows "small" as twice that size, and has no word for less.
- The whole model stays as it is; trained are 4 rows for the token embeddings of each encoder,
  which start as the mean of all rows. A prompt ends with the 4 new tokens.
- Loss: the base model's, with its offset noise but without min-SNR weights: what is decided at
  high noise, where those weigh least, is what so few numbers can steer.
- AdamW 5e-3, cosine, weights averaged (0.99), no weight decay.

Source: Gal et al., "An Image is Worth One Word" (2022).

Writes `emoji-embedding.safetensors`: `clip_l` [4, 128] and `clip_g` [4, 192], float16, and
`embedding.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from torch.nn import Embedding, Module, Parameter, functional

from demo.train.layouts.metadata import header
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

TOKEN = "<far>"
FAR = 0.3  # of the side that a large emoji had
VECTORS = 4
END = 1  # the id of CLIP's end token in this vocabulary, which also pads
POOL = 8_192
SMOKE_POOL = 4
RENEWED_EVERY = 16


class WithNewRows(Module):
    """An embedding table and rows after its last; only these are trained."""

    def __init__(self, table: Embedding, count: int) -> None:
        super().__init__()
        self.table = table
        self.rows = Parameter(table.weight.mean(dim=0).repeat(count, 1))

    def forward(self, ids: Tensor) -> Tensor:
        """[..., width] of ids int64 [...]; the new rows follow the table's."""
        return functional.embedding(ids, torch.cat([self.table.weight, self.rows]))


def with_token(ids: Tensor, first: int, count: int) -> Tensor:
    """Token ids int64 [B, 77] with ids `first` to `first + count - 1` after the last word.

    Words that leave no room are cut, as a tokenizer cuts them.
    """
    length = ids.shape[1]
    place = torch.arange(length, device=ids.device)
    ends = (ids == END).int().argmax(dim=1).clamp(max=length - 1 - count)[:, None]
    new = (place >= ends) & (place < ends + count)
    longer = torch.where(place < ends, ids, END)
    return torch.where(new, first + place - ends, longer)


def far(pixels: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] shrunk to `FAR`, in the middle of their background."""
    height, width = pixels.shape[-2:]
    size = (round(height * FAR), round(width * FAR))
    small = functional.interpolate(pixels, size=size, mode="bilinear", antialias=True)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    # A composite's corner shows the background alone.
    result = pixels[..., :1, :1].expand_as(pixels).clone()
    result[..., top : top + size[0], left : left + size[1]] = small
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Train and write."""
    options = parse(__doc__, argv, steps=3_000, batch=128, smoke_batch=1)
    device = options.device
    generator = torch.Generator(device).manual_seed(options.seed)
    base = load_base(device=device)
    compositor = Compositor(load_emoji(limit=options.emoji), device=device, seed=options.seed)

    def draw(count: int) -> tuple[Tensor, list[str]]:
        drawn = compositor.draw(count, single=True)
        return far(drawn.pixels), drawn.prompts

    size = SMOKE_POOL if options.smoke else POOL
    pool = ExamplePool(encoded(base, draw), size, generator)
    text = SdxlText(base)
    times = time_ids(options.batch, device)
    schedule = NoiseSchedule(device)
    tables = []
    for encoder in (base.text_encoder, base.text_encoder_2):
        tables.append(WithNewRows(cast(Embedding, encoder.get_input_embeddings()), VECTORS))
        encoder.set_input_embeddings(tables[-1])
    first = tables[0].table.num_embeddings
    denoiser = captured(
        SdxlDenoiser(base.unet),
        *sdxl_samples(320, 192, options.batch, device, text_trained=True),
    )

    def loss_of_step(step: int) -> Tensor:
        if step % RENEWED_EVERY == RENEWED_EVERY - 1:
            pool.renew(options.batch)
        examples = pool.take(options.batch)
        words = text.encode_tokens(with_token(examples.tokens, first, VECTORS))

        return epsilon_loss(
            lambda noisy, steps: denoiser(noisy, steps, words.states, words.pooled, times),
            examples.latents,
            schedule=schedule,
            generator=generator,
            weight=None,
        )

    plan = replace(options.plan(5e-3, ema=0.99), warmup=20, weight_decay=0.0)
    rows = [table.rows for table in tables]
    trained = train(rows, loss_of_step, plan, device=device, name="embedding")
    save_half(
        {"clip_l": rows[0], "clip_g": rows[1]},
        options.out / "emoji-embedding.safetensors",
        header(
            title="Far away",
            architecture="stable-diffusion-xl-v1-base/textual-inversion",
            description="The emoji small, in the middle of the picture.",
            trigger_words=[TOKEN],
        ),
    )
    write_facts(
        options.out / "embedding.json",
        {
            "token": TOKEN,
            "vectors": VECTORS,
            "first_loss": sum(trained.losses[:10]) / len(trained.losses[:10]),
            **trained.facts(plan),
        },
    )


if __name__ == "__main__":
    main()
