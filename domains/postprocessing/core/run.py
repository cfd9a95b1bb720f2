"""Having chains done on a device's worker, picture after picture."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from domains.chain.core.preparing import PreparedChain
from domains.chain.core.statistics import StepStatistics
from domains.chain.jobs import ChainJob, SafetyCheckJob, SafetyFindings
from domains.errors import Failure
from domains.picture.core import KeptPicture
from domains.postprocessing.ports import ModelUses
from domains.provenance.core import Keeping
from domains.provenance.types import Made
from domains.safety import Decided, SafetyAction, SafetySubject
from domains.safety.verdict import verdict
from domains.session import types
from domains.session.core.items import SessionItem
from domains.session.core.jobs import run_job
from domains.session.core.plan import Work
from domains.session.core.session import Session
from domains.session.jobs import JobRunner, SpooledImage
from domains.session.types import (
    ImageResult,
    Outcome,
    Phase,
    PhaseStarted,
    PieceFinished,
    ProgressEvent,
)


@dataclass(frozen=True)
class Piece:
    """A picture's part of a request: what is to be done, or why it cannot be. `kept` holds the
    picture's file."""

    item_id: str
    job: ChainJob | Failure
    kept: KeptPicture | None = None


class ChainRun:
    """Has chains done.

    Args:
        jobs: Runs work on a device's worker.
        keeping: Takes finished pictures.
        models: Takes note of what is used.
        statistics: Learns of every step.
        decided: Hears of every verdict.
    """

    def __init__(
        self,
        jobs: JobRunner,
        keeping: Keeping,
        models: ModelUses,
        statistics: StepStatistics,
        decided: Decided,
    ) -> None:
        self._jobs = jobs
        self._keeping = keeping
        self._models = models
        self._statistics = statistics
        self._decided = decided

    def stop(self, session: Session) -> None:
        """Have a session's work end after its tile or step; only then is the worker free."""
        self._jobs.cancel(session.device_id, session.session_id)

    def single(self, chain: PreparedChain, piece: Piece) -> Work:
        """The work of one picture, which can be used; it holds its file."""

        async def work(session: Session) -> Outcome:
            seconds: defaultdict[Phase, float] = defaultdict(float)
            await self._do(chain, piece, session, seconds)
            return Outcome(timings=dict(seconds))

        return work

    async def _do(
        self,
        chain: PreparedChain,
        piece: Piece,
        session: Session,
        seconds: defaultdict[Phase, float],
    ) -> None:
        job = piece.job
        assert isinstance(job, ChainJob)
        for model in chain.models:
            self._models.record_use(model.model_id)

        if await self._withheld(chain, job, session):
            return
        followed = self._statistics.follow(chain.steps, session.device_id)

        def record(event: ProgressEvent) -> None:
            session.record(event)
            followed.hear(event)
            if isinstance(event, PieceFinished) and event.piece is types.Piece.STEP:
                session.done.reach(event.done / event.total)

        async def keep(spooled: SpooledImage) -> None:
            followed.finish(spooled.image.image_index)
            if spooled.image.safety is not None:
                self._decided(session.session_id, spooled.image.safety)
            made = Made(session.session_id, drawn=False)
            await self._keeping.keep(spooled, SessionItem(session), job.output, made)

        try:
            report = await run_job(self._jobs, session, job, record=record, keep=keep)
        except BaseException as error:
            followed.fail(error)
            raise
        seconds[Phase.POSTPROCESSING] += report.postprocess
        seconds[Phase.ENCODING_IMAGE] += report.encode_image
        if chain.models:
            seconds[Phase.LOADING_MODEL] += report.load

    async def _withheld(self, chain: PreparedChain, job: ChainJob, session: Session) -> bool:
        """Whether the result is withheld because of the picture that it would be made of."""
        policy = chain.of_inputs
        if policy is None:
            return False
        session.record(PhaseStarted(Phase.CHECKING_SAFETY))
        check = SafetyCheckJob((job.picture,), policy.classifiers)
        report: SafetyFindings = await run_job(
            self._jobs, session, check, record=lambda event: None
        )
        (found,) = report.findings
        subject, failed = SafetySubject.INPUT_IMAGE, bool(found.failed)
        said = verdict(found.scores, policy, subject, failed=failed)
        self._decided(session.session_id, said)
        if said.action is not SafetyAction.BLOCK:
            return False
        format = job.output.format
        session.finish_image(
            ImageResult(0, None, "", format, job.width, job.height, 0, safety=said)
        )
        return True
