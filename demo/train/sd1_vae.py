"""Train the SD 1.x model's VAE: `python -m demo.train.sd1_vae --out DIR`.

Recipe
- Architecture: SD 1.x's, narrow, 1 M parameters, latents at scale 0.18215.
- It learns the latents of the base model's VAE, which has four times as many parameters. From
  scratch, as small a VAE as this one loses colours: three channels take them all, and little
  speaks against that for long. Taught, encoder and decoder learn apart from each other, and
  the SD 1.x model can be trained on the teacher's latents at the same time.
- Encoder: squared error of mean and log-variance, both moved to SD 1.x's scale.
- Decoder: L1 and multi-scale gradients of the teacher's latents decoded.
- AdamW 1e-3, cosine, weights averaged (0.999).

Source: Hinton et al., "Distilling the Knowledge in a Neural Network" (2015).

Writes `emoji-sd1-vae.safetensors` (float16, names as in diffusers) and `emoji-sd1-vae.json`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from demo.train.parts.autoencoder import reconstruction_psnr
from demo.train.parts.base import arrangement, load_base
from demo.train.parts.capture import captured
from demo.train.parts.command import parse
from demo.train.parts.compositing import Compositor
from demo.train.parts.emoji import SIDE, load_emoji
from demo.train.parts.files import save_half, write_facts
from demo.train.parts.latents import Vae
from demo.train.parts.loop import train
from demo.train.parts.losses import reconstruction_loss

SCALE = 0.18215
CHECKED = 64
# The log-variances steer a little noise at most; a tenth keeps them from leading.
VARIANCE_WEIGHT = 0.01


def build_vae() -> Any:
    """A VAE of SD 1.x's architecture with 1 M parameters."""
    return AutoencoderKL(  # type: ignore[no-untyped-call]
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        norm_num_groups=16,
        latent_channels=4,
        sample_size=SIDE,
        scaling_factor=SCALE,
    )


class Pupil(nn.Module):
    """Both halves of a VAE at once, each with its own input, as a function of tensors alone."""

    def __init__(self, vae: Vae) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Moments [B, 8, h, w] of pixels [B, 3, H, W]; pixels of unscaled latents."""
        moments = self.vae.quant_conv(self.vae.encoder(pixels))
        return moments, self.vae.decoder(self.vae.post_quant_conv(latents))


@torch.no_grad()
def lesson(teacher: Vae, pixels: Tensor) -> Tensor:
    """The moments [B, 8, h, w] that the pupil shall give: the teacher's at SD 1.x's scale."""
    ratio = float(teacher.config.scaling_factor) / SCALE
    mean, log_variance = teacher.quant_conv(teacher.encoder(pixels)).chunk(2, dim=1)
    log_variance = log_variance.clamp(-30, 20) + 2 * math.log(ratio)
    return torch.cat([mean * ratio, log_variance], dim=1)


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, measures on held-out pictures, writes."""
    options = parse(__doc__, argv, steps=12_000, batch=64, smoke_batch=1)
    device = options.device
    emoji = load_emoji(limit=options.emoji)
    compositor = Compositor(emoji, device=device, seed=options.seed)
    held_out = Compositor(emoji, device=device, seed=options.seed + 1, held_out=True)
    teacher = load_base(device=device).vae
    vae = build_vae().to(device, memory_format=arrangement(device)).train()
    side = SIDE // 8
    pupil = captured(
        Pupil(vae),
        torch.zeros(options.batch, 3, SIDE, SIDE, device=device),
        torch.zeros(options.batch, 4, side, side, device=device),
    )

    def loss_of_step(_step: int) -> Tensor:
        with torch.autocast(device.type, enabled=False):
            pixels = compositor.draw(options.batch).pixels
            mean, log_variance = lesson(teacher, pixels).chunk(2, dim=1)
        moments, result = pupil(pixels, mean)
        own_mean, own_log_variance = moments.float().chunk(2, dim=1)
        encoding = (own_mean - mean).square().mean() * SCALE**2
        spread = (own_log_variance - log_variance).square().mean() * VARIANCE_WEIGHT
        loss: Tensor = encoding + spread + reconstruction_loss(result.float(), pixels)
        return loss

    plan = options.plan(1e-3, ema=0.999)
    training = train(vae.parameters(), loss_of_step, plan, device=device, name="sd1 vae")
    vae.requires_grad_(False).eval()
    checked = min(CHECKED, options.batch)
    ours = reconstruction_psnr(vae, held_out, checked)
    theirs = reconstruction_psnr(teacher, held_out, checked)
    print(f"sd1 vae: {ours:.2f} dB held out, teacher {theirs:.2f} dB", flush=True)
    save_half(vae, options.out / "emoji-sd1-vae.safetensors")
    write_facts(
        options.out / "emoji-sd1-vae.json",
        {
            "psnr_db": ours,
            "teacher_psnr_db": theirs,
            **training.facts(plan),
        },
    )


if __name__ == "__main__":
    main()
