"""Having chains done on a device's worker, picture after picture."""

from __future__ import annotations

from dataclasses import dataclass

from domains.chain.core.preparing import PreparedChain
from domains.chain.core.statistics import StepStatistics
from domains.chain.jobs import ChainJob, PausedChain, SafetyCheckJob, SafetyFindings
from domains.errors import Failure
from domains.picture.core import KeptPicture
from domains.postprocessing.core.turns import Turns
from domains.postprocessing.ports import ModelUses
from domains.provenance.core import Keeping
from domains.provenance.types import Made
from domains.safety import Decided, SafetyAction, SafetySubject
from domains.safety.verdict import verdict
from domains.session.core.items import SessionItem
from domains.session.core.jobs import run_job
from domains.session.core.plan import Work
from domains.session.core.session import Session
from domains.session.jobs import PausingRunner, SpooledImage, WorkPaused
from domains.session.types import (
    ImageResult,
    Outcome,
    Phase,
    PhaseStarted,
    ProgressEvent,
    SessionState,
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
        jobs: PausingRunner,
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

    def pause(self, session: Session) -> None:
        """Have it pause after its tile or step."""
        self._jobs.pause(session.device_id, session.session_id)

    def single(self, chain: PreparedChain, piece: Piece, turns: Turns) -> Work:
        """The work of one picture, which can be used; it holds its file. Called again after a
        pause, it goes on with the same turns."""

        async def work(session: Session) -> Outcome:
            return await self._do(chain, piece, turns, session)

        return work

    async def _do(
        self, chain: PreparedChain, piece: Piece, turns: Turns, session: Session
    ) -> Outcome:
        """Have done what is left of it; the outcome is that of all its turns.

        Raises:
            WorkPaused: It stopped between two tiles or steps.
            DomainError: As `run_job`.
        """
        assert isinstance(piece.job, ChainJob)
        for model in chain.models:
            self._models.record_use(model.model_id)

        if await self._withheld(chain, piece.job, turns, session):
            return Outcome(teaches=False)
        job = turns.next(piece.job)
        followed = self._statistics.follow(chain.steps, session.device_id)

        def record(event: ProgressEvent) -> None:
            session.record(event)
            followed.hear(event)
            turns.hear(event, job.steps, session)

        async def keep(spooled: SpooledImage) -> None:
            followed.finish(spooled.image.image_index)
            if spooled.image.safety is not None:
                self._decided(session.session_id, spooled.image.safety)
            made = Made(session.session_id, drawn=False)
            await self._keeping.keep(spooled, SessionItem(session), job.output, made)

        try:
            found = await run_job(self._jobs, session, job, record=record, keep=keep)
        except WorkPaused:  # before the worker had the job
            raise WorkPaused(turns.kept_steps) from None
        except BaseException as error:
            followed.fail(error)
            raise
        if isinstance(found, PausedChain):
            turns.note(found)
            raise WorkPaused(turns.kept_steps)
        report = turns.whole(found)
        loading = {Phase.LOADING_MODEL: report.load} if chain.models else {}
        return Outcome(
            timings={
                **loading,
                Phase.POSTPROCESSING: report.postprocess,
                Phase.ENCODING_IMAGE: report.encode_image,
            }
        )

    async def _withheld(
        self, chain: PreparedChain, job: ChainJob, turns: Turns, session: Session
    ) -> bool:
        """Whether the result is withheld because of the picture that it would be made of.

        Raises:
            WorkPaused: It was asked to pause meanwhile.
            DomainError: As `run_job`.
        """
        policy = chain.of_inputs
        if policy is None or turns.judged:
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
        turns.judged = said.action is not SafetyAction.BLOCK
        if turns.judged:
            if session.state is SessionState.PAUSING or session.yielding is not None:
                raise WorkPaused  # the look at its picture could not
            return False
        format = job.output.format
        session.finish_image(
            ImageResult(0, None, "", format, job.width, job.height, 0, safety=said)
        )
        return True
