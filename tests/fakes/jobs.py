"""What tests of handlers need: somebody to speak to, and jobs that differ a little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from domains.inference.jobs import (
    Companion,
    ControlPictures,
    GenerationJob,
    ImagePromptPictures,
)
from domains.picture.types import PreparedPicture
from domains.session.jobs import EncodedImage, PartEnded
from domains.session.types import PreviewSettings, ProgressEvent
from domains.values import ModelPlace


def _go_on() -> None:
    """Nothing is to stop."""


class Listener:
    """A job's context that keeps what it hears."""

    def __init__(self, check_stop: Callable[[], None] = _go_on) -> None:
        self.events: list[ProgressEvent | EncodedImage | PartEnded] = []
        self.check_stop = check_stop

    def emit(self, event: ProgressEvent | EncodedImage | PartEnded) -> None:
        self.events.append(event)


def changed(
    job: GenerationJob,
    *,
    model_path: Path | None = None,
    previews: PreviewSettings | None = None,
    companions: tuple[Companion, ...] = (),
    picture: PreparedPicture | None = None,
    mask: PreparedPicture | None = None,
    controls: tuple[ControlPictures, ...] = (),
    image_prompt_pictures: tuple[ImagePromptPictures, ...] = (),
    **settings: Any,
) -> GenerationJob:
    """The same job with other settings or previews, or for another folder."""
    place = job.place if model_path is None else ModelPlace.of(model_path)
    return GenerationJob(
        replace(job.settings, **settings),
        place,
        previews or job.previews,
        companions=companions,
        picture=picture,
        mask=mask,
        controls=controls,
        image_prompts=image_prompt_pictures,
    )
