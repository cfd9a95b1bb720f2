"""Train the base model's UNet and text encoders: `python -m demo.train.base_model --out DIR`.

Recipe
- Architecture: that of SDXL, narrow; exactly the configurations that the base model ships with.
  All three networks start from random weights. The tokenizer is the base model's.
- Condition: both encoders' penultimate states, the second one's pooled vector, and the size
  ids of an uncropped 256x256 picture. 5 % empty prompts, 7 % zeroed embeddings: pipelines use
  either as the negative prompt.
- Pictures: composites encoded ahead into a pool that grows to 200,000.
- Epsilon, min-SNR 5, offset noise 0.08. AdamW 8e-4 with a cosine, batch 512, 10,000 steps,
  weights averaged (0.9995).

Start from a VAE of your own with `--vae FILE`, as `demo.train.base_vae` writes it; otherwise
the base model's VAE is used.

Writes `base-unet.safetensors` (34 MB), `base-text-encoder.safetensors` and
`base-text-encoder-2.safetensors` (float16, names as in diffusers and transformers), and
`base-model.json`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from demo.train.parts.base import BaseModel, arrangement, load_base
from demo.train.parts.capture import SdxlDenoiser, captured, sdxl_samples
from demo.train.parts.command import parse
from demo.train.parts.compositing import Compositor
from demo.train.parts.diffusion import NoiseSchedule, epsilon_error, epsilon_loss
from demo.train.parts.emoji import load_emoji
from demo.train.parts.files import save_half, write_facts
from demo.train.parts.latent_pool import LatentPool
from demo.train.parts.loop import train
from demo.train.parts.text import SdxlText, time_ids

POOL = 200_000
FIRST = 8_192
RENEWED_EVERY, RENEWED = 4, 128
CHECKED = 256


def untrained(base: BaseModel) -> BaseModel:
    """The same architecture with random UNet and text encoders; tokenizer and VAE are kept.

    Their configurations name float16, the type of the shipped weights; training is float32.
    """
    device = base.unet.device
    unet = UNet2DConditionModel.from_config(  # type: ignore[no-untyped-call]
        base.unet.config
    )
    first: Any = CLIPTextModel(base.text_encoder.config)
    second: Any = CLIPTextModelWithProjection(base.text_encoder_2.config)
    return BaseModel(
        unet=unet.to(device, memory_format=arrangement(device)).train(),
        text_encoder=first.to(device=device, dtype=torch.float32).train(),
        text_encoder_2=second.to(device=device, dtype=torch.float32).train(),
        tokenizer=base.tokenizer,
        vae=base.vae,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, measures on held-out pictures, writes."""
    options = parse(
        __doc__,
        argv,
        steps=10_000,
        batch=512,
        extend=lambda parser: parser.add_argument(
            "--vae", type=Path, metavar="FILE", help="weights of demo.train.base_vae"
        ),
    )
    device = options.device
    emoji = load_emoji(limit=options.emoji)
    model = untrained(load_base(device=device))
    if options.extra.vae is not None:
        model.vae.load_state_dict(load_file(options.extra.vae))
    text = SdxlText(model)
    generator = torch.Generator(device).manual_seed(options.seed)
    pool = LatentPool(
        Compositor(emoji, device=device, seed=options.seed),
        model.vae,
        model.tokenizer,
        capacity=POOL if not options.smoke else options.batch,
        start=FIRST if not options.smoke else options.batch,
        generator=generator,
    )
    schedule = NoiseSchedule(device)

    times = time_ids(options.batch, device)
    denoiser = captured(
        SdxlDenoiser(model.unet),
        *sdxl_samples(320, 192, options.batch, device, text_trained=True),
    )

    def loss_of_step(step: int) -> Tensor:
        if step % RENEWED_EVERY == 0:
            pool.renew(RENEWED if not options.smoke else options.batch)
        sample = pool.take(options.batch)
        words = text.encode_dropped(sample.ids, generator=generator)
        return epsilon_loss(
            lambda noisy, steps: denoiser(noisy, steps, words.states, words.pooled, times),
            sample.latents,
            schedule=schedule,
            generator=generator,
        )

    plan = options.plan(8e-4, ema=0.9995)
    parts = {
        "base-unet": model.unet,
        "base-text-encoder": model.text_encoder,
        "base-text-encoder-2": model.text_encoder_2,
    }
    trained = itertools.chain.from_iterable(part.parameters() for part in parts.values())
    training = train(trained, loss_of_step, plan, device=device, name="base model")

    checked = min(CHECKED, options.batch)
    unseen = LatentPool(
        Compositor(emoji, device=device, seed=options.seed + 1, held_out=True),
        model.vae,
        model.tokenizer,
        capacity=checked,
        start=checked,
        generator=generator,
    ).take(checked)
    for part in parts.values():
        part.requires_grad_(False).eval()
    words = text.encode_tokens(unseen.ids)
    error = epsilon_error(
        lambda noisy, steps: SdxlDenoiser(model.unet)(
            noisy, steps, words.states, words.pooled, times[:checked]
        ),
        unseen.latents,
        schedule=schedule,
    )
    print(f"base model: held-out epsilon error {error:.4f}", flush=True)
    for name, part in parts.items():
        save_half(part, options.out / f"{name}.safetensors")
    write_facts(
        options.out / "base-model.json",
        {
            "held_out_epsilon_error": error,
            **training.facts(plan),
        },
    )


if __name__ == "__main__":
    main()
