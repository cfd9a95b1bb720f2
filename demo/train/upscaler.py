"""Train a Compact upscaler on emoji: `python -m demo.train.upscaler --scale 4 --out DIR`.

Recipe
- Pictures: composites at their native 256x256, shrunk by `scale` with an antialiased bicubic
  filter and rounded to 8 bits, as a picture that a user hands in.
- Patches of 32 x 32 pixels at low resolution, mirrored at random: most of a composite is
  plain background, and small patches make a batch varied.
- Loss: Charbonnier, an L1 that turns into L2 where the error is small, so that the end of the
  training polishes what PSNR measures.
- AdamW 1e-3, cosine, weights averaged (0.999).

Every sixteenth emoji is kept out. The figure printed at the end is the PSNR on composites of
those alone, next to that of bicubic enlargement.

Writes `compact-<scale>x.safetensors` (float16, original tensor names) and
`compact-<scale>x.json`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from demo.train.parts.command import parse
from demo.train.parts.compositing import Compositor
from demo.train.parts.emoji import EmojiSet, load_emoji
from demo.train.parts.files import save_half, write_facts
from demo.train.parts.loop import train
from demo.train.parts.losses import psnr
from demo.train.srvgg import Compact

HELD_OUT_EVERY = 16
HELD_OUT_FROM = 7
PATCH = 32
PATCHES_PER_PICTURE = 4
SMOOTHING = 1e-3
CHECKED = 64


def split(emoji: EmojiSet) -> tuple[EmojiSet, EmojiSet]:
    """The emoji to train on and those kept out of training, whole."""
    places = torch.arange(len(emoji))
    out = places % HELD_OUT_EVERY == HELD_OUT_FROM
    return _only(emoji, places[~out]), _only(emoji, places[out])


def shrink(pictures: Tensor, scale: int) -> Tensor:
    """Shrink pictures in [0, 1] as an image editor does, to 8-bit levels.

    Args:
        pictures: float32 [B, 3, H, W] in [0, 1]; H and W divisible by `scale`.
        scale: How many times smaller.

    Returns:
        float32 [B, 3, H/scale, W/scale], multiples of 1/255.
    """
    size = (pictures.shape[-2] // scale, pictures.shape[-1] // scale)
    small = functional.interpolate(pictures, size=size, mode="bicubic", antialias=True)
    return (small.clamp(0, 1) * 255).round() / 255


def enlarge_bicubic(pictures: Tensor, scale: int) -> Tensor:
    """What an upscaler has to beat: bicubic enlargement, clipped to [0, 1]."""
    return functional.interpolate(pictures, scale_factor=scale, mode="bicubic").clamp(0, 1)


def patches(
    low: Tensor, high: Tensor, scale: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cut the same random patches from small and large pictures and mirror them alike.

    Returns:
        [B*n, 3, PATCH, PATCH] and [B*n, 3, scale*PATCH, scale*PATCH].
    """
    cuts: list[tuple[Tensor, Tensor]] = []
    room = low.shape[-1] - PATCH + 1
    for _ in range(PATCHES_PER_PICTURE):
        y, x, turned = torch.randint(0, room * 2, (3,), generator=generator).tolist()
        y, x = y % room, x % room
        small = low[..., y : y + PATCH, x : x + PATCH]
        large = high[..., y * scale : (y + PATCH) * scale, x * scale : (x + PATCH) * scale]
        axes = [(), (2,), (3,), (2, 3)][turned % 4]
        cuts.append((small.flip(axes), large.flip(axes)))
    return torch.cat([small for small, _ in cuts]), torch.cat([large for _, large in cuts])


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, write."""

    def extend(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--scale", type=int, choices=(2, 4), default=4)

    options = parse(__doc__, argv, steps=12_000, batch=64, extend=extend)
    scale = int(options.extra.scale)
    name = f"compact-{scale}x"
    training, kept_out = split(load_emoji(limit=options.emoji))
    compositor = Compositor(training, device=options.device, seed=options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    network: Any = Compact(scale=scale).to(options.device)
    network.to(memory_format=torch.channels_last)

    def loss_of_step(_step: int) -> Tensor:
        pictures = (compositor.draw(options.batch).pixels + 1) / 2
        low, high = patches(shrink(pictures, scale), pictures, scale, generator)
        # Autocast's rounding would be more than what is left to learn.
        with torch.autocast(options.device.type, enabled=False):
            error = network(low) - high
        loss: Tensor = (error.square() + SMOOTHING**2).sqrt().mean()
        return loss

    plan = replace(options.plan(1e-3, ema=0.999), weight_decay=0.0)
    trained = train(network.parameters(), loss_of_step, plan, device=options.device, name=name)

    unseen = Compositor(kept_out, device=options.device, seed=options.seed + 1)
    truth = (unseen.draw(min(CHECKED, options.batch)).pixels + 1) / 2
    low = shrink(truth, scale)
    with torch.no_grad():
        ours = _quality(network(low), truth)
    bicubic = _quality(enlarge_bicubic(low, scale), truth)
    print(f"{name}: {ours:.2f} dB on held-out emoji, bicubic {bicubic:.2f} dB", flush=True)
    save_half(network, options.out / f"{name}.safetensors")
    write_facts(
        options.out / f"{name}.json",
        {
            "psnr_db": ours,
            "bicubic_psnr_db": bicubic,
            **trained.facts(plan),
        },
    )


def _quality(result: Tensor, truth: Tensor) -> float:
    """Mean PSNR in dB of pictures in [0, 1]."""
    return float(psnr(result * 2 - 1, truth * 2 - 1).mean())


def _only(emoji: EmojiSet, places: Tensor) -> EmojiSet:
    names = tuple(emoji.names[int(place)] for place in places)
    return EmojiSet(names=names, pictures=emoji.pictures[places])


if __name__ == "__main__":
    main()
