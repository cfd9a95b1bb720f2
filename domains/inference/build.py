"""The inference domain, put together."""

from __future__ import annotations

import secrets
from pathlib import Path

from domains.device.ports import Place, Workers
from domains.inference.backends.paused_folder import PausedFolder
from domains.inference.convert import REPORTS
from domains.inference.core.capabilities import UNBUILT, CapabilityInquiry
from domains.inference.core.generations import Generations
from domains.inference.core.validation import MAX_SEED
from domains.inference.ports import ArtifactKeeper, Devices, Models, PausedFiles
from domains.inference.servicer import InferenceServicer
from domains.picture import build as picture_build
from domains.session import build as session_build
from domains.session.jobs import ModelRunner
from domains.session.ports import FaultReporter

__all__ = ["REPORTS", "UNBUILT", "build", "paused_files"]


def paused_files(data_dir: Path) -> PausedFiles:
    """Where unfinished pictures of paused generations lie, below the server's data."""
    return PausedFolder(data_dir / "paused")


def build(
    workers: Workers,
    runs: ModelRunner,
    session: session_build.Built,
    devices: Devices,
    place: Place,
    models: Models,
    artifacts: ArtifactKeeper,
    picture: picture_build.Built,
    paused: PausedFiles,
    *,
    describe: FaultReporter,
) -> InferenceServicer:
    """The domain over what others offer.

    Args:
        workers: The worker processes.
        runs: What they do.
        session: Where generations wait, and what runs them.
        devices: The machine's devices.
        place: Chooses the device for a generation.
        models: The catalogue.
        artifacts: Where finished pictures go.
        picture: Prepares what generations start from, and makes control pictures.
        paused: Where unfinished pictures of paused generations lie.
        describe: What a client sees of an error.
    """
    generations = Generations(
        session.sessions,
        place,
        models,
        runs,
        artifacts,
        picture.pictures,
        paused,
        describe=describe,
        random_seed=lambda: secrets.randbelow(MAX_SEED + 1),
        software_versions=lambda device_id: workers.status(device_id).software_versions,
    )
    return InferenceServicer(
        generations,
        CapabilityInquiry(devices, models),
        picture.control_images,
        session.streams,
    )
