"""The postprocessing domain, put together."""

from __future__ import annotations

from dataclasses import dataclass

from domains.chain.core.preparing import ChainPreparer
from domains.chain.core.statistics import StepStatistics
from domains.clock import Clock
from domains.device.ports import FactsStore, Place
from domains.loops import Loop
from domains.model.core.catalogue import ModelCatalogue
from domains.picture import build as picture_build
from domains.postprocessing.convert import REPORTS
from domains.postprocessing.core.benchmarks import KeptBenchmarks, StepBenchmarks
from domains.postprocessing.core.inventory import PostprocessorInventory
from domains.postprocessing.core.many import Means
from domains.postprocessing.core.processing import Processing
from domains.postprocessing.core.room import MainMemory, Room
from domains.postprocessing.core.run import ChainRun
from domains.postprocessing.ports import PlacedDevices
from domains.postprocessing.safety.servicer import SafetyParts
from domains.postprocessing.servicer import PostprocessingServicer
from domains.postprocessing.types import PostprocessorKind
from domains.provenance import build as provenance_build
from domains.provenance.core import Keeping
from domains.session import build as session_build
from domains.session.core.children import Children
from domains.session.jobs import PausingRunner
from domains.session.ports import ArtifactKeeper, FaultReporter

__all__ = ["REPORTS", "Built", "build"]

_SAVE_SECONDS = 10.0


@dataclass(frozen=True)
class Built:
    """The domain.

    Attributes:
        servicer: Answers its RPCs.
        statistics: Learn of the steps of others' chains too; to be saved at the end.
        loops: What runs beside.
    """

    servicer: PostprocessingServicer
    statistics: StepStatistics
    loops: tuple[Loop, ...]


def build(
    session: session_build.Built,
    jobs: PausingRunner,
    place: Place,
    devices: PlacedDevices,
    models: ModelCatalogue,
    picture: picture_build.Built,
    artifacts: ArtifactKeeper,
    facts: FactsStore,
    clock: Clock,
    provenance: provenance_build.Built,
    safety: SafetyParts,
    main_memory: MainMemory,
    *,
    describe: FaultReporter,
) -> Built:
    """The domain over what others offer.

    Args:
        session: Where chains wait, and what runs them.
        jobs: What workers do.
        place: Chooses the device.
        devices: Those that there are.
        models: The catalogue.
        picture: Prepares input pictures.
        artifacts: Where finished pictures go.
        facts: What outlives the server.
        clock: The time.
        provenance: Marks them.
        safety: Knows the policies, and answers calls about them.
        main_memory: How much there is.
        describe: What a client sees of an error.
    """
    statistics = StepStatistics(facts, clock)
    measured = KeptBenchmarks(facts)
    inventory = PostprocessorInventory(
        models, measured.of, {PostprocessorKind.SAFETY: safety.policies.classifiers}
    )
    preparer = ChainPreparer(models, picture.pictures, picture.files, safety.policies)
    processing = Processing(
        picture.pictures,
        preparer,
        provenance.provenance,
        place,
        ChainRun(
            jobs,
            Keeping(provenance.provenance, artifacts),
            models,
            statistics,
            safety.decided,
        ),
        Room(main_memory, devices),
        safety.policies.default,
        Means(Children(session.sessions, session.runner, session.reader), devices, describe),
        session.paused,
    )
    benchmarks = StepBenchmarks(inventory, picture.pictures, preparer, place, jobs, measured)
    servicer = PostprocessingServicer(
        inventory, processing, benchmarks, statistics, session.streams, safety
    )
    servicer.register(session.starters)
    loops = (Loop("step statistics", _SAVE_SECONDS, statistics.save),)
    return Built(servicer, statistics, loops)
