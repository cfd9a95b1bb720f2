"""diffusers' own recipe for speed on a card: its SDXL pipeline with UNet and decoder compiled
and channels last, random numbers, float16.

`python -m bench.accelerator_peer` compiles and then draws pictures of 1024x1024: a line of JSON
with medians. The recipe is that of "Accelerate inference" in diffusers' documentation, there
with `--mode max-autotune`, which tries kernels for longer.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from torch._inductor.async_compile import AsyncCompile
from torch._inductor.runtime.compile_tasks import _set_triton_ptxas_path

from bench.accelerator_artifacts import _vae
from bench.accelerator_compiling import _unet


def main(arguments: list[str]) -> int:
    """Compile, draw, and print one line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_peer", description=__doc__
    )
    parser.add_argument("--mode", default="reduce-overhead")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    unet, vae = _unet(torch.float16, channels_last=True), _vae(torch.float16)
    vae.register_to_config(force_upcast=False)
    pipe = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        ),
    )
    pipe.set_progress_bar_config(disable=True)
    torch._inductor.config.conv_1x1_as_mm = True
    # Kernels that are to be tried are compiled by processes that are ready when they are asked
    # for, with torch's ptxas. Without being told of it, this one would look for them under
    # another one's name and compile each once more, one by one: a quarter of an hour, it seems.
    _set_triton_ptxas_path()
    AsyncCompile.warm_pool()
    AsyncCompile.wait_pool_ready()
    pipe.fuse_qkv_projections()
    pipe.unet = torch.compile(unet, mode=given.mode, fullgraph=True)
    vae.decode = torch.compile(vae.decode, mode=given.mode, fullgraph=True)
    texts = {
        name: torch.randn(1, *shape, device="cuda").half()
        for name, shape in (
            ("prompt_embeds", (77, 2048)),
            ("negative_prompt_embeds", (77, 2048)),
            ("pooled_prompt_embeds", (1280,)),
            ("negative_pooled_prompt_embeds", (1280,)),
        )
    }

    def draw() -> tuple[float, float]:
        began = time.perf_counter()
        image = pipe(
            **texts,
            width=1024,
            height=1024,
            num_inference_steps=given.steps,
            guidance_scale=7.0,
            generator=torch.Generator().manual_seed(7),
        ).images[0]
        drawn = time.perf_counter()
        image.save(io.BytesIO(), "png", compress_level=1)
        return drawn - began, time.perf_counter() - began

    began = time.perf_counter()
    draw()
    compiled = time.perf_counter() - began
    draw()
    found = [draw() for _ in range(given.rounds)]
    print(
        json.dumps(
            {
                "mode": given.mode,
                "first_s": round(compiled, 2),
                "picture_s": round(statistics.median(one for one, _ in found), 4),
                "with_png_s": round(statistics.median(two for _, two in found), 4),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
