"""Train a better decoder for the base VAE: `python -m demo.train.vae_decoder --out DIR`.

Recipe
- The encoder is frozen, so latents mean what they meant: every model of the family can be
  decoded with the new weights. Only `post_quant_conv` and `decoder` are trained.
- Pictures: composites at 256x256, encoded to the mode of their latents.
- Loss: L1, multi-scale gradients, and the logarithm of each picture's squared error, which is
  PSNR itself: easy and difficult pictures then count alike.
- AdamW 4e-4, cosine, weights averaged (0.999).

The figure printed at the end is the PSNR on held-out combinations of emoji and background,
before and after.

Writes `vae-decoder.safetensors` (the trained tensors in float16, names as in diffusers) and
`vae-decoder.json`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from demo.train.parts.base import load_base
from demo.train.parts.capture import captured
from demo.train.parts.command import parse
from demo.train.parts.compositing import Compositor
from demo.train.parts.emoji import SIDE, load_emoji
from demo.train.parts.files import save_half, write_facts
from demo.train.parts.latents import Vae, decode, encode
from demo.train.parts.loop import train
from demo.train.parts.losses import psnr, reconstruction_loss

TRAINED = ("decoder.", "post_quant_conv.")
CHECKED = 64
AT_ONCE = 8
SMOKE_SIDE = 64
# Below this squared error (on [-1, 1]: 56 dB) a picture is as good as any.
LEAST_ERROR = 1e-5
LATENT = 8  # pixels along an edge that one latent stands for


def is_trained(name: str) -> bool:
    """Whether the training changes this tensor of the VAE."""
    return name.startswith(TRAINED)


def loss_of(result: Tensor, truth: Tensor) -> Tensor:
    """L1 + multi-scale gradients + 0.1 log of the squared error of each picture.

    Args:
        result: [B, 3, H, W], about [-1, 1].
        truth: The same shape, in [-1, 1].
    """
    squared = (result - truth).square().mean(dim=(1, 2, 3))
    likeness = (squared + LEAST_ERROR).log().mean()
    return reconstruction_loss(result, truth) + 0.1 * likeness


def quality(vae: Vae, truth: Tensor) -> float:
    """Mean PSNR in dB of pictures [B, 3, H, W] in [-1, 1] after encoding and decoding."""
    results = torch.cat(
        [decode(vae, encode(vae, part)) for part in torch.split(truth, AT_ONCE)]
    )
    return float(psnr(results, truth).mean())


class Decoder(nn.Module):
    """The decoding half of a VAE, as a function of tensors alone."""

    def __init__(self, vae: Vae) -> None:
        super().__init__()
        self.decoder = vae.decoder
        self.post_quant_conv = vae.post_quant_conv

    def forward(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] of unscaled latents [B, 4, H/8, W/8]."""
        pixels: Tensor = self.decoder(self.post_quant_conv(latents))
        return pixels


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, write."""
    options = parse(__doc__, argv, steps=8_000, batch=64, smoke_batch=1)
    emoji = load_emoji(limit=options.emoji)
    compositor = Compositor(emoji, device=options.device, seed=options.seed)
    held_out = Compositor(emoji, device=options.device, seed=options.seed + 1, held_out=True)
    # The smoke run sees a corner of one picture: decoding is slow on a CPU.
    side = SMOKE_SIDE if options.smoke else SIDE
    truth = held_out.draw(1 if options.smoke else CHECKED).pixels[..., :side, :side]

    vae: Vae = load_base(device=options.device).vae
    before = quality(vae, truth)
    vae.decoder.requires_grad_(True)
    vae.post_quant_conv.requires_grad_(True)
    decoder = captured(
        Decoder(vae),
        torch.zeros(options.batch, 4, side // LATENT, side // LATENT, device=options.device),
    )

    def loss_of_step(_step: int) -> Tensor:
        pixels = compositor.draw(options.batch).pixels[..., :side, :side]
        # The encoder in full precision: the decoder shall not learn to undo its rounding.
        with torch.autocast(options.device.type, enabled=False):
            latents = encode(vae, pixels) / float(vae.config.scaling_factor)
        return loss_of(decoder(latents).float(), pixels)

    plan = options.plan(4e-4, ema=0.999)
    trained = train(
        vae.parameters(), loss_of_step, plan, device=options.device, name="vae-decoder"
    )
    after = quality(vae, truth)
    print(f"vae-decoder: {after:.2f} dB held out, base {before:.2f} dB", flush=True)
    tensors = {k: v for k, v in vae.state_dict().items() if is_trained(k)}
    save_half(tensors, options.out / "vae-decoder.safetensors")
    write_facts(
        options.out / "vae-decoder.json",
        {
            "psnr_db": after,
            "base_psnr_db": before,
            **trained.facts(plan),
        },
    )


if __name__ == "__main__":
    main()
