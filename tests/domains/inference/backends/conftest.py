"""One engine and one reference pipeline for all tests of generation."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from domains.inference.backends import drawing
from domains.inference.backends.engine import Engine
from domains.inference.types import (
    GenerationEvent,
    GenerationReport,
    GenerationWork,
    ImageEncoded,
    Scheduler,
    SchedulerSettings,
)
from domains.session.types import Preview, StepFinished

MODEL = Path(__file__).parents[4] / "demo" / "models" / "emoji-xl"
APPLE = "a red apple on a blue background"


@dataclass(frozen=True)
class Drawn:
    """What one call of the engine gave."""

    events: list[GenerationEvent]
    report: GenerationReport
    latents: list[torch.Tensor]

    @property
    def images(self) -> list[ImageEncoded]:
        return [event for event in self.events if isinstance(event, ImageEncoded)]

    @property
    def pixels(self) -> list[npt.NDArray[np.uint8]]:
        return [np.asarray(Image.open(io.BytesIO(image.data))) for image in self.images]

    @property
    def steps(self) -> list[StepFinished]:
        return [event for event in self.events if isinstance(event, StepFinished)]

    @property
    def previews(self) -> list[Preview]:
        return [event for event in self.events if isinstance(event, Preview)]


@pytest.fixture(scope="session")
def work() -> GenerationWork:
    return GenerationWork(
        model_id="emoji-xl",
        model_path=MODEL,
        prompt=APPLE,
        negative_prompt="",
        width=256,
        height=256,
        steps=4,
        guidance_scale=6.0,
        scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
        seeds=(7,),
    )


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine("cpu")


@pytest.fixture
def latents(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The final latents of every picture drawn in this test."""
    seen: list[torch.Tensor] = []
    decode = drawing.decode_pixels

    def record(model: Any, final: torch.Tensor, **how: Any) -> Any:
        seen.append(final.clone())
        return decode(model, final, **how)

    monkeypatch.setattr(drawing, "decode_pixels", record)
    return seen


@pytest.fixture
def draw(
    engine: Engine, work: GenerationWork, latents: list[torch.Tensor]
) -> Callable[..., Drawn]:
    """Draw with the shared engine; keyword arguments change the shared work."""

    def call(**changes: Any) -> Drawn:
        latents.clear()
        events: list[GenerationEvent] = []
        report = engine.generate(
            replace(work, **changes), emit=events.append, checkpoint=lambda: None
        )
        return Drawn(events, report, list(latents))

    return call


@pytest.fixture(scope="session")
def pipeline() -> StableDiffusionXLPipeline:
    """The reference, from the same files."""
    pipe = StableDiffusionXLPipeline.from_pretrained(
        MODEL, variant="fp16", dtype=torch.float32, local_files_only=True
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def reference(
    pipeline: StableDiffusionXLPipeline, work: GenerationWork
) -> Iterator[Callable[..., tuple[npt.NDArray[np.uint8], torch.Tensor]]]:
    """Pixels and final latents of the reference pipeline."""
    own = pipeline.scheduler

    def call(
        scheduler: Scheduler = Scheduler.EULER_DISCRETE,
        options: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> tuple[npt.NDArray[np.uint8], torch.Tensor]:
        cls = getattr(diffusers, scheduler.value)
        pipeline.scheduler = cls.from_config(own.config, **(options or {}))
        last: list[torch.Tensor] = []

        def keep(_pipe: Any, _index: int, _timestep: Any, state: dict[str, Any]) -> Any:
            last[:] = [state["latents"].clone()]
            return state

        settings = {
            "prompt": work.prompt,
            "width": work.width,
            "height": work.height,
            "num_inference_steps": work.steps,
            "guidance_scale": work.guidance_scale,
            "generator": torch.Generator("cpu").manual_seed(work.seeds[0]),
        }
        images = pipeline(**(settings | arguments), callback_on_step_end=keep).images
        return np.asarray(images[0]), last[0]

    yield call
    pipeline.scheduler = own
