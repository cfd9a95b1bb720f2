"""Input pictures, put together; they have no service of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from domains.picture.backends.picture_folder import PictureFolder
from domains.picture.core import ControlImages, Files, Pictures, ThumbnailMaking
from domains.picture.ports import Artifacts
from domains.session import build as session_build
from domains.session.jobs import JobRunner

__all__ = ["Built", "build"]


class Settings(Protocol):
    """The settings that are read here."""

    @property
    def data_dir(self) -> Path: ...


@dataclass(frozen=True)
class Built:
    """What other domains need of it."""

    pictures: Pictures
    control_images: ControlImages
    files: Files
    thumbnails: ThumbnailMaking


def build(
    settings: Settings,
    inspectors: JobRunner,
    session: session_build.Built,
    artifacts: Artifacts,
) -> Built:
    """Input pictures as `settings` describe them; nothing runs yet.

    Args:
        settings: What the operator chose.
        inspectors: Decode them.
        session: Whose pictures may be named.
        artifacts: Where uploaded ones lie.
    """
    files = PictureFolder(settings.data_dir / "pictures")
    pictures = Pictures(artifacts, session.sessions, inspectors, files)
    return Built(
        pictures,
        ControlImages(pictures, inspectors, files, artifacts),
        Files(artifacts, files),
        ThumbnailMaking(pictures, files),
    )
