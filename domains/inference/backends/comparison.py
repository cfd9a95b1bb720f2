"""How like each other the pictures of a model and of its copy are."""

from __future__ import annotations

from domains.chain.backends.likeness import psnr_db
from domains.inference.backends.clock import Clock
from domains.inference.backends.images import Pixels
from domains.inference.backends.loader import Loader
from domains.inference.backends.step_trial import StepTrial
from domains.inference.backends.wanted import WantedModel
from domains.inference.types import PrecisionMode
from domains.model.jobs import ComparisonJob, ComparisonReport
from domains.session.jobs import JobContext
from domains.values import ModelPlace

# Enough for a picture; more would let small differences grow.
_STEPS = 10


class Comparison:
    """Draws the same picture with two models on one device.

    Args:
        loader: Loads them, one after the other, and lets them go.
        job: Which.
        context: Hears of it and may stop it.
    """

    def __init__(self, loader: Loader, job: ComparisonJob, context: JobContext) -> None:
        self._loader = loader
        self._job = job
        self._context = context

    def run(self) -> ComparisonReport:
        """Draw both; what lay on the device before lies there afterwards, unless it made room.

        Raises:
            Exception: As torch raises it; DomainError as `Loader.ready` and `decode_pixels`.
        """
        job = self._job
        one = self._picture(job.model_id, job.place)
        other = self._picture(job.other_model_id, job.other_place)
        return ComparisonReport(psnr_db(one, other))

    def _picture(self, model_id: str, place: ModelPlace) -> Pixels:
        # In exact numbers: what differs is the weights' doing.
        wanted = WantedModel(model_id, place, PrecisionMode.EXACT)
        before = self._loader.models.at(place) is not None
        try:
            model = self._loader.ready(wanted, self._context, Clock()).model
            return StepTrial(model).measure(self._context, _STEPS).picture
        finally:
            self._loader.models.unclaim(place)
            if not before:
                self._loader.let_go_of(place)
