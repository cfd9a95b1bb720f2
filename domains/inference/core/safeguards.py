"""The server's default safety policy, as it holds for every generation.

A prompt that it blocks is not drawn at all, and neither is anything from a picture that it
blocks; what is drawn is judged in the device's worker, where it can be blurred or withheld
before anybody has it. What is withheld is told as data, picture by picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from domains.chain.jobs import MOST, SafetyCheckJob, SafetyFindings
from domains.inference.jobs import GenerationJob
from domains.inference.types import GenerationSettings, PromptSyntax
from domains.picture.types import PreparedPicture
from domains.safety import Decided, SafetyAction, SafetyPolicy, SafetySubject, SafetyVerdict
from domains.safety.classifiers import check_installed
from domains.safety.verdict import prompt_verdict, verdict
from domains.session.core.items import SessionItem
from domains.session.core.jobs import run_job
from domains.session.jobs import JobRunner
from domains.session.types import ImageResult, Phase, PhaseStarted, ProgressEvent
from domains.weighted_prompts import readings


@dataclass(frozen=True)
class Safeguard:
    """What holds for one generation: the policy, and what it says of the prompts."""

    policy: SafetyPolicy
    prompts: tuple[SafetyVerdict, ...] = ()

    @property
    def of_results(self) -> SafetyPolicy | None:
        """The policy, where it has a rule about what is drawn."""
        return self.policy if self.policy.judges(SafetySubject.RESULT) else None

    def looked_at(self, job: GenerationJob) -> tuple[PreparedPicture, ...]:
        """The pictures that are judged before anything is drawn from them."""
        judged = self.policy.judges(SafetySubject.INPUT_IMAGE)
        return _pictures_of(job) if judged else ()


class Safeguards:
    """Finds what holds for generations, and enforces it before they are drawn.

    Args:
        default: The policy that holds for all; None for none.
        installed: The classifiers that there are, by id.
        decided: Hears of every verdict.
    """

    def __init__(
        self,
        default: Callable[[], SafetyPolicy | None],
        installed: Callable[[], Mapping[str, str]],
        decided: Decided,
    ) -> None:
        self._default, self._installed, self._decided = default, installed, decided

    def of(self, settings: GenerationSettings) -> Safeguard | None:
        """What holds for a generation of these settings, as things are now.

        Raises:
            ClassifierMissing: The policy judges pictures, and nothing here can score them.
        """
        policy = self._default()
        if policy is None:
            return None
        if policy.judges_pictures:
            check_installed(policy, self._installed())
        texts = dict.fromkeys(
            text for field, text in settings.prompts.items() if "negative" not in field and text
        )
        weighted = settings.prompt_syntax is PromptSyntax.WEIGHTED
        ways = ((text, *readings(text)) if weighted else (text,) for text in texts)
        return Safeguard(policy, tuple(prompt_verdict(policy, *each) for each in ways))

    async def refusal(
        self,
        guard: Safeguard,
        job: GenerationJob,
        runner: JobRunner,
        item: SessionItem,
    ) -> SafetyVerdict | None:
        """What forbids to draw it: the verdict on its prompt, or else on a picture that it
        starts from, which is looked at on the session's device; None where nothing does.

        Raises:
            DomainError: As `run_job`.
        """
        session_id = item.session.session_id
        blocking = self._blocking(session_id, guard.prompts)
        pictures = guard.looked_at(job)
        if blocking is not None or not pictures:
            return blocking
        item.record(PhaseStarted(Phase.CHECKING_SAFETY))
        for first in range(0, len(pictures), MOST):
            check = SafetyCheckJob(pictures[first : first + MOST], guard.policy.classifiers)
            found: SafetyFindings = await run_job(runner, item.session, check, record=_untold)
            verdicts = [
                verdict(
                    each.scores,
                    guard.policy,
                    SafetySubject.INPUT_IMAGE,
                    failed=bool(each.failed),
                )
                for each in found.findings
            ]
            blocking = self._blocking(session_id, verdicts)
            if blocking is not None:
                return blocking
        return None

    def note(self, session_id: str, image: ImageResult) -> None:
        """A picture has come out of the worker, judged where a policy is about it."""
        if image.safety is not None:
            self._decided(session_id, image.safety)

    def _blocking(
        self, session_id: str, verdicts: Iterable[SafetyVerdict]
    ) -> SafetyVerdict | None:
        blocking = None
        for each in verdicts:
            self._decided(session_id, each)
            if each.action is SafetyAction.BLOCK and blocking is None:
                blocking = each
        return blocking


def withhold(verdict: SafetyVerdict, job: GenerationJob, item: SessionItem) -> None:
    """Tell each picture of a generation as withheld that is not out yet."""
    width, height = job.finished_size
    for index in range(len(item.images), job.image_count):
        seed, format = job.settings.seeds[index], job.settings.output.format
        item.finish_image(
            ImageResult(index, seed, "", format, width, height, 0, safety=verdict)
        )


def _pictures_of(job: GenerationJob) -> tuple[PreparedPicture, ...]:
    """Those of a client that it draws from, each once; of a grey one nothing can be said."""
    given = [] if job.picture is None else [job.picture]
    given += [picture for control in job.controls for picture in control.images]
    given += [picture for prompt in job.image_prompts for picture in prompt.images]
    return tuple(dict.fromkeys(each for each in given if not each.grey))


def _untold(event: ProgressEvent) -> None:
    """Which picture is looked at is no news of those that are drawn."""
