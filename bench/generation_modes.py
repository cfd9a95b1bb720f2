"""The engine against diffusers' pipelines, mode by mode, on this machine's processor.

`python -m bench.generation_modes [--rounds N]` draws each mode with both, in one process and in
turns, and tells what previews add to the own time of the engine. Both make a PNG file.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from torch.nn import functional

from bench.machine import describe_machine
from bench.measure import Arm, Sample, interleave, median, ratio_of_medians, seconds_of
from bench.peer import Listener
from bench.work import MODEL_ID, MODEL_PATH, work_of_round
from domains.inference.backends.engine import Engine
from domains.inference.backends.latents import noise_of
from domains.inference.jobs import GenerationJob
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    ImageToImage,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
    SecondPass,
    SecondPassUpscale,
    SeedVariation,
)
from domains.picture.types import PreparedPicture
from domains.session.types import PreviewSettings
from domains.values import ModelPlace

STEPS, EDGE, STRENGTH, SCALE = 10, 256, 0.6, 1.5
VARIATION = SeedVariation(11, 0.3)
Draw = Callable[[int], object]


class Peer:
    """Diffusers' pipelines over the same files, in float32."""

    def __init__(self) -> None:
        self.draw: Any = StableDiffusionXLPipeline.from_pretrained(
            MODEL_PATH, variant="fp16", dtype=torch.float32, local_files_only=True
        )
        self.draw.scheduler = EulerDiscreteScheduler.from_config(self.draw.scheduler.config)
        self.redraw: Any = StableDiffusionXLImg2ImgPipeline(**self.draw.components)
        for pipeline in (self.draw, self.redraw):
            pipeline.set_progress_bar_config(disable=True)

    def text_to_image(self, number: int, **changes: Any) -> Any:
        """Pictures, or what else `output_type` says."""
        return self.draw(**_common(number), width=EDGE, height=EDGE, **changes).images

    def image_to_image(self, number: int, image: Any) -> Any:
        """Pictures that begin from another, or from latents."""
        return self.redraw(**_common(number), image=image, strength=STRENGTH).images

    def larger_latents(self, number: int) -> Any:
        """A second pass by hand."""
        latents = self.text_to_image(number, output_type="latent")
        larger = functional.interpolate(latents, scale_factor=SCALE, mode="bilinear")
        return self.image_to_image(number, larger)

    def larger_pixels(self, number: int) -> Any:
        """A second pass by hand, over the picture itself."""
        edge = int(EDGE * SCALE)
        picture = self.text_to_image(number)[0]
        larger = picture.resize((edge, edge), Image.Resampling.LANCZOS)
        return self.image_to_image(number, larger)

    def varied(self, number: int) -> Any:
        """With noise that was made beforehand."""
        edge = EDGE // self.draw.vae_scale_factor
        channels = self.draw.unet.config.in_channels
        noise = noise_of(work_of_round(number, STEPS).seed, VARIATION)
        return self.text_to_image(number, latents=noise.draw((1, channels, edge, edge)))

    def seamless(self, number: int) -> Any:
        """Every convolution pads with what is at the opposite edge, as other programs do it."""
        with _circular(self.draw.unet), _circular(self.draw.vae):
            return self.text_to_image(number)


@contextmanager
def _circular(network: torch.nn.Module) -> Iterator[None]:
    layers = [one for one in network.modules() if isinstance(one, torch.nn.Conv2d)]
    for layer in layers:
        layer.padding_mode = "circular"
    try:
        yield
    finally:
        for layer in layers:
            layer.padding_mode = "zeros"


def _common(number: int) -> dict[str, Any]:
    work = work_of_round(number, STEPS)
    return {
        "prompt": work.prompt,
        "num_inference_steps": STEPS,
        "guidance_scale": work.guidance_scale,
        "generator": torch.Generator("cpu").manual_seed(work.seed),
    }


