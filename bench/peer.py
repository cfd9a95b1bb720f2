"""Child processes that draw without the server: the engine alone, or diffusers' pipeline.

    python -m bench.peer engine|diffusers

Talks in lines of JSON on standard input and output. The first line out says that the
model can be loaded and what runs it; then one answer per request.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.work import MODEL_ID, MODEL_PATH, Work, pixel_hash
from domains.values import ModelPart, ModelPlace
from server.worker.child.environment import settle_environment

Draw = Callable[[Work, str], dict[str, Any]]


class Listener:
    """A job's context that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def emit(self, event: Any) -> None:
        self.events.append(event)

    def check_stop(self) -> None:
        """Nothing is to stop."""


def engine() -> Draw:
    """The product's engine, called as its worker calls it."""
    settle_environment()
    from domains.inference.backends.engine import Engine
    from domains.inference.jobs import GenerationJob
    from domains.inference.types import (
        GenerationSettings,
        GuidanceSettings,
        PrecisionMode,
        Scheduler,
        SchedulerSettings,
    )
    from domains.session.jobs import EncodedImage

    drawing = Engine("cpu")

    def draw(work: Work, precision: str) -> dict[str, Any]:
        heard = Listener()
        settings = GenerationSettings(
            model_id=MODEL_ID,
            prompt=work.prompt,
            width=work.width,
            height=work.height,
            steps=work.steps,
            guidance=GuidanceSettings(work.guidance_scale),
            scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
            seeds=(work.seed,),
            precision=PrecisionMode(precision),
        )
        start = time.perf_counter()
        report = drawing.generate(GenerationJob(settings, ModelPlace.of(MODEL_PATH)), heard)
        seconds = time.perf_counter() - start
        timings = report.timings
        (image,) = (event for event in heard.events if isinstance(event, EncodedImage))
        return {
            "seconds": seconds,
            "facts": {
                "encode_text": timings.encode_text,
                "denoise": timings.denoise,
                "decode": timings.decode,
                "encode_image": timings.encode_image,
            },
            "labels": {
                "unet": report.data_types[0].data_type.value,
                "vae": report.data_types[1].data_type.value,
                "channels_last": str(ModelPart.DENOISER in report.computed.channels_last),
            },
            "pixels": pixel_hash(image.data),
        }

    return draw


def diffusers() -> Draw:
    """The reference pipeline as its documentation shows it, in float32.

    In the environment that its users have: how threads wait is left to the library.
    """
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    from domains.model.backends.libraries import settle_libraries

    # Only quiet: this says nothing about how it computes.
    settle_libraries()
    pipeline = StableDiffusionXLPipeline.from_pretrained(  # type: ignore[no-untyped-call]
        MODEL_PATH, variant="fp16", dtype=torch.float32, local_files_only=True
    )
    scheduler = pipeline.scheduler.config
    pipeline.scheduler = EulerDiscreteScheduler.from_config(  # type: ignore[no-untyped-call]
        scheduler
    )
    pipeline.set_progress_bar_config(disable=True)

    def draw(work: Work, precision: str) -> dict[str, Any]:
        assert precision == "exact", "the reference has one precision"
        file = io.BytesIO()
        start = time.perf_counter()
        pipeline(
            prompt=work.prompt,
            width=work.width,
            height=work.height,
            num_inference_steps=work.steps,
            guidance_scale=work.guidance_scale,
            generator=torch.Generator("cpu").manual_seed(work.seed),
        ).images[0].save(file, "PNG")
        seconds = time.perf_counter() - start
        return {
            "seconds": seconds,
            "facts": {},
            "labels": {
                "unet": str(pipeline.unet.dtype).removeprefix("torch."),
                "vae": str(pipeline.vae.dtype).removeprefix("torch."),
            },
            "pixels": pixel_hash(file.getvalue()),
        }

    return draw


def main(kind: str) -> None:
    """Answer requests until standard input ends."""
    # Libraries may print; only answers belong on the pipe.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    draw = {"engine": engine, "diffusers": diffusers}[kind]()
    import torch

    print(json.dumps({"threads": torch.get_num_threads()}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        answer = draw(Work(**request["work"]), request["precision"])
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main(sys.argv[1])
