"""The inference domain, put together."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from domains.chain.backends.classifiers import installed
from domains.chain.core.preparing import ChainPreparer
from domains.chain.core.statistics import StepStatistics
from domains.chain.ports import Policies
from domains.clock import Clock
from domains.device.ports import FactsStore, Place, Workers
from domains.inference import convert
from domains.inference.backends.image_prompt_fit import ImagePromptFits
from domains.inference.backends.lora_fit import LoraFits
from domains.inference.convert.batch_items import GenerationTemplate
from domains.inference.convert.batches import BATCH_REPORTS
from domains.inference.core.batches import GenerationBatches
from domains.inference.core.capabilities import UNBUILT, CapabilityInquiry
from domains.inference.core.drawing import Drawing
from domains.inference.core.experience import Experience
from domains.inference.core.forecast import Forecasts
from domains.inference.core.generations import Generations
from domains.inference.core.preparing import GenerationPreparer
from domains.inference.core.safeguards import Safeguards
from domains.inference.core.statistics import StatisticsInquiry, StatisticsKeeper
from domains.inference.core.validation import MAX_SEED
from domains.inference.ports import Devices, Models
from domains.inference.servicer import InferenceServicer
from domains.loops import Loop
from domains.model.ports import Machine
from domains.picture import build as picture_build
from domains.provenance import build as provenance_build
from domains.provenance.core import Keeping
from domains.safety import Decided, SafetyPolicy
from domains.session import build as session_build
from domains.session.convert import Reports
from domains.session.jobs import ModelRunner
from domains.session.ports import ArtifactKeeper, FaultReporter

__all__ = ["REPORTS", "UNBUILT", "Built", "build"]

REPORTS: Reports = {**convert.REPORTS, **BATCH_REPORTS}
"""What turns reports of sessions of this domain into messages."""
_SAVE_SECONDS = 10.0
_SAVE_EXPERIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Built:
    """What the server needs of it."""

    servicer: InferenceServicer
    statistics: StatisticsKeeper
    experience: Experience
    template: Callable[[bytes], GenerationTemplate]
    """The template of a durable batch, of the request that made it."""
    loops: tuple[Loop, ...]


def build(
    workers: Workers,
    runs: ModelRunner,
    session: session_build.Built,
    devices: Devices,
    place: Place,
    models: Models,
    artifacts: ArtifactKeeper,
    picture: picture_build.Built,
    provenance: provenance_build.Built,
    facts: FactsStore,
    machine: Callable[[], Machine],
    *,
    policies: Policies,
    default_policy: Callable[[], SafetyPolicy | None],
    decided: Decided,
    steps: StepStatistics,
    describe: FaultReporter,
    clock: Clock,
    version: str,
) -> Built:
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
        provenance: Marks pictures, and reads marks.
        facts: What outlives the server.
        machine: Where models can be loaded.
        policies: Finds the safety policies that steps name.
        default_policy: The safety policy that holds for every generation.
        decided: Hears of every verdict, with its session's id.
        steps: Learn of every step of a chain.
        describe: What a client sees of an error.
        clock: The time.
        version: The program's.
    """
    keeper = StatisticsKeeper(facts, clock)
    forecasts = Forecasts(session.sessions.speeds, devices, machine)
    experience = Experience(facts, session.sessions.speeds, forecasts, version)
    safeguards = Safeguards(default_policy, installed, decided)
    preparer = GenerationPreparer(
        models,
        LoraFits(),
        ImagePromptFits(),
        ChainPreparer(models, picture.pictures, picture.files, policies),
        provenance.provenance,
        safeguards,
        random_seed=lambda: secrets.randbelow(MAX_SEED + 1),
    )
    drawing = Drawing(
        models,
        runs,
        Keeping(provenance.provenance, artifacts),
        safeguards,
        steps,
        software_versions=lambda device_id: workers.status(device_id).software_versions,
    )
    generations = Generations(
        session.sessions,
        place,
        preparer,
        drawing,
        picture.pictures,
        session.paused,
        keeper,
        forecasts,
        describe=describe,
    )
    batches = GenerationBatches(
        session.sessions,
        place,
        preparer,
        drawing,
        picture.pictures,
        session.paused,
        keeper,
        describe=describe,
    )
    servicer = InferenceServicer(
        generations,
        batches,
        CapabilityInquiry(devices, models, provenance.provenance),
        picture.control_images,
        provenance.verification,
        StatisticsInquiry(keeper, devices, models),
        session.streams,
    )
    servicer.register(session.starters)
    loops = (
        Loop("statistics", _SAVE_SECONDS, keeper.save),
        Loop("experience", _SAVE_EXPERIENCE_SECONDS, experience.save),
    )

    def template(request: bytes) -> GenerationTemplate:
        return GenerationTemplate(
            request,
            preparer,
            picture.pictures,
            forecasts,
            session.starters.request_of,
            session.sessions.contents.of,
        )

    return Built(servicer, keeper, experience, template, loops)
