"""One engine and one reference pipeline for all tests of generation."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from domains.inference.backends import through_vae
from domains.inference.backends.engine import Engine
from domains.inference.jobs import GenerationJob, GenerationReport
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
)
from domains.session.jobs import EncodedImage
from domains.session.types import Preview, ProgressEvent, StepFinished
from domains.values import ModelPlace
from tests.fakes.jobs import Listener, changed
from tests.fakes.tiny_models import save_sdxl
from tests.libraries import DTYPE

MODEL = Path(__file__).parents[4] / "demo" / "models" / "emoji-xl"
APPLE = "a red apple on a blue background"


@dataclass(frozen=True)
class Drawn:
    """What one call of the engine gave."""

    events: list[ProgressEvent | EncodedImage]
    report: GenerationReport
    latents: list[torch.Tensor]

    @property
    def images(self) -> list[EncodedImage]:
        return [event for event in self.events if isinstance(event, EncodedImage)]

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
def work() -> GenerationJob:
    settings = GenerationSettings(
        model_id="emoji-xl",
        prompt=APPLE,
        width=256,
        height=256,
        steps=4,
        guidance=GuidanceSettings(6.0),
        scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
        seeds=(7,),
        precision=PrecisionMode.EXACT,
    )
    return GenerationJob(settings, ModelPlace.of(MODEL))


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SDXL model of a megabyte."""
    return save_sdxl(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def latents(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The final latents of every picture drawn in this test."""
    seen: list[torch.Tensor] = []
    decode = through_vae.decode_pixels

    def record(model: Any, final: torch.Tensor, **how: Any) -> Any:
        seen.append(final.clone())
        return decode(model, final, **how)

    monkeypatch.setattr(through_vae, "decode_pixels", record)
    return seen


@pytest.fixture
def draw(
    engine: Engine, work: GenerationJob, latents: list[torch.Tensor]
) -> Callable[..., Drawn]:
    """Draw with the shared engine; keyword arguments change the shared work."""

    def call(**changes: Any) -> Drawn:
        latents.clear()
        heard = Listener()
        report = engine.generate(changed(work, **changes), heard)
        return Drawn(heard.events, report, list(latents))

    return call


@pytest.fixture(scope="session")
def pipeline() -> StableDiffusionXLPipeline:
    """The reference, from the same files."""
    pipe = StableDiffusionXLPipeline.from_pretrained(
        MODEL, variant="fp16", local_files_only=True, **{DTYPE: torch.float32}
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def unload_loras(pipeline: Any) -> None:
    """As before they were loaded: what peft froze would be multiplied in another way."""
    pipeline.unload_lora_weights()
    for network in (pipeline.unet, pipeline.text_encoder, pipeline.text_encoder_2):
        network.requires_grad_(True)


@pytest.fixture
def reference(
    pipeline: StableDiffusionXLPipeline, work: GenerationJob
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
            "prompt": work.settings.prompt,
            "width": work.settings.width,
            "height": work.settings.height,
            "num_inference_steps": work.settings.steps,
            "guidance_scale": work.settings.guidance.scale,
            "generator": torch.Generator("cpu").manual_seed(work.settings.seeds[0]),
            **own_share(scheduler),
        }
        images = pipeline(**(settings | arguments), callback_on_step_end=keep).images
        return np.asarray(images[0]), last[0]

    yield call
    pipeline.scheduler = own


def own_share(scheduler: Scheduler) -> dict[str, float]:
    """The share of fresh noise that a class has by itself, where a pipeline does not use it."""
    return {"eta": 0.3} if scheduler is Scheduler.TCD else {}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody opens a socket to anywhere."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was opened")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
