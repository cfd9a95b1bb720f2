"""Checks of pictures and prompts, as sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from domains import checks
from domains.chain.jobs import SafetyCheckJob, SafetyFindings
from domains.device.core.placement import check_placement
from domains.device.ports import Place
from domains.device.types import Placement
from domains.errors import FieldViolation, Reason
from domains.limits import LIMITS
from domains.picture.core.pictures import KeptPicture, Pictures, check_image
from domains.picture.types import OWN_SIZE, InputImage, ResizeFit
from domains.postprocessing.safety.errors import InvalidSafety
from domains.safety import (
    CategoryScore,
    Decided,
    SafetyPolicy,
    SafetyReport,
    SafetySubject,
    SafetyVerdict,
)
from domains.safety.classifiers import check_installed
from domains.safety.verdict import prompt_verdict, verdict
from domains.session.core.jobs import run_job
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
from domains.session.core.session import Session
from domains.session.core.speeds import Effort
from domains.session.jobs import JobRunner
from domains.session.types import Outcome, Phase, SessionKind, WorkOptions

_QUEUE = "safety checks"


@dataclass(frozen=True)
class CheckRequest:
    """What is to be judged. `digest` stands for the whole request, `message` names it.

    `policy` finds what holds when its time has come. `scores` are given instead of pictures;
    None where they are not. `wrong` are rules that its policy breaks. `placed` tells whether a
    device was named.
    """

    message: str
    images: tuple[InputImage, ...]
    prompts: tuple[str, ...]
    policy: Callable[[], SafetyPolicy]
    options: WorkOptions
    digest: bytes
    placement: Placement
    placed: bool = False
    scores: Mapping[str, float] | None = None
    wrong: tuple[FieldViolation, ...] = ()


class SafetyChecks:
    """Judges pictures in a device's queue, and prompts and given scores on no device.

    Args:
        pictures: Prepares what is looked at.
        place: Chooses the device.
        jobs: Does it on the device's worker.
        installed: The classifiers that there are, by id.
        decided: Hears of every verdict.
    """

    def __init__(
        self,
        pictures: Pictures,
        place: Place,
        jobs: JobRunner,
        installed: Callable[[], Mapping[str, str]],
        decided: Decided,
    ) -> None:
        self._pictures = pictures
        self._place = place
        self._jobs = jobs
        self._installed = installed
        self._decided = decided

    def check(self, request: CheckRequest) -> SessionRequest:
        """The check as a session, which reports a `SafetyReport`.

        Preparing it raises:
            InvalidSafety: The content breaks rules.
            PolicyNotFound: There is no such policy.
            ClassifierMissing: There are pictures, and what should score them is not installed.
            DomainError: A picture cannot be used, or no device can.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(
            request.options, request.digest, prepare, again=begun_anew(prepare)
        )

    async def _prepare(self, request: CheckRequest) -> SessionPlan:
        InvalidSafety.check(*_check(request))
        policy = request.policy()
        policies = (policy.key,) if policy.version else ()
        phases = (Phase.QUEUED, Phase.CHECKING_SAFETY)
        if not request.images:
            return SessionPlan(
                kind=SessionKind.SAFETY_CHECK,
                device_id="",
                expected_phases=phases,
                work=partial(self._judge, request, policy, ()),
                queue=_QUEUE,
                policies=policies,
            )
        check_installed(policy, self._installed())
        kept = [
            await self._pictures.prepare(image, f"images[{place}]", OWN_SIZE, ResizeFit.STRETCH)
            for place, image in enumerate(request.images)
        ]
        placed = await self._place(request.placement, Effort(""), request.options.priority)
        return SessionPlan(
            kind=SessionKind.SAFETY_CHECK,
            device_id=placed.decision.device_id,
            placed=placed,
            expected_phases=phases,
            work=partial(self._judge, request, policy, tuple(kept)),
            policies=policies,
        )

    async def _judge(
        self,
        request: CheckRequest,
        policy: SafetyPolicy,
        kept: tuple[KeptPicture, ...],
        session: Session,
    ) -> Outcome:
        seconds = 0.0
        verdicts: list[SafetyVerdict] = []
        if kept:
            job = SafetyCheckJob(tuple(each.prepared for each in kept), policy.classifiers)
            found: SafetyFindings = await run_job(self._jobs, session, job)
            seconds = found.seconds
            verdicts += [
                verdict(each.scores, policy, _subject(image), failed=bool(each.failed))
                for each, image in zip(found.findings, request.images, strict=True)
            ]
        if request.scores is not None:
            given = [CategoryScore(name, score, "") for name, score in request.scores.items()]
            verdicts.append(verdict(given, policy, None))
        for prompt in request.prompts:
            verdicts.append(await asyncio.to_thread(prompt_verdict, policy, prompt))
        for each in verdicts:
            self._decided(session.session_id, each)
        return Outcome(
            timings={Phase.CHECKING_SAFETY: seconds}, report=SafetyReport(tuple(verdicts))
        )


def _subject(image: InputImage) -> SafetySubject:
    """A picture of a session is one that was made here; others came with the request."""
    return SafetySubject.RESULT if image.session_id else SafetySubject.INPUT_IMAGE


def _check(request: CheckRequest) -> Iterator[FieldViolation]:
    name = request.message
    yield from request.wrong
    yield from check_options(request.options, "options")
    if request.placed:
        yield from check_placement(request.placement, "placement.")
    found = [
        checks.elements("images", len(request.images), LIMITS[f"{name}.images"]),
        checks.elements("prompts", len(request.prompts), LIMITS[f"{name}.prompts"]),
        *(
            checks.prose(f"prompts[{place}]", prompt, LIMITS[f"{name}.prompts"])
            for place, prompt in enumerate(request.prompts)
        ),
    ]
    yield from (each for each in found if each is not None)
    for place, image in enumerate(request.images):
        yield from check_image(image, f"images[{place}]")
    if request.scores is not None:
        yield from _check_scores(request.scores, beside=bool(request.images))
    elif not request.images and not request.prompts:
        rule = "Must hold something to judge; or set prompts."
        yield FieldViolation("images", Reason.REQUIRED_FIELD_MISSING, rule)
    if request.placed and not request.images:
        rule = "Without pictures it runs on no device; leave it out."
        yield FieldViolation("placement", Reason.FIELDS_CONFLICT, rule)


def _check_scores(scores: Mapping[str, float], *, beside: bool) -> Iterator[FieldViolation]:
    limit = LIMITS["TestPolicyRequest.scores"]
    found = [
        checks.elements("scores", len(scores), limit),
        *(
            checks.number(f"scores[{name!r}]", score, LIMITS["SafetyRule.threshold"])
            for name, score in scores.items()
        ),
        *(
            checks.required(f"scores[{name!r}]", name)
            or checks.line(f"scores[{name[:64]!r}]", name, LIMITS["SafetyRule.category"])
            for name in scores
        ),
    ]
    yield from (each for each in found if each is not None)
    if beside:
        rule = "Stands in the place of pictures; leave one of them out."
        yield FieldViolation("scores", Reason.FIELDS_CONFLICT, rule)
