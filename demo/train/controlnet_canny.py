"""Train a ControlNet on Canny edges: `python -m demo.train.controlnet_canny --out DIR`.

Recipe
- Layout: that of the small SDXL ControlNets, three DownBlock2D and a UNetMidBlock2D without
  any attention. It is told where lines are, not what is drawn; the UNet knows that.
- Start: every layer that the base UNet has as well is a copy of it, and the convolutions that
  lead into the UNet are zero, so that training starts at the base model's own pictures.
- Pictures: composites and their edges, with thresholds varied, encoded ahead into a pool of
  which a part is redrawn at every step.
- Loss: the base model's epsilon loss through the frozen UNet. Every second step draws only
  timesteps above 400, where a picture's structure is decided.
- The prompt is dropped in half of the cases (half of those empty, half zeroed embeddings), so
  that edges must carry what the words do not.
- AdamW 5e-4, cosine, weights averaged (0.999).

Source: Zhang et al., "Adding Conditional Control to Text-to-Image Diffusion Models" (2023).

Writes `emoji-canny.safetensors` (float16, names as in diffusers) and `emoji-canny.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from demo.train.parts.base import BaseModel, load_base
from demo.train.parts.capture import captured, sdxl_samples
from demo.train.parts.command import parse
from demo.train.parts.compositing import Compositor
from demo.train.parts.diffusion import NoiseSchedule, epsilon_loss
from demo.train.parts.edges import canny
from demo.train.parts.emoji import load_emoji
from demo.train.parts.files import save_half, write_facts
from demo.train.parts.latents import encode
from demo.train.parts.loop import train
from demo.train.parts.pool import ExamplePool
from demo.train.parts.text import SdxlText, TextConditioning, time_ids

SAME_SETTINGS = (
    "in_channels",
    "block_out_channels",
    "layers_per_block",
    "norm_num_groups",
    "norm_eps",
    "cross_attention_dim",
    "attention_head_dim",
    "use_linear_projection",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
)
HINT_CHANNELS = (16, 32, 96, 256)
STRUCTURE_FROM = 400
DROPPED_EMPTY = 0.25
DROPPED_ZEROED = 0.25
# Canny's lower threshold is drawn from here; the upper one is twice it.
THRESHOLDS = (40.0, 120.0)
POOL = 8_192
SMOKE_POOL = 2
# A batch of the pool is replaced by new pictures every so many steps.
RENEWED_EVERY = 16


def build(unet: UNet2DConditionModel) -> ControlNetModel:
    """A ControlNet for `unet`: same widths, no attention, shared layers copied.

    Args:
        unet: An SDXL UNet (`addition_embed_type` is text_time).

    Returns:
        Ready to train; with it, `unet` draws exactly what it draws without.
    """
    config: dict[str, Any] = dict(unet.config)
    network: ControlNetModel = ControlNetModel(
        down_block_types=("DownBlock2D",) * len(config["block_out_channels"]),
        mid_block_type="UNetMidBlock2D",
        conditioning_embedding_out_channels=HINT_CHANNELS,
        **{name: config[name] for name in SAME_SETTINGS},
    )
    source = unet.state_dict()
    own = network.state_dict()
    # The UNet's mid block has its first resnet before its attention, ours has no other.
    shared = {name: source[name] for name in own if name in source}
    network.load_state_dict({**own, **shared})
    return network


@dataclass(frozen=True)
class Examples:
    """Pictures as the training needs them, on the device.

    latents: float32 [N, 4, h, w]. edges: uint8 [N, 1, H, W], 0 or 1. states: float16
    [N, 77, W]. pooled: float16 [N, P].
    """

    latents: Tensor
    edges: Tensor
    states: Tensor
    pooled: Tensor


def examples(
    base: BaseModel, text: SdxlText, compositor: Compositor, generator: torch.Generator
) -> Callable[[int], Examples]:
    """What makes so many examples for a pool; `generator` chooses Canny's thresholds."""

    def make(count: int) -> Examples:
        drawn = compositor.draw(count)
        share = float(torch.rand((), device=drawn.pixels.device, generator=generator))
        low = THRESHOLDS[0] + share * (THRESHOLDS[1] - THRESHOLDS[0])
        words = text.encode(drawn.prompts)
        return Examples(
            latents=encode(base.vae, drawn.pixels),
            edges=canny(drawn.pixels, low=low, high=2 * low).to(torch.uint8),
            states=words.states.half(),
            pooled=words.pooled.half(),
        )

    return make


class Controlled(nn.Module):
    """A UNet under its ControlNet, as a function of tensors alone."""

    def __init__(self, unet: Any, network: Any) -> None:
        super().__init__()
        self.unet = unet
        self.network = network

    def forward(
        self,
        noisy: Tensor,
        times: Tensor,
        states: Tensor,
        pooled: Tensor,
        ids: Tensor,
        hint: Tensor,
    ) -> Tensor:
        """Epsilon [B, 4, h, w]; `hint` is the control picture [B, 3, H, W] in [0, 1]."""
        added = {"text_embeds": pooled, "time_ids": ids}
        skips, middle = self.network(
            noisy, times, states, hint, added_cond_kwargs=added, return_dict=False
        )
        epsilon: Tensor = self.unet(
            noisy,
            times,
            states,
            added_cond_kwargs=added,
            down_block_additional_residuals=skips,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return epsilon


def main(argv: Sequence[str] | None = None) -> None:
    """Train and write."""
    options = parse(__doc__, argv, steps=12_000, batch=256, smoke_batch=1)
    device = options.device
    generator = torch.Generator(device).manual_seed(options.seed)
    base = load_base(device=device)
    emoji = load_emoji(limit=options.emoji)
    text = SdxlText(base)
    compositor = Compositor(emoji, device=device, seed=options.seed)
    size = SMOKE_POOL if options.smoke else POOL
    pool = ExamplePool(examples(base, text, compositor, generator), size, generator)
    times = time_ids(options.batch, device)
    schedule = NoiseSchedule(device)
    unet: Any = base.unet
    network: Any = build(unet)
    network.to(device=device, memory_format=torch.channels_last)
    nothing = text.encode([""])
    controlled = captured(
        Controlled(unet, network),
        *sdxl_samples(320, 192, options.batch, device),
        torch.zeros(options.batch, 3, 256, 256, device=device),
    )

    def loss_of_step(step: int) -> Tensor:
        if step % RENEWED_EVERY == RENEWED_EVERY - 1:
            pool.renew(options.batch)
        drawn = pool.take(options.batch)
        hint = drawn.edges.float().expand(-1, 3, -1, -1)
        draw = torch.rand(options.batch, device=device, generator=generator)
        empty, kept = draw < DROPPED_EMPTY, (draw < 1 - DROPPED_ZEROED)[:, None]
        states = torch.where(empty[:, None, None], nothing.states, drawn.states.float())
        pooled = torch.where(empty[:, None], nothing.pooled, drawn.pooled.float())
        words = TextConditioning(states * kept[:, None], pooled * kept)
        return epsilon_loss(
            lambda noisy, steps: controlled(
                noisy, steps, words.states, words.pooled, times, hint
            ),
            drawn.latents,
            schedule=schedule,
            generator=generator,
            low=STRUCTURE_FROM if step % 2 else 0,
        )

    plan = options.plan(5e-4, ema=0.999)
    trained = train(network.parameters(), loss_of_step, plan, device=device, name="emoji-canny")
    save_half(network, options.out / "emoji-canny.safetensors")
    write_facts(
        options.out / "emoji-canny.json",
        {
            **trained.facts(plan),
        },
    )


if __name__ == "__main__":
    main()
