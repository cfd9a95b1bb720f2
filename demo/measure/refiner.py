"""What the refiner adds: the last fifth of the steps, drawn by it or by the base model."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from torch import Tensor
from torch.nn import functional

from demo.measure.figures import Figure
from demo.measure.metrics import luma
from demo.measure.pictures import (
    GUIDANCE,
    MODELS,
    STEPS,
    base_pictures,
    base_pipeline,
    generators,
    quiet,
    scenes,
)
from demo.measure.sheet import SHEETS, write_sheet
from demo.train.parts.base import BaseModel
from demo.train.parts.capture import SdxlDenoiser
from demo.train.parts.diffusion import NoiseSchedule, epsilon_error
from demo.train.parts.latents import encode
from demo.train.parts.losses import psnr
from demo.train.parts.predictions import base_predict
from demo.train.parts.text import tokens
from demo.train.refiner import GOOD_SCORE, SecondText, refiner_predict

REFINER = MODELS / "emoji-refiner"
HANDOVER = 0.8
TIMES = (10, 50, 100, 199)
NOISED = 24


def laplacian_energy(pictures: Tensor) -> Tensor:
    """Mean squared Laplacian of the brightness, [N]: how much fine detail a picture has."""
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    edges = functional.conv2d(luma(pictures), kernel[None, None])
    return edges.square().mean(dim=(1, 2, 3))


def refiner_pipeline(base: Any) -> Any:
    """The refiner with the base model's VAE and text encoder, which its folder leaves out."""
    kind: Any = StableDiffusionXLImg2ImgPipeline
    return quiet(
        kind.from_pretrained(
            REFINER,
            vae=base.vae,
            text_encoder_2=base.text_encoder_2,
            text_encoder=None,
            tokenizer=None,
            dtype=torch.float32,
            add_watermarker=False,
        )
    )


def finish(
    pipeline: Any, prompts: tuple[str, ...], latents: Tensor, guidance: float = GUIDANCE
) -> Tensor:
    """Draws the last fifth of the steps on `latents`; pictures [N, 3, 256, 256] in [0, 1]."""
    pictures: Tensor = pipeline(
        prompt=list(prompts),
        image=latents,
        num_inference_steps=STEPS,
        denoising_start=HANDOVER,
        guidance_scale=guidance,
        generator=generators(len(prompts)),
        output_type="pt",
    ).images
    return pictures.float()


def noised(truth: Tensor, pipeline: Any) -> Tensor:
    """Latents of pictures in [0, 1] with the noise that is left at the handover."""
    latents = encode(pipeline.vae, truth * 2 - 1)
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(STEPS)
    first = int((scheduler.timesteps >= (1 - HANDOVER) * 1000).sum())
    sigma = scheduler.sigmas[first]
    noise = torch.cat(
        [torch.randn(1, *latents.shape[1:], generator=g) for g in generators(len(truth))]
    )
    begun: Tensor = latents + sigma * noise
    return begun


def noise_errors(base: Any, refiner: Any) -> list[Figure]:
    """How well each of two pipelines predicts the noise in true pictures."""
    wanted = scenes(NOISED)
    latents = encode(base.vae, wanted.truth * 2 - 1)
    ids = tokens(base.tokenizer, wanted.prompts)
    models = BaseModel(
        base.unet, base.text_encoder, base.text_encoder_2, base.tokenizer, base.vae
    )
    good = torch.full((NOISED,), GOOD_SCORE)
    predictions = {
        "base": base_predict(models, ids),
        "refiner": refiner_predict(SdxlDenoiser(refiner.unet), SecondText(models), ids, good),
    }
    schedule = NoiseSchedule("cpu")
    return [
        Figure(
            f"squared error of the noise at timestep {time}, {name}",
            epsilon_error(predict, latents, schedule=schedule, low=time, high=time + 1),
        )
        for time in TIMES
        for name, predict in predictions.items()
    ]


def measure() -> list[Figure]:
    """Draw the end of each picture with both models, from drawn and from true beginnings."""
    wanted = scenes()
    base = base_pipeline()
    again = quiet(StableDiffusionXLImg2ImgPipeline.from_pipe(base, add_watermarker=False))
    refiner = refiner_pipeline(base)
    begun: Tensor = base(
        prompt=list(wanted.prompts),
        num_inference_steps=STEPS,
        denoising_end=HANDOVER,
        guidance_scale=GUIDANCE,
        height=256,
        width=256,
        generator=generators(len(wanted.prompts)),
        output_type="latent",
    ).images
    plain, refined = base_pictures(), finish(refiner, wanted.prompts, begun)
    start = noised(wanted.truth, base)
    by_base, by_refiner = (finish(one, wanted.prompts, start, 1.0) for one in (again, refiner))
    write_sheet(
        SHEETS / "refiner.webp",
        [
            ("base alone", plain),
            ("base, then refiner", refined),
            ("true picture", wanted.truth),
            ("restored by base", by_base),
            ("restored by refiner", by_refiner),
        ],
        wanted.prompts,
    )
    sharp = [float(laplacian_energy(some).mean()) for some in (plain, refined)]
    near = [
        float(psnr(some * 2 - 1, wanted.truth * 2 - 1).mean()) for some in (by_base, by_refiner)
    ]
    return [
        Figure("Laplacian energy, base alone", sharp[0]),
        Figure(
            "Laplacian energy, refiner from 0.8",
            sharp[1],
            "above the base's",
            sharp[1] > sharp[0],
        ),
        Figure("PSNR in dB to the true picture noised to 0.8, base", near[0]),
        Figure(
            "PSNR in dB to the true picture noised to 0.8, refiner",
            near[1],
            "above the base's",
            near[1] > near[0],
        ),
        *noise_errors(base, refiner),
    ]