def _engine(number: int, engine: Engine, **changes: Any) -> None:
    work = work_of_round(number, STEPS)
    picture, previews = changes.pop("picture", None), changes.pop("previews", None)
    settings = GenerationSettings(
        model_id=MODEL_ID,
        prompt=work.prompt,
        width=EDGE,
        height=EDGE,
        steps=STEPS,
        guidance=GuidanceSettings(work.guidance_scale),
        scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
        seeds=(work.seed,),
        precision=PrecisionMode.EXACT,
        **changes,
    )
    job = GenerationJob(settings, ModelPlace.of(MODEL_PATH), picture=picture)
    if previews is not None:
        job = GenerationJob(settings, ModelPlace.of(MODEL_PATH), previews, picture=picture)
    engine.generate(job, Listener())


def _png(images: Any) -> None:
    images[0].save(io.BytesIO(), "PNG", compress_level=1)


def _arm(name: str, draw: Draw) -> Arm:
    async def run(number: int) -> Sample:
        began = time.perf_counter()
        draw(number)
        return Sample(time.perf_counter() - began)

    return Arm(name, run)


def _second(upscale: SecondPassUpscale) -> SecondPass:
    guidance = GuidanceSettings(work_of_round(0, STEPS).guidance_scale)
    return SecondPass(SCALE, upscale, STRENGTH, STEPS, guidance)


def _modes(
    engine: Engine, peer: Peer, image: Image.Image, picture: PreparedPicture
) -> dict[str, tuple[Draw, Draw]]:
    """By name: what the engine does, and what it is compared with."""

    def ours(**changes: Any) -> Draw:
        return lambda number: _engine(number, engine, **dict(changes))

    def theirs(draw: Callable[[int], Any]) -> Draw:
        return lambda number: _png(draw(number))

    latent, pixels = (_second(each) for each in SecondPassUpscale)
    started = ImageToImage(STRENGTH)
    return {
        "text-to-image": (ours(), theirs(peer.text_to_image)),
        "image-to-image": (
            ours(image_to_image=started, picture=picture),
            theirs(lambda number: peer.image_to_image(number, image)),
        ),
        "second pass, latent": (ours(second_pass=latent), theirs(peer.larger_latents)),
        "second pass, pixels": (ours(second_pass=pixels), theirs(peer.larger_pixels)),
        "variation seed": (ours(variation=VARIATION), theirs(peer.varied)),
        "seamless, both edges": (
            ours(seamless_horizontally=True, seamless_vertically=True),
            theirs(peer.seamless),
        ),
        "previews at every step, against none": (
            ours(previews=PreviewSettings(every_steps=1)),
            ours(),
        ),
    }


def _prepared(image: Image.Image, folder: Path) -> PreparedPicture:
    data = image.tobytes()
    path = folder / "picture.rgb"
    path.write_bytes(data)
    return PreparedPicture(path, *image.size, hashlib.sha256(data).hexdigest())


async def measure(rounds: int, only: str) -> None:
    """Print one row of the table for each mode."""
    machine = describe_machine()
    engine, peer = Engine("cpu"), Peer()
    gradient = np.linspace(0, 255, EDGE * EDGE * 3).reshape(EDGE, EDGE, 3)
    image = Image.fromarray(gradient.astype(np.uint8))
    print(f"{machine.processor}, {machine.cores} cores, load {machine.load}, ", end="")
    print(f"{machine.busy_percent:.0f} % busy, {torch.get_num_threads()} threads")
    print("| mode | engine | baseline | ratio (95 % interval) |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder, torch.no_grad():
        modes = _modes(engine, peer, image, _prepared(image, Path(folder)))
        for name, (ours, theirs) in modes.items():
            if only not in name:
                continue
            arms = [_arm("engine", ours), _arm("baseline", theirs)]
            samples = await interleave(arms, rounds=rounds, warm_ups=1)
            subject, baseline = (seconds_of(samples[arm.name]) for arm in arms)
            ratio = ratio_of_medians(subject, baseline)
            print(
                f"| {name} | {median(subject):.3f} s | {median(baseline):.3f} s "
                f"| {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f}) |",
                flush=True,
            )


def main(arguments: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.generation_modes", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", default="", help="Modes with this in their name.")
    given = parser.parse_args(arguments)
    asyncio.run(measure(given.rounds, given.only))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
