"""The inference domain, put together."""

from __future__ import annotations

import secrets
from typing import Protocol

from domains.device.ports import Place, Workers
from domains.inference.convert import REPORTS
from domains.inference.core.capabilities import UNBUILT, CapabilityInquiry
from domains.inference.core.generations import Generations
from domains.inference.core.validation import MAX_SEED
from domains.inference.ports import ArtifactKeeper, Devices, Models
from domains.inference.servicer import InferenceServicer
from domains.session import build as session_build
from domains.session.jobs import JobRunner
from domains.session.ports import FaultReporter

__all__ = ["REPORTS", "UNBUILT", "build"]


class Pool(Workers, JobRunner, Protocol):
    """The worker processes and what they do for this domain."""


def build(
    pool: Pool,
    session: session_build.Built,
    devices: Devices,
    place: Place,
    models: Models,
    artifacts: ArtifactKeeper,
    *,
    describe: FaultReporter,
) -> InferenceServicer:
    """The domain over what others offer.

    Args:
        pool: The workers.
        session: Where generations wait, and what runs them.
        devices: The machine's devices.
        place: Chooses the device for a generation.
        models: The catalogue.
        artifacts: Where finished pictures go.
        describe: What a client sees of an error.
    """
    generations = Generations(
        session.sessions,
        place,
        models,
        pool,
        artifacts,
        describe=describe,
        random_seed=lambda: secrets.randbelow(MAX_SEED + 1),
        software_versions=lambda device_id: pool.status(device_id).software_versions,
    )
    return InferenceServicer(generations, CapabilityInquiry(devices, models), session.streams)
