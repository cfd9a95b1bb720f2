"""Pictures on a card: the engine by recorded steps and plainly, and diffusers with the
same networks, in one process; times, memory, and whether the bits are the same. As JSON.

`python -m bench.accelerator_pictures FOLDER` makes an SDXL checkpoint of 6.9 GB with random
numbers there, if it is not there yet. Texts are encoded before, for both.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

from bench.model_files import random_model
from domains.inference.backends import through_vae
from domains.inference.backends.engine import Engine
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.step_graphs import StepGraphs, recorder_for
from domains.inference.jobs import GenerationJob, GenerationReport
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
)
from domains.picture.backends.encoding import fpng_py
from domains.session.types import StepFinished
from domains.values import ModelPlace

_MIB = 2**20
_GUIDANCE = 7.0
# A step is told once the next one is asked for: with the second the card has done one.
BEGUN_STEPS = 2


class Listener:
    """A job's context that notes when steps end, and how long each took as it is told."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.steps: list[float] = []

    def emit(self, event: object) -> None:
        """Note a step."""
        if isinstance(event, StepFinished):
            self.moments.append(time.perf_counter())
            self.steps.append(event.seconds)

    def check_stop(self) -> None:
        """Nobody stops it."""


class Bench:
    """One engine with one model on a card."""

    def __init__(self, place: ModelPlace, steps: int, rounds: int) -> None:
        self.engine = Engine("cuda:0")
        self.place, self.steps, self.rounds = place, steps, rounds
        self.heard = Listener()
        """Of the last picture."""

    @property
    def model(self) -> LoadedModel:
        """The model, once something was drawn."""
        model = self.engine._model
        assert model is not None
        return model

    def job(
        self,
        width: int,
        height: int,
        scheduler: Scheduler,
        steps: int,
        precision: PrecisionMode,
    ) -> GenerationJob:
        """One picture."""
        settings = GenerationSettings(
            model_id="one",
            prompt="a red apple on a blue background, highly detailed",
            width=width,
            height=height,
            steps=steps,
            guidance=GuidanceSettings(_GUIDANCE),
            scheduler=SchedulerSettings(scheduler),
            seeds=(7,),
            precision=precision,
        )
        return GenerationJob(settings, self.place)

    def draw(
        self,
        width: int = 1024,
        height: int = 1024,
        scheduler: Scheduler = Scheduler.EULER_DISCRETE,
        steps: int | None = None,
        precision: PrecisionMode = PrecisionMode.EXACT,
    ) -> tuple[float, float, GenerationReport]:
        """Seconds of a picture and of its median step, and what is told of it."""
        heard = self.heard = Listener()
        job = self.job(width, height, scheduler, steps or self.steps, precision)
        began = time.perf_counter()
        report = self.engine.generate(job, heard)
        seconds = time.perf_counter() - began
        pairs = zip(heard.moments, heard.moments[1:], strict=False)
        gaps = [later - sooner for sooner, later in pairs]
        return seconds, statistics.median(gaps) if gaps else 0.0, report

    def timed(self, idle: float = 0.0, **settings: Any) -> dict[str, float]:
        """Medians of some pictures after one that does not count, `idle` seconds between
        them."""
        self.draw(**settings)
        found, begun = [], []
        for _ in range(self.rounds):
            time.sleep(idle)
            found.append(self.draw(**settings))
            begun.append(sum(self.heard.steps[:BEGUN_STEPS]))
        report = found[-1][2]
        parts = ("encode_text", "denoise", "decode", "encode_image")
        return {
            "picture_s": round(statistics.median(one[0] for one in found), 4),
            "step_ms": round(1000 * statistics.median(one[1] for one in found), 2),
            "first_steps_s": round(statistics.median(begun), 4),
            **{f"{part}_s": round(getattr(report.timings, part), 4) for part in parts},
        }

    @contextmanager
    def plainly(self) -> Iterator[None]:
        """Inside, nothing is recorded."""
        model = self.model
        kept, model.graphs = model.graphs, StepGraphs(None, model.device)
        try:
            yield
        finally:
            model.graphs = kept

    def latents(self, **settings: Any) -> torch.Tensor:
        """The final latents of a picture."""
        seen: list[torch.Tensor] = []
        decode = through_vae.decode_pixels

        def keep(vae: Any, latents: torch.Tensor, **how: Any) -> Any:
            seen.append(latents.clone())
            return decode(vae, latents, **how)

        through_vae.decode_pixels = keep
        try:
            self.draw(**settings)
        finally:
            through_vae.decode_pixels = decode
        return seen[0]

    def same_bits(self) -> dict[str, bool]:
        """Whether recorded steps give the latents of plain ones, for every scheduler."""
        found = {}
        for scheduler in Scheduler:
            for size in ((512, 512), (640, 384)):
                settings = {"scheduler": scheduler, "width": size[0], "height": size[1]}
                recorded = [self.latents(steps=6, **settings) for _ in range(2)]
                with self.plainly():
                    plain = self.latents(steps=6, **settings)
                name = f"{scheduler.name} {size[0]}x{size[1]}"
                found[name] = all(torch.equal(plain, one) for one in recorded)
        return found

    def memory(self) -> dict[str, float]:
        """MiB that the graphs of a size hold."""
        self.model.graphs.let_go()
        torch.cuda.empty_cache()
        before, began = torch.cuda.memory_reserved(), time.perf_counter()
        self.draw(steps=4)
        seconds = time.perf_counter() - began
        torch.cuda.empty_cache()
        held = torch.cuda.memory_reserved() - before
        self.model.graphs.let_go()
        torch.cuda.empty_cache()
        after = torch.cuda.memory_reserved() - before
        with self.plainly():
            began = time.perf_counter()
            self.draw(steps=4)
            plain = time.perf_counter() - began
        return {
            "held_mib": held / _MIB,
            "after_let_go_mib": after / _MIB,
            "four_steps_with_recording_s": round(seconds, 3),
            "four_plain_steps_s": round(plain, 3),
        }

    def peer(self) -> Callable[[int, int], dict[str, float]]:
        """diffusers' pipeline with the same networks."""
        model, steps = self.model, self.steps
        pipe = StableDiffusionXLPipeline(
            # It converts its VAE to float32 and back by itself.
            vae=copy.deepcopy(model.networks["vae"]).half(),
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
            unet=model.networks["unet"],
            scheduler=EulerDiscreteScheduler.from_config(model.plan.scheduler_config),
        )
        pipe.set_progress_bar_config(disable=True)
        kind = next(model.networks["unet"].parameters()).dtype
        noise = torch.Generator().manual_seed(1)

        def made(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=noise).to(model.device, kind)

        texts = {
            "prompt_embeds": made(1, 77, 2048),
            "negative_prompt_embeds": made(1, 77, 2048),
            "pooled_prompt_embeds": made(1, 1280),
            "negative_pooled_prompt_embeds": made(1, 1280),
        }

        def draw(width: int, height: int) -> dict[str, float]:
            times, whole = [], []
            for _ in range(self.rounds + 1):
                began = time.perf_counter()
                image = pipe(
                    **texts,
                    width=width,
                    height=height,
                    num_inference_steps=steps,
                    guidance_scale=_GUIDANCE,
                    generator=torch.Generator().manual_seed(7),
                ).images[0]
                times.append(time.perf_counter() - began)
                image.save(io.BytesIO(), "png")
                whole.append(time.perf_counter() - began)
            return {
                "picture_s": round(statistics.median(times[1:]), 4),
                "with_png_s": round(statistics.median(whole[1:]), 4),
            }

        return draw


def main(arguments: list[str]) -> int:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_pictures", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="Where the checkpoint is put, and stays.")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args(arguments)
    bench = Bench(random_model(given.folder), given.steps, given.rounds)
    found: dict[str, Any] = {
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "fpng": fpng_py is not None,
        "steps": given.steps,
    }

    def note(name: str, value: object) -> None:
        found[name] = value
        print(json.dumps({name: value}), file=sys.stderr, flush=True)

    note("first_s", round(bench.draw()[0], 3))
    assert recorder_for(bench.model.device) is not None
    peer = bench.peer()
    for width, height in ((1024, 1024), (512, 512), (832, 1216)):
        size, settings = f"{width}x{height}", {"width": width, "height": height}
        note(f"recorded {size}", bench.timed(**settings))
        with bench.plainly():
            note(f"plain {size}", bench.timed(**settings))
        note(f"diffusers {size}", peer(width, height))
    note("memory", bench.memory())
    note("same_bits", bench.same_bits())
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
