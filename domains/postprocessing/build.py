"""The postprocessing domain, put together."""

from __future__ import annotations

from domains.chain.core.preparing import ChainPreparer
from domains.device.ports import Place
from domains.model.core.catalogue import ModelCatalogue
from domains.picture import build as picture_build
from domains.postprocessing.core.inventory import PostprocessorInventory
from domains.postprocessing.core.processing import Processing
from domains.postprocessing.core.run import ChainRun
from domains.postprocessing.ports import ArtifactKeeper
from domains.postprocessing.safety.servicer import SafetyParts
from domains.postprocessing.servicer import PostprocessingServicer
from domains.postprocessing.types import PostprocessorKind
from domains.session import build as session_build
from domains.session.jobs import JobRunner
from domains.session.ports import FaultReporter


def build(
    session: session_build.Built,
    jobs: JobRunner,
    place: Place,
    models: ModelCatalogue,
    picture: picture_build.Built,
    artifacts: ArtifactKeeper,
    safety: SafetyParts,
    *,
    describe: FaultReporter,
) -> PostprocessingServicer:
    """The domain over what others offer.

    Args:
        session: Where chains wait, and what runs them.
        jobs: What workers do.
        place: Chooses the device.
        models: The catalogue.
        picture: Prepares input pictures.
        artifacts: Where finished pictures go.
        safety: Knows the policies, and answers calls about them.
        describe: What a client sees of an error.
    """
    processing = Processing(
        picture.pictures,
        ChainPreparer(models, picture.pictures, safety.policies),
        place,
        ChainRun(jobs, artifacts, models, safety.decided, describe=describe),
        describe=describe,
    )
    inventory = PostprocessorInventory(
        models, {PostprocessorKind.SAFETY: safety.policies.classifiers}
    )
    servicer = PostprocessingServicer(inventory, processing, session.streams, safety)
    servicer.register(session.starters)
    return servicer
