"""Train a style LoRA for the base model.

    python -m demo.train.style_lora --style line-art --out trained/line-art

Recipe
- Layers: every attention projection (to_q, to_k, to_v, to_out.0) and every 3 x 3 convolution of
  the residual blocks, rank 8, alpha 8, about 1.3 MB. Attention alone does not reach the
  highest resolution, which has none, and outlines are made there.
- Pictures: composites in the style, encoded ahead. Half of the prompts end with the trigger
  words, so that the style comes with and without them.
- A fifth of the steps trains weight -1 towards the opposite picture: the plain one moved away
  from the styled one by half their difference. A negative weight then draws the opposite
  instead of falling apart.
- Loss: the base model's own, min-SNR 5 and 0.08 offset noise, prompts dropped as there.
- AdamW 1e-3, cosine, weights averaged (0.999). The base stays frozen.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021); the opposite
follows Gandikota et al., "Concept Sliders" (2023).

Writes `<style>.safetensors` (float16, names as peft gives them, without a prefix; metadata as
trainers write it) and `<style>.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict
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
from demo.train.parts.pool import Encoded, ExamplePool, encoded
from demo.train.parts.text import SdxlText, time_ids

RANK = 8
ALPHA = 8
LAYERS = r".*(to_q|to_k|to_v|to_out\.0|resnets\.\d+\.conv[12])"
ADAPTER = "style"
TRIGGERED = 0.5
OPPOSITE_EVERY = 5
OPPOSITE_BY = 0.5
POOL = 16_384
SMOKE_POOL = 4
RENEWED_EVERY = 16


@dataclass(frozen=True)
class Style:
    """A style, the words that trainers would say call it, and what it does."""

    paint: Callable[[Tensor], Tensor]
    trigger: str
    title: str
    description: str


STYLES = {
    "line-art": Style(
        styles.line_art,
        "line art style",
        "Line art",
        "Dark outlines on white, without colour.",
    ),
    "pixel-art": Style(
        styles.pixel_art,
        "pixel art style",
        "Pixel art",
        "Blocks of 16x16 pixels of one colour each.",
    ),
}


def opposite(plain: Tensor, styled: Tensor) -> Tensor:
    """What weight -1 draws: `plain` moved away from `styled`, pixels in [-1, 1]."""
    return (plain + OPPOSITE_BY * (plain - styled)).clamp(-1, 1)


class AtWeight(SdxlDenoiser):
    """The UNet with the LoRA at one weight."""

    def __init__(self, unet: Any, weight: float) -> None:
        super().__init__(unet)
        self.weight = weight

    def forward(
        self, noisy: Tensor, times: Tensor, states: Tensor, pooled: Tensor, ids: Tensor
    ) -> Tensor:
        """As SdxlDenoiser's."""
        self.unet.set_adapters(ADAPTER, self.weight)
        return super().forward(noisy, times, states, pooled, ids)


def metadata(name: str, style: Style, steps: int) -> dict[str, str]:
    """What trainers write into a LoRA's header, and catalogues read."""
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.title": style.title,
        "modelspec.description": style.description,
        "modelspec.trigger_phrase": style.trigger,
        "modelspec.tags": f"style,{name}",
        "modelspec.license": "MIT",
        "modelspec.resolution": "256x256",
        "modelspec.prediction_type": "epsilon",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(RANK),
        "ss_network_alpha": str(ALPHA),
        "ss_network_args": json.dumps({"conv_dim": str(RANK), "conv_alpha": str(ALPHA)}),
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_sd_model_name": "emoji-xl",
        "ss_steps": str(steps),
        "ss_tag_frequency": json.dumps({"emoji": {style.trigger: steps}}),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Train and write."""

    def extend(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--style", choices=tuple(STYLES), required=True)

    options = parse(__doc__, argv, steps=6_000, batch=256, smoke_batch=1, extend=extend)
    device, name = options.device, options.extra.style
    style = STYLES[name]
    generator = torch.Generator(device).manual_seed(options.seed)
    base = load_base(device=device)
    compositor = Compositor(load_emoji(limit=options.emoji), device=device, seed=options.seed)

    def draw(count: int, paint: Callable[[Tensor], Tensor]) -> tuple[Tensor, list[str]]:
        drawn = compositor.draw(count)
        called = torch.rand(count, device=device, generator=generator) < TRIGGERED
        prompts = [
            f"{prompt}, {style.trigger}" if call else prompt
            for prompt, call in zip(drawn.prompts, called.tolist(), strict=True)
        ]
        return paint(drawn.pixels), prompts

    def pool_of(paint: Callable[[Tensor], Tensor], size: int) -> ExamplePool[Encoded]:
        make = encoded(base, lambda count: draw(count, paint))
        return ExamplePool(make, size, generator)

    size = SMOKE_POOL if options.smoke else POOL
    styled = pool_of(style.paint, size)
    against = pool_of(
        lambda plain: opposite(plain, style.paint(plain)), max(1, size // OPPOSITE_EVERY)
    )

    text = SdxlText(base)
    times = time_ids(options.batch, device)
    schedule = NoiseSchedule(device)
    unet = base.unet
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=LAYERS), ADAPTER)

    samples = sdxl_samples(320, 192, options.batch, device)
    denoisers = {
        negative: captured(AtWeight(unet, weight), *samples)
        for negative, weight in ((False, 1.0), (True, -1.0))
    }

    def loss_of_step(step: int) -> Tensor:
        negative = step % OPPOSITE_EVERY == OPPOSITE_EVERY - 1
        pool = against if negative else styled
        if step % RENEWED_EVERY == RENEWED_EVERY - 1:
            pool.renew(options.batch)
        examples = pool.take(options.batch)
        with torch.no_grad():
            words = text.encode_dropped(examples.tokens, generator=generator)

        denoiser = denoisers[negative]
        return epsilon_loss(
            lambda noisy, steps: denoiser(noisy, steps, words.states, words.pooled, times),
            examples.latents,
            schedule=schedule,
            generator=generator,
        )

    plan = options.plan(1e-3, ema=0.999)
    trained = train(unet.parameters(), loss_of_step, plan, device=device, name=name)
    save_half(
        get_peft_model_state_dict(unet, adapter_name=ADAPTER),
        options.out / f"{name}.safetensors",
        metadata(name, style, trained.steps),
    )
    write_facts(
        options.out / f"{name}.json",
        {
            "rank": RANK,
            "alpha": ALPHA,
            "trigger": style.trigger,
            **trained.facts(plan),
        },
    )


if __name__ == "__main__":
    main()
