"""What a call asks of sessions, and what that comes to once it has been resolved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from domains.clients import DEFAULT_CLIENT
from domains.session.core.about import ALONE, About, Parent
from domains.session.core.placed import Placed
from domains.session.core.session import Session
from domains.session.records import KeptMessage
from domains.session.types import Outcome, Phase, SessionKind, WorkOptions
from domains.session.types.named import NOTHING_NAMED, Names
from domains.values import Degradation, ModelContent

Work = Callable[[Session], Awaitable[Outcome | None]]


@dataclass(frozen=True)
class SessionPlan:
    """What a session shall be and do.

    `work` is called when the session's turn comes; what it raises ends the session. To
    stop the session, and when its time is over, its coroutine is cancelled and must clean
    up and end; with `stop` that is called instead, and the work ends by itself, in time.
    `resumes_after_images` says that work which is begun anew goes on after those pictures of
    the session that are finished.
    `pause` asks the work to end with WorkPaused between two steps; when the session's turn
    comes again, `work` is called again and goes on from there. Without it, a session of
    this plan can only be paused while it waits. `degradations` are known beforehand; the
    work's outcome has them again. `ended` is called once the session is over, however.

    `seeds` are its pictures', `steps` those of each of them, 0 where they differ, and
    `total_steps` of all together. `companion_ids` are models that it works with beside
    `model_id`, `policies` the keys of the safety policies that it goes by.

    `device_id` is empty where the work is on no device and only starts other sessions: its
    turn comes at once. `queue` is where the session waits, if not in its device's queue.
    `placed` says why it is this device; None where the request is about that device. Whoever
    chooses one does so after everything else that has to be awaited: others may be placed
    meanwhile.
    """

    kind: SessionKind
    device_id: str
    expected_phases: tuple[Phase, ...]
    work: Work
    stop: Callable[[Session], None] | None = None
    pause: Callable[[Session], None] | None = None
    ended: Callable[[Session], None] | None = None
    model_id: str = ""
    companion_ids: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    steps: int = 0
    total_steps: int = 0
    queue: str = ""
    placed: Placed | None = None
    resumes_after_images: bool = False
    degradations: tuple[Degradation, ...] = ()


Prepare = Callable[[], Awaitable[SessionPlan]]


@dataclass(frozen=True)
class Decided:
    """What a request may leave open, as it was decided when it was accepted: the seeds of its
    pictures, and its main model."""

    seeds: tuple[int, ...] = ()
    model_id: str = ""


@dataclass(frozen=True)
class SessionRequest:
    """A session that a call asks for.

    `digest` stands for the whole request: the same request_id of the same owner with
    another digest is refused. `prepare` checks and resolves the request, and raises what
    forbids it; it is not asked when an earlier call started the session, since what the
    request named may be gone by now. `owner` is the client whose session it will be, `parent`
    whose step or item it is.

    `again` prepares it anew with what was decided when it was accepted, where the server was
    lost; None where it cannot be begun anew. Then `message` is what it is made from
    again. `method` is the contract's that asks for it; empty where the parent's does. `named`
    is what it names of what the server keeps. `contents` are those of models that it was
    accepted for with what it is a part of; its own are noted when it is accepted.
    """

    options: WorkOptions
    digest: bytes
    prepare: Prepare
    owner: str = DEFAULT_CLIENT
    parent: Parent = ALONE
    again: Callable[[Decided], Awaitable[SessionPlan]] | None = None
    message: KeptMessage | None = None
    method: str = ""
    named: Names = NOTHING_NAMED
    contents: tuple[ModelContent, ...] = ()

    def about(self, plan: SessionPlan, session_id: str, above: About | None) -> About:
        """What is fixed about the session of that plan; `above` is its parent's, where that is
        there."""
        about = About(
            session_id,
            plan.kind,
            self.owner,
            parent=self.parent,
            method=self.method or ("" if above is None else above.method),
            named=self.named,
            contents=self.contents,
        )
        return resolved_about(about, plan, repeats=self.again is not None)


def resolved_about(about: About, plan: SessionPlan, *, repeats: bool) -> About:
    """What is fixed about a session, as its work was resolved."""
    return replace(
        about,
        model_id=plan.model_id,
        companion_ids=plan.companion_ids,
        policies=plan.policies,
        pauses=plan.pause is not None,
        repeats=repeats,
    )


def begun_anew(prepare: Prepare) -> Callable[[Decided], Awaitable[SessionPlan]]:
    """How to prepare anew what leaves nothing open."""
    return lambda decided: prepare()
